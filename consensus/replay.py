"""Repeat a stored decision from what it says it was made from, and compare.

:func:`differences` needs nothing but the decision and the opinions of its instant: what was
learned, κ, costs, data quality, rules and the council's settings are in ``Decision.inputs``.
:func:`unlearned` shows that what was learned follows from the ledger: it folds every row up to
``Decision.state_seq`` anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from consensus.admission import Admission, admit
from consensus.council import Council
from consensus.debate import Case
from consensus.decision import GIVEN, Quality, Verdict, decide
from consensus.fusion import fuse
from consensus.learnt import Learnt
from consensus.settings import CouncilSettings, DecisionRules
from domain.canonical import plain
from domain.decision import Action, Consensus, Costs, Decision
from domain.errors import CheckFailed
from domain.opinion import Opinion

ELSEWHERE = 1e-12  # relative and absolute: last bits depend on processor and libraries
_COMPARED = (
    "prob_up", "expected_return", "risk_down", "risk_up", "quantiles", "weights", "contributions",
    "intent", "reasons", "margins", "break_even_prob", "risk_score",
)  # fmt: skip
Differences = dict[str, tuple[Any, Any]]  # field → (stored, recomputed)


def recompute(
    decision: Decision, opinions: Sequence[Opinion]
) -> tuple[Admission, Consensus | None, Verdict]:
    """Fuse and decide again. ``opinions`` are all those stored for the decision's instant.

    Raises
    ------
    CheckFailed : if the decision does not carry its inputs.
    """
    inputs, settings = decision.inputs, settings_of(decision)
    try:
        rules, costs = DecisionRules(**inputs["rules"]), Costs(**inputs["costs"])
        quality, learnt = Quality(**inputs["quality"]), Learnt.from_dict(inputs["learnt"])
        kappa, sigma, case = float(inputs["kappa"]), inputs["sigma"], Case(**inputs["case"])
    except (KeyError, TypeError) as error:
        raise _without_inputs(decision, error) from error
    admission = _admission(decision, opinions, settings)
    consensus = fuse(
        decision.symbol, decision.timeframe, decision.as_of, admission, learnt, settings, sigma,
        case, decision.state_seq,
    )  # fmt: skip
    return admission, consensus, decide(consensus, costs, kappa, rules, quality)


def settings_of(decision: Decision) -> CouncilSettings:
    """Return the settings of the council that made a decision.

    Raises
    ------
    CheckFailed : if the decision does not carry them.
    """
    try:
        return CouncilSettings.from_json(decision.inputs["council"])
    except (KeyError, TypeError) as error:
        raise _without_inputs(decision, error) from error


def differences(
    decision: Decision, opinions: Sequence[Opinion], tolerance: float = 0.0
) -> Differences:
    """Return every field that differs when the decision is made again; empty if none does.

    Compared is what the strategy wanted (``intent``), before gate and risk.

    Parameters
    ----------
    tolerance : numbers this close are the same, relatively or absolutely; 0 = to the last bit.
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
    stored = {name: getattr(decision, name) for name in _COMPARED}
    return differing({**stored, "reasons": _own_reasons(decision)}, again, tolerance)


def unlearned(
    decision: Decision,
    opinions: Sequence[Opinion],
    rows: Iterable[tuple[int, Any]],
    tolerance: float = 0.0,
) -> Differences:
    """Return every part of what was learned that does not follow from the ledger.

    Parameters
    ----------
    rows : the ledger's (seq, record) in order, those of the decision's market at least; numbers
        above ``Decision.state_seq`` are not read.

    Raises
    ------
    CheckFailed : if the decision does not carry its inputs.
    """
    settings = settings_of(decision)
    again = Council(settings, DecisionRules(), lambda _: Costs(0.0, 0.0, 0.0))
    for seq, record in rows:
        if seq > decision.state_seq:
            break
        again.observe([(seq, record)])
    admission = _admission(decision, opinions, settings)
    learnt, fold = again.learnt(decision.symbol, decision.timeframe, decision.as_of, admission)
    found = {
        **learnt.as_dict(),
        "kappa": fold.edge.kappa(settings.kappa_prior, settings.kappa_weight),
        "coverage": fold.coverage.share,
    }
    try:
        stored = {**decision.inputs["learnt"], "kappa": decision.inputs["kappa"],
                  "coverage": decision.inputs["quality"]["coverage"]}  # fmt: skip
    except KeyError as error:
        raise _without_inputs(decision, error) from error
    return differing(stored, found, tolerance)


def _admission(
    decision: Decision, opinions: Sequence[Opinion], settings: CouncilSettings
) -> Admission:
    return admit(
        decision.symbol, decision.timeframe, decision.as_of, opinions, decision.absent, settings
    )


def _without_inputs(decision: Decision, error: Exception) -> CheckFailed:
    return CheckFailed(
        f"decision {decision.id}", "must carry the inputs it was made from", str(error)
    )


def differing(stored: Mapping[str, Any], again: Mapping[str, Any], tolerance: float) -> Differences:
    """Return the fields whose JSON differs, with both sides.

    Parameters
    ----------
    tolerance : floats this close are the same, relatively or absolutely; 0 = to the last bit.
    """
    found = {}
    for name in again:
        pair = plain(stored[name]), plain(again[name])
        if not _same(*pair, tolerance):
            found[name] = pair
    return found


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(
            _same(one[name], other[name], tolerance) for name in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other, [tolerance] * len(one)))
    if isinstance(one, float) and isinstance(other, float) and tolerance:
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def _own_reasons(decision: Decision) -> tuple[str, ...]:
    """The reasons the council gave; gate and risk append theirs to an intent they stop."""
    if decision.intent is not Action.NO_TRADE:
        return ()
    return tuple(reason for reason in decision.reasons if reason in GIVEN)
