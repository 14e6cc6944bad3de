"""Who did what through the API or the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from storage.engine import read, write
from storage.numbering import next_id
from storage.schema import audit


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act: when (ms), by whom, what, with which particulars."""

    id: int
    at: int
    actor: str
    action: str
    body: dict[str, Any]


class Audit:
    """The table of acts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, at: int, actor: str, action: str, body: Mapping[str, Any]) -> int:
        """Write an act down and return its id; tokens and secrets never belong in ``body``."""
        with write(self._engine) as connection:
            return note(connection, at, actor, action, body)

    def list(self, *, limit: int = 100, before_id: int | None = None) -> list[AuditEntry]:
        """Return acts, newest first."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before_id is not None:
            query = query.where(audit.c.id < before_id)
        with read(self._engine) as connection:
            return [AuditEntry(*row) for row in connection.execute(query)]


def note(connection: Connection, at: int, actor: str, action: str, body: Mapping[str, Any]) -> int:
    """Write an act down within a transaction of its own matter; see :meth:`Audit.note`."""
    number = next_id(connection, audit)
    row = {"id": number, "at": at, "actor": actor, "action": action, "body": dict(body)}
    connection.execute(insert(audit), row)
    return number
