"""Writing to the ledger, and telling strategy and gate what is new on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from domain.ports import Gate, Ledger, Strategy
from domain.trading import ClosedTrade
from execution.rows import Buffered

Row = tuple[int, Any]
"""Number on the ledger, record."""


class Scribe:
    """Appends what a step brought, in one piece, and has strategy and gate observe it.

    Attributes
    ----------
    witness : called with every record that is new on the ledger, in order, after it is stored.
    head : the newest number that was written or read.
    """

    def __init__(self, ledger: Ledger, strategy: Strategy, gate: Gate | None = None) -> None:
        self._ledger: Ledger | Buffered = ledger
        self._store, self._strategy, self._gate = ledger, strategy, gate
        self.witness: Callable[[Any], None] | None = None
        self.head = 0

    def commit(self, records: Sequence[Any]) -> None:
        """Store records and teach what is new; nothing happens for none."""
        if not records:
            return
        numbers = self._ledger.append(records)
        # A row that was there before (an opinion asked for twice) has been learned from.
        rows = [row for row in zip(numbers, records, strict=True) if row[0] > self.head]
        if self.witness is not None:
            for _, record in rows:
                self.witness(record)
        self.head = max(self.head, *numbers)
        self.teach(rows)
        self.show(rows)

    def show(self, rows: Sequence[Row]) -> None:
        """Have the gate observe stored rows in order."""
        if self._gate is not None:
            self._gate.observe(rows)

    def teach(self, rows: Sequence[Row]) -> None:
        """Have the strategy observe stored rows in order, and learn from each closed trade."""
        first = 0
        for i, (_, record) in enumerate(rows):
            if type(record) is ClosedTrade:
                self._strategy.observe(rows[first : i + 1])
                self._strategy.post_trade_update(record)
                first = i + 1
        if first < len(rows):
            self._strategy.observe(rows[first:])

    @contextmanager
    def in_batches(self) -> Iterator[Buffered]:
        """Gather what is committed meanwhile; it is stored when the buffer is flushed."""
        buffered = Buffered(self._store)
        self._ledger = buffered
        try:
            yield buffered
            buffered.flush()
        finally:
            self._ledger = self._store
