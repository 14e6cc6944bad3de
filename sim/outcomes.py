"""What happened after each bar, as scores want it."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from agents.volatility import LOOKBACK, day_sigma
from agents.windows import run_of, segments
from data.labels import Labels
from domain.market import BarFrame
from sim.scoring import Floats, Truth


def truth_of(bars: BarFrame, labels: Labels) -> Truth:
    """Return the outcomes of every bar; NaN where a label is not valid."""
    horizon = labels.horizon
    return Truth(
        labels.y, labels.drop, labels.rise, labels.ts,
        realised_variance(bars, horizon), trailing_volatility(bars, horizon),
    )  # fmt: skip


def realised_variance(bars: BarFrame, horizon: int) -> Floats:
    """Return RV = Σ r² over the next ``horizon`` bars, (n,); NaN where they are not contiguous."""
    squares = np.diff(np.log(bars.close)) ** 2
    squares[np.diff(bars.ts) != bars.step_ms] = np.nan
    out = np.full(len(bars), np.nan)
    if len(squares) >= horizon:
        out[: len(squares) - horizon + 1] = sliding_window_view(squares, horizon).sum(axis=1)
    return out


def trailing_volatility(bars: BarFrame, horizon: int) -> Floats:
    """Return σ25, the root mean square of the last day's horizon returns, (n,)."""
    parts = [
        day_sigma(run_of(bars.slice(start, stop), LOOKBACK), horizon)
        for start, stop in segments(bars)
    ]
    return np.concatenate(parts)
