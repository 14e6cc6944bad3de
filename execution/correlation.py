"""Which of the symbols traded move together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from domain.market import Bar


class Correlations:
    """The last close-to-close log returns of each symbol, as a fold over bars.

    Parameters
    ----------
    symbols : execution symbols; with fewer than two nothing is kept.
    window : returns kept of each; bars of no other timeframe than the traded one arrive.
    least : returns at common instants below which a correlation is not measured.
    """

    def __init__(self, symbols: Iterable[str], window: int, least: int) -> None:
        names = set(symbols)
        self.several = len(names) > 1
        self._least = least
        self._last: dict[str, tuple[int, float]] = {}
        self._returns: dict[str, deque[tuple[int, float]]] = (
            {name: deque(maxlen=window) for name in names} if self.several else {}
        )

    def fold(self, record: Any) -> None:
        """Take in one bar; there is no return across a hole."""
        returns = self._returns.get(record.symbol) if isinstance(record, Bar) else None
        if returns is None:
            return
        known, at = self._last.get(record.symbol), record.close_ms
        if known is not None and known[0] == record.open_ms:
            returns.append((at, math.log(record.close / known[1])))
        self._last[record.symbol] = (at, record.close)

    def between(self, one: str, other: str) -> float | None:
        """Return Pearson's correlation in [−1, 1]; None where it is not measured.

        That is so below the least number of common returns, and where one of the two stood still.
        """
        first = dict(self._returns.get(one, ()))
        pairs = [(first[at], r) for at, r in self._returns.get(other, ()) if at in first]
        if len(pairs) < self._least:
            return None
        x, y = np.array(pairs, dtype=np.float64).T
        x, y = x - x.mean(), y - y.mean()
        scale = math.sqrt(float(x @ x) * float(y @ y))
        return float(x @ y) / scale if scale > 0.0 else None
