"""A forecast distribution given by (levels, values), and the one function that completes it.

Between two levels the quantile function is linear; beyond the outer two it follows a
Student-t(4) through them. Every mean, E|r|, probability and interval in the project
integrates this function.

Formulas for t(4) (Shaw, *Sampling Student's T*, 2006): with α = 4u(1−u),
T(u) = sign(u−½)·2·sqrt(cos(arccos(√α)/3)/√α − 1), f(t) = ⅜(1+t²/4)^(−5/2),
∫₀^u T = −f(T(u))·(4+T(u)²)/3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CANONICAL_LEVELS: tuple[float, ...] = (
    0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975,
)  # fmt: skip
REQUIRED_LEVELS: tuple[float, ...] = (0.1, 0.5, 0.9)


def t4_ppf(u: ArrayLike) -> Floats:
    """Return quantiles of Student's t with 4 degrees of freedom at u in (0, 1)."""
    u = np.asarray(u, dtype=np.float64)
    root = np.sqrt(np.clip(4.0 * u * (1.0 - u), 1e-300, 1.0))
    ratio = np.cos(np.arccos(root) / 3.0) / root
    return np.asarray(np.sign(u - 0.5) * 2.0 * np.sqrt(np.maximum(ratio - 1.0, 0.0)))


def t4_cdf(t: ArrayLike) -> Floats:
    """Return P(T ≤ t) for Student's t with 4 degrees of freedom."""
    t = np.asarray(t, dtype=np.float64)
    s = t / np.sqrt(4.0 + t * t)
    return np.asarray(0.5 + 0.75 * (s - s**3 / 3.0))


def _t4_partial_mean(t: ArrayLike) -> Floats:
    """∫₀^u T(v) dv for u = F(t); 0 at both ends."""
    t = np.asarray(t, dtype=np.float64)
    return np.asarray(-0.375 * (1.0 + t * t / 4.0) ** -2.5 * (4.0 + t * t) / 3.0)


