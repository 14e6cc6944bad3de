import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from consensus_cases import (
    COSTS,
    MEMBERS,
    STEP,
    SYMBOL,
    T0,
    H,
    book,
    council,
    life,
    opinion,
    outcome,
    quantiles,
    state,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.council import Council
from consensus.pooling import logit
from consensus.replay import differences
from consensus.settings import CouncilSettings, DecisionRules
from domain.canonical import canonical_json, plain
from domain.decision import Action, Decision
from domain.errors import CheckFailed, SettingError
from domain.market import BookSnapshot
from domain.opinion import Opinion
from domain.ports import Strategy

EASY = DecisionRules(prob_min=0.52, min_expected_return=0.0)


def strong(p=0.85, shift=8e-3, agents=MEMBERS, **changes):
    return [opinion(agent, p, 0, quantiles(shift), **changes) for agent in agents]


def decided(judge, opinions, at=None, absent=None, now=T0 + 100):
    return judge.generate_signal(judge.prepare_state(at or state(), opinions, absent or {}), now)


def test_council_when_it_is_used_then_it_is_a_strategy():
    judge: Strategy = council()
    assert judge.name == "council"


def test_council_when_everybody_is_sure_then_it_takes_the_side():
    made = decided(council(rules=EASY), strong())
    assert (made.intent, made.action, made.reasons) == (Action.LONG, Action.LONG, ())
    assert 0.75 < made.prob_up < 0.85  # agreed, but nobody has earned anything yet
    assert made.reason.startswith(f"LONG: P(up) {made.prob_up:.4f} exceeds the break-even")
    short = decided(council(rules=EASY), strong(0.15, -8e-3))
    assert short.action is Action.SHORT


def test_council_when_everybody_is_absent_then_it_is_no_trade_low_quorum():
    made = decided(council(), [], absent=dict.fromkeys(MEMBERS, "deadline"))
    assert made.reasons == ("low_quorum",)
    assert (made.prob_up, made.quantiles, made.expected_return) == (None, None, None)
    assert made.degraded
    assert made.confidence == 0.0
    assert made.weights == {}
    json.loads(canonical_json(made))


def test_council_when_all_sleep_after_a_gap_then_the_gap_is_named_and_nothing_failed():
    asleep = [
        opinion(agent, None, q=None, risk_down=None, risk_up=None,
                evidence={"asleep": "data_gap"}) for agent in MEMBERS
    ]  # fmt: skip
    made = decided(council(), asleep)
    assert made.reasons == ("data_gap", "low_quorum")
    assert not made.degraded
    assert made.absent == dict.fromkeys(sorted(MEMBERS), "data_gap")


def test_council_when_only_climatology_and_one_more_are_awake_then_it_is_low_quorum():
    two = strong(agents=("climatology", "a"))
    assert decided(council(rules=EASY), two).reasons == ("low_quorum",)
    enough = replace(EASY, min_forecasters=1)
    assert decided(council(rules=enough), two).action is Action.LONG


def test_council_when_one_member_is_missing_then_it_still_decides_and_says_so():
    made = decided(council(rules=EASY), strong(agents=MEMBERS[:3]), absent={"c": "unreachable"})
    assert made.action is Action.LONG
    assert made.degraded
    assert made.absent == {"c": "unreachable"}
    assert math.fsum(made.weights.values()) == pytest.approx(1.0)
    assert made.inputs["quorum"] == pytest.approx(0.75)


def test_council_when_there_is_no_book_to_read_then_its_reader_has_no_seat_in_the_quorum():
    who = {"better": lambda truth, _: truth, "worse": lambda *_: 0.35}
    judge, _ = planted(400, who, silent=("reader",))
    better = [opinion("better", 0.7, 400)]
    members = ("better", "worse", "reader")
    three = council(members, replace(EASY, min_forecasters=1))
    three.restore(judge.snapshot())
    made = decided(three, better, state(400), {"worse": "deadline", "reader": "no_book"})
    other = decided(three, better, state(400), {"worse": "deadline", "reader": "deadline"})
    assert made.inputs["quorum"] > 0.99 > other.inputs["quorum"]
    assert made.absent["reader"] == "no_book"
    assert differences(made, better) == {}


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (book(spread=0.2), "wide_spread"),
        (book(quantity=1.0), "thin_book"),
        (BookSnapshot(SYMBOL, T0, (), ()), "thin_book"),
    ],
)
def test_council_when_a_book_is_known_then_it_is_checked(seen, reason):
    made = decided(council(rules=EASY), strong(), state(book=seen))
    assert made.reasons == (reason,)
    assert made.inputs["liquidity"] == "measured"


