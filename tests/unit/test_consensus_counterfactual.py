"""A decision under other inputs is the one that a council with those inputs would have made."""

import math
from dataclasses import replace

import numpy as np
import pytest
from consensus_cases import (
    COSTS,
    MEMBERS,
    T0,
    book,
    council,
    life,
    opinion,
    quantiles,
    state,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.council import Council
from consensus.counterfactual import COSTS as COST_NAMES
from consensus.counterfactual import RULES, WHAT_IF, Changes, decide_anew, heard_by
from consensus.replay import differing, inputs_of, wanted, wanted_by
from consensus.sensitivity import P_STEP, RULE_STEPS, sensitivities
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Decision
from domain.errors import CheckFailed, SettingError, UsageError
from domain.opinion import Opinion

EASY = DecisionRules(prob_min=0.52, min_expected_return=0.0)
SETTINGS = CouncilSettings(members=MEMBERS, half_life=20.0, grace=0, kappa_weight=1e4)
AT = 40  # the bar after the life
CHANCES = (0.8, 0.7, 0.85, 0.9)


def judge(rules=EASY, costs=COSTS):
    return Council(SETTINGS, rules, lambda _: costs)


@pytest.fixture(scope="module")
def lived():
    """A council's life, and the snapshot of what it has learned."""
    teacher = judge()
    rows = life(3, AT, made_by=teacher, swap_outcomes=(5, 6))
    return rows, teacher.snapshot()


@pytest.fixture(scope="module")
def decided(lived):
    """Decide as the council that has lived would, with other rules, costs, opinions or absent."""

    def decide(said, absent=None, seen=None, **terms):
        one = judge(**terms)
        one.restore(lived[1])
        at = state(AT, book=seen)
        return one.generate_signal(one.prepare_state(at, said, absent or {}), at.as_of + 100)

    return decide


def strong(**p):
    """What everybody says of the bar after the life: up, with quantiles well above the costs."""
    return [
        opinion(agent, p.get(agent, chance), AT, quantiles((6 + i) * 1e-3))
        for i, (agent, chance) in enumerate(zip(MEMBERS, CHANCES, strict=True))
    ]


def anew(decision, said, changes):
    return wanted(*decide_anew(decision, said, changes))


# Nothing changed


def test_decide_anew_when_nothing_is_changed_then_it_is_every_stored_decision(lived):
    said: dict[int, list[Opinion]] = {}
    decisions = []
    for _, row in lived[0]:
        if isinstance(row, Opinion):
            said.setdefault(row.as_of, []).append(row)
        elif isinstance(row, Decision):
            decisions.append(row)
    assert len(decisions) == AT
    for decision in decisions:
        assert anew(decision, said.get(decision.as_of, []), Changes()) == wanted_by(decision)


def test_decide_anew_when_everything_is_changed_to_what_it_was_then_nothing_changes(decided):
    said = strong()
    made = decided(said)
    assert made.intent == "LONG"
    inputs = made.inputs
    same = Changes(
        rules=inputs["rules"], costs=inputs["costs"], kappa=inputs["kappa"],
        says={one.agent: one.p_up for one in said},
    )  # fmt: skip
    assert anew(made, said, same) == wanted_by(made)


# One thing changed


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        (Changes(costs={"fee_bps": 40.0, "funding_bps": 2.5}),
         {"costs": replace(COSTS, fee_bps=40.0, funding_bps=2.5)}),
        (Changes(rules={"prob_min": 0.9}), {"rules": replace(EASY, prob_min=0.9)}),
        (Changes(rules={"interval_rule": 0.8, "delta": 0.2}),
         {"rules": replace(EASY, interval_rule=0.8, delta=0.2)}),
        (Changes(rules={"risk_max": 0.05}), {"rules": replace(EASY, risk_max=0.05)}),
        (Changes(costs={"spread_bps": 11.0}, rules={"max_spread_bps": 12.0}),
         {"costs": replace(COSTS, spread_bps=11.0), "rules": replace(EASY, max_spread_bps=12.0)}),
        (Changes(rules={"min_liquidity": 1e6}), {"rules": replace(EASY, min_liquidity=1e6)}),
    ],
)  # fmt: skip
def test_decide_anew_when_rules_or_costs_are_others_then_it_is_who_has_those(
    decided, changes, terms
):
    said, seen = strong(), book(at=state(AT).as_of)
    made = decided(said, seen=seen)
    other = decided(said, seen=seen, **terms)
    assert anew(made, said, changes) == wanted_by(other) != wanted_by(made)