def _t4_partial_square(t: ArrayLike) -> Floats:
    """∫₀^u T(v)² dv for u = F(t): s³ + 1 with s = t/√(4 + t²); 2 in all."""
    t = np.asarray(t, dtype=np.float64)
    return np.asarray((t / np.sqrt(4.0 + t * t)) ** 3 + 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """What depends on the levels only, so that it is worked out once per grid of levels."""

    step: Floats  # (k − 1,) distance between neighbours
    t: Floats  # (k,) T at every level
    lower_t: float  # T's distance over the outer two levels, below and above
    upper_t: float
    lower_mean: float  # ∫₀^{first level} T and ∫₀^{last level} T
    upper_mean: float
    mean: Floats  # (k,) E[r] is linear in the sorted values: these are its weights


@lru_cache(maxsize=256)
def completion(levels: bytes) -> Completion:
    """Return what a grid of levels, as the bytes of its float64, implies."""
    grid = np.frombuffer(levels, dtype=np.float64)
    t = t4_ppf(grid)
    lower_t, upper_t = float(t[1] - t[0]), float(t[-1] - t[-2])
    lower_mean, upper_mean = float(_t4_partial_mean(t[0])), float(_t4_partial_mean(t[-1]))
    step = np.diff(grid)
    mean = np.zeros(len(grid))
    mean[:-1] += step / 2.0
    mean[1:] += step / 2.0
    lower = (lower_mean - grid[0] * t[0]) / lower_t  # weight of the lower tail's scale
    mean[0] += grid[0] - lower
    mean[1] += lower
    upper = (-upper_mean - (1.0 - grid[-1]) * t[-1]) / upper_t
    mean[-1] += 1.0 - grid[-1] + upper
    mean[-2] -= upper
    return Completion(step, t, lower_t, upper_t, lower_mean, upper_mean, mean)


@dataclass(frozen=True, slots=True, eq=False)
class QuantileTable:
    """Quantile functions of n forecasts on common levels.

    Attributes
    ----------
    levels : (k,) strictly increasing in (0, 1), k ≥ 2.
    values : (n, k), each row non-decreasing, in the forecast's unit (log return here).
    """

    levels: Floats
    values: Floats

    @classmethod
    def of(cls, levels: ArrayLike, values: ArrayLike) -> Self:
        """Build from one (k,) or many (n, k) rows, sorting crossed quantiles.

        Raises
        ------
        ValueError : if levels are not strictly increasing in (0, 1) or shapes disagree.
        """
        grid = np.asarray(levels, dtype=np.float64)
        rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if grid.ndim != 1 or len(grid) < 2 or rows.shape[1] != len(grid):
            raise ValueError(f"levels {grid.shape} and values {rows.shape} do not fit together")
        if not (grid[0] > 0 and grid[-1] < 1 and (grid[1:] > grid[:-1]).all()):
            raise ValueError("levels must increase strictly inside (0, 1)")
        return cls(grid, np.sort(rows, axis=1))

    def _tails(self) -> tuple[Completion, Floats, Floats]:
        """What the levels imply, then the scale of the lower and of the upper tail, each (n,)."""
        g, rows = completion(self.levels.tobytes()), self.values
        return g, (rows[:, 1] - rows[:, 0]) / g.lower_t, (rows[:, -1] - rows[:, -2]) / g.upper_t

    def _each(self, x: ArrayLike) -> Floats:
        """One number per row from a scalar or (n,)."""
        x = np.asarray(x, dtype=np.float64)
        return np.broadcast_to(x, self.values.shape[:1]) if x.ndim else np.full(len(self.values), x)

    def ppf(self, u: ArrayLike) -> Floats:
        """Return the quantiles at levels u (m,) in (0, 1), as (n, m)."""
        u = np.atleast_1d(np.asarray(u, dtype=np.float64))
        g, lower, upper = self._tails()
        grid, rows = self.levels, self.values
        at = np.minimum(np.maximum(np.searchsorted(grid, u, side="right") - 1, 0), len(grid) - 2)
        share = (u - grid[at]) / g.step[at]
        inside = rows[:, at] + share * (rows[:, at + 1] - rows[:, at])
        tail = t4_ppf(u)
        inside = np.where(u < grid[0], rows[:, :1] + lower[:, None] * (tail - g.t[0]), inside)
        return np.where(u > grid[-1], rows[:, -1:] + upper[:, None] * (tail - g.t[-1]), inside)

    def cdf(self, x: ArrayLike = 0.0) -> Floats:
        """Return P(r ≤ x) for each row, (n,); x is a scalar or (n,)."""
        grid, rows = self.levels, self.values
        x = self._each(x)
        g, lower, upper = self._tails()
        below = (rows <= x[:, None]).sum(axis=1)  # how many quantiles lie at or under x
        i = np.minimum(np.maximum(below - 1, 0), len(grid) - 2)
        row = np.arange(len(rows))
        v0 = rows[row, i]
        width = rows[row, i + 1] - v0
        ahead = np.minimum(np.maximum(x - v0, 0.0), width)  # 0 where the width is 0
        found = grid[i] + g.step[i] * (ahead / np.where(width > 0, width, 1.0))
        if (first := below == 0).any():
            reach = (x - rows[:, 0]) / np.where(lower > 0, lower, 1.0)
            found = np.where(first, np.where(lower > 0, t4_cdf(g.t[0] + reach), 0.0), found)
        if (last := below == len(grid)).any():
            reach = (x - rows[:, -1]) / np.where(upper > 0, upper, 1.0)
            found = np.where(last, np.where(upper > 0, t4_cdf(g.t[-1] + reach), 1.0), found)
        return np.asarray(found)

    def partial_mean(self, u: ArrayLike) -> Floats:
        """Return ∫₀^u Q(v) dv for each row, (n,); u is a scalar or (n,) in [0, 1]."""
        grid, rows = self.levels, self.values
        u = self._each(u)
        g, lower, upper = self._tails()
        low_u, high_u = np.minimum(u, grid[0]), np.maximum(u, grid[-1])
        start: Floats | float = g.lower_mean
        if (outside := u < grid[0]).any():
            inner = _t4_partial_mean(t4_ppf(np.maximum(low_u, 1e-12)))
            start = np.where(outside, np.where(low_u > 0, inner, 0.0), start)
        total = low_u * (rows[:, 0] - lower * g.t[0]) + lower * start
        mid = np.minimum(np.maximum(u, grid[0]), grid[-1])[:, None]
        width = np.maximum(np.minimum(mid, grid[1:]) - grid[:-1], 0.0)
        slope = (rows[:, 1:] - rows[:, :-1]) / g.step
        total = total + (width * (rows[:, :-1] + slope * width / 2.0)).sum(axis=1)
        if (outside := u > grid[-1]).any():
            inner = _t4_partial_mean(t4_ppf(np.minimum(high_u, 1 - 1e-12)))
            end = np.where(outside, np.where(high_u < 1, inner, 0.0), g.upper_mean)
            above = (high_u - grid[-1]) * (rows[:, -1] - upper * g.t[-1])
            total = total + above + upper * (end - g.upper_mean)
        return np.asarray(total)

    def mean(self) -> Floats:
        """Return E[r] for each row, (n,)."""
        return np.asarray((self.values * completion(self.levels.tobytes()).mean).sum(axis=1))

    def variance(self) -> Floats:
        """Return E[r²] − E[r]² for each row, (n,)."""
        grid, rows = self.levels, self.values
        g, lower, upper = self._tails()
        low, high = rows[:, :-1], rows[:, 1:]
        total = (g.step * (low * low + low * high + high * high) / 3.0).sum(axis=1)
        for at, scale, share, first, second in (
            (0, lower, grid[0], g.lower_mean, float(_t4_partial_square(g.t[0]))),
            (-1, upper, 1.0 - grid[-1], -g.upper_mean, 2.0 - float(_t4_partial_square(g.t[-1]))),
        ):
            base = rows[:, at] - scale * g.t[at]
            total = total + base * base * share + 2.0 * base * scale * first + scale**2 * second
        return np.asarray(np.maximum(total - self.mean() ** 2, 0.0))

    def mean_abs(self) -> Floats:
        """Return E|r| for each row, (n,): E[r] − 2∫₀^F(0) Q."""
        return self.mean() - 2.0 * self.partial_mean(self.cdf(0.0))


@dataclass(frozen=True, slots=True)
class Quantiles:
    """One forecast's quantiles of the cumulative log return over the horizon.

    Attributes
    ----------
    levels : strictly increasing in (0, 1), containing .1, .5 and .9.
    values : fractions of log return, one per level; may cross, :meth:`table` sorts.
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def finite(self) -> bool:
        """Whether every level and value is a finite number."""
        levels, values = self.levels, self.values
        if None in values:
            return False
        known = levels is CANONICAL_LEVELS or all(map(math.isfinite, levels))
        return known and all(map(math.isfinite, values))

    def table(self) -> QuantileTable:
        """Return the completed quantile function (one row)."""
        return QuantileTable.of(self.levels, self.values)

    def at(self, level: float) -> float:
        """Return the quantile at one level in (0, 1)."""
        if level in self.levels:
            return self.values[self.levels.index(level)]
        return float(self.table().ppf(level)[0, 0])


_WHOLE = completion(np.array(CANONICAL_LEVELS).tobytes())
_T, _STEP, _MEAN = (tuple(x.tolist()) for x in (_WHOLE.t, _WHOLE.step, _WHOLE.mean))
_LOWER_T, _UPPER_T = _WHOLE.lower_t, _WHOLE.upper_t
_LOWER_MEAN, _UPPER_MEAN = _WHOLE.lower_mean, _WHOLE.upper_mean


def canonical_moments(q: Sequence[float]) -> tuple[float, float, float]:
    """Return E[r], E|r| and F(0) of one forecast, as :class:`QuantileTable` has them of many.

    In plain numbers, because for one row arrays cost more than the arithmetic; and in one piece, so
    that it can be compiled as it stands.

    Parameters
    ----------
    q : (13,) quantiles on the canonical levels, non-decreasing.
    """
    n = len(q)
    first, last = CANONICAL_LEVELS[0], CANONICAL_LEVELS[n - 1]
    lower, upper = (q[1] - q[0]) / _LOWER_T, (q[n - 1] - q[n - 2]) / _UPPER_T
    mean, below = 0.0, 0
    for i in range(n):
        mean += q[i] * _MEAN[i]
        below += q[i] <= 0.0
    tail = 0.0  # T at F(0), where that lies in a tail
    if below == 0:
        if lower <= 0.0:
            return mean, max(0.0, mean), 0.0
        tail = _T[0] - q[0] / lower
        s = tail / math.sqrt(4.0 + tail * tail)
        u = 0.5 + 0.75 * (s - s**3 / 3.0)
    elif below == n:
        if upper <= 0.0:
            return mean, max(0.0, -mean), 1.0
        tail = _T[n - 1] - q[n - 1] / upper
        s = tail / math.sqrt(4.0 + tail * tail)
        u = 0.5 + 0.75 * (s - s**3 / 3.0)
    else:
        width = q[below] - q[below - 1]
        share = min(max(-q[below - 1], 0.0), width) / width
        u = CANONICAL_LEVELS[below - 1] + _STEP[below - 1] * share
    partial = -0.375 * (1.0 + tail * tail / 4.0) ** -2.5 * (4.0 + tail * tail) / 3.0
    low, high = min(u, first), max(u, last)
    total = low * (q[0] - lower * _T[0]) + lower * (partial if below == 0 else _LOWER_MEAN)
    inner = min(max(u, first), last)
    for i in range(n - 1):
        width = min(inner, CANONICAL_LEVELS[i + 1]) - CANONICAL_LEVELS[i]
        if width <= 0.0:
            break
        total += width * (q[i] + (q[i + 1] - q[i]) / _STEP[i] * width / 2.0)
    if below == n:
        total += (high - last) * (q[n - 1] - upper * _T[n - 1]) + upper * (partial - _UPPER_MEAN)
    return mean, max(0.0, mean - 2.0 * total), u
