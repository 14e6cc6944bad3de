"""What the council's abstentions saved or cost over a range, with errors, and by reason."""

from __future__ import annotations

from typing import Any

import numpy as np

from consensus.abstention import declined
from domain.decision import Decision
from sim.scoring import UNIT, Floats, Mask, Truth
from sim.statistics.comparing import block_bootstrap, day_bars


class Abstentions:
    """Collects the trades that were declined on n bars.

    Parameters
    ----------
    truth, valid : (n,) what happened, and where it is known.
    """

    def __init__(self, truth: Truth, valid: Mask) -> None:
        self._truth, self._valid, self._row = truth, valid, 0
        self._gross: list[float] = []
        self._cost: list[float] = []
        self._why: list[str] = []
        self._taken = 0

    def hear(self, decision: Decision) -> None:
        """Take in the decision on the next bar."""
        row, self._row = self._row, self._row + 1
        if not self._valid[row]:
            return
        trade = declined(decision, float(self._truth.log_return[row]))
        if trade is None:
            self._taken += decision.intent != "NO_TRADE"
            return
        self._gross.append(trade.gross)
        self._cost.append(trade.cost)
        self._why.append(decision.reasons[0] if decision.reasons else "")

    def summary(self, step_ms: int) -> dict[str, Any]:
        """Return the sum of it, bps a bar; positive ``saved_bps`` is what abstaining saved.

        ``se``, ``lo`` and ``hi`` are of a block bootstrap (one day); ``by_reason`` is by the first
        reason of each decision.
        """
        gross, cost = UNIT * np.array(self._gross), UNIT * np.array(self._cost)
        saved, why = cost - gross, np.array(self._why)
        return {
            "declined": len(saved),
            "taken": int(self._taken),
            **_mean("gross_bps", gross, step_ms),
            "cost_bps": float(cost.mean()) if len(cost) else None,
            **_mean("saved_bps", saved, step_ms),
            "by_reason": {
                str(reason): {"n": int((why == reason).sum()),
                              "saved_bps": float(saved[why == reason].mean())}
                for reason in sorted(set(self._why))
            },
        }  # fmt: skip


def _mean(name: str, values: Floats, step_ms: int) -> dict[str, float | None]:
    found = block_bootstrap(values, day_bars(step_ms)) if len(values) else None
    return {
        name: float(values.mean()) if len(values) else None,
        f"{name}_se": None if found is None else float(found.se),
        f"{name}_lo": None if found is None else float(found.lo),
        f"{name}_hi": None if found is None else float(found.hi),
    }
