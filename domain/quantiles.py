"""A forecast distribution given by (levels, values), and the one function that completes it.

Between two levels the quantile function is linear; beyond the outer two it follows a
Student-t(4) through them. Every mean, E|r|, probability and interval in the project
integrates this function.

Formulas for t(4) (Shaw, *Sampling Student's T*, 2006): with α = 4u(1−u),
T(u) = sign(u−½)·2·sqrt(cos(arccos(√α)/3)/√α − 1), f(t) = ⅜(1+t²/4)^(−5/2),
∫₀^u T = −f(T(u))·(4+T(u)²)/3.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        if not (grid[0] > 0 and grid[-1] < 1 and np.all(np.diff(grid) > 0)):
            raise ValueError("levels must increase strictly inside (0, 1)")
        return cls(grid, np.sort(rows, axis=1))

    def _tails(self) -> tuple[Floats, Floats, Floats]:
        """T at every level (k,), scale of the lower and of the upper tail, each (n,)."""
        t = t4_ppf(self.levels)
        lower = (self.values[:, 1] - self.values[:, 0]) / (t[1] - t[0])
        upper = (self.values[:, -1] - self.values[:, -2]) / (t[-1] - t[-2])
        return t, lower, upper

    def ppf(self, u: ArrayLike) -> Floats:
        """Return the quantiles at levels u (m,) in (0, 1), as (n, m)."""
        u = np.atleast_1d(np.asarray(u, dtype=np.float64))
        t, lower, upper = self._tails()
        grid, rows = self.levels, self.values
        at = np.clip(np.searchsorted(grid, u, side="right") - 1, 0, len(grid) - 2)
        share = (u - grid[at]) / (grid[at + 1] - grid[at])
        inside = rows[:, at] + share * (rows[:, at + 1] - rows[:, at])
        tail = t4_ppf(u)
        inside = np.where(u < grid[0], rows[:, :1] + lower[:, None] * (tail - t[0]), inside)
        return np.where(u > grid[-1], rows[:, -1:] + upper[:, None] * (tail - t[-1]), inside)

    def cdf(self, x: ArrayLike = 0.0) -> Floats:
        """Return P(r ≤ x) for each row, (n,); x is a scalar or (n,)."""
        grid, rows = self.levels, self.values
        x = np.broadcast_to(np.asarray(x, dtype=np.float64), rows.shape[:1])
        t, lower, upper = self._tails()
        below = np.sum(rows <= x[:, None], axis=1)  # how many quantiles lie at or under x
        i = np.clip(below - 1, 0, len(grid) - 2)
        row = np.arange(len(rows))
        v0, v1 = rows[row, i], rows[row, i + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = grid[i] + (grid[i + 1] - grid[i]) * np.clip((x - v0) / (v1 - v0), 0.0, 1.0)
            low = t4_cdf(t[0] + (x - rows[:, 0]) / lower)
            high = t4_cdf(t[-1] + (x - rows[:, -1]) / upper)
        low = np.where(lower > 0, low, 0.0)
        high = np.where(upper > 0, high, 1.0)
        return np.where(below == 0, low, np.where(below == len(grid), high, inside))

    def partial_mean(self, u: ArrayLike) -> Floats:
        """Return ∫₀^u Q(v) dv for each row, (n,); u is a scalar or (n,) in [0, 1]."""
        grid, rows = self.levels, self.values
        u = np.broadcast_to(np.asarray(u, dtype=np.float64), rows.shape[:1])
        t, lower, upper = self._tails()
        low_u, high_u = np.minimum(u, grid[0]), np.maximum(u, grid[-1])
        edge = np.clip(low_u, 1e-12, None)
        total = low_u * (rows[:, 0] - lower * t[0]) + lower * np.where(
            low_u > 0, _t4_partial_mean(t4_ppf(edge)), 0.0
        )
        mid = np.clip(u, grid[0], grid[-1])[:, None]
        right = np.minimum(mid, grid[1:])
        width = np.maximum(right - grid[:-1], 0.0)
        slope = np.diff(rows, axis=1) / np.diff(grid)
        total = total + np.sum(width * (rows[:, :-1] + slope * width / 2.0), axis=1)
        end = np.where(high_u < 1, _t4_partial_mean(t4_ppf(np.minimum(high_u, 1 - 1e-12))), 0.0)
        above = (high_u - grid[-1]) * (rows[:, -1] - upper * t[-1])
        return np.asarray(total + above + upper * (end - _t4_partial_mean(t[-1])))

    def mean(self) -> Floats:
        """Return E[r] for each row, (n,)."""
        return self.partial_mean(1.0)

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

    def table(self) -> QuantileTable:
        """Return the completed quantile function (one row)."""
        return QuantileTable.of(self.levels, self.values)

    def at(self, level: float) -> float:
        """Return the quantile at one level in (0, 1)."""
        if level in self.levels:
            return self.values[self.levels.index(level)]
        return float(self.table().ppf(level)[0, 0])
