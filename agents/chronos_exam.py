"""Whether Chronos may speak about a timeframe: how its forecasts of the newest bars turned out.

Each bar of the last fifth is forecast from what came before it alone, all steps from one pass. A
timeframe is ready when every number is finite and the central 80 % hold between half and nearly
all of what came. One with too few bars is not judged; its windows are missing by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.chronos_network import ChronosNetwork
from agents.chronos_views import AHEAD, POINTS, STEPS
from data.resample import resample
from domain.market import BarFrame

LEAST, MOST = 250, 1000  # contiguous bars
COVERAGE = (0.5, 0.98)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Examined:
    """One timeframe's result.

    Attributes
    ----------
    ready : whether it may speak; None if there were too few bars to say.
    coverage_80 : share of outcomes within p10–p90 over all steps; None if not judged.
    windows : forecasts that were judged.
    """

    symbol: str
    timeframe: str
    ready: bool | None
    bars: int
    windows: int = 0
    coverage_80: float | None = None

    @property
    def sentence(self) -> str:
        """What to tell people of it."""
        about = f"{self.symbol} {self.timeframe}"
        if self.ready is None:
            return f"{about} not examined: {self.bars} of {LEAST} bars"
        if self.coverage_80 is None:
            return f"{about} left out: a forecast is not finite"
        told = f"coverage {self.coverage_80:.2f} of {self.windows} windows"
        if self.ready:
            return f"{about} ready: {told}"
        return f"{about} left out: {told}, outside {COVERAGE[0]:.2f}–{COVERAGE[1]:.2f}"


def examine(network: ChronosNetwork, bars: BarFrame, timeframes: Sequence[str]) -> list[Examined]:
    """Judge every timeframe on the newest contiguous bars."""
    run = bars.slice(len(bars) - int(bars.bars_since_gap()[-1]) if len(bars) else 0, len(bars))
    return [_one(network, resample(run, name), name) for name in timeframes]


def _one(network: ChronosNetwork, bars: BarFrame, timeframe: str) -> Examined:
    closes = bars.close[-MOST:]
    n = len(closes)
    if n < LEAST:
        return Examined(bars.symbol, timeframe, None, n)
    ends = np.arange(max(POINTS, n - n // 5), n) - 1
    ends = ends[ends >= POINTS]
    said = network.cumulative(closes[ends[:, None] + np.arange(-POINTS, 1)], AHEAD)
    if not np.isfinite(said).all():
        return Examined(bars.symbol, timeframe, False, n, len(ends))
    inside = np.concatenate([_inside(said, closes, ends, step) for step in STEPS])
    coverage = float(inside.mean())
    ready = COVERAGE[0] <= coverage <= COVERAGE[1]
    return Examined(bars.symbol, timeframe, ready, n, len(ends), coverage)


def _inside(said: Floats, closes: Floats, ends: NDArray[np.int64], step: int) -> NDArray[np.bool_]:
    known = ends + step < len(closes)
    moved = np.log(closes[ends[known] + step] / closes[ends[known]])
    table = said[known, step - 1]
    return np.asarray((moved >= table[:, 0]) & (moved <= table[:, -1]))