def test_decide_anew_when_more_liquidity_is_required_then_the_debate_knows_of_it():
    members = (*MEMBERS, "microstructure")
    said = [opinion(agent, p, 0, quantiles(8e-3)) for agent, p in zip(members, (*CHANCES, 0.6),
                                                                      strict=True)]  # fmt: skip

    def made(rules):
        one = council(members, rules)
        return one.generate_signal(one.prepare_state(state(book=book()), said, {}), T0 + 100)

    thin = replace(EASY, min_liquidity=1e6)
    consensus, verdict = decide_anew(made(EASY), said, Changes(rules={"min_liquidity": 1e6}))
    assert wanted(consensus, verdict) == wanted_by(made(thin))
    assert consensus.debate[0]["argument"] == "thin_book"
    assert verdict.reasons == ("thin_book",)


@given(st.sampled_from(MEMBERS), st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=40)
def test_decide_anew_when_an_agent_says_something_else_then_it_is_who_heard_that(decided, agent, p):
    said = strong()
    other = decided(strong(**{agent: p}))
    consensus, verdict = decide_anew(decided(said), said, Changes(says={agent: p}))
    assert wanted(consensus, verdict) == wanted_by(other)
    heard = {one.agent: one for one in consensus.opinions}
    assert heard[agent] == replace(said[MEMBERS.index(agent)], p_up=p)


@pytest.mark.parametrize("agent", MEMBERS)
def test_decide_anew_when_an_agent_is_left_out_then_it_is_who_never_heard_it(decided, agent):
    said = strong()
    said[1] = replace(said[1], p_up=None)  # quantiles only
    said[2] = replace(said[2], quantiles=None)
    consensus, verdict = decide_anew(decided(said), said, Changes(without=(agent,)))
    heard = [one for one in said if one.agent != agent]
    other = decided(heard, {agent: "deadline"})
    assert differing(wanted_by(other), wanted(consensus, verdict), 1e-12) == {}
    assert consensus.absent == {agent: WHAT_IF}
    assert differing(wanted_by(decided(said)), wanted_by(other), 1e-6) != {}


@pytest.mark.parametrize("left", [1, 2, 3])
def test_decide_anew_when_nobody_was_ever_scored_then_those_left_share_evenly(left):
    said = [opinion(agent, p, 0, quantiles(8e-3)) for agent, p in zip(MEMBERS, CHANCES,
                                                                     strict=True)]  # fmt: skip

    def made(heard, absent):
        one = council(rules=EASY)
        return one.generate_signal(one.prepare_state(state(), heard, absent), T0 + 100)

    gone = MEMBERS[left:]
    other = made(said[:left], dict.fromkeys(gone, "failed"))
    found = anew(made(said, {}), said, Changes(without=gone))
    assert differing(wanted_by(other), found, 1e-12) == {}


def test_decide_anew_when_everybody_is_left_out_then_there_is_no_quorum(decided):
    said = strong()
    consensus, verdict = decide_anew(decided(said), said, Changes(without=MEMBERS))
    assert consensus is None
    assert (verdict.action, verdict.reasons[0]) == ("NO_TRADE", "low_quorum")


def test_decide_anew_when_the_cost_is_huge_then_it_would_not_trade(decided):
    said = strong()
    made = decided(said)
    consensus, verdict = decide_anew(made, said, Changes(costs={"slippage_bps": 900.0}))
    assert (made.intent, verdict.action) == ("LONG", "NO_TRADE")
    assert verdict.reasons == ("below_cost",)
    assert verdict.break_even_prob is None
    assert consensus.p_up == made.prob_up


