"""The last bars of each symbol, and the outcomes that fall due with the newest."""

from __future__ import annotations

from collections import deque

from domain.decision import Decision
from domain.market import Bar
from domain.opinion import Outcome, outcome_of


class History:
    """Remembers H + 1 contiguous bars per symbol and what was asked at their closes.

    Parameters
    ----------
    horizon_bars : H.
    """

    def __init__(self, horizon_bars: int) -> None:
        self._size = horizon_bars + 1
        self._bars: dict[str, deque[Bar]] = {}
        self._asked: dict[str, deque[int]] = {}

    def last(self, symbol: str) -> Bar | None:
        """Return the newest bar of a symbol."""
        bars = self._bars.get(symbol)
        return bars[-1] if bars else None

    def asked(self, decision: Decision) -> None:
        """Remember that something was decided at ``decision.as_of``."""
        asked = self._asked.setdefault(decision.symbol, deque(maxlen=self._size))
        if not asked or asked[-1] < decision.as_of:
            asked.append(decision.as_of)

    def push(self, bar: Bar) -> Outcome | None:
        """Add a bar; return the outcome of what was decided H contiguous bars ago, if any was."""
        bars = self._bars.setdefault(bar.symbol, deque(maxlen=self._size))
        if bars and (bars[-1].close_ms, bars[-1].timeframe) != (bar.open_ms, bar.timeframe):
            bars.clear()
        bars.append(bar)
        if len(bars) < self._size or bars[0].close_ms not in self._asked.get(bar.symbol, ()):
            return None
        first, *after = bars
        path = [(b.high, b.low, b.close) for b in after]
        return outcome_of(
            bar.symbol, bar.timeframe, first.close_ms, bar.close_ms, first.close, path
        )
