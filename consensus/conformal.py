"""Stage 5's tracker: one number a level moves its quantile until it holds what it promises.

Quantile tracking (Gibbs and Candès, *Adaptive Conformal Inference Under Distribution Shift*, 2021;
Angelopoulos, Candès and Tibshirani, *Conformal PID Control*, 2023): the published quantile is
q̂_τ = q_τ + σθ_τ. With s = clip((r − q_τ)/σ, ±B), θ_τ as issued and e = 1{s ≤ θ_τ}, each outcome
moves θ_τ by γ(τ − e). So mean(e) − τ = −(θ_{T+1} − θ_1)/(γT), and |θ_τ| ≤ B + (H + 1)γ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domain.quantiles import CANONICAL_LEVELS

BOUND = 10.0  # B, standard deviations of the horizon
LEVELS: NDArray[np.float64] = np.array(CANONICAL_LEVELS)


class Tracker:
    """θ of every level, standard deviations of the horizon.

    Parameters
    ----------
    rate : γ ≥ 0, fixed; 0 leaves quantiles as they are.
    theta : (13,), from a snapshot.
    """

    def __init__(self, rate: float, theta: Sequence[float] | None = None) -> None:
        self._rate = rate
        self.theta = tuple(map(float, theta)) if theta is not None else (0.0,) * len(LEVELS)

    def learn(
        self, q: Sequence[float], sigma: float, issued: Sequence[float], log_return: float
    ) -> list[bool]:
        """Fold one outcome.

        Parameters
        ----------
        q : (13,) quantiles before the tracker, unsorted. ``sigma`` > 0 : volatility of the horizon.
        issued : (13,) θ as it was when they were published.

        Returns
        -------
        e (13,), whether the return lay at or below each.
        """
        scores = [(log_return - own) / sigma for own in q]
        if max(map(abs, scores)) > BOUND:
            scores = [min(max(score, -BOUND), BOUND) for score in scores]
        under = [score <= moved_by for score, moved_by in zip(scores, issued, strict=True)]
        rate = self._rate
        self.theta = tuple([
            theta + rate * (level - e)
            for theta, level, e in zip(self.theta, CANONICAL_LEVELS, under, strict=True)
        ])  # fmt: skip
        return under


def moved(q: Sequence[float], sigma: float, theta: Sequence[float]) -> list[float]:
    """Return q̂ (13,), unsorted."""
    return [own + sigma * by for own, by in zip(q, theta, strict=True)]
