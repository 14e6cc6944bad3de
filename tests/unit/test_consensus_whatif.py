"""The cost waterfall adds up, and what a decision says it would need is what would flip it."""

import math
from dataclasses import replace

import pytest
from consensus_cases import COSTS, council, life, opinion, quantiles, state
from hypothesis import given
from hypothesis import strategies as st

from consensus.decision import break_even_prob
from consensus.pooling import logit
from consensus.settings import DecisionRules
from consensus.whatif import flips, waterfall
from domain.decision import Costs

RULES = DecisionRules(prob_min=0.55, min_expected_return=0.0, require_risk=False)
CHEAP = Costs(fee_bps=1.0, spread_bps=0.5, slippage_bps=0.25, funding_bps=0.1)


def decided(p=0.56, rules=RULES, costs=CHEAP, members=("a", "b"), shift=1e-3):
    judge = council(members, rules, costs)
    said = [opinion(agent, p, 0, quantiles(shift)) for agent in members]
    return judge.generate_signal(judge.prepare_state(state(), said, {}), state().as_of + 50)


@given(st.floats(0.05, 0.95), st.floats(0, 50))
def test_waterfall_when_a_decision_is_any_then_it_sums_to_what_is_left(p, fee):
    decision = decided(p, costs=replace(COSTS, fee_bps=fee))
    *parts, net = waterfall(decision)
    assert [part["item"] for part in parts] == [
        "naive", "not_come_true", "fee", "spread", "slippage", "funding",
    ]  # fmt: skip
    assert net == {"item": "net", "bps": math.fsum(part["bps"] for part in parts)}
    inputs = decision.inputs
    edge = inputs["kappa"] * abs(2 * decision.prob_up - 1) * inputs["mean_abs_return"]
    assert net["bps"] == pytest.approx(1e4 * (edge - inputs["round_trip"]), abs=1e-9)


def test_waterfall_when_its_net_is_above_0_then_p_exceeds_the_break_even():
    for p in (0.52, 0.56, 0.6, 0.7):
        decision = decided(p)
        own = abs(decision.prob_up - 0.5) + 0.5
        worth = waterfall(decision)[-1]["bps"] > 0
        assert worth == (decision.break_even_prob is not None and own > decision.break_even_prob)


def test_flips_when_a_side_is_taken_then_nothing_has_to_change():
    decision = decided(0.9)
    assert decision.intent == "LONG"
    assert flips(decision) == []


@pytest.mark.parametrize("p", [0.53, 0.47])
def test_flips_when_p_is_too_small_then_one_agent_alone_would_have_moved_it_there(p):
    decision = decided(p, shift=math.copysign(2e-3, p - 0.5))
    assert decision.intent == "NO_TRADE"
    (first, *_) = [x for x in flips(decision) if x["what"] == "prob_side"]
    needed = max(decision.break_even_prob, RULES.prob_min)
    assert first["needs"] == pytest.approx(needed)
    assert first["is"] == pytest.approx(max(decision.prob_up, 1 - decision.prob_up))
    target = needed if p > 0.5 else 1 - needed
    parts = decision.contributions
    for agent, alone in first["agents"].items():
        moved = parts | {agent: decision.weights[agent] * logit(alone)}
        assert math.fsum(moved.values()) == pytest.approx(logit(target), abs=1e-9)


def test_flips_when_costs_are_too_high_then_the_cost_that_it_could_pay():
    decision = decided(0.6, costs=replace(CHEAP, fee_bps=20.0))
    (cost,) = [x for x in flips(decision) if x["what"] == "cost_bps"]
    inputs = decision.inputs
    at = break_even_prob(cost["needs"] / 1e4, inputs["kappa"], inputs["mean_abs_return"])
    assert at == pytest.approx(decision.prob_up)
    assert cost["is"] == pytest.approx(21.0 - 0.15, abs=0.01)


def test_flips_when_no_probability_would_pay_then_it_says_none():
    decision = decided(0.6, costs=replace(CHEAP, fee_bps=1_000.0))
    found = {x["what"]: x for x in flips(decision)}
    assert found["prob_side"]["needs"] is None
    assert found["prob_side"]["agents"] == {}


def test_flips_when_a_council_has_lived_then_every_entry_names_what_it_is_and_needs():
    judge = council()
    rows = life(made_by=judge)
    decisions = [record for _, record in rows if hasattr(record, "prob_up")]
    for decision in decisions:
        for entry in flips(decision):
            assert {"what", "is", "needs"} <= entry.keys()
