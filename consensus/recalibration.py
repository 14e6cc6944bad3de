"""Logistic regression learned one outcome at a time, around a prior that it is pulled back to.

Extended Kalman filter (Fahrmeir, *Posterior Mode Estimation by Extended Kalman Filtering*, 1992):
coefficients β with covariance P drift back to their prior (β0, P0) at rate ρ an outcome,

    β ← β0 + ρ(β − β0),  P ← ρ²P + (1 − ρ²)P0,  then a Newton step on one outcome's likelihood.

Overlapping outcomes repeat each other, so one counts as 1/H of an outcome.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LARGEST = 30.0  # of a logit


class OnlineLogistic:
    """logit p = β·x.

    Parameters
    ----------
    prior : β0 (k,). ``spread`` : standard deviations of the prior (k,), > 0.
    half_life : outcomes after which half of what was learned is forgotten.
    share : weight of one outcome in (0, 1].
    """

    def __init__(
        self, prior: Sequence[float], spread: Sequence[float], half_life: float, share: float
    ) -> None:
        self._prior = np.array(prior, dtype=np.float64)
        self._covariance = np.diag(np.square(np.array(spread, dtype=np.float64)))
        self._keep, self._share = 2.0 ** (-1.0 / half_life), share
        self.beta, self._p = self._prior.copy(), self._covariance.copy()

    def chance(self, x: Floats) -> float:
        """Return p for x (k,)."""
        return sigmoid(float(self.beta @ x))

    def learn(self, x: Floats, y: float) -> None:
        """Fold one outcome y ∈ {0, 1} of x (k,)."""
        rho = self._keep
        self.beta = self._prior + rho * (self.beta - self._prior)
        self._p = rho * rho * self._p + (1.0 - rho * rho) * self._covariance
        q = self.chance(x)
        px = self._p @ x
        weight = self._share * q * (1.0 - q)
        self._p = self._p - np.outer(px, px) * (weight / (1.0 + weight * float(x @ px)))
        self.beta = self.beta + (self._p @ x) * (self._share * (y - q))

    def grow(self, prior: float, spread: float) -> None:
        """Take in one more coefficient, known by its prior only."""
        k = len(self.beta)
        self._prior, self.beta = np.append(self._prior, prior), np.append(self.beta, prior)
        for name in ("_covariance", "_p"):
            larger = np.zeros((k + 1, k + 1))
            larger[:k, :k], larger[k, k] = getattr(self, name), spread * spread
            setattr(self, name, larger)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {"beta": self.beta.tolist(), "p": self._p.tolist()}

    def restore(self, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        self.beta = np.array(body["beta"], dtype=np.float64)
        self._p = np.array(body["p"], dtype=np.float64)
        return self


def sigmoid(x: float) -> float:
    """Return 1/(1 + e^(−x)), x clipped to ±30."""
    return 1.0 / (1.0 + math.exp(-min(max(x, -LARGEST), LARGEST)))
