"""A database ledger for runs of one process, its rows stored many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from execution.rows import Buffered
from storage.ledger import SqlLedger

R = TypeVar("R")
ROWS = 4_000


class BatchedLedger(Buffered):
    """A :class:`domain.ports.Ledger` on SQL that stores :data:`ROWS` rows at a time."""

    def __init__(self, ledger: SqlLedger) -> None:
        super().__init__(ledger)
        self._sql = ledger

    def append(self, records: Sequence[Any]) -> list[int]:
        """Keep the records, and store all that were kept once they are many."""
        numbers = super().append(records)
        if len(self) >= ROWS:
            self.flush()
        return numbers

    def records(self, kind: type[R], after: int = 0, **where: Any) -> Iterator[tuple[int, R]]:
        """Iterate over (number, record) of one type in order."""
        self.flush()
        return self._sql.records(kind, after, **where)

    def head(self) -> tuple[int, str]:
        """Return the newest number and hash."""
        self.flush()
        return self._sql.head()
