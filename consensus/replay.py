"""Repeat a stored decision from what it says it was made from, and compare.

:func:`differences` needs nothing but the decision and the opinions of its instant: what was
learned, κ, costs, data quality, rules and the council's settings are in ``Decision.inputs``.
:func:`recompute` decides again, from these or, for :mod:`consensus.counterfactual`, from others.
:func:`unlearned` shows that what was learned follows from the ledger: it folds every row up to
``Decision.state_seq`` anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a decision was made from besides its opinions.

    Attributes
    ----------
    absent : agent → why it did not count.
    learnt : what the fold had learned. ``case`` : what the debate could point at.
    sigma : volatility of the horizon, log return, or None.
    kappa : κ ≥ 0.
    """

    settings: CouncilSettings
    absent: Mapping[str, str]
    learnt: Learnt
    sigma: float | None
    case: Case
    costs: Costs
    kappa: float
    rules: DecisionRules
    quality: Quality


def inputs_of(decision: Decision) -> Inputs:
    """Return what a decision says it was made from.

    Raises
    ------
    CheckFailed : if it does not say so.
    """
    inputs, settings = decision.inputs, settings_of(decision)
    try:
        return Inputs(
            settings=settings,
            absent=decision.absent,
            learnt=Learnt.from_dict(inputs["learnt"]),
            sigma=inputs["sigma"],
            case=Case(**inputs["case"]),
            costs=Costs(**inputs["costs"]),
            kappa=float(inputs["kappa"]),
            rules=DecisionRules(**inputs["rules"]),
            quality=Quality(**inputs["quality"]),
        )
    except (KeyError, TypeError) as error:
        raise _without_inputs(decision, error) from error


def recompute(
    decision: Decision, opinions: Sequence[Opinion], inputs: Inputs
) -> tuple[Consensus | None, Verdict]:
    """Admit, fuse and decide again, at the instant of ``decision``.

    Parameters
    ----------
    opinions : all those stored for the decision's instant.
    inputs : :func:`inputs_of` the decision, or others in their place.
    """
    admission = admitted(decision, opinions, inputs.settings, inputs.absent)
    consensus = fuse(
        decision.symbol, decision.timeframe, decision.as_of, admission, inputs.learnt,
        inputs.settings, inputs.sigma, inputs.case, decision.state_seq,
    )  # fmt: skip
    verdict = decide(consensus, inputs.costs, inputs.kappa, inputs.rules, inputs.quality)
    return consensus, verdict


def admitted(
    decision: Decision,
    opinions: Sequence[Opinion],
    settings: CouncilSettings,
    absent: Mapping[str, str],
) -> Admission:
    """Return who counted at the instant of ``decision``."""
    return admit(decision.symbol, decision.timeframe, decision.as_of, opinions, absent, settings)


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
    again = wanted(*recompute(decision, opinions, inputs_of(decision)))
    again["margins"] = _own_margins(decision, again["margins"])
    return differing(wanted_by(decision), again, tolerance)


def wanted(consensus: Consensus | None, verdict: Verdict) -> dict[str, Any]:
    """Return what the council wants, by the names that a :class:`Decision` has for it."""
    return {
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


def wanted_by(decision: Decision) -> dict[str, Any]:
    """Return the same of a stored decision, without the reasons and margins of gate and risk."""
    stored = {name: getattr(decision, name) for name in _COMPARED}
    own = {"reasons": own_reasons(decision), "margins": _own_margins(decision, decision.margins)}
    return stored | own


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
    admission = admitted(decision, opinions, settings, decision.absent)
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


def _own_margins(decision: Decision, margins: Mapping[str, Any]) -> dict[str, Any]:
    """Those that risk, which has checks of the same names, did not write over."""
    checked = decision.inputs.get("risk", {})
    return {name: margin for name, margin in margins.items() if name not in checked}


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


def own_reasons(decision: Decision) -> tuple[str, ...]:
    """Return the reasons the council gave; gate and risk append theirs to an intent they stop."""
    if decision.intent is not Action.NO_TRADE:
        return ()
    return tuple(reason for reason in decision.reasons if reason in GIVEN)
