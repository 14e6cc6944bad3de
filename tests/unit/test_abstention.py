"""NO_TRADE is scored by the trade that it declined."""

import math

import numpy as np
import pytest
from consensus_cases import COSTS, council, opinion, quantiles, state

from consensus.abstention import declined
from consensus.settings import DecisionRules
from domain.decision import Action
from sim.abstention import Abstentions
from sim.reports.words import plain_words
from sim.scoring import Truth

EASY = DecisionRules(prob_min=0.5, min_expected_return=0.0, require_risk=False)


def decided(p, shift, rules=None):
    judge = council(("a", "b"), rules)
    said = [opinion(agent, p, 0, quantiles(shift)) for agent in ("a", "b")]
    return judge.generate_signal(judge.prepare_state(state(), said, {}), state().as_of)


@pytest.mark.parametrize(("shift", "side"), [(1e-4, Action.LONG), (-1e-4, Action.SHORT)])
def test_declined_when_nothing_was_traded_then_the_side_of_the_expected_return(shift, side):
    trade = declined(decided(0.52, shift), 3e-3)
    assert trade.side is side
    assert trade.gross == pytest.approx(side.sign * 3e-3)
    assert trade.net == pytest.approx(trade.gross - COSTS.round_trip)


def test_declined_when_a_side_was_taken_then_nothing():
    decision = decided(0.97, 2e-2, EASY)
    assert decision.intent is Action.LONG
    assert declined(decision, 1e-3) is None


def test_declined_when_the_outcome_is_not_known_then_nothing():
    assert declined(decided(0.52, 1e-4), math.nan) is None


def test_abstentions_when_summed_then_what_was_saved_is_cost_less_gross():
    rng = np.random.default_rng(0)
    n = 2_000
    r = rng.normal(0, 1e-3, n)
    truth = Truth(r, np.abs(r), np.abs(r), np.arange(n) * 300_000, r * r, np.full(n, 1e-3))
    valid = np.arange(n) % 10 != 0
    found, decision = Abstentions(truth, valid), decided(0.52, 1e-4)
    for _ in range(n):
        found.hear(decision)
    told = found.summary(300_000)
    cost = 1e4 * COSTS.round_trip
    assert told["declined"] == int(valid.sum())
    assert told["gross_bps"] == pytest.approx(1e4 * r[valid].mean())
    assert told["saved_bps"] == pytest.approx(cost - 1e4 * r[valid].mean())
    assert told["saved_bps_lo"] < told["saved_bps"] < told["saved_bps_hi"]
    assert told["by_reason"] == {
        decision.reasons[0]: {"n": told["declined"], "saved_bps": pytest.approx(told["saved_bps"])}
    }
    (sentence,) = [x for x in plain_words({"abstention": told}) if "Abstaining" in x.text]
    assert sentence.level == "known"
    assert "saved" in sentence.text


def test_abstentions_when_nothing_was_declined_then_there_is_nothing_to_tell():
    empty = np.empty(0)
    found = Abstentions(Truth(empty, empty, empty, empty, empty, empty), np.empty(0, bool))
    assert found.summary(300_000)["saved_bps"] is None
