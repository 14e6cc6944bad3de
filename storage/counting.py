"""Rows of a world by table, counted once: what is insert-only is never counted again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, func, select

from storage import kinds
from storage.engine import read
from storage.schema import chain, events


@dataclass(frozen=True, slots=True)
class _Counted:
    """Rows up to ``seq``, whose hash was ``digest``, and events up to ``event``."""

    seq: int = 0
    digest: str = ""
    event: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)  # by kind
    events: int = 0


class RowCounts:
    """Counts one world's rows. The first count reads them all, a later one what is new."""

    def __init__(self, engine: Engine, world: str) -> None:
        self._engine, self._world = engine, world
        self._counted = _Counted()  # replaced as a whole: several threads may count

    def now(self) -> dict[str, int]:
        """Return the rows per table of the ledger, and the events."""
        with read(self._engine) as connection:
            counted = self._counted = self._further(connection, self._trusted(connection))
        rows = {kind.table.name: counted.rows.get(kind.name, 0) for kind in kinds.ALL}
        return {**rows, "events": counted.events}

    def _trusted(self, connection: Connection) -> _Counted:
        """Return what is counted so far, or nothing if another ledger was put in its place."""
        known = self._counted
        if not known.seq:
            return _Counted()
        query = select(chain.c.hash).where(chain.c.seq == known.seq)
        same = connection.execute(query).scalar() == known.digest
        return known if same else _Counted()

    def _further(self, connection: Connection, known: _Counted) -> _Counted:
        head = connection.execute(
            select(chain.c.seq, chain.c.hash).order_by(chain.c.seq.desc()).limit(1)
        ).first()
        seq, digest = (0, "") if head is None else head
        fresh = (
            select(chain.c.kind, func.count())
            .where(chain.c.world == self._world, chain.c.seq > known.seq)
            .group_by(chain.c.kind)
        )
        rows = dict(known.rows)
        for kind, count in connection.execute(fresh):
            rows[kind] = rows.get(kind, 0) + count
        told = select(func.count(), func.max(events.c.id)).where(
            events.c.world == self._world, events.c.id > known.event
        )
        more, last = connection.execute(told).one()
        return _Counted(seq, digest, last or known.event, rows, known.events + more)