def test_decide_anew_when_kappa_is_another_then_the_break_even_follows(decided):
    said = strong()
    made = decided(said)
    _, verdict = decide_anew(made, said, Changes(kappa=2.0 * made.inputs["kappa"]))
    assert verdict.break_even_prob - 0.5 == pytest.approx((made.break_even_prob - 0.5) / 2)
    _, nothing = decide_anew(made, said, Changes(kappa=0.0))
    assert (nothing.break_even_prob, nothing.reasons) == (None, ("below_cost",))


def test_decide_anew_when_sigma_is_another_then_the_tracker_moves_quantiles_by_it(decided):
    said, theta = strong(), np.linspace(-0.4, 0.4, 13)
    made = decided(said)
    learnt = made.inputs["learnt"] | {"theta": theta.tolist()}
    made = replace(made, inputs=made.inputs | {"learnt": learnt, "sigma": 2e-3})
    consensus, _ = decide_anew(made, said, Changes(sigma=5e-3))
    expected = np.sort(np.array(consensus.pooled[1]) + 5e-3 * theta)
    assert consensus.quantiles.values == pytest.approx(expected, abs=1e-15)


@given(
    st.lists(st.floats(0.02, 0.98), min_size=4, max_size=4),
    st.floats(-8e-3, 8e-3),
    st.sampled_from(COST_NAMES),
    st.floats(0, 100),
    st.floats(0, 0.5),
)
@settings(max_examples=40)
def test_decide_anew_when_it_is_made_harder_then_no_trade_is_born(
    decided, chances, shift, cost, more, delta
):
    pairs = zip(MEMBERS, chances, strict=True)
    said = [opinion(agent, p, AT, quantiles(shift)) for agent, p in pairs]
    made = decided(said)
    harder = Changes(
        costs={cost: made.inputs["costs"][cost] + more},
        rules={"delta": delta, "prob_min": EASY.prob_min + delta / 2},
    )
    _, verdict = decide_anew(made, said, harder)
    assert verdict.action in {made.intent, "NO_TRADE"}
    before, after = made.break_even_prob, verdict.break_even_prob
    assert after is None or (before is not None and after >= before)


# What makes no sense


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rules": {"prb_min": 0.6}}, 'Did you mean "prob_min"'),
        ({"costs": {"fees_bps": 1.0}}, 'Did you mean "fee_bps"'),
        ({"costs": {"zzz": 1.0}}, "There are: fee_bps"),
        ({"costs": {"fee_bps": -1.0}}, "must be ≥ 0 bps"),
        ({"costs": {"fee_bps": math.inf}}, "must be ≥ 0 bps"),
        ({"rules": {"min_expected_return": math.nan}}, "must be finite"),
        ({"says": {"a": 0.0}}, r"P\(up\) of a: must lie between 0 and 1"),
        ({"says": {"a": 1.0}}, "must lie between 0 and 1"),
        ({"says": {"a": math.nan}}, "must lie between 0 and 1"),
        ({"kappa": -0.1}, "kappa: must be ≥ 0"),
        ({"kappa": math.nan}, "kappa: must be ≥ 0"),
        ({"sigma": 0.0}, "sigma: must be > 0"),
    ],
)
def test_changes_when_they_make_no_sense_then_it_says_what_does(changes, says):
    with pytest.raises(UsageError, match=says):
        Changes(**changes)


def test_decide_anew_when_an_agent_was_not_heard_then_it_lists_those_that_were(decided):
    said = strong()
    said[1] = replace(said[1], p_up=None, quantiles=None)  # a risk is all it has
    made = decided(said[:3], {"c": "deadline"})
    for changes, hint in (
        (Changes(without=("c",)), "There are: a, b, climatology."),
        (Changes(says={"nobody": 0.6}), "There are: b, climatology."),
        (Changes(says={"a": 0.6}), "There are: b, climatology."),
    ):
        with pytest.raises(UsageError) as caught:
            decide_anew(made, said, changes)
        assert caught.value.hint == hint
    with pytest.raises(UsageError, match="cannot both be left out and say"):
        decide_anew(made, said, Changes(without=("b",), says={"b": 0.6}))


