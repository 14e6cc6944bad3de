import itertools
import math
from dataclasses import replace

import pytest
from consensus_cases import COSTS, STEP, SYMBOL, T0, TIMEFRAME, H, quantiles
from hypothesis import given
from hypothesis import strategies as st

from consensus.decision import GIVEN, Quality, break_even_prob, decide
from consensus.explain import sentence
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Action, Consensus, Costs, Reason
from domain.errors import SettingError

GOOD = Consensus(
    symbol=SYMBOL, timeframe=TIMEFRAME, as_of=T0, horizon_bars=H, p_up=0.8,
    quantiles=quantiles(8e-3), expected_return=8e-3, mean_abs_return=8e-3, risk_down=0.05,
    risk_up=0.9, coherence_gap=0.1, dispersion=0.05, weights={}, contributions={}, candidates={},
    opinions=(), absent={}, quorum=1.0, forecasters=3, state_seq=0,
)  # fmt: skip
FALL = replace(GOOD, p_up=0.2, expected_return=-8e-3, quantiles=quantiles(-8e-3),
               risk_down=0.9, risk_up=0.05)  # fmt: skip
FRESH = Quality(age_ms=100, bar_ms=STEP)
ALL_ON = DecisionRules(
    interval_rule=0.8, max_coherence_gap=0.2, max_disagreement=0.1, max_coverage_error=0.05
)
KAPPA = 0.4


def judged(consensus=GOOD, costs=COSTS, kappa=KAPPA, rules=ALL_ON, quality=FRESH):
    return decide(consensus, costs, kappa, rules, quality)


@pytest.mark.parametrize(("consensus", "action"), [(GOOD, Action.LONG), (FALL, Action.SHORT)])
def test_decide_when_every_check_holds_then_the_favoured_side_is_taken(consensus, action):
    verdict = judged(consensus)
    assert (verdict.action, verdict.side, verdict.reasons) == (action, action, ())
    assert verdict.risk_score == 0.05
    assert all(margin is None or margin >= 0 for margin in verdict.margins.values())
    assert verdict.break_even_prob == pytest.approx(0.5 + COSTS.round_trip / (2 * KAPPA * 8e-3))


CASES = {
    Reason.LOW_QUORUM: {"consensus": replace(GOOD, quorum=0.49)},
    Reason.STALE_DATA: {"quality": replace(FRESH, age_ms=2 * STEP + 1)},
    Reason.BELOW_COST: {"costs": replace(COSTS, fee_bps=25.0)},
    Reason.BELOW_THRESHOLD: {"rules": replace(ALL_ON, prob_min=0.81)},
    Reason.RISK_VETO: {"consensus": replace(GOOD, risk_down=0.31)},
    Reason.WIDE_SPREAD: {"quality": replace(FRESH, spread_bps=10.1)},
    Reason.THIN_BOOK: {"quality": replace(FRESH, liquidity=49_999.0)},
    Reason.INTERVAL_SPANS_COST: {"consensus": replace(GOOD, quantiles=quantiles(3e-3))},
    Reason.DISAGREEMENT: {"consensus": replace(GOOD, dispersion=0.11)},
    Reason.COHERENCE_GAP: {"consensus": replace(GOOD, coherence_gap=0.21)},
    Reason.CONFORMAL_BREAK: {"quality": replace(FRESH, coverage=0.7, coverage_n=500)},
}


@pytest.mark.parametrize("reason", CASES)
def test_decide_when_one_check_fails_then_that_reason_alone_is_given(reason):
    verdict = judged(**CASES[reason])
    assert verdict.reasons == (reason,)
    assert verdict.action is Action.NO_TRADE
    assert verdict.side is Action.LONG


def test_decide_when_a_gap_left_no_quorum_then_both_are_named():
    verdict = judged(replace(GOOD, quorum=0.2), quality=replace(FRESH, data_gap=True))
    assert verdict.reasons == (Reason.DATA_GAP, Reason.LOW_QUORUM)
    assert judged(quality=replace(FRESH, data_gap=True)).action is Action.LONG
    assert {*CASES, Reason.DATA_GAP} == GIVEN


