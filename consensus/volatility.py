"""The scale on which the tracker and the level weights measure errors: EWMA volatility."""

from __future__ import annotations

import math

import numpy as np

from domain.market import BarFrame

LAMBDA = 0.94
BARS = 240  # λ^240 < 1e-6: older ones change nothing that is shown
LEAST = 24
_FLOOR = 1e-7


def horizon_sigma(bars: BarFrame, horizon_bars: int) -> float | None:
    """Return the standard deviation of the horizon's log return; None with too few bars.

    sqrt(H·EWMA(r², λ = .94)) over the contiguous bars at the end, 240 at most.
    """
    ts, close = bars.ts[-BARS - 1 :], bars.close[-BARS - 1 :]
    gaps = np.flatnonzero(np.diff(ts) != bars.step_ms)
    returns = np.diff(np.log(close[gaps[-1] + 1 :] if len(gaps) else close))
    if len(returns) < LEAST:
        return None
    weights = LAMBDA ** np.arange(len(returns))[::-1]
    variance = float((weights * returns * returns).sum() / weights.sum())
    return max(math.sqrt(horizon_bars * variance), _FLOOR)
