"""The append-only event log that streams, the dashboard and notifications read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, func, insert, select

from domain.canonical import short_hash
from domain.trading import Event
from storage.engine import read, write
from storage.numbering import next_id
from storage.schema import events


class EventLog:
    """The events of one world. Ids rise over all worlds, in the order of commits."""

    def __init__(self, engine: Engine, world: str) -> None:
        self._engine = engine
        self.world = world

    def append(self, event: Event, key: str = "") -> int:
        """Store an event and return its id; the same key again returns the old id.

        ``key`` defaults to a hash of the content, so that telling a step again after a crash
        adds nothing.
        """
        return self.extend([event], [key])[0]

    def extend(self, batch: Sequence[Event], keys: Sequence[str] = ()) -> list[int]:
        """Store events in one transaction and return their ids; see :meth:`append`."""
        given = [*keys, *[""] * (len(batch) - len(keys))]
        named = [key or short_hash(event, 32) for key, event in zip(given, batch, strict=True)]
        with write(self._engine) as connection:
            query = select(events.c.key, events.c.id).where(
                events.c.world == self.world, events.c.key.in_(named)
            )
            ids = {row.key: row.id for row in connection.execute(query)}
            rows: list[dict[str, Any]] = []
            fresh = next_id(connection, events)
            for key, event in zip(named, batch, strict=True):
                if key not in ids:
                    ids[key] = fresh + len(rows)
                    rows.append({
                        "id": ids[key], "world": self.world, "key": key, "kind": event.kind,
                        "at": event.at, "level": event.level, "body": event.body,
                    })  # fmt: skip
            if rows:
                connection.execute(insert(events), rows)
        return [ids[key] for key in named]

    def after(self, event_id: int = 0, limit: int = 100) -> list[tuple[int, Event]]:
        """Return up to ``limit`` (id, event) with a greater id, oldest first."""
        query = (
            select(events)
            .where(events.c.world == self.world, events.c.id > event_id)
            .order_by(events.c.id)
            .limit(limit)
        )
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        return [(row.id, Event(row.kind, row.at, row.body, row.level)) for row in rows]

    def of_kind(self, kind: str) -> list[Event]:
        """Return all events of one kind, oldest first."""
        query = select(events).where(events.c.world == self.world, events.c.kind == kind)
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(events.c.id)).all()
        return [Event(row.kind, row.at, row.body, row.level) for row in rows]

    def last_id(self) -> int:
        """Return the newest id of this world, 0 if there is none."""
        query = select(func.max(events.c.id)).where(events.c.world == self.world)
        with read(self._engine) as connection:
            return connection.execute(query).scalar() or 0
