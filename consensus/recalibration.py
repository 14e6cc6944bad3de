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

    Attributes
    ----------
    beta : (k,).
    """

    def __init__(
        self, prior: Sequence[float], spread: Sequence[float], half_life: float, share: float
    ) -> None:
        self._prior: Floats = np.array(prior, dtype=np.float64)
        self._p: Floats = np.diag(np.array(spread, dtype=np.float64) ** 2)
        self._keep, self._share = 2.0 ** (-1.0 / half_life), share
        self.beta, self._pull = self._prior.copy(), (1.0 - self._keep**2) * self._p

    def chance(self, x: Sequence[float]) -> float:
        """Return p for x (k,)."""
        return sigmoid(float(self.beta @ np.array(x)))

    def learn(self, x: Sequence[float], y: float) -> None:
        """Fold one outcome y ∈ {0, 1} of x (k,)."""
        keep, seen = self._keep, np.array(x)
        beta = self._prior + keep * (self.beta - self._prior)
        p = keep**2 * self._p
        p += self._pull
        q = sigmoid(float(beta @ seen))
        px = p @ seen
        weight = self._share * q * (1.0 - q)
        scale = weight / (1.0 + weight * float(seen @ px))
        p -= (px * scale)[:, None] * px
        self._p, self.beta = p, beta + (p @ seen) * (self._share * (y - q))

    def grow(self, prior: float, spread: float) -> None:
        """Take in one more coefficient, known by its prior only."""
        variance = spread * spread
        self._prior, self.beta = np.append(self._prior, prior), np.append(self.beta, prior)
        self._p = _bordered(self._p, variance)
        self._pull = _bordered(self._pull, (1.0 - self._keep**2) * variance)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {"beta": self.beta.tolist(), "p": self._p.tolist()}

    def restore(self, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        self.beta = np.array(body["beta"], dtype=np.float64)
        self._p = np.array(body["p"], dtype=np.float64)
        return self


class OnlineLine:
    """logit p = a + b·x: the same for an intercept and a slope, where arrays would cost more.

    Parameters
    ----------
    prior : (a0, b0). ``spread`` : standard deviations of the prior, > 0.
    half_life, share : as for :class:`OnlineLogistic`.

    Attributes
    ----------
    beta : (a, b).
    """

    def __init__(
        self, prior: tuple[float, float], spread: tuple[float, float], half_life: float,
        share: float,
    ) -> None:  # fmt: skip
        self._prior, self._variance = prior, (spread[0] ** 2, spread[1] ** 2)
        self._keep, self._share = 2.0 ** (-1.0 / half_life), share
        self.beta = prior
        self._p = (self._variance[0], 0.0, self._variance[1])  # P of a, of both, of b

    def chance(self, x: float) -> float:
        """Return p for x."""
        return sigmoid(self.beta[0] + self.beta[1] * x)

    def learn(self, x: float, y: float) -> None:
        """Fold one outcome y ∈ {0, 1} of x."""
        (a, b), (a0, b0), keep, squared = self.beta, self._prior, self._keep, self._keep**2
        a, b = a0 + keep * (a - a0), b0 + keep * (b - b0)
        aa = squared * self._p[0] + (1.0 - squared) * self._variance[0]
        ab = squared * self._p[1]
        bb = squared * self._p[2] + (1.0 - squared) * self._variance[1]
        q = sigmoid(a + b * x)
        pa, pb = aa + ab * x, ab + bb * x
        weight = self._share * q * (1.0 - q)
        scale = weight / (1.0 + weight * (pa + pb * x))
        aa, ab, bb = aa - pa * pa * scale, ab - pa * pb * scale, bb - pb * pb * scale
        step = self._share * (y - q)
        self._p = (aa, ab, bb)
        self.beta = (a + (aa + ab * x) * step, b + (ab + bb * x) * step)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        aa, ab, bb = self._p
        return {"beta": list(self.beta), "p": [[aa, ab], [ab, bb]]}

    def restore(self, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        a, b = body["beta"]
        (aa, ab), (_, bb) = body["p"]
        self.beta, self._p = (float(a), float(b)), (float(aa), float(ab), float(bb))
        return self


def _bordered(matrix: Floats, corner: float) -> Floats:
    """The matrix with one more row and column, 0 but for the corner."""
    made = np.zeros((len(matrix) + 1, len(matrix) + 1))
    made[:-1, :-1], made[-1, -1] = matrix, corner
    return made


def sigmoid(x: float) -> float:
    """Return 1/(1 + e^(−x)), x clipped to ±30."""
    return 1.0 / (1.0 + math.exp(-min(max(x, -LARGEST), LARGEST)))