def test_decide_anew_when_a_rule_is_out_of_range_or_the_inputs_are_gone_then_it_says_so(decided):
    said = strong()
    made = decided(said)
    with pytest.raises(SettingError, match=r"prob_min: must lie in \[0, 1\]"):
        decide_anew(made, said, Changes(rules={"prob_min": 1.5}))
    with pytest.raises(CheckFailed, match="must carry the inputs"):
        decide_anew(replace(made, inputs={}), said, Changes())


# Each by itself

AGAIN = {
    "without": lambda change: Changes(without=(change.name,)),
    "says": lambda change: Changes(says={change.name: change.changed}),
    "cost": lambda change: Changes(costs={f"{change.name}_bps": change.changed}),
    "kappa": lambda change: Changes(kappa=change.changed),
    "sigma": lambda change: Changes(sigma=change.changed),
    "rule": lambda change: Changes(rules={change.name: change.changed}),
}


def test_sensitivities_when_listed_then_each_is_what_its_change_would_make(decided):
    said = strong()
    made = decided(said)
    rows = sensitivities(made, said)
    for row in rows:
        found = anew(made, said, AGAIN[row.change.input](row.change))
        assert wanted(row.consensus, row.verdict) == found
        assert row.flips == (found["intent"] != made.intent)
        assert row.change.stored != row.change.changed
    found = [(row.change.input, row.change.name) for row in rows]
    agents = sorted(MEMBERS)
    assert found == [
        *(("without", agent) for agent in agents),
        *(("says", agent) for agent in agents for _ in range(2)),
        *(("cost", name) for name in ("fee", "spread", "slippage") for _ in range(2)),
        ("kappa", ""), ("kappa", ""),  # no sigma: too few bars; no funding
        ("rule", "prob_min"), ("rule", "prob_min"), ("rule", "delta"),
        ("rule", "risk_max"), ("rule", "risk_max"), ("rule", "min_expected_return"),
    ]  # fmt: skip


def test_sensitivities_when_a_threshold_is_near_then_what_crosses_it_flips(decided):
    said = strong()
    near = decided(said).prob_up - P_STEP / 2
    made = decided(said, rules=replace(EASY, prob_min=near))
    assert made.intent == "LONG"
    flips = [row.change for row in sensitivities(made, said) if row.flips]
    assert ("prob_min", near + P_STEP) in [(one.name, one.changed) for one in flips]
    assert ("prob_min", near - P_STEP) not in [(one.name, one.changed) for one in flips]


def test_sensitivities_when_one_agent_is_published_alone_then_only_it_is_varied():
    one = council(rules=replace(EASY, min_forecasters=1), sole="a")
    said = [opinion(agent, 0.8, 0, quantiles(8e-3)) for agent in MEMBERS]
    made = one.generate_signal(one.prepare_state(state(), said, {}), T0 + 100)
    rows = [x for x in sensitivities(made, said) if x.change.input in {"without", "says"}]
    assert [x.change.name for x in rows] == ["a"] * 3
    assert rows[0].consensus is None
    assert [x.consensus.p_up for x in rows[1:]] == pytest.approx([0.78, 0.82])


def test_sensitivities_when_an_agent_is_in_probation_then_it_is_left_as_it_is(decided):
    said = [*strong(), opinion("new", 0.1, AT, quantiles())]
    made = decided(said)
    assert "new" in heard_by(made, said, inputs_of(made))
    assert "new" not in {row.change.name for row in sensitivities(made, said)}
    for changes in (Changes(without=("new",)), Changes(says={"new": 0.9})):
        assert differing(wanted_by(made), anew(made, said, changes), 1e-12) == {}


def test_rules_when_varied_then_they_are_rules_that_a_decision_has():
    assert {*RULE_STEPS} <= {*RULES} == {*DecisionRules.__dataclass_fields__}
