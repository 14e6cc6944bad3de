"""The scale on which moves and errors are measured: EWMA volatility."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from domain.market import BarFrame, Floats

LAMBDA = 0.94
BARS = 240  # λ^240 < 1e-6: older ones change nothing that is shown
LEAST = 24
_FLOOR = 1e-8
_ALL: Floats = np.asarray(LAMBDA ** np.arange(BARS)[::-1], dtype=np.float64)


def bar_sigma(bars: BarFrame) -> float | None:
    """Return the standard deviation of one bar's log return; None with too few bars.

    sqrt(EWMA(r², λ = .94)) over the contiguous bars at the end, 240 at most.
    """
    ts, close = bars.ts[-BARS - 1 :], bars.close[-BARS - 1 :]
    if len(ts) and ts[-1] - ts[0] != (len(ts) - 1) * bars.step_ms:
        gaps = np.flatnonzero(np.diff(ts) != bars.step_ms)
        close = close[gaps[-1] + 1 :]
    logs = np.log(close)
    returns = logs[1:] - logs[:-1]
    n = len(returns)
    if n < LEAST:
        return None
    weights, total = _weights(n)
    return max(math.sqrt(float(weights @ (returns * returns)) / total), _FLOOR)


@lru_cache(maxsize=BARS)
def _weights(n: int) -> tuple[Floats, float]:
    """Of n returns, the newest last, and their sum."""
    weights = _ALL[-n:]
    return weights, float(weights.sum())


def move(bars: BarFrame, count: int, sigma: float | None) -> float | None:
    """Return the log return of the last ``count`` bars in standard deviations of such a move.

    Parameters
    ----------
    sigma : of one bar, log return, or None.

    Returns
    -------
    None without sigma or where that many contiguous bars are not there.
    """
    ts, close = bars.ts, bars.close
    if sigma is None or len(ts) <= count or ts[-1] - ts[-1 - count] != count * bars.step_ms:
        return None
    return math.log(float(close[-1]) / float(close[-1 - count])) / (sigma * math.sqrt(count))
