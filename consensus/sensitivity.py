"""What each input alone would have to do with a stored decision: one change at a time.

The changes are always the same: every pooled agent left out, and its P(up) moved by
:data:`P_STEP`; every cost halved and doubled; κ and σ scaled by :data:`SCALES`; the rules of
:data:`RULE_STEPS` moved by their steps. What cannot move (a cost of 0, a rule at the end of its
range) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from consensus.admission import Admitted
from consensus.counterfactual import COSTS, Changes, decide_anew, directions, heard_by
from consensus.decision import Verdict
from consensus.replay import Inputs, inputs_of
from domain.decision import Consensus, Decision
from domain.opinion import Opinion

P_STEP = 0.02  # within the council's clip
COST_FACTORS = (0.5, 2.0)
SCALES = (0.75, 1.25)
RULE_STEPS = {"prob_min": 0.02, "delta": 0.005, "risk_max": 0.05, "min_expected_return": 5e-4}


@dataclass(frozen=True, slots=True)
class Change:
    """One input that is otherwise.

    Attributes
    ----------
    name : agent, cost (without its unit) or rule; empty for κ and σ.
    stored, changed : of an agent P(r > 0), None where it has none or is left out; of a cost bps; of
        σ log return; of a rule as :class:`consensus.settings.DecisionRules` has it.
    """

    input: Literal["without", "says", "cost", "kappa", "sigma", "rule"]
    name: str
    stored: Any
    changed: Any


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one change makes of a decision; ``flips`` tells whether the council wants another side.

    ``consensus`` and ``verdict`` are :func:`consensus.counterfactual.decide_anew` of ``changes``.
    """

    change: Change
    changes: Changes
    consensus: Consensus | None
    verdict: Verdict
    flips: bool


def sensitivities(decision: Decision, opinions: Sequence[Opinion]) -> list[Sensitivity]:
    """Decide once for every change of the list, each by itself.

    Parameters
    ----------
    opinions : all those stored for the decision's instant.

    Raises
    ------
    CheckFailed : if the decision does not carry its inputs.
    """
    inputs = inputs_of(decision)
    heard = heard_by(decision, opinions, inputs)
    found = []
    for changes in _one_at_a_time(inputs, _pooled(inputs, heard)):
        (change,) = changes_made(inputs, heard, changes)
        consensus, verdict = decide_anew(decision, opinions, changes)
        flips = verdict.action != decision.intent
        found.append(Sensitivity(change, changes, consensus, verdict, flips))
    return found


def changes_made(inputs: Inputs, heard: Mapping[str, Admitted], changes: Changes) -> list[Change]:
    """Return every change beside what it was, in the order of the list above.

    Parameters
    ----------
    heard : whose opinion counted (:func:`consensus.counterfactual.heard_by`), those changed in it.
    """
    p, costs, rules = directions(heard), inputs.costs, inputs.rules
    made = [Change("without", agent, p.get(agent), None) for agent in changes.without]
    made += [Change("says", agent, p[agent], said) for agent, said in changes.says.items()]
    made += [
        Change("cost", name.removesuffix("_bps"), getattr(costs, name), bps)
        for name, bps in changes.costs.items()
    ]
    if changes.kappa is not None:
        made.append(Change("kappa", "", inputs.kappa, changes.kappa))
    if changes.sigma is not None:
        made.append(Change("sigma", "", inputs.sigma, changes.sigma))
    made += [
        Change("rule", name, getattr(rules, name), value) for name, value in changes.rules.items()
    ]
    return made


def _pooled(inputs: Inputs, heard: Mapping[str, Admitted]) -> dict[str, Admitted]:
    """Whoever has a seat; where one agent alone is published, that one."""
    seats, sole = inputs.learnt.losses, inputs.settings.sole
    return {a: x for a, x in heard.items() if a in seats and (not sole or a == sole)}


def _one_at_a_time(inputs: Inputs, pooled: Mapping[str, Admitted]) -> Iterator[Changes]:
    for agent in pooled:
        yield Changes(without=(agent,))
    for agent, p in directions(pooled).items():
        for moved in _moved(p, P_STEP, *inputs.settings.clip):
            yield Changes(says={agent: moved})
    for name in COSTS:
        for bps in _scaled(getattr(inputs.costs, name), COST_FACTORS):
            yield Changes(costs={name: bps})
    for kappa in _scaled(inputs.kappa, SCALES):
        yield Changes(kappa=kappa)
    for sigma in _scaled(inputs.sigma or 0.0, SCALES):
        yield Changes(sigma=sigma)
    for name, step in RULE_STEPS.items():
        for moved in _moved(getattr(inputs.rules, name), step, 0.0, 1.0):
            yield Changes(rules={name: moved})


def _moved(value: float, step: float, low: float, high: float) -> list[float]:
    ends = (min(max(value + move, low), high) for move in (-step, step))
    return [end for end in ends if end != value]


def _scaled(value: float, factors: Sequence[float]) -> list[float]:
    return [value * factor for factor in factors if value > 0.0]
