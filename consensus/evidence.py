"""Whether an agent beats climatology, or is beaten by it, watched at all times at once.

Overlapping outcomes repeat each other, so every H-th one is bet on by a purse of its own and the
evidence is the mean of the H purses, which is an e-process too (Vovk and Wang, *E-values*, 2021). A
purse bets λ on d = b_climatology − b_agent ∈ [−1, 1]: capital × (1 + λd), λ from what it saw before
(Waudby-Smith and Ramdas, *Estimating Means of Bounded Random Variables by Betting*, 2024). If the
agent is no better, it exceeds 1/α at any time with probability α at most (Ville).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

ALPHA = 0.05
_CAP = 0.5  # of a bet: no purse is ever lost
_PRIOR = 1e-3  # variance of d before anything was seen, counted once


class _Purse:
    """Bets on a mean above 0 and on one below, by the same outcomes."""

    def __init__(self, body: Sequence[float] = (0.0, 0.0, 0.0, 0.0, 0.0)) -> None:
        self.better, self.worse, self.n, self.total, self.squares = map(float, body)

    def add(self, d: float) -> None:
        bet = self.total / (self.squares + _PRIOR)
        self.better += math.log1p(min(max(bet, 0.0), _CAP) * d)
        self.worse += math.log1p(min(max(-bet, 0.0), _CAP) * -d)
        self.n, self.total, self.squares = self.n + 1, self.total + d, self.squares + d * d

    def as_list(self) -> list[float]:
        return [self.better, self.worse, self.n, self.total, self.squares]


class Evidence:
    """An agent's purses since it took, or lost, its seat.

    Parameters
    ----------
    horizon_bars : H, the number of purses.
    """

    def __init__(self, horizon_bars: int) -> None:
        self._purses = [_Purse() for _ in range(horizon_bars)]

    def add(self, copy: int, agent: float, climatology: float) -> None:
        """Fold one outcome's Brier losses, in [0, 1], by the purse ``copy``."""
        self._purses[copy].add(climatology - agent)

    @property
    def n(self) -> int:
        """Outcomes folded."""
        return int(sum(purse.n for purse in self._purses))

    @property
    def better(self) -> bool:
        """Whether the lower 95 % bound of its skill is above 0."""
        return _mean([purse.better for purse in self._purses]) >= -math.log(ALPHA)

    @property
    def worse(self) -> bool:
        """Whether the upper 95 % bound of its skill is below 0."""
        return _mean([purse.worse for purse in self._purses]) >= -math.log(ALPHA)

    def as_list(self) -> list[Any]:
        """Return JSON's types."""
        return [purse.as_list() for purse in self._purses]

    @classmethod
    def from_list(cls, body: Sequence[Sequence[float]]) -> Self:
        """Read :meth:`as_list` back, bit for bit."""
        made = cls(len(body))
        made._purses = [_Purse(one) for one in body]
        return made


def _mean(logs: Sequence[float]) -> float:
    """ln of the mean of e^x."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(x - top) for x in logs) / len(logs))
