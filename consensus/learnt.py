"""What the pools of one instant read of all that was learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from domain.quantiles import CANONICAL_LEVELS


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the pools read at one instant; everything a replay needs of the fold.

    Attributes
    ----------
    losses : member → L of its decayed relative Brier loss.
    mixture : candidate → ln of its weight in the no-harm layer's copy.
    boa : agent → weight in the Bernstein pool. ``stack`` : agent → coefficient of its logit.
    platt : intercept and slope on the Brier pool's logit. ``base`` : P(up), shrunk to ½.
    levels : agent → weight at each canonical level (13,). ``theta`` : (13,) of the tracker.
    down, up : agent → weight in the pool of each risk.
    """

    losses: Mapping[str, float]
    mixture: Mapping[str, float] = field(default_factory=dict)
    boa: Mapping[str, float] = field(default_factory=dict)
    stack: Mapping[str, float] = field(default_factory=dict)
    platt: tuple[float, float] = (0.0, 1.0)
    base: float = 0.5
    levels: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    theta: tuple[float, ...] = (0.0,) * len(CANONICAL_LEVELS)
    down: Mapping[str, float] = field(default_factory=dict)
    up: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "losses": dict(self.losses), "mixture": dict(self.mixture), "boa": dict(self.boa),
            "stack": dict(self.stack), "platt": list(self.platt), "base": self.base,
            "levels": {agent: list(row) for agent, row in self.levels.items()},
            "theta": list(self.theta), "down": dict(self.down), "up": dict(self.up),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit.

        Raises
        ------
        KeyError, TypeError : if a field is missing.
        """
        levels = {agent: tuple(row) for agent, row in body["levels"].items()}
        low, slope = body["platt"]
        return cls(**{**body, "levels": levels, "platt": (low, slope),
                      "theta": tuple(body["theta"])})  # fmt: skip