def test_council_when_no_book_is_known_then_it_says_not_measured():
    made = decided(council(rules=EASY), strong(), state(book=None))
    assert made.action is Action.LONG
    assert made.inputs["liquidity"] == "not_measured"
    assert made.margins["liquidity"] is None


def test_council_when_the_bar_is_old_then_it_is_stale():
    made = decided(council(rules=EASY), strong(), now=T0 + 2 * STEP + 1)
    assert made.reasons == ("stale_data",)


def test_council_when_bad_opinions_come_too_then_the_decision_is_that_of_the_good_ones():
    bad = [
        opinion("a", math.nan), opinion("b", 0.5, 0, quantiles(0.5)), opinion("stranger", -3.0),
    ]  # fmt: skip
    good = strong(agents=("climatology", "c", "d"))
    judge = council((*MEMBERS, "d"), rules=EASY)
    one = decided(judge, [*bad, *good])
    two = decided(judge, good, absent={"a": "invalid", "b": "invalid", "stranger": "invalid"})
    names = ("prob_up", "quantiles", "action", "reasons", "weights", "contributions", "absent")
    assert {n: getattr(one, n) for n in names} == {n: getattr(two, n) for n in names}
    assert one.inputs["refused"]["a"] == "p_up nan is no probability"
    assert judge.snapshot()["tracks"] == []


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(MEMBERS), st.floats(0, 1), min_size=1), st.integers(0, 9))
def test_decision_when_p_is_anything_then_its_parts_sum_to_its_logit(said, seed):
    judge = council(half_life=20.0, grace=0)
    life(seed, 15, made_by=judge)
    made = decided(judge, [opinion(agent, p, 15) for agent, p in said.items()], state(15))
    assert math.fsum(made.contributions.values()) == pytest.approx(logit(made.prob_up), abs=1e-12)
    assert math.fsum(made.weights.values()) == pytest.approx(1.0, abs=1e-12)
    values = made.quantiles.values
    assert all(a <= b for a, b in pairwise(values))
    json.loads(canonical_json(made))


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_decision_when_opinions_are_permuted_then_its_bytes_are_the_same(order):
    judge = council(half_life=20.0, grace=0)
    life(3, 20, made_by=judge)
    said = [opinion(agent, 0.5 + 0.02 * i, 20) for i, agent in enumerate(MEMBERS)]
    one = decided(judge, [said[i] for i in order], state(20))
    assert canonical_json(one) == canonical_json(decided(judge, said, state(20)))


def test_decision_when_an_agent_is_in_probation_then_it_is_explained_without_weight():
    made = decided(council(rules=EASY), [*strong(), opinion("stranger", 0.1)])
    assert "stranger" not in made.weights
    assert made.explanations["stranger"].startswith("P(up) 0.1000, scored but not pooled")
    assert made.explanations["a"].startswith("P(up) 0.8500 at weight 0.250: +0.4337 logit")
    assert made.model_versions["stranger"] == "1"


def test_decision_when_stored_as_json_and_read_back_then_it_can_be_repeated():
    judge = council(half_life=20.0, grace=0, rules=EASY)
    life(5, 30, made_by=judge)
    said = [opinion(agent, 0.5 + 0.1 * i, 30, quantiles(2e-3)) for i, agent in enumerate(MEMBERS)]
    made = decided(judge, [*said, opinion("d", math.nan, 30)], state(30), {"c": "deadline"})
    stored = replace(made, inputs=json.loads(json.dumps(plain(made.inputs))))
    assert differences(stored, said) == {}
    vetoed = replace(stored, action=Action.NO_TRADE, reasons=(*stored.reasons, "killed"))
    assert differences(vetoed, said) == {}
    checked = replace(
        stored,
        margins={**stored.margins, "spread_bps": 7.0, "exposure": 0.1},
        inputs={**stored.inputs, "risk": {"spread_bps": {}, "exposure": {}}},
    )
    assert differences(checked, said) == {}
    assert "margins" in differences(replace(checked, inputs=stored.inputs), said)
    changed = [replace(said[0], p_up=0.7), *said[1:]]
    assert "prob_up" in differences(stored, changed)
    with pytest.raises(CheckFailed, match="must carry the inputs"):
        differences(replace(stored, inputs={}), said)


