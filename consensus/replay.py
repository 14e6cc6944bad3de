"""Repeat a stored decision from what it says it was made from, and compare.

Needs nothing but the decision and the opinions of its instant: what was learned, κ, costs, data
quality, rules and the settings of the pools are in ``Decision.inputs``. (That what was learned
follows from the ledger is shown by folding it up to ``Decision.state_seq``.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consensus.admission import Admission, admit
from consensus.debate import Case
from consensus.decision import GIVEN, Quality, Verdict, decide
from consensus.fusion import fuse
from consensus.learnt import Learnt
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Action, Consensus, Costs, Decision
from domain.errors import CheckFailed
from domain.opinion import Opinion

_COMPARED = (
    "prob_up", "expected_return", "risk_down", "risk_up", "quantiles", "weights", "contributions",
    "intent", "reasons", "margins", "break_even_prob", "risk_score",
)  # fmt: skip


def recompute(
    decision: Decision, opinions: Sequence[Opinion]
) -> tuple[Admission, Consensus | None, Verdict]:
    """Fuse and decide again. ``opinions`` are all those stored for the decision's instant.

    Raises
    ------
    CheckFailed : if the decision does not carry its inputs.
    """
    inputs = decision.inputs
    try:
        settings = CouncilSettings(
            **{**inputs["fusion"], "members": tuple(inputs["fusion"]["members"]),
               "clip": tuple(inputs["fusion"]["clip"])}
        )  # fmt: skip
        rules, costs = DecisionRules(**inputs["rules"]), Costs(**inputs["costs"])
        quality, learnt = Quality(**inputs["quality"]), Learnt.from_dict(inputs["learnt"])
        kappa, sigma, case = float(inputs["kappa"]), inputs["sigma"], Case(**inputs["case"])
    except (KeyError, TypeError) as error:
        raise CheckFailed(
            f"decision {decision.id}", "must carry the inputs it was made from", str(error)
        ) from error
    admission = admit(
        decision.symbol, decision.timeframe, decision.as_of, opinions, decision.absent, settings
    )
    consensus = fuse(
        decision.symbol, decision.timeframe, decision.as_of, admission, learnt, settings, sigma,
        case, decision.state_seq,
    )  # fmt: skip
    return admission, consensus, decide(consensus, costs, kappa, rules, quality)


def differences(decision: Decision, opinions: Sequence[Opinion]) -> dict[str, tuple[Any, Any]]:
    """Return field → (stored, recomputed) for every field that differs; empty if none does.

    Compared is what the strategy wanted (``intent``), before gate and risk.
    """
    _, consensus, verdict = recompute(decision, opinions)
    again: dict[str, Any] = {
        "prob_up": consensus.p_up if consensus else None,
        "expected_return": consensus.expected_return if consensus else None,
        "risk_down": consensus.risk_down if consensus else None,
        "risk_up": consensus.risk_up if consensus else None,
        "quantiles": consensus.quantiles if consensus else None,
        "weights": dict(consensus.weights if consensus else {}),
        "contributions": dict(consensus.contributions if consensus else {}),
        "intent": verdict.action,
        "reasons": tuple(reason.value for reason in verdict.reasons),
        "margins": dict(verdict.margins),
        "break_even_prob": verdict.break_even_prob,
        "risk_score": verdict.risk_score,
    }
    stored: dict[str, Any] = {name: getattr(decision, name) for name in _COMPARED}
    stored = {name: dict(x) if isinstance(x, Mapping) else x for name, x in stored.items()}
    stored["reasons"] = _own_reasons(decision)
    return {name: (stored[name], again[name]) for name in _COMPARED if stored[name] != again[name]}


def _own_reasons(decision: Decision) -> tuple[str, ...]:
    """The reasons the council gave; gate and risk append theirs to an intent they stop."""
    if decision.intent is not Action.NO_TRADE:
        return ()
    return tuple(reason for reason in decision.reasons if reason in GIVEN)
