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


class Evidence:
    """Purses on both sides of every m of :data:`GRID`, of every agent.

    Parameters
    ----------
    horizon_bars : H, the number of purses.
    """

    def __init__(self, horizon_bars: int) -> None:
        self._row: dict[str, int] = {}
        self._stats: Floats = np.zeros((horizon_bars, 0, 3))  # n, Σd, Σd²
        # ln capital of those who bet on more than m, and on less
        self._logs: Floats = np.zeros((horizon_bars, 0, 2, len(GRID)))

    def add(self, copy: int, agents: Sequence[str], skill: Sequence[float]) -> None:
        """Fold one outcome by the purses ``copy``: d of the agents that spoke."""
        for agent in agents:
            if agent not in self._row:
                self._grow(agent)
        rows, stats, logs = self._rows(agents), self._stats[copy], self._logs[copy]
        seen = np.array([(1.0, d, d * d) for d in skill])
        n, total, squares = stats[rows].T[:, :, None]
        sum_over = total - n * GRID  # Σ(d − m)
        bet = sum_over / (squares + PRIOR - (total + sum_over) * GRID)
        bets = np.minimum(np.maximum(bet[:, None], LEAST), MOST)
        logs[rows] += np.log1p(bets * (seen[:, 1:2] - GRID)[:, None])
        stats[rows] += seen

    def n(self, agent: str) -> int:
        """Outcomes folded since the agent began, or began again."""
        return int(self._stats[:, self._row[agent], 0].sum()) if agent in self._row else 0

    def claims(self, agents: Sequence[str]) -> Flags:
        """Return (k, 2): whether the lower 95 % bound is above 0, and the upper one below it."""
        return _refuted(self._logs[:, self._rows(agents)][..., ZERO])

    def bounds(self, agent: str) -> tuple[float | None, float | None]:
        """Return the skill's lower and upper 95 % bound, on the grid; None beyond ±.1."""
        if agent not in self._row:
            return None, None
        above, below = _refuted(self._logs[:, self._row[agent]])
        return max(GRID[above].tolist(), default=None), min(GRID[below].tolist(), default=None)

    def restart(self, agent: str) -> None:
        """Forget all about an agent."""
        row = self._row[agent]
        self._stats[:, row], self._logs[:, row] = 0.0, 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, in the order in which agents came."""
        return {
            agent: {"stats": self._stats[:, row].tolist(), "logs": self._logs[:, row].tolist()}
            for agent, row in self._row.items()
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], horizon_bars: int) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(horizon_bars)
        for agent, one in body.items():
            made._grow(str(agent))
            made._stats[:, -1], made._logs[:, -1] = one["stats"], one["logs"]
        return made

    def _rows(self, agents: Sequence[str]) -> slice | list[int]:
        """Where agents stand; all of them in order need no copy."""
        everybody = len(agents) == len(self._row) and agents == list(self._row)
        return slice(None) if everybody else [self._row[agent] for agent in agents]

    def _grow(self, agent: str) -> None:
        self._row[agent] = len(self._row)
        for name in ("_stats", "_logs"):
            old = getattr(self, name)
            new = np.zeros((len(old), 1, *old.shape[2:]))
            setattr(self, name, np.concatenate((old, new), axis=1))


def _refuted(logs: Floats) -> Flags:
    """Whether the mean of e^x over the purses, which come first, is at least 1/α."""
    return np.asarray(np.exp(np.minimum(logs, LARGEST)).sum(axis=0) >= len(logs) / ALPHA)
