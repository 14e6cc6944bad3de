"""Agents' skill against climatology with its confidence sequence: valid at all times at once.

Overlapping outcomes repeat each other, so every H-th one is bet on by a purse of its own and the
evidence is the mean of the H purses, which is an e-process too (Vovk and Wang, *E-values*, 2021). A
purse bets λ against "the mean of d = b_climatology − b_agent is m", d in [−1, 1]: capital ×
(1 + λ(d − m)), λ from what it saw before (Waudby-Smith and Ramdas, *Estimating Means of Bounded
Random Variables by Betting*, 2024). Where the mean is at most m, it exceeds 1/α at any time with
probability α at most (Ville), so the m that it has refuted lie below the lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ALPHA = 0.05  # of each side
_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500, 1000)  # ten-thousandths
GRID: Floats = np.array([*(-m for m in reversed(_STEPS)), 0, *_STEPS]) * 1e-4
ZERO = len(_STEPS)  # index of m = 0
CAP = 0.5  # of a bet: d − m lies within ±1.1, so no purse is ever lost
LEAST: Floats = np.array([[0.0], [-CAP]])  # bet of those on more than m, and on less
MOST: Floats = np.array([[CAP], [0.0]])
LARGEST = 700.0  # of a logarithm, before e^x overflows
PRIOR = 1e-3  # Σ(d − m)² before anything was seen
SURE = 2.99  # below ln(1/α): where no purse has as much, their mean has not
_TOGETHER = 64  # outcomes of a purse
_NOTHING: Floats = np.zeros((2, len(GRID)))


class Evidence:
    """Purses on both sides of every m of :data:`GRID`, of every agent.

    Parameters
    ----------
    horizon_bars : H, the number of purses.
    """

    def __init__(self, horizon_bars: int) -> None:
        self._horizon_bars = horizon_bars
        self._purses: dict[str, list[_Purse]] = {}

    def add(self, copy: int, agents: Sequence[str], skill: Sequence[float]) -> None:
        """Fold one outcome by the purses ``copy``: d of the agents that spoke."""
        for agent in agents:
            if agent not in self._purses:
                self.restart(agent)
        purses = [self._purses[agent][copy] for agent in agents]
        staked = [purse.stake() * d for purse, d in zip(purses, skill, strict=True)]
        won = np.log1p(staked).tolist()
        for purse, d, gain in zip(purses, skill, won, strict=True):
            purse.add(d, gain)

    def n(self, agent: str) -> int:
        """Outcomes folded since the agent began, or began again."""
        return int(sum(purse.n for purse in self._purses.get(agent, ())))

    def claims(self, agents: Sequence[str]) -> Flags:
        """Return (k, 2): whether the lower 95 % bound is above 0, and the upper one below it."""
        purses = [self._purses[agent] for agent in agents]
        if all(one.above < SURE and one.below < SURE for each in purses for one in each):
            return np.zeros((len(agents), 2), dtype=np.bool_)  # nearly always
        logs = [[(one.above, one.below) for one in each] for each in purses]
        return _refuted(np.array(logs).swapaxes(0, 1))

    def bounds(self, agent: str) -> tuple[float | None, float | None]:
        """Return the skill's lower and upper 95 % bound, on the grid; None beyond ±.1."""
        if agent not in self._purses:
            return None, None
        above, below = _refuted(np.array([purse.logs() for purse in self._purses[agent]]))
        return max(GRID[above].tolist(), default=None), min(GRID[below].tolist(), default=None)

    def restart(self, agent: str) -> None:
        """Forget all about an agent."""
        self._purses[agent] = [_Purse() for _ in range(self._horizon_bars)]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, in the order in which agents came."""
        return {
            agent: {
                "stats": [[purse.n, purse.total, purse.squares] for purse in purses],
                "logs": [purse.logs().tolist() for purse in purses],
            }
            for agent, purses in self._purses.items()
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], horizon_bars: int) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(horizon_bars)
        for agent, one in body.items():
            states = zip(one["stats"], one["logs"], strict=True)
            made._purses[str(agent)] = [_Purse(stats, logs) for stats, logs in states]
        return made


class _Purse:
    """One agent's every H-th outcome.

    Only m = 0 decides about seats, so only that is bet on at once, in plain numbers; the other m
    follow many outcomes at a time, and when somebody looks at them.
    """

    __slots__ = ("_late", "_logs", "above", "below", "n", "squares", "total")

    def __init__(
        self,
        stats: Sequence[float] = (0.0, 0.0, 0.0),
        logs: Floats | Sequence[Sequence[float]] = _NOTHING,
    ) -> None:
        self.n, self.total, self.squares = map(float, stats)  # n, Σd, Σd²
        # (2, grid) ln capital of those who bet on more than m, and on less
        self._logs: Floats = np.array(logs, dtype=np.float64)
        self.above, self.below = self._logs[:, ZERO].tolist()
        self._late: list[tuple[float, float, float, float]] = []  # stats before an outcome, and d

    def __deepcopy__(self, memo: dict[int, Any]) -> _Purse:
        twin = _Purse((self.n, self.total, self.squares), self._logs)
        twin.above, twin.below, twin._late = self.above, self.below, self._late.copy()
        return twin

    def stake(self) -> float:
        """λ of m = 0; who bets on more takes it where it is above 0, else who bets on less."""
        return min(max(self.total / (self.squares + PRIOR), -CAP), CAP)

    def add(self, d: float, gain: float) -> None:
        """Fold one outcome, by which the stake at m = 0 won ``gain``."""
        if self.total > 0.0:
            self.above += gain
        else:
            self.below += gain
        self._late.append((self.n, self.total, self.squares, d))
        self.n, self.total, self.squares = self.n + 1.0, self.total + d, self.squares + d * d
        if len(self._late) == _TOGETHER:
            self.logs()

    def logs(self) -> Floats:
        """(2, grid), not to be changed."""
        if self._late:
            n, total, squares, d = np.array(self._late).T[:, :, None]
            sum_over = total - n * GRID  # Σ(d − m)
            bet = sum_over / (squares + PRIOR - (total + sum_over) * GRID)
            bets = np.minimum(np.maximum(bet[:, None], LEAST), MOST)
            for won in np.log1p(bets * (d - GRID)[:, None]):
                self._logs += won
            self._late.clear()
        return self._logs


def _refuted(logs: Floats) -> Flags:
    """Whether the mean of e^x over the purses, which come first, is at least 1/α."""
    return np.asarray(np.exp(np.minimum(logs, LARGEST)).sum(axis=0) >= len(logs) / ALPHA)
