"""Which of the symbols traded move together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from domain.market import Bar


class Correlations:
    """The last close-to-close log returns of each symbol, as a fold over bars.

    Parameters
    ----------
    routes : symbol of the bars → execution symbol; with fewer than two nothing is kept.
    window : returns kept of each; bars of no other timeframe than the traded one arrive.
    least : returns at common instants below which a correlation is not measured.
    """

    def __init__(self, routes: Mapping[str, str], window: int, least: int) -> None:
        self.several = len(routes) > 1
        self._least = least
        self._of = {route: symbol for symbol, route in routes.items()}
        self._last: dict[str, tuple[int, float]] = {}
        self._returns: dict[str, deque[tuple[int, float]]] = (
            {symbol: deque(maxlen=window) for symbol in routes} if self.several else {}
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
        """Return Pearson's correlation of two execution symbols; None where it is not measured.

        That is so below the least number of common returns, and where one of the two stood still.
        """
        x, y = (self._returns.get(self._of.get(name, ""), ()) for name in (one, other))
        first = dict(x)
        pairs = [(first[at], r) for at, r in y if at in first]
        if len(pairs) < self._least:
            return None
        both = np.array(pairs, dtype=np.float64).T
        a, b = both - both.mean(axis=1, keepdims=True)
        scale = math.sqrt(float(a @ a) * float(b @ b))
        return float(a @ b) / scale if scale > 0.0 else None
