"""Changes that the system proposes and a person decides, such as promoting a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from domain.errors import NotFound, UsageError
from storage.audit import note
from storage.engine import read, write
from storage.numbering import next_id
from storage.schema import proposals


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal: ``open``, ``accepted`` or ``rejected``; times are ms."""

    id: int
    kind: str
    state: str
    body: dict[str, Any]
    created_at: int
    decided_at: int | None
    decided_by: str


class Proposals:
    """The table of proposals."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, kind: str, body: Mapping[str, Any], at: int) -> int:
        """Propose something and return its id."""
        with write(self._engine) as connection:
            return self._insert(connection, kind, body, at)

    def _insert(self, connection: Connection, kind: str, body: Mapping[str, Any], at: int) -> int:
        number = next_id(connection, proposals)
        row = {
            "id": number, "kind": kind, "state": "open", "body": dict(body), "created_at": at,
            "decided_at": None, "decided_by": "",
        }  # fmt: skip
        connection.execute(insert(proposals), row)
        return number

    def put_once(self, kind: str, body: Mapping[str, Any], at: int) -> int:
        """Propose something unless it was before, decided or not; return its id.

        Parameters
        ----------
        body : its ``key`` tells whether it is the same. With a ``topic`` it also waits until the
            open proposal of that topic is decided, whose id is returned.
        """
        columns = proposals.c
        with write(self._engine) as connection:
            query = select(columns.id, columns.state, columns.body).where(columns.kind == kind)
            topic = body.get("topic")
            for row in connection.execute(query.order_by(columns.id)):
                same = row.body.get("key") == body["key"]
                open_one = row.state == "open" and topic is not None
                if same or (open_one and row.body.get("topic") == topic):
                    return int(row.id)
            return self._insert(connection, kind, body, at)

    def list(
        self, *, state: str | None = None, limit: int = 100, before_id: int | None = None
    ) -> list[Proposal]:
        """Return proposals, newest first."""
        query = select(proposals).order_by(proposals.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(proposals.c.state == state)
        if before_id is not None:
            query = query.where(proposals.c.id < before_id)
        with read(self._engine) as connection:
            return [Proposal(*row) for row in connection.execute(query)]

    def decide(
        self, proposal_id: int, *, accept: bool, by: str, at: int, why: str = ""
    ) -> Proposal:
        """Accept or reject an open proposal; the act and its reason go to the audit as well.

        Raises
        ------
        NotFound : if there is no such proposal.
        UsageError : if it was decided before.
        """
        mine = proposals.c.id == proposal_id
        state = "accepted" if accept else "rejected"
        with write(self._engine) as connection:
            row = connection.execute(select(proposals).where(mine)).first()
            if row is None:
                raise NotFound("proposal", "is not there", proposal_id)
            if row.state != "open":
                raise UsageError(f"proposal {proposal_id}", f"is {row.state} already", state)
            body = {**row.body, "decided_why": why} if why else row.body
            change = update(proposals).where(mine)
            connection.execute(change.values(state=state, decided_by=by, decided_at=at, body=body))
            act = {"proposal": proposal_id, "kind": row.kind, "why": why}
            note(connection, at, by, f"proposal {state}", act)
            return Proposal(*connection.execute(select(proposals).where(mine)).one())