OTHER_WAYS = [
    (Reason.LOW_QUORUM, {"consensus": replace(GOOD, forecasters=1)}),
    (Reason.BELOW_COST, {"consensus": replace(GOOD, mean_abs_return=None)}),
    (Reason.BELOW_COST, {"consensus": replace(GOOD, expected_return=1e-4)}),
    (Reason.BELOW_COST, {"consensus": replace(GOOD, expected_return=-8e-3)}),
    (Reason.BELOW_COST, {"kappa": 0.0}),
    (Reason.BELOW_COST, {"costs": replace(COSTS, fee_bps=math.nan)}),
    (Reason.BELOW_THRESHOLD, {"rules": replace(ALL_ON, delta=0.2)}),
    (Reason.BELOW_THRESHOLD, {"rules": replace(ALL_ON, min_expected_return=8.1e-3)}),
    (Reason.RISK_VETO, {"consensus": replace(GOOD, risk_down=None)}),
    (Reason.STALE_DATA, {"quality": replace(FRESH, age_ms=-2 * STEP - 1)}),
    (Reason.WIDE_SPREAD, {"costs": replace(COSTS, spread_bps=10.1, fee_bps=0.0)}),
    (Reason.CONFORMAL_BREAK, {"quality": replace(FRESH, coverage=0.9, coverage_n=500)}),
]


@pytest.mark.parametrize(("reason", "change"), OTHER_WAYS)
def test_decide_when_a_check_fails_another_way_then_its_reason_is_given(reason, change):
    assert reason in judged(**change).reasons


PASSING = [
    {"quality": replace(FRESH, age_ms=2 * STEP, spread_bps=10.0, liquidity=50_000.0)},
    {"consensus": replace(GOOD, quorum=math.fsum([1 / 6] * 3) - 1e-16)},
    {"consensus": replace(GOOD, risk_down=0.30)},
    {"rules": replace(ALL_ON, prob_min=0.8)},
    {"consensus": replace(GOOD, risk_down=None), "rules": replace(ALL_ON, require_risk=False)},
    {"quality": replace(FRESH, coverage=0.5, coverage_n=499)},
    {"consensus": replace(GOOD, quantiles=None), "rules": replace(ALL_ON, interval_rule=None)},
    {"rules": replace(ALL_ON, max_age_ms=100)},
    {"quality": replace(FRESH, age_ms=-2 * STEP)},
]


@pytest.mark.parametrize("change", PASSING)
def test_decide_when_a_value_is_just_allowed_then_it_passes(change):
    assert judged(**change).action is Action.LONG


def test_decide_when_several_checks_fail_then_all_are_listed_most_important_first():
    weak = replace(GOOD, p_up=0.51, expected_return=1e-4, quorum=0.1, risk_down=0.5)
    reasons = judged(weak, quality=replace(FRESH, age_ms=10**7)).reasons
    assert reasons[:5] == (
        Reason.LOW_QUORUM, Reason.STALE_DATA, Reason.BELOW_COST, Reason.BELOW_THRESHOLD,
        Reason.RISK_VETO,
    )  # fmt: skip


def test_decide_when_there_is_no_consensus_then_it_is_low_quorum_whatever_the_rules():
    verdict = judged(None, rules=DecisionRules(quorum=0.0, min_forecasters=1))
    assert verdict.reasons == (Reason.LOW_QUORUM,)
    assert (verdict.side, verdict.break_even_prob, verdict.risk_score) == (None, None, None)


@pytest.mark.parametrize(("p", "risk"), [(0.5, 0.05), (0.51, 0.05), (0.49, 0.9)])
def test_decide_when_it_abstains_then_the_risk_is_still_that_of_the_favoured_side(p, risk):
    verdict = judged(replace(GOOD, p_up=p))
    assert verdict.action is Action.NO_TRADE
    assert verdict.risk_score == risk


def test_break_even_when_it_cannot_be_reached_then_it_is_null():
    assert break_even_prob(0.25, 0.5, 0.5) == 1.0
    assert break_even_prob(0.0021, 0.4, 0.0025) is None
    assert break_even_prob(0.002, 0.0, 0.0025) is None
    assert break_even_prob(0.002, 0.4, 0.0) is None
    assert break_even_prob(0.0, 0.4, 0.01) == 0.5


