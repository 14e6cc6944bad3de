"""Stage 5's tracker: one number a level moves its quantile until it holds what it promises.

Quantile tracking (Gibbs and Candès, *Adaptive Conformal Inference Under Distribution Shift*, 2021;
Angelopoulos, Candès and Tibshirani, *Conformal PID Control*, 2023): the published quantile is
q̂_τ = q_τ + σθ_τ. With s = clip((r − q_τ)/σ, ±B), θ_τ as issued and e = 1{s ≤ θ_τ}, each outcome
moves θ_τ by γ(τ − e). So mean(e) − τ = −(θ_{T+1} − θ_1)/(γT), and |θ_τ| ≤ B + (H + 1)γ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domain.quantiles import CANONICAL_LEVELS

Floats = NDArray[np.float64]

BOUND = 10.0  # B, standard deviations of the horizon
LEVELS = np.array(CANONICAL_LEVELS)


class Tracker:
    """θ of every level, standard deviations of the horizon.

    Parameters
    ----------
    rate : γ ≥ 0, fixed; 0 leaves quantiles as they are.
    theta : (13,), from a snapshot.
    """

    def __init__(self, rate: float, theta: Floats | None = None) -> None:
        self._rate = rate
        self.theta: Floats = np.zeros(len(LEVELS)) if theta is None else np.array(theta, np.float64)

    def learn(
        self, q: Floats, sigma: float, issued: Floats, log_return: float
    ) -> NDArray[np.bool_]:
        """Fold one outcome.

        Parameters
        ----------
        q : (13,) quantiles before the tracker, unsorted. ``sigma`` > 0 : volatility of the horizon.
        issued : (13,) θ as it was when they were published.

        Returns
        -------
        e (13,), whether the return lay at or below each.
        """
        score = np.clip((log_return - q) / sigma, -BOUND, BOUND)
        under = np.asarray(score <= issued)
        self.theta = self.theta + self._rate * (LEVELS - under)
        return under


def moved(q: Floats, sigma: float, theta: Floats) -> Floats:
    """Return q̂ (13,), unsorted."""
    return np.asarray(q + sigma * theta)
