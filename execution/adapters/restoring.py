"""Folds the ledger's rows into what the live broker knows, after a restart."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from domain.decision import Reason
from domain.trading import ClosedTrade, Fill, Order, Posting, Refusal
from execution.adapters.statement import Statement
from execution.adapters.tracked import Tracking, unwound

_WITHDRAWN = frozenset({Reason.KILLED, Reason.BREAKER, Reason.UNFILLED})


class Restoring:
    """Follows stored rows of the account; whoever works on asks the venue about open ends.

    Parameters
    ----------
    symbols : what may be traded.

    Attributes
    ----------
    open_ends : whether the venue must be asked about orders of the ledger.
    """

    def __init__(self, tracking: Tracking, statement: Statement, symbols: Container[str]) -> None:
        self._tracking, self._statement, self._symbols = tracking, statement, symbols
        self.open_ends = False

    def fold(self, record: Any) -> None:
        """Take in one row; rows of no interest change nothing."""
        if isinstance(record, Fill):
            self._fill(record)
            return
        if isinstance(record, Posting):
            self._statement.post(record)
            return
        self._statement.account.fold(record)
        if isinstance(record, Order):
            self._order(record)
        elif isinstance(record, Refusal):
            self._refusal(record)
        elif isinstance(record, ClosedTrade):
            for tracked in self._tracking.of(record.symbol):
                # stop or target may still be at the venue: they are looked at and taken off there
                if tracked.order.decision_id == record.decision_id and not tracked.bracket:
                    self._tracking.drop(tracked)

    def _order(self, order: Order) -> None:
        if order.symbol in self._symbols and order.id not in self._tracking.mine:
            self._tracking.add(order)
            self.open_ends = True

    def _fill(self, fill: Fill) -> None:
        if unwound(fill.order_id) is not None:
            self._tracking.mine[fill.order_id] = fill.intent
        filled = self._tracking.live.get(fill.order_id)
        if filled is not None and filled.entry:  # it left when what was there before was over
            for old in self._tracking.of(fill.symbol):
                if old is filled:  # what was sent after it has its time to come
                    break
                another = old.order.decision_id != filled.order.decision_id
                if another and (old.withdrawn or old.bracket):
                    self._tracking.drop(old)
        self._statement.book(fill)

    def _refusal(self, refusal: Refusal) -> None:
        for tracked in self._tracking.of(refusal.symbol):
            order = tracked.order
            if (order.decision_id, order.intent) != (refusal.decision_id, refusal.intent):
                continue
            if not tracked.entry:  # what closes may have been sent again
                continue
            over = refusal.code == Reason.UNFILLED and tracked.handed  # the venue ended its rest
            if refusal.code in _WITHDRAWN and not over:
                for one in (tracked, *self._tracking.brackets(tracked)):
                    one.withdrawn = True  # it may have filled all the same
                continue
            self._tracking.forget(tracked)
            if not tracked.handed:
                for one in self._tracking.brackets(tracked):  # of a position that never was
                    self._tracking.drop(one)
