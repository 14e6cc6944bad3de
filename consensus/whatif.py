"""What a stored decision would have earned, bp by bp, and what would have had to be otherwise.

Both read the decision and nothing else, so that they are the same wherever it is explained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from consensus.pooling import logit
from consensus.recalibration import sigmoid
from domain.decision import Decision

_COSTS = ("fee_bps", "spread_bps", "slippage_bps", "funding_bps")
_REACH = 10.0  # logits: nobody is believed beyond
_FROM_THIS = 1e-12  # a requirement this close to met is met


def waterfall(decision: Decision) -> list[dict[str, Any]]:
    """Return from what the side promises to what it would leave, bps of notional; sums exactly.

    ``naive`` is (2p − 1)·E|r| for the side that p favours, ``not_come_true`` what κ takes off it,
    then each cost, negative; ``net`` is their sum. Empty where p or E|r| is not known.
    """
    inputs, p = decision.inputs, decision.prob_up
    m, kappa, costs = (inputs.get(name) for name in ("mean_abs_return", "kappa", "costs"))
    if p is None or m is None or kappa is None or costs is None:
        return []
    naive = abs(2.0 * p - 1.0) * m * 1e4
    parts = [("naive", naive), ("not_come_true", (kappa - 1.0) * naive)]
    parts += [(name.removesuffix("_bps"), -float(costs[name])) for name in _COSTS]
    return [
        *({"item": item, "bps": bps} for item, bps in parts),
        {"item": "net", "bps": math.fsum(bps for _, bps in parts)},
    ]


def flips(decision: Decision) -> list[dict[str, Any]]:
    """Return what each failing threshold on the side's probability, return or cost would need.

    One entry a requirement that is not met: ``what``, ``is``, ``needs`` (None if no value does),
    and for the probability ``agents``: the p_up that each agent alone would have had to say, all
    else as it was, so that the published one got there; None where no p in (0, 1) does. That holds
    what the layers after the Brier log pool added (``_fusion``) fixed. Empty for a taken side.
    """
    p = decision.prob_up
    if p is None or decision.intent != "NO_TRADE":
        return []
    long, rules = p >= 0.5, decision.inputs["rules"]
    own = p if long else 1.0 - p
    found = []
    needed = _needed(decision, rules)
    if needed is None or own < needed - _FROM_THIS:
        target = None if needed is None else (needed if long else 1.0 - needed)
        agents = {} if target is None else _alone(decision, target)
        found.append({"what": "prob_side", "is": own, "needs": needed, "agents": agents})
    found += _others(decision, rules, own, 1.0 if long else -1.0)
    return found


def _needed(decision: Decision, rules: Mapping[str, Any]) -> float | None:
    """The least probability of the side that pays its cost with the margin, and PROB_MIN."""
    if decision.break_even_prob is None:
        return None
    needed = max(decision.break_even_prob + rules["delta"], rules["prob_min"])
    return needed if needed <= 1.0 else None


def _alone(decision: Decision, target: float) -> dict[str, float | None]:
    if not 0.0 < target < 1.0:
        return dict.fromkeys(sorted(decision.weights))
    parts = decision.contributions
    total, made = math.fsum(parts.values()), {}
    for agent, weight in sorted(decision.weights.items()):
        rest = logit(target) - (total - parts[agent])
        aim = rest / weight if weight > 0.0 else math.inf
        made[agent] = sigmoid(aim) if abs(aim) < _REACH else None
    return made


def _others(
    decision: Decision, rules: Mapping[str, Any], own: float, sign: float
) -> list[dict[str, Any]]:
    inputs, found = decision.inputs, []
    cost, m, kappa = (inputs.get(name) for name in ("round_trip", "mean_abs_return", "kappa"))
    if cost is not None and m is not None and kappa is not None:
        payable = 2.0 * kappa * m * (own - rules["delta"] - 0.5)
        if cost > payable:
            found.append({"what": "cost_bps", "is": cost * 1e4, "needs": max(payable, 0.0) * 1e4})
    gain = decision.expected_return
    if gain is not None and cost is not None:
        worth = max(cost, rules["min_expected_return"])
        if sign * gain < worth:
            found.append({"what": "expected_return", "is": gain, "needs": sign * worth})
    risk = decision.risk_score
    if risk is not None and risk > rules["risk_max"]:
        found.append({"what": "risk_score", "is": risk, "needs": rules["risk_max"]})
    return found
