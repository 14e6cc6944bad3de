"""Events on their way to people, kept until they are delivered or given up.

``pending`` waits. ``sending`` was handed over, and nobody has noted yet what became of it: found so
by a process that has just started, it may have arrived. ``sent`` arrived. ``failed`` was given up,
with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, case, delete, func, insert, select, update

from domain.errors import NotFound
from domain.trading import Event
from storage.engine import read, write
from storage.numbering import next_id
from storage.schema import outbox


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A queued event; ``attempts`` counts the deliveries that failed."""

    id: int
    key: str
    event: Event
    attempts: int
    state: str  # pending, sending, sent, failed
    error: str  # of the last attempt


class SqlOutbox:
    """The outbox of one world; implements :class:`domain.ports.Outbox`."""

    def __init__(self, engine: Engine, world: str, *, max_attempts: int = 5) -> None:
        self._engine = engine
        self._world = world
        self._max_attempts = max_attempts

    def put(self, event: Event, key: str) -> None:
        """Queue once per key."""
        self.extend([(key, event)])

    def extend(self, batch: Sequence[tuple[str, Event]]) -> int:
        """Queue (key, event) in this order, in one transaction; return how many are new."""
        keys = [key for key, _ in batch]
        known = select(outbox.c.key).where(outbox.c.world == self._world, outbox.c.key.in_(keys))
        with write(self._engine) as connection:
            seen = set(connection.execute(known).scalars())
            fresh = next_id(connection, outbox)
            rows: list[dict[str, Any]] = []
            for key, event in batch:
                if key in seen:
                    continue
                seen.add(key)
                rows.append({
                    "id": fresh + len(rows), "world": self._world, "key": key, "kind": event.kind,
                    "at": event.at, "level": event.level, "body": event.body,
                    "state": "pending", "attempts": 0, "error": "",
                })  # fmt: skip
            if rows:
                connection.execute(insert(outbox), rows)
            return len(rows)

    def pending(self, limit: int = 100) -> list[OutboxItem]:
        """Return what is still to be delivered, oldest first."""
        return self._items(("pending", "sending"), limit)

    def given_up(self, limit: int = 100) -> list[OutboxItem]:
        """Return what failed too often, oldest first."""
        return self._items(("failed",), limit)

    def counts(self) -> dict[str, int]:
        """Return how many items are in each state; states without any are left out."""
        query = (
            select(outbox.c.state, func.count())
            .where(outbox.c.world == self._world)
            .group_by(outbox.c.state)
        )
        with read(self._engine) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def mark_sending(self, item_id: int) -> None:
        """Note that an item is being handed over. Raises NotFound for an unknown id."""
        self._mark(item_id, state="sending")

    def mark_sent(self, item_id: int) -> None:
        """Note a delivery. Raises NotFound for an unknown id."""
        self._mark(item_id, state="sent", error="")

    def mark_failed(self, item_id: int, error: str) -> None:
        """Note a failed delivery; after ``max_attempts`` the item is given up.

        Raises
        ------
        NotFound : if there is no such item in this world.
        """
        attempts = outbox.c.attempts + 1
        state = case((attempts >= self._max_attempts, "failed"), else_="pending")
        self._mark(item_id, state=state, attempts=attempts, error=error)

    def put_back(self, item_id: int, error: str, *, unsure: bool = False) -> None:
        """Note a failure that will pass: the item waits on, however often that was.

        Parameters
        ----------
        unsure : whether it may have arrived all the same; then it stays ``sending``.

        Raises
        ------
        NotFound : if there is no such item in this world.
        """
        state = "sending" if unsure else "pending"
        self._mark(item_id, state=state, attempts=outbox.c.attempts + 1, error=error)

    def give_up(self, item_id: int, error: str) -> None:
        """Note a failure that will not pass. Raises NotFound for an unknown id."""
        self._mark(item_id, state="failed", attempts=outbox.c.attempts + 1, error=error)

    def prune(self, keep: int) -> int:
        """Remove all but the newest ``keep`` items that were sent; return how many went.

        A key that was removed is queued again if it is put again: keep more than can be put twice.
        """
        mine = (outbox.c.world == self._world, outbox.c.state == "sent")
        oldest = select(outbox.c.id).where(*mine).order_by(outbox.c.id.desc()).offset(keep).limit(1)
        with write(self._engine) as connection:
            last = connection.execute(oldest).scalar()
            if last is None:
                return 0
            return connection.execute(delete(outbox).where(*mine, outbox.c.id <= last)).rowcount

    def _mark(self, item_id: int, **values: object) -> None:
        mine = (outbox.c.world == self._world, outbox.c.id == item_id)
        with write(self._engine) as connection:
            if not connection.execute(update(outbox).where(*mine).values(**values)).rowcount:
                raise NotFound("outbox item", "is not in this world's outbox", item_id)

    def _items(self, states: Sequence[str], limit: int) -> list[OutboxItem]:
        query = (
            select(outbox)
            .where(outbox.c.world == self._world, outbox.c.state.in_(states))
            .order_by(outbox.c.id)
            .limit(limit)
        )
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            OutboxItem(
                row.id, row.key, Event(row.kind, row.at, row.body, row.level), row.attempts,
                row.state, row.error,
            )
            for row in rows
        ]  # fmt: skip
