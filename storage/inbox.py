"""Requests to the desk: API and CLI write them here, the desk acts, appends and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, insert, select, update

from domain.canonical import canonical_json
from domain.errors import DuplicateRecord, NotFound
from storage.engine import read, write
from storage.numbering import next_id
from storage.schema import inbox


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``at`` is when it was put (ms, the sender's clock), 0 if it did not say."""

    id: int
    kind: str
    body: dict[str, Any]
    at: int


class Inbox:
    """The requests to one world's desk."""

    def __init__(self, engine: Engine, world: str) -> None:
        self._engine = engine
        self._world = world

    def put(
        self, kind: str, body: Mapping[str, Any], *, at: int = 0, key: str | None = None
    ) -> int:
        """Leave a request and return its id; the same key again returns the old id.

        Raises
        ------
        DuplicateRecord : if the key was used for another request.
        """
        with write(self._engine) as connection:
            if key is not None:
                query = select(inbox).where(inbox.c.world == self._world, inbox.c.key == key)
                if (old := connection.execute(query).first()) is not None:
                    if (old.kind, canonical_json(old.body)) != (kind, canonical_json(body)):
                        raise DuplicateRecord("request", "has a key that is taken", key)
                    return int(old.id)
            number = next_id(connection, inbox)
            row = {
                "id": number, "world": self._world, "kind": kind, "key": key, "body": dict(body),
                "at": at, "answered": False, "result": None,
            }  # fmt: skip
            connection.execute(insert(inbox), row)
            return number

    def pending(self, limit: int = 100) -> list[Request]:
        """Return requests without an answer, oldest first."""
        query = (
            select(inbox)
            .where(inbox.c.world == self._world, inbox.c.answered.is_(False))
            .order_by(inbox.c.id)
            .limit(limit)
        )
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        return [Request(row.id, row.kind, row.body, row.at) for row in rows]

    def answer(self, request_id: int, result: Mapping[str, Any]) -> bool:
        """Answer a request once; False if it was answered before (the first answer stays).

        Raises
        ------
        NotFound : if there is no such request in this world.
        """
        mine = (inbox.c.world == self._world, inbox.c.id == request_id)
        change = update(inbox).where(*mine, inbox.c.answered.is_(False))
        with write(self._engine) as connection:
            if connection.execute(change.values(answered=True, result=dict(result))).rowcount:
                return True
            if connection.execute(select(inbox.c.id).where(*mine)).first() is None:
                raise NotFound("request", "is not in this world's inbox", request_id)
            return False

    def results(self, request_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the answers there are to some requests, by their ids."""
        query = select(inbox.c.id, inbox.c.result).where(
            inbox.c.world == self._world, inbox.c.answered, inbox.c.id.in_(request_ids)
        )
        with read(self._engine) as connection:
            return {row.id: row.result for row in connection.execute(query)}

    def result(self, request_id: int) -> dict[str, Any] | None:
        """Return the answer, or None while there is none.

        Raises
        ------
        NotFound : if there is no such request in this world.
        """
        query = select(inbox.c.answered, inbox.c.result).where(
            inbox.c.world == self._world, inbox.c.id == request_id
        )
        with read(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound("request", "is not in this world's inbox", request_id)
        return row.result if row.answered else None
