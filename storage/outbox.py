"""Events on their way to people, kept until they are delivered or given up."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, case, insert, select, update

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
    state: str  # pending, sent, failed
    error: str  # of the last attempt


class SqlOutbox:
    """The outbox of one world; implements :class:`domain.ports.Outbox`."""

    def __init__(self, engine: Engine, world: str, *, max_attempts: int = 5) -> None:
        self._engine = engine
        self._world = world
        self._max_attempts = max_attempts

    def put(self, event: Event, key: str) -> None:
        """Queue once per key."""
        known = select(outbox.c.id).where(outbox.c.world == self._world, outbox.c.key == key)
        with write(self._engine) as connection:
            if connection.execute(known).first() is None:
                row = {
                    "id": next_id(connection, outbox), "world": self._world, "key": key,
                    "kind": event.kind, "at": event.at, "level": event.level, "body": event.body,
                    "state": "pending", "attempts": 0, "error": "",
                }  # fmt: skip
                connection.execute(insert(outbox), row)

    def pending(self, limit: int = 100) -> list[OutboxItem]:
        """Return what is still to be delivered, oldest first."""
        return self._items("pending", limit)

    def given_up(self, limit: int = 100) -> list[OutboxItem]:
        """Return what failed too often, oldest first."""
        return self._items("failed", limit)

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

    def _mark(self, item_id: int, **values: object) -> None:
        mine = (outbox.c.world == self._world, outbox.c.id == item_id)
        with write(self._engine) as connection:
            if not connection.execute(update(outbox).where(*mine).values(**values)).rowcount:
                raise NotFound("outbox item", "is not in this world's outbox", item_id)

    def _items(self, state: str, limit: int) -> list[OutboxItem]:
        query = (
            select(outbox)
            .where(outbox.c.world == self._world, outbox.c.state == state)
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