@given(st.floats(0.5, 0.98), st.floats(0, 60), st.floats(0, 1), st.floats(1e-4, 0.02))
def test_decide_when_a_side_is_taken_then_its_edge_exceeds_its_cost(p, fee, kappa, m):
    costs = Costs(fee_bps=fee, spread_bps=1.0, slippage_bps=0.0)
    rules = DecisionRules(prob_min=0.5, min_expected_return=0.0)
    fair = replace(GOOD, p_up=p, mean_abs_return=m, expected_return=m)
    taken = decide(fair, costs, kappa, rules, FRESH).action is Action.LONG
    pays = kappa * m > 0 and p > 0.5 + costs.round_trip / (2 * kappa * m)
    assert taken == (pays and m >= costs.round_trip)


@given(st.floats(0.02, 0.98))
def test_decide_when_the_market_is_mirrored_then_the_side_is_too(p):
    shift = (p - 0.5) * 0.03
    up = replace(GOOD, p_up=p, expected_return=shift, quantiles=quantiles(shift))
    down = replace(
        up, p_up=1 - p, expected_return=-shift, quantiles=quantiles(-shift),
        risk_down=up.risk_up, risk_up=up.risk_down,
    )  # fmt: skip
    one, two = judged(up), judged(down)
    if abs(p - 0.5) > 1e-9:
        assert one.action.sign == -two.action.sign
        assert {*one.reasons} == {*two.reasons}


@pytest.mark.parametrize("change", [*CASES.values(), *(c for _, c in OTHER_WAYS), {}])
def test_sentence_when_any_reason_leads_then_it_is_one_sentence_with_numbers(change):
    known = {"consensus": GOOD, "costs": COSTS, "kappa": KAPPA, "rules": ALL_ON, "quality": FRESH}
    known |= change
    verdict = decide(**known)
    text = sentence(verdict, **known)
    assert text.startswith(f"{verdict.action}: ")
    assert text.endswith(".")
    assert "\n" not in text
    others = verdict.reasons[1:]
    assert ("also " + ", ".join(others) in text) == bool(others)


def test_sentence_when_cost_is_too_high_then_it_says_by_which_numbers():
    known = {"consensus": GOOD, "costs": replace(COSTS, fee_bps=60.0), "kappa": 0.4,
             "rules": DecisionRules(), "quality": FRESH}  # fmt: skip
    assert sentence(decide(**known), **known) == (
        "NO_TRADE: even certainty would earn 32.0 bp, less than 62.0 bp round trip."
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"prob_min": 1.1}, {"risk_max": -0.1}, {"quorum": 2.0}, {"delta": -0.1},
        {"interval_rule": 0.5}, {"max_age_ms": 0}, {"min_forecasters": 0},
    ],
)  # fmt: skip
def test_rules_when_a_value_is_out_of_range_then_they_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        DecisionRules(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": ()}, {"members": ("a", "a")}, {"members": ("",)}, {"horizon_bars": 0},
        {"half_life": 0.0}, {"eta": -1.0}, {"floor": 1.1}, {"clip": (0.6, 0.9)},
        {"max_quantile": 0.0}, {"kappa_weight": 0.0}, {"late_window": 0}, {"max_pending": 5},
        {"coverage_half_life": 0.0},
    ],
)  # fmt: skip
def test_settings_when_a_value_is_out_of_range_then_they_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        CouncilSettings(**wrong)


def test_defaults_when_nothing_is_set_then_they_are_the_specifications():
    chosen, rules = CouncilSettings(), DecisionRules()
    assert (chosen.half_life, chosen.eta, chosen.floor, chosen.grace) == (10_000, 1.0, 1e-3, 50)
    assert (chosen.clip, chosen.kappa_prior, chosen.kappa_weight) == ((0.02, 0.98), 0.4, 5_000)
    assert (rules.prob_min, rules.min_expected_return, rules.risk_max) == (0.60, 0.002, 0.30)
    assert len(list(itertools.chain(chosen.members))) == 7
