"""One symbol's newest bars in several timeframes, each checked, and compared with those of 1m."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.resample import differing, resample
from domain.market import BarFrame

TIMEFRAMES = ("1m", "3m", "5m", "15m", "30m", "1h")
_BASE = "1m"


@dataclass(slots=True)
class Kept:
    """What is kept of one timeframe.

    Attributes
    ----------
    whole : bars without a gap up to the newest.
    invalid : bars that could not be, and were left out.
    compared, different : bars held against those that the bars of 1m make, and those of them that
        are others.
    first : open of the first of the latter, UTC ms.
    """

    frame: BarFrame
    whole: int = 0
    invalid: int = 0
    compared: int = 0
    different: int = 0
    first: int | None = None

    @property
    def gaps(self) -> int:
        """Bars that are missing between the first and the last kept."""
        ts, step = self.frame.ts, self.frame.step_ms
        return int(ts[-1] - ts[0]) // step + 1 - len(ts) if len(ts) else 0

    @property
    def close_ms(self) -> int:
        """Close of the newest bar, UTC ms; 0 without one."""
        return int(self.frame.ts[-1]) + self.frame.step_ms if len(self.frame) else 0


class Timeframes:
    """Keeps the newest bars of every timeframe.

    Parameters
    ----------
    keep : bars of each.
    """

    def __init__(
        self, symbol: str, keep: int = 1_000, timeframes: Sequence[str] = TIMEFRAMES
    ) -> None:
        self.symbol, self.keep = symbol, keep
        self.kept = {name: Kept(BarFrame.join(symbol, name, [])) for name in timeframes}
        self._compared_to = dict.fromkeys(timeframes, 0)  # close, ms

    @property
    def different(self) -> int:
        """Bars of all timeframes that are not what those of 1m make."""
        return sum(one.different for one in self.kept.values())

    def take(self, bars: BarFrame) -> int:
        """Take in closed bars of one timeframe, in order; return how many were new.

        Known ones pass; what cannot be a bar is left out and counted. A bar longer than a minute is
        compared as soon as the bars of 1m reach its close, where all of its minutes are there.

        Raises
        ------
        KeyError : for a timeframe that is not kept.
        """
        kept = self.kept[bars.timeframe]
        fresh = bars.between(kept.close_ms, None)
        good = _possible(fresh)
        kept.invalid += len(fresh) - int(good.sum())
        if not good.all():
            fresh = _rows(fresh, good)
        if not len(fresh):
            return 0
        whole = BarFrame.join(self.symbol, bars.timeframe, [kept.frame, fresh])
        kept.frame = whole.slice(max(len(whole) - self.keep, 0), len(whole))
        kept.whole = int(kept.frame.bars_since_gap()[-1])
        for name in self.kept if bars.timeframe == _BASE else (bars.timeframe,):
            self._compare(name)
        return len(fresh)

    def _compare(self, name: str) -> None:
        if name == _BASE or _BASE not in self.kept:
            return
        kept, minutes = self.kept[name], self.kept[_BASE]
        step = kept.frame.step_ms
        own = kept.frame.between(self._compared_to[name], minutes.close_ms - step + 1)
        if not len(own):
            return
        end = int(own.ts[-1]) + step
        self._compared_to[name] = end
        made = resample(minutes.frame.between(int(own.ts[0]), end), name)
        opens, apart = differing(own, made)
        kept.compared += len(opens)
        kept.different += int(apart.sum())
        if kept.first is None and apart.any():
            kept.first = int(opens[np.argmax(apart)])


def _possible(bars: BarFrame) -> NDArray[np.bool_]:
    """Return which rows are bars: aligned, finite, 0 < low ≤ open, close ≤ high, volume ≥ 0."""
    low, high = np.minimum(bars.open, bars.close), np.maximum(bars.open, bars.close)
    values = np.array([bars.open, bars.high, bars.low, bars.close, bars.volume])
    whole = np.isfinite(values).all(axis=0) & (bars.ts % bars.step_ms == 0)
    whole &= (bars.low > 0.0) & (bars.low <= low) & (high <= bars.high)
    return np.asarray(whole & (bars.volume >= 0.0))


def _rows(bars: BarFrame, use: NDArray[np.bool_]) -> BarFrame:
    return BarFrame(
        bars.symbol, bars.timeframe, bars.ts[use], bars.open[use], bars.high[use], bars.low[use],
        bars.close[use], bars.volume[use],
    )  # fmt: skip
