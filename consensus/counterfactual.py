"""A stored decision under other inputs: what the council would have wanted instead.

The opinions of its instant are admitted, fused and decided on by what repeats a decision
(:func:`consensus.replay.recompute`), with some inputs changed. What was learned stays as it was: a
weight is what an agent had earned by then, whatever it says now. Gate and risk are not asked again.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from consensus.admission import Admitted
from consensus.debate import covered
from consensus.decision import Verdict
from consensus.learnt import Learnt
from consensus.replay import Inputs, admitted, inputs_of, recompute
from consensus.rounds import stacked
from consensus.settings import DecisionRules
from domain.decision import Consensus, Costs, Decision
from domain.errors import UsageError
from domain.opinion import Opinion

WHAT_IF = "what_if"  # why an agent that is left out is absent
RULES = {one.name: str(one.type) for one in fields(DecisionRules)}
COSTS = tuple(one.name for one in fields(Costs))


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be otherwise; whatever is not named stays as it was.

    Attributes
    ----------
    rules : field of :class:`DecisionRules` → value. ``costs`` : field of
        :class:`~domain.decision.Costs` → bps of notional a round trip, ≥ 0.
    kappa : κ ≥ 0. ``sigma`` : volatility of the horizon, log return, > 0; it scales how far the
        tracker has moved the quantiles.
    says : agent → P(r > 0) in (0, 1), clipped like every other; its quantiles and risks stay, and
        with them the expected return.
    without : agents left out, absent as :data:`WHAT_IF`.

    Raises
    ------
    UsageError : for a rule or cost that there is not, or a number out of its range.
    """

    rules: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    kappa: float | None = None
    sigma: float | None = None
    says: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _known("rule", self.rules, RULES)
        _known("cost", self.costs, COSTS)
        for name, value in self.rules.items():
            _require(name, value, "must be finite", value is None or math.isfinite(value))
        for name, bps in self.costs.items():
            _require(name, bps, "must be ≥ 0 bps", 0.0 <= bps < math.inf)
        for agent, p in self.says.items():
            _require(f"P(up) of {agent}", p, "must lie between 0 and 1, both excluded", 0 < p < 1)
        _require("kappa", self.kappa, "must be ≥ 0", 0.0 <= (self.kappa or 0.0) < math.inf)
        sigma = 1.0 if self.sigma is None else self.sigma
        _require("sigma", self.sigma, "must be > 0", 0.0 < sigma < math.inf)


def decide_anew(
    decision: Decision, opinions: Sequence[Opinion], changes: Changes
) -> tuple[Consensus | None, Verdict]:
    """Return what the council would have agreed on and wanted; no consensus without a direction.

    Without changes it is what repeats the decision, bit for bit. Where an agent is left out, the
    stored Bernstein weights of the others are brought back to a sum of 1, as if it had been silent;
    only where one of those had never been scored, its share may differ from what it would have got.

    Parameters
    ----------
    opinions : all those stored for the decision's instant.

    Raises
    ------
    UsageError : for an agent that was not heard, or one both changed and left out.
    SettingError : for a rule out of its range.
    CheckFailed : if the decision does not carry its inputs.
    """
    inputs = inputs_of(decision)
    heard = heard_by(decision, opinions, inputs)
    _spoke(changes.without, heard, "must be one whose opinion counted")
    _spoke(changes.says, directions(heard), "must be one that forecast a direction")
    if both := sorted({*changes.says} & {*changes.without}):
        raise UsageError("agent", "cannot both be left out and say something else", both[0])
    said = [
        replace(opinion, p_up=changes.says[opinion.agent])
        if opinion.agent in changes.says
        else opinion
        for opinion in opinions
    ]
    left = {agent: x for agent, x in heard.items() if agent not in changes.without}
    return recompute(decision, said, _changed(inputs, changes, left))


def heard_by(
    decision: Decision, opinions: Sequence[Opinion], inputs: Inputs
) -> dict[str, Admitted]:
    """Return whose opinion counted, by agent, sorted; agents in probation among them."""
    admission = admitted(decision, opinions, inputs.settings, inputs.absent)
    return {x.opinion.agent: x for x in admission.awake}


def directions(heard: Mapping[str, Admitted]) -> dict[str, float]:
    """Return P(r > 0) of everybody who has one, as it was pooled."""
    return {agent: x.p_up for agent, x in heard.items() if x.p_up is not None}


def _changed(inputs: Inputs, changes: Changes, left: Mapping[str, Admitted]) -> Inputs:
    rules, case, learnt = replace(inputs.rules, **changes.rules), inputs.case, inputs.learnt
    if "min_liquidity" in changes.rules:
        case = replace(case, liquidity=covered(inputs.quality.liquidity, rules.min_liquidity))
    if changes.without:
        learnt = _shared_out(learnt, left)
    return replace(
        inputs,
        absent={**inputs.absent, **dict.fromkeys(changes.without, WHAT_IF)},
        learnt=learnt,
        sigma=inputs.sigma if changes.sigma is None else changes.sigma,
        case=case,
        costs=replace(inputs.costs, **changes.costs),
        kappa=inputs.kappa if changes.kappa is None else changes.kappa,
        rules=rules,
    )


def _shared_out(learnt: Learnt, left: Mapping[str, Admitted]) -> Learnt:
    """The same with Bernstein weights of those left only, each column summing to 1 again."""
    seats = {agent: x for agent, x in left.items() if agent in learnt.bernstein}
    spoke = ~np.isnan(stacked(x.said for x in seats.values()))
    weights = np.array([learnt.bernstein[agent] for agent in seats]).reshape(spoke.shape)
    total = weights.sum(axis=0)
    evenly = spoke / np.maximum(spoke.sum(axis=0), 1)
    shares = np.where(total > 0.0, weights / np.where(total > 0.0, total, 1.0), evenly).tolist()
    rows = {agent: tuple(row) for agent, row in zip(seats, shares, strict=True)}
    return replace(learnt, bernstein=rows)


def _known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'Did you mean "{close[0]}"?' if close else f"There are: {', '.join(known)}."
            raise UsageError(what, "must be one that the council decides by", name, hint)


def _spoke(agents: Iterable[str], heard: Collection[str], rule: str) -> None:
    for agent in agents:
        if agent not in heard:
            hint = f"There are: {', '.join(heard)}." if heard else "There is none."
            raise UsageError("agent", rule, agent, hint)


def _require(name: str, value: object, rule: str, holds: bool) -> None:
    if not holds:
        raise UsageError(name, rule, value)
