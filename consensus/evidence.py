"""An agent's skill against climatology with its confidence sequence: valid at all times at once.

Overlapping outcomes repeat each other, so every H-th one is bet on by a purse of its own and the
evidence is the mean of the H purses, which is an e-process too (Vovk and Wang, *E-values*, 2021). A
purse bets λ against "the mean of d = b_climatology − b_agent is m", d in [−1, 1]: capital ×
(1 + λ(d − m)), λ from what it saw before (Waudby-Smith and Ramdas, *Estimating Means of Bounded
Random Variables by Betting*, 2024). Where the mean is at most m, it exceeds 1/α at any time with
probability α at most (Ville), so the m that it has refuted lie below the lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.05  # of each side
_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500, 1000)  # ten-thousandths
GRID: Floats = np.array([*(-m for m in reversed(_STEPS)), 0, *_STEPS]) * 1e-4
ZERO = len(_STEPS)  # index of m = 0
_CAP = 0.5  # of a bet: d − m lies within ±1.1, so no purse is ever lost
_LARGEST = 700.0  # of a logarithm, before e^x overflows
_PRIOR = 1e-3  # Σ(d − m)² before anything was seen


class Evidence:
    """Purses on both sides of every m of :data:`GRID`, since an agent took, or lost, its seat.

    Parameters
    ----------
    horizon_bars : H, the number of purses.
    """

    def __init__(self, horizon_bars: int) -> None:
        self.stats: Floats = np.zeros((horizon_bars, 3))  # n, Σd, Σd²
        self.above: Floats = np.zeros((horizon_bars, len(GRID)))  # ln capital on "more than m"
        self.below: Floats = np.zeros((horizon_bars, len(GRID)))

    def add(self, copy: int, agent: float, climatology: float) -> None:
        """Fold one outcome's Brier losses, in [0, 1], by the purse ``copy``."""
        n, total, squares = self.stats[copy]
        d = climatology - agent
        spread = squares - (2.0 * total - n * GRID) * GRID + _PRIOR
        bet = (total - n * GRID) / spread
        self.above[copy] += np.log1p(np.clip(bet, 0.0, _CAP) * (d - GRID))
        self.below[copy] += np.log1p(np.clip(bet, -_CAP, 0.0) * (d - GRID))
        self.stats[copy] += (1.0, d, d * d)

    @property
    def n(self) -> int:
        """Outcomes folded."""
        return int(self.stats[:, 0].sum())

    @property
    def better(self) -> bool:
        """Whether the lower 95 % bound of its skill is above 0."""
        return _refuted(self.above[:, ZERO])

    @property
    def worse(self) -> bool:
        """Whether the upper 95 % bound of its skill is below 0."""
        return _refuted(self.below[:, ZERO])

    def bounds(self) -> tuple[float | None, float | None]:
        """Return the skill's lower and upper 95 % bound, on the grid; None beyond ±.1."""
        low = [float(m) for k, m in enumerate(GRID) if _refuted(self.above[:, k])]
        high = [float(m) for k, m in enumerate(GRID) if _refuted(self.below[:, k])]
        return max(low, default=None), min(high, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "stats": self.stats.tolist(), "above": self.above.tolist(),
            "below": self.below.tolist(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(len(body["stats"]))
        for name in ("stats", "above", "below"):
            setattr(made, name, np.array(body[name], dtype=np.float64))
        return made


def _refuted(logs: Floats) -> bool:
    """Whether the mean of e^x is at least 1/α."""
    return math.fsum(math.exp(min(x, _LARGEST)) for x in logs.tolist()) >= len(logs) / ALPHA
