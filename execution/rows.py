"""Reading a ledger back in one order, and writing it in batches."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from domain.decision import Decision
from domain.errors import LedgerError
from domain.market import Bar
from domain.operations import OperatorReport, Reflection, RiskEvent
from domain.opinion import Opinion, Outcome
from domain.ports import Ledger
from domain.trading import ClosedTrade, EquityMark, Fill, ModeChange, Order, Posting, Refusal

KINDS: tuple[type[Any], ...] = (
    Bar, Opinion, Outcome, Decision, Order, Fill, Refusal, Posting, ClosedTrade, EquityMark,
    ModeChange, RiskEvent, OperatorReport, Reflection,
)  # fmt: skip
"""Everything the loop writes, or learns from."""


def in_order(ledger: Ledger, after: int = 0) -> Iterator[tuple[int, Any]]:
    """Iterate over the rows of all :data:`KINDS` in the ledger's order, ``seq > after``.

    A ledger with ``records_since`` reads them in one pass, whatever else it holds included.
    """
    since = getattr(ledger, "records_since", None)
    if since is not None:
        rows: Iterator[tuple[int, Any]] = since(after)
        return rows
    return heapq.merge(*(ledger.records(kind, after) for kind in KINDS), key=itemgetter(0))


class Buffered:
    """A ledger that gathers appends and stores them together; only its owner may be writing.

    It hands out the numbers that the rows will get, and :meth:`flush` checks that they did.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next = ledger.head()[0] + 1
        self._rows: list[Any] = []

    def append(self, records: Sequence[Any]) -> list[int]:
        """Keep the records for the next flush and return the numbers they will have."""
        first = self._next + len(self._rows)
        self._rows.extend(records)
        return list(range(first, first + len(records)))

    def __len__(self) -> int:
        return len(self._rows)

    def flush(self) -> None:
        """Store what was gathered in one transaction.

        Raises
        ------
        LedgerError : if a row was stored before, or somebody else wrote in between.
        """
        if not self._rows:
            return
        numbers = self._ledger.append(self._rows)
        expected = list(range(self._next, self._next + len(self._rows)))
        if numbers != expected:
            raise LedgerError(
                "warm-up", "its rows must be new and alone", numbers[0],
                "Resume the loop from the ledger.",
            )  # fmt: skip
        self._next += len(self._rows)
        self._rows = []