def planted(rounds, forecasters, seed=1, silent=(), **changes):
    """A council in a world where P(up) is known: forecasters map (truth, rng) to p."""
    rng = np.random.default_rng(seed)
    agents = tuple(forecasters)
    judge = council((*agents, *silent), **changes)
    seq, waiting = 0, []
    for k in range(rounds):
        truth = rng.uniform(0.35, 0.65)
        r = 2e-3 if rng.uniform() < truth else -2e-3
        said = [opinion(a, forecasters[a](truth, rng), k, None) for a in agents]
        made = decided(judge, said, state(k), now=T0 + k * STEP)
        waiting.append(outcome(k, r))
        rows = [*said, made, *([waiting.pop(0)] if len(waiting) > H else [])]
        judge.observe([(seq + 1 + i, row) for i, row in enumerate(rows)])
        seq += len(rows)
    return judge, {row["agent"]: row for row in judge.weights_view(SYMBOL)}


@pytest.mark.long
def test_council_when_one_agent_is_informed_then_it_overtakes_the_others():
    _, rows = planted(1_500, {
        "informed": lambda truth, _: truth,
        "coin": lambda *_: 0.5,
        "noise": lambda _, rng: rng.uniform(0.35, 0.65),
        "twin": lambda _, rng: rng.uniform(0.35, 0.65),
    })  # fmt: skip
    assert rows["informed"]["weight"] > 0.9
    assert rows["informed"]["skill_1e4"] > 30 > 0 > rows["noise"]["skill_1e4"]


def test_council_when_one_agent_lies_then_its_weight_collapses_to_the_floor():
    judge, rows = planted(400, {
        "honest": lambda truth, _: truth,
        "coin": lambda *_: 0.5,
        "liar": lambda truth, _: 0.95 if truth < 0.5 else 0.05,
    })  # fmt: skip
    assert rows["liar"]["weight"] < 1.01 * 1e-3 / 3
    made = decided(judge, [opinion("coin", 0.5, 400), opinion("honest", 0.5, 400),
                           opinion("liar", 0.98, 400)], state(400))  # fmt: skip
    assert abs(made.prob_up - 0.5) < 5e-3


def test_council_when_a_liar_is_new_then_grace_holds_its_weight_for_fifty_outcomes():
    liars = {"coin": lambda *_: 0.5, "liar": lambda truth, _: 0.95 if truth < 0.5 else 0.05}
    assert planted(50, liars)[1]["liar"]["weight"] == 0.5
    assert planted(60 + H, liars)[1]["liar"]["weight"] < 0.01


def test_council_when_the_future_changes_then_no_decision_before_it_does():
    def decisions(**future):
        rows = life(11, 50, grace=0, **future)
        return [canonical_json(row) for _, row in rows if isinstance(row, Decision)]

    known, other = decisions(), decisions(scramble=25)
    assert known[: 25 + H] == other[: 25 + H]  # the outcome of bar 25 is known at bar 30
    assert all(a != b for a, b in zip(known[25 + H :], other[25 + H :], strict=True))


def test_council_when_costs_depend_on_the_state_then_they_are_asked_for_it():
    seen = []

    def costs(at):
        seen.append(at.as_of)
        return COSTS

    judge = Council(CouncilSettings(members=MEMBERS), EASY, costs, "demo", "abc123")
    made = decided(judge, strong())
    assert seen == [T0]
    assert (made.source, made.git_commit) == ("demo", "abc123")
    assert made.inputs["round_trip"] == pytest.approx(12e-4)


def test_council_when_one_agent_is_alone_then_it_is_published_as_it_is():
    judge = council(MEMBERS, DecisionRules(min_forecasters=1), sole="a")
    rows = life(made_by=judge, rounds=80)
    decisions = [record for _, record in rows if isinstance(record, Decision)]
    said = {(x.as_of, x.agent): x for _, x in rows if isinstance(x, Opinion)}
    for decision in decisions:
        own = said.get((decision.as_of, "a"))
        if own is None:
            assert (decision.prob_up, decision.quantiles) == (None, None)
            assert "low_quorum" in decision.reasons
            continue
        assert decision.prob_up == own.p_up
        assert decision.quantiles == own.quantiles
        assert decision.weights == {"a": 1.0}
        assert (decision.risk_down, decision.risk_up) == (own.risk_down, own.risk_up)
        assert (
            differences(decision, [x for (at, _), x in said.items() if at == decision.as_of]) == {}
        )


def test_settings_when_the_one_agent_has_no_seat_then_they_are_refused():
    with pytest.raises(SettingError, match="sole"):
        CouncilSettings(members=("a",), sole="b")
