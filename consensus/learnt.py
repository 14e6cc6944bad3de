"""What the pools of one instant read of all that was learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from domain.quantiles import CANONICAL_LEVELS

Line = tuple[float, float]  # intercept and slope on a logit
SIDES = ("down", "up")
IDENTITY: Line = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the pools read at one instant; everything a replay needs of the fold.

    Attributes
    ----------
    losses : agent with a seat → L of its decayed relative Brier loss. ``priors`` : its π.
    mixture : candidate → ln of its weight in the no-harm layer's copy.
    bernstein : awake agent → weight in the Bernstein pools of p, of each quantile and of each risk,
        (16,), 0 on what it does not forecast. ``stack`` : agent → coefficient of its logit.
    platt : intercept and slope on the Brier pool's logit. ``base`` : P(up), shrunk to ½.
    theta : (13,) of the tracker.
    curves : side → intercept and slope on the logit of its pooled risk.
    """

    losses: Mapping[str, float]
    priors: Mapping[str, float] = field(default_factory=dict)
    mixture: Mapping[str, float] = field(default_factory=dict)
    bernstein: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    stack: Mapping[str, float] = field(default_factory=dict)
    platt: Line = IDENTITY
    base: float = 0.5
    theta: tuple[float, ...] = (0.0,) * len(CANONICAL_LEVELS)
    curves: Mapping[str, Line] = field(default_factory=lambda: dict.fromkeys(SIDES, IDENTITY))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "losses": dict(self.losses), "priors": dict(self.priors),
            "mixture": dict(self.mixture),
            "bernstein": {agent: list(row) for agent, row in self.bernstein.items()},
            "stack": dict(self.stack), "platt": list(self.platt), "base": self.base,
            "theta": list(self.theta),
            "curves": {side: list(line) for side, line in self.curves.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit.

        Raises
        ------
        KeyError, TypeError : if a field is missing.
        """
        bernstein = {agent: tuple(row) for agent, row in body["bernstein"].items()}
        curves = {side: _line(line) for side, line in body["curves"].items()}
        return cls(**{**body, "bernstein": bernstein, "platt": _line(body["platt"]),
                      "curves": curves, "theta": tuple(body["theta"])})  # fmt: skip


def _line(body: Sequence[float]) -> Line:
    intercept, slope = body
    return intercept, slope
