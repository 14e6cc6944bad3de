"""Stage 6's κ: how much of the naive return (2p − 1)·E|r| has come true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Edge:
    """Decayed no-intercept least squares of r on x = (2p − 1)m, one outcome at a time.

    Attributes
    ----------
    xr, xx : decayed Σ x·r and Σ x², squared log return.
    n : outcomes folded, undecayed.
    """

    xr: float = 0.0
    xx: float = 0.0
    n: int = 0

    def add(self, p_up: float, mean_abs: float, log_return: float, decay: float) -> None:
        """Fold one outcome of a published p and m = E|r|."""
        x = (2.0 * p_up - 1.0) * mean_abs
        self.xr = decay * self.xr + x * log_return
        self.xx = decay * self.xx + x * x
        self.n += 1

    def kappa(self, prior: float, weight: float) -> float:
        """Return κ = max(0, (n·b + weight·prior) / (n + weight)), b the slope.

        The prior alone while no p has differed from ½.
        """
        if self.xx <= 0.0:
            return max(0.0, prior)
        slope = self.xr / self.xx
        return max(0.0, (self.n * slope + weight * prior) / (self.n + weight))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {"xr": self.xr, "xx": self.xx, "n": self.n}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Edge:
        """Read :meth:`as_dict` back, bit for bit."""
        return cls(float(body["xr"]), float(body["xx"]), int(body["n"]))
