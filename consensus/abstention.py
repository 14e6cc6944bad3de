"""What abstaining was worth: every NO_TRADE has the trade that it declined.

That trade takes the side of the expected return with a fixed notional, is held to the horizon, and
pays the round trip that the decision was made with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from domain.decision import Action, Decision


@dataclass(frozen=True, slots=True)
class Declined:
    """The trade that a NO_TRADE declined. ``gross`` and ``cost``, > 0 : log return."""

    side: Action
    gross: float
    cost: float

    @property
    def net(self) -> float:
        """What it would have brought, log return."""
        return self.gross - self.cost


def declined(decision: Decision, log_return: float) -> Declined | None:
    """Return what a NO_TRADE declined; None for a taken side, or without an expected return.

    Parameters
    ----------
    log_return : over the horizon after the decision.
    """
    expected, cost = decision.expected_return, decision.inputs.get("round_trip")
    if decision.intent is not Action.NO_TRADE or cost is None:
        return None
    if expected is None or expected == 0.0 or not math.isfinite(log_return):
        return None
    side = Action.LONG if expected > 0.0 else Action.SHORT
    return Declined(side, side.sign * log_return, float(cost))
