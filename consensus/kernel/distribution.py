"""E[r] and E|r| of a completed quantile function (:mod:`domain.quantiles`), compiled."""

from __future__ import annotations

import math

from consensus.conformal import LEVELS
from consensus.kernel.jit import jit
from consensus.kernel.state import Floats
from domain.quantiles import completion

_GRID = completion(LEVELS.tobytes())
T, STEP, MEAN = _GRID.t, _GRID.step, _GRID.mean
LOWER_T, UPPER_T = _GRID.lower_t, _GRID.upper_t
LOWER_MEAN, UPPER_MEAN = _GRID.lower_mean, _GRID.upper_mean


@jit
def t4_cdf(t: float) -> float:
    """Return P(T ≤ t) of Student's t(4)."""
    s = t / math.sqrt(4.0 + t * t)
    return 0.5 + 0.75 * (s - s**3 / 3.0)


@jit
def t4_ppf(u: float) -> float:
    """Return its quantile at u in (0, 1)."""
    root = math.sqrt(min(max(4.0 * u * (1.0 - u), 1e-300), 1.0))
    ratio = math.cos(math.acos(root) / 3.0) / root
    return math.copysign(2.0 * math.sqrt(max(ratio - 1.0, 0.0)), u - 0.5) if u != 0.5 else 0.0


@jit
def t4_partial_mean(t: float) -> float:
    """Return ∫₀^u T(v) dv for u = F(t)."""
    return float(-0.375 * (1.0 + t * t / 4.0) ** -2.5 * (4.0 + t * t) / 3.0)


@jit
def moments(q: Floats) -> tuple[float, float]:
    """Return E[r] and E|r| for sorted quantiles (13,)."""
    mean = 0.0
    for i in range(len(q)):
        mean += q[i] * MEAN[i]
    return mean, max(0.0, mean - 2.0 * partial_mean(q, chance_below(q)))


@jit
def chance_below(q: Floats) -> float:
    """Return F(0)."""
    n, below = len(q), 0
    for i in range(n):
        below += q[i] <= 0.0
    if below == 0:
        lower = (q[1] - q[0]) / LOWER_T
        return t4_cdf(T[0] - q[0] / lower) if lower > 0.0 else 0.0
    if below == n:
        upper = (q[n - 1] - q[n - 2]) / UPPER_T
        return t4_cdf(T[n - 1] - q[n - 1] / upper) if upper > 0.0 else 1.0
    i = below - 1
    width = q[i + 1] - q[i]
    return float(LEVELS[i] + STEP[i] * min(max(-q[i], 0.0), width) / width)


@jit
def partial_mean(q: Floats, u: float) -> float:
    """Return ∫₀^u Q(v) dv for u in [0, 1]."""
    n = len(q)
    first, last = LEVELS[0], LEVELS[n - 1]
    lower, upper = (q[1] - q[0]) / LOWER_T, (q[n - 1] - q[n - 2]) / UPPER_T
    start = LOWER_MEAN
    if u < first:
        start = t4_partial_mean(t4_ppf(max(u, 1e-12))) if u > 0.0 else 0.0
    low, mid, high = min(u, first), min(max(u, first), last), max(u, last)
    total = low * (q[0] - lower * T[0]) + lower * start
    for i in range(n - 1):
        width = max(min(mid, LEVELS[i + 1]) - LEVELS[i], 0.0)
        total += width * (q[i] + (q[i + 1] - q[i]) / STEP[i] * width / 2.0)
    if u > last:
        end = t4_partial_mean(t4_ppf(min(high, 1.0 - 1e-12))) if high < 1.0 else 0.0
        total += (high - last) * (q[n - 1] - upper * T[n - 1]) + upper * (end - UPPER_MEAN)
    return float(total)
