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

LARGEST = 30.0  # of a logit


class OnlineLogistic:
    """logit p = β·x, in plain numbers: for a handful of coefficients arrays cost more than they do.

    Parameters
    ----------
    prior : β0 (k,). ``spread`` : standard deviations of the prior (k,), > 0.
    half_life : outcomes after which half of what was learned is forgotten.
    share : weight of one outcome in (0, 1].

    Attributes
    ----------
    beta : (k,).
    """

    def __init__(
        self, prior: Sequence[float], spread: Sequence[float], half_life: float, share: float
    ) -> None:
        self._prior, self._variance = list(prior), [s * s for s in spread]
        self._keep, self._share = 2.0 ** (-1.0 / half_life), share
        self.beta = list(prior)
        self._p = [[v if i == j else 0.0 for j in range(len(prior))]
                   for i, v in enumerate(self._variance)]  # fmt: skip

    def chance(self, x: Sequence[float]) -> float:
        """Return p for x (k,)."""
        return sigmoid(_dot(self.beta, x))

    def learn(self, x: Sequence[float], y: float) -> None:
        """Fold one outcome y ∈ {0, 1} of x (k,)."""
        keep = self._keep
        squared = keep * keep
        self.beta = [b0 + keep * (b - b0) for b0, b in zip(self._prior, self.beta, strict=True)]
        p = [[squared * c for c in row] for row in self._p]
        for i, v in enumerate(self._variance):
            p[i][i] += (1.0 - squared) * v
        q = self.chance(x)
        px = [_dot(row, x) for row in p]
        weight = self._share * q * (1.0 - q)
        scale = weight / (1.0 + weight * _dot(x, px))
        self._p = [
            [c - a * b * scale for c, b in zip(row, px, strict=True)]
            for row, a in zip(p, px, strict=True)
        ]
        step = self._share * (y - q)
        self.beta = [b + _dot(row, x) * step for b, row in zip(self.beta, self._p, strict=True)]

    def grow(self, prior: float, spread: float) -> None:
        """Take in one more coefficient, known by its prior only."""
        self._prior.append(prior)
        self._variance.append(spread * spread)
        self.beta = [*self.beta, prior]
        self._p = [*([*row, 0.0] for row in self._p), [*([0.0] * len(self._p)), spread * spread]]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {"beta": list(self.beta), "p": [list(row) for row in self._p]}

    def restore(self, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        self.beta = list(map(float, body["beta"]))
        self._p = [list(map(float, row)) for row in body["p"]]
        return self


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum([x * y for x, y in zip(a, b, strict=True)])


def sigmoid(x: float) -> float:
    """Return 1/(1 + e^(−x)), x clipped to ±30."""
    return 1.0 / (1.0 + math.exp(-min(max(x, -LARGEST), LARGEST)))
