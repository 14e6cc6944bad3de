"""When symbols are not traded.

As on the exchange (github.com/binance/binance-public-data/issues/169): there are no prints and no
bars until trading goes on, books stand still, orders are refused and can be cancelled.
"""

from __future__ import annotations

import numpy as np

from domain.market import BarFrame
from domain.times import timeframe_ms
from sim.venue.tape import STEP_MS, Prints, Tape

Key = tuple[str, str]  # market, the venue's name of the symbol
_NEVER = 1 << 62


class Halts:
    """Stretches of market time, ms, [from, until).

    Parameters
    ----------
    ends_ms : when all symbols are traded no more, ms; None = never.
    step_ms : between two instants at which the venue tells of anything.
    """

    def __init__(self, ends_ms: int | None = None, step_ms: int = STEP_MS) -> None:
        self._step = step_ms
        self._of: dict[Key, list[tuple[int, int]]] = {}
        self._last = [] if ends_ms is None else [(ends_ms, _NEVER)]

    def begin(self, key: Key, at: int, until: int | None = None) -> None:
        """Stop trading from an instant on, also one to come; None = until it is ended."""
        self._of.setdefault(key, []).append((at, _NEVER if until is None else until))
        self._of[key].sort()

    def end(self, key: Key, at: int) -> None:
        """Let trading go on; what was to come does not."""
        self._of[key] = [(start, min(end, at)) for start, end in self._of.get(key, ())
                         if start < min(end, at)]  # fmt: skip

    def closed(self, key: Key, at: int) -> bool:
        """Return whether there is no trading at an instant."""
        return any(start <= at < end for start, end in self._stretches(key))

    def newest(self, key: Key, at: int) -> int:
        """Return the newest instant that the venue has told of, at or before ``at``."""
        at = at // self._step * self._step
        for start, end in reversed(self._stretches(key)):
            if start <= at < end:
                at = (start - 1) // self._step * self._step
        return at

    def touch(self, key: Key, start_ms: int, end_ms: int) -> bool:
        """Return whether any lies in [start, end)."""
        return any(start < end_ms and start_ms < end for start, end in self._stretches(key))

    def without(self, key: Key, found: Prints) -> Prints:
        """Return the prints outside of them."""
        use = np.ones(len(found), bool)
        for start, end in self._stretches(key):
            use &= (found.at < start) | (found.at >= end)
        return found if use.all() else found.where(use)

    def traded(self, key: Key, bars: BarFrame, tape: Tape, now_ms: int) -> BarFrame:
        """Return bars as they are made of the prints outside; those without any are not there."""
        step = timeframe_ms(bars.timeframe)
        if not len(bars) or not self.touch(key, int(bars.ts[0]), int(bars.ts[-1]) + step):
            return bars
        parts: list[BarFrame] = []
        for row, opened in enumerate(bars.ts.tolist()):
            if not self.touch(key, opened, opened + step):
                parts.append(bars.slice(row, row + 1))
                continue
            found = self.without(key, tape.prints(opened, min(opened + step, now_ms + 1)))
            parts.append(tape.bars_of(bars.timeframe, opened, found))
        return BarFrame.join(bars.symbol, bars.timeframe, parts)

    def _stretches(self, key: Key) -> list[tuple[int, int]]:
        return [*self._of.get(key, ()), *self._last]
