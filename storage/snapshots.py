"""Saved folds: a restart reads the newest one and the ledger rows after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, delete, func, insert, select

from storage.engine import read, write
from storage.schema import chain, snapshots

_KEPT = 3


class SqlSnapshots:
    """The snapshots of one world, the last three per kind and key; a ``SnapshotStore``."""

    def __init__(self, engine: Engine, world: str) -> None:
        self._engine = engine
        self._world = world

    def save(self, kind: str, key: str, seq: int, body: Mapping[str, Any]) -> bool:
        """Keep a state that includes all rows up to ``seq``; the same ``seq`` replaces.

        Floats survive exactly; arrays and tuples come back as lists, NaN as None.

        Returns
        -------
        False, and nothing is kept, if the ledger does not reach that far: the state has learned
        from rows that were never stored, as when the disk was full.
        """
        mine = self._mine(kind, key)
        with write(self._engine) as connection:
            head = connection.execute(select(func.max(chain.c.seq))).scalar() or 0
            if seq > head:
                return False
            connection.execute(delete(snapshots).where(*mine, snapshots.c.seq == seq))
            connection.execute(
                insert(snapshots),
                {"world": self._world, "kind": kind, "key": key, "seq": seq, "body": dict(body)},
            )
            query = select(snapshots.c.seq).where(*mine).order_by(snapshots.c.seq.desc())
            if old := connection.execute(query).scalars().all()[_KEPT:]:
                connection.execute(delete(snapshots).where(*mine, snapshots.c.seq <= old[0]))
            return True

    def latest(self, kind: str, key: str) -> tuple[int, dict[str, Any]] | None:
        """Return the newest (seq, body), or None."""
        query = (
            select(snapshots.c.seq, snapshots.c.body)
            .where(*self._mine(kind, key))
            .order_by(snapshots.c.seq.desc())
            .limit(1)
        )
        with read(self._engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else (row.seq, row.body)

    def _mine(self, kind: str, key: str) -> list[Any]:
        columns = snapshots.c
        return [columns.world == self._world, columns.kind == kind, columns.key == key]
