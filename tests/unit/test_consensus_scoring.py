import json
import math
from dataclasses import replace

import numpy as np
import pytest
from consensus_cases import MEMBERS, STEP, SYMBOL, T0, H, council, life, opinion, outcome, state
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.edge import Edge
from consensus.rounds import Published, Round, Said
from consensus.scoring import Fold
from consensus.settings import CouncilSettings
from consensus.track import Track
from consensus.weights import standing, weights_rows
from domain.canonical import canonical_json
from domain.errors import SettingError

SHORT = {"half_life": 20.0, "late_window": 8}


def heard(**chances):
    return {agent: Said(p) for agent, p in chances.items()}


def played(k, said, published, r):
    return Round(k, 0, heard(**said), published, r)


def folded(rows, **changes):
    judge = council(MEMBERS, **changes)
    judge.observe(rows)
    return judge


def test_fold_when_an_outcome_resolves_then_losses_follow_the_recursion():
    fold = Fold(CouncilSettings(half_life=1.0))
    fold.add(played(0, {"a": 0.6, "b": 0.3}, Published(0.5), 0.01))
    fold.add(played(1, {"a": 0.6}, Published(0.4), -0.01))
    first_a, first_b = 0.4**2 - 0.25, 0.7**2 - 0.25
    assert fold.scores["a"].loss == pytest.approx(0.5 * first_a + 0.6**2 - 0.4**2)
    assert fold.scores["b"].loss == pytest.approx(first_b)
    assert fold.scores["a"].brier == pytest.approx((0.5 * 0.16 + 0.36) / 1.5)
    assert (fold.scores["a"].n, fold.scores["b"].n) == (2, 1)


def test_fold_when_nothing_was_published_then_losses_are_against_one_half():
    fold = Fold(CouncilSettings())
    fold.add(played(0, {"a": 0.6}, None, 0.0))  # a tie is not up
    assert fold.scores["a"].loss == pytest.approx(0.36 - 0.25)
    assert fold.edge.n == 0


@given(st.dictionaries(st.sampled_from(MEMBERS), st.floats(0.02, 0.98)), st.floats(-0.1, 0.1))
def test_fold_when_an_agent_sleeps_then_its_score_is_unmoved(said, r):
    fold = Fold(CouncilSettings())
    fold.add(played(0, dict.fromkeys(MEMBERS, 0.4), Published(0.6, 1e-3), 0.01))
    before = fold.as_dict()["scores"]
    fold.add(played(1, said, Published(0.55, 1e-3), r))
    after = fold.as_dict()["scores"]
    assert all((before[agent] == after[agent]) == (agent not in said) for agent in MEMBERS)


def test_fold_when_intervals_were_published_then_their_coverage_is_counted():
    fold = Fold(CouncilSettings())
    for i, r in enumerate((0.0, 0.5, 0.02, -0.02)):
        fold.add(played(i, {}, Published(0.5, 1e-3, -0.02, 0.02), r))
    assert fold.coverage.share == pytest.approx(0.75, abs=1e-3)
    assert fold.coverage.n == 4


def test_edge_when_returns_are_a_share_of_the_naive_ones_then_kappa_finds_it():
    rng = np.random.default_rng(3)
    edge = Edge()
    for _ in range(50_000):
        p, m = rng.uniform(0.3, 0.7), 2e-3
        edge.add(p, m, 0.9 * (2 * p - 1) * m + rng.normal(0, 1e-3), 2 ** (-1 / 10_000))
    expected = (50_000 * 0.9 + 5_000 * 0.4) / 55_000
    assert edge.kappa(0.4, 5_000) == pytest.approx(expected, abs=0.03)


def test_edge_when_nothing_is_known_then_kappa_is_its_prior_and_never_negative():
    assert Edge().kappa(0.4, 5_000) == 0.4
    edge = Edge()
    edge.add(0.5, 1e-3, 0.01, 1.0)
    assert edge.kappa(0.4, 5_000) == 0.4
    for _ in range(100):
        edge.add(0.7, 1e-3, -0.5, 1.0)
    assert edge.kappa(0.4, 5_000) == 0.0


def test_edge_when_two_points_are_given_then_the_slope_is_least_squares_through_zero():
    edge = Edge()
    edge.add(0.75, 0.02, 0.03, 1.0)  # x = .01
    edge.add(0.25, 0.04, 0.01, 1.0)  # x = −.02
    slope = (0.01 * 0.03 - 0.02 * 0.01) / (0.01**2 + 0.02**2)
    assert edge.kappa(0.4, 1e-9) == pytest.approx(slope)


def test_standing_when_a_member_is_new_then_it_weighs_as_if_it_had_lost_nothing():
    setting = CouncilSettings(members=("a", "b"), grace=3)
    fold = Fold(setting)
    for i in range(2):
        fold.add(played(i, {"a": 0.1, "x": 0.1}, None, 0.01))
    assert standing(fold, setting) == {"a": 0.0, "b": 0.0}
    fold.add(played(2, {"a": 0.1}, None, 0.01))
    assert standing(fold, setting) == {"a": fold.scores["a"].loss, "b": 0.0}
    assert fold.scores["a"].loss > 1.0


def test_weights_rows_when_an_agent_is_in_probation_then_it_is_scored_without_weight():
    setting = CouncilSettings(members=("a", "b"), horizon_bars=5)
    fold = Fold(setting)
    for i in range(10):
        fold.add(played(i, {"a": 0.6, "x": 0.7}, None, 0.01))
    rows = {row["agent"]: row for row in weights_rows(fold, {"a"}, setting)}
    assert rows["x"]["weight"] == 0.0
    assert not rows["x"]["member"]
    assert rows["x"]["skill_1e4"] == pytest.approx((0.25 - 0.09) * 1e4)
    assert (rows["a"]["n"], rows["a"]["n_effective"], rows["a"]["awake"]) == (10, 2.0, True)
    assert rows["b"]["decayed_brier"] is None
    assert math.fsum(row["weight"] for row in rows.values()) == pytest.approx(1.0)


def test_track_when_an_opinion_comes_after_its_outcome_then_it_is_never_scored():
    judge = council()
    judge.observe([(1, outcome(0, 0.01)), (2, opinion("a", 0.9)), (3, outcome(0, 0.01))])
    assert judge.snapshot()["tracks"][0]["pending"] == []
    assert all(row["n"] == 0 for row in judge.weights_view(SYMBOL))


def test_track_when_an_outcome_is_repeated_then_it_counts_once():
    judge = council()
    judge.observe([(1, opinion("a", 0.9)), (2, outcome(0, 0.01)), (3, outcome(0, 0.01))])
    assert {row["agent"]: row["n"] for row in judge.weights_view(SYMBOL)}["a"] == 1


def test_track_when_a_second_version_speaks_too_then_the_first_opinion_is_scored():
    judge = council()
    judge.observe([(1, opinion("a", 0.9)), (2, opinion("a", 0.1, model_version="2"))])
    assert judge.snapshot()["tracks"][0]["pending"][0]["opinions"]["a"][0] == 0.9


def test_fold_when_a_member_changes_its_version_then_the_new_one_inherits_seat_and_record():
    def record(change_at):
        judge, seq = council(), 0
        for k in range(12):
            version = "1" if k < change_at else "2"
            rows = [opinion("a", 0.7, k, model_version=version), opinion("b", 0.4, k)]
            rows += [outcome(k, 0.01 if k % 3 else -0.01)]
            judge.observe([(seq + i + 1, row) for i, row in enumerate(rows)])
            seq += len(rows)
        return judge.weights_view(SYMBOL)

    changed = record(change_at=6)
    assert changed == record(change_at=12)
    assert {row["agent"]: row["n"] for row in changed}["a"] == 12


def test_track_when_outcomes_never_come_then_what_waits_stays_bounded():
    judge = council(max_pending=10)
    judge.observe([(k + 1, opinion("a", 0.6, k)) for k in range(50)])
    waiting = judge.snapshot()["tracks"][0]["pending"]
    assert [item["as_of"] for item in waiting] == [T0 + k * STEP for k in range(40, 50)]


@settings(max_examples=25)
@given(st.permutations(range(12)))
def test_track_when_outcomes_come_in_any_order_then_the_fold_is_that_of_their_due_order(order):
    setting = CouncilSettings(half_life=5.0, late_window=16)

    def through(sequence):
        track = Track(setting, 1)
        for k in range(12):
            track.opinion(k, "a", Said(0.3 + 0.03 * k))
            track.publication(k, Published(0.5 + 0.01 * k, 1e-3, -1e-3, 1e-3))
        for k in sequence:
            track.outcome(k, (-1) ** (k // 2) * 1e-3 * (k + 1), 0.0, 0.0)
        return track

    late, ordered = through(order), through(range(12))
    assert late.head.as_dict() == ordered.head.as_dict()
    assert late.snapshot() == ordered.snapshot()


def test_track_when_an_outcome_is_later_than_the_window_then_it_is_still_scored_once():
    judge = council(late_window=3)
    rows = [(k + 1, opinion("a", 0.6, k)) for k in range(20)]
    rows += [(100 + k, outcome(k, 0.01)) for k in range(1, 20)]
    rows += [(200, outcome(0, 0.01)), (201, outcome(0, 0.01)), (202, opinion("a", 0.9, 0))]
    judge.observe(rows)
    assert {row["agent"]: row["n"] for row in judge.weights_view(SYMBOL)}["a"] == 20
    assert judge.snapshot()["tracks"][0]["pending"] == []


BAD_ROWS = [
    opinion("a", math.nan),
    opinion("a", horizon_bars=H + 1),
    opinion("a", None, q=None),
    outcome(0, math.nan),
    outcome(0, 0.01, horizon_bars=H + 1),
    "a text",
    None,
]


def test_observe_when_rows_are_of_no_interest_then_only_the_sequence_number_moves():
    judge = folded(life(1, 20))
    before = judge.snapshot()
    start = judge.state_seq
    judge.observe([(start + 1 + i, record) for i, record in enumerate(BAD_ROWS)])
    assert judge.snapshot() == before | {"state_seq": start + len(BAD_ROWS)}


def test_observe_when_a_decision_is_not_the_councils_on_a_bar_then_it_is_passed_over():
    judge = council()
    said = [opinion("a"), opinion("b")]
    made = judge.generate_signal(judge.prepare_state(state(), said, {}), T0)
    others = [replace(made, origin="on_demand"), replace(made, strategy="ema_cross")]
    judge.observe([(i + 1, record) for i, record in enumerate(others)])
    assert judge.snapshot()["tracks"] == []
    judge.observe([(3, replace(made, origin="warm_up"))])
    assert judge.snapshot()["tracks"][0]["pending"][0]["published"]["p_up"] == made.prob_up


def test_observe_when_rows_are_delivered_again_then_nothing_changes():
    rows = life(2, 40)
    judge = folded(rows)
    before = judge.snapshot()
    judge.observe(rows[-30:])
    judge.observe(rows)
    assert judge.snapshot() == before
    assert judge.state_seq == rows[-1][0]


def test_observe_when_symbols_are_mixed_then_each_has_its_own_scores():
    judge = council()
    judge.observe([
        (1, opinion("a", 0.9)), (2, opinion("a", 0.9, symbol="ETH/USDT")),
        (3, outcome(0, 0.01)), (4, outcome(0, -0.01, symbol="ETH/USDT")),
    ])  # fmt: skip
    briers = [judge.weights_view(symbol)[0]["decayed_brier"] for symbol in (SYMBOL, "ETH/USDT")]
    assert briers == pytest.approx([0.01, 0.81])


@pytest.mark.long
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.integers(0, 400), st.sampled_from([(), (3, 4, 9), (10, 11, 12)]))
def test_restore_when_cut_anywhere_then_the_state_is_that_of_the_whole_fold(seed, cut, odd):
    rows = life(seed, 45, swap_outcomes=odd[:2], drop_outcomes=odd[2:], **SHORT)
    whole = folded(rows, **SHORT)
    first = folded(rows[:cut], **SHORT)
    second = council(MEMBERS, **SHORT)
    second.restore(json.loads(canonical_json(first.snapshot())))
    second.observe(rows[cut:])
    assert canonical_json(second.snapshot()) == canonical_json(whole.snapshot())
    assert second.weights_view(SYMBOL) == whole.weights_view(SYMBOL)


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1_000), st.lists(st.integers(1, 60), max_size=6))
def test_observe_when_batches_are_cut_differently_then_the_state_is_identical(seed, cuts):
    rows = life(seed, 30, **SHORT)
    pieces = council(MEMBERS, **SHORT)
    start = 0
    for cut in [*cuts, len(rows)]:
        pieces.observe(list(reversed(rows[start : start + cut])))  # a batch may be unsorted
        start += cut
    assert pieces.snapshot() == folded(rows, **SHORT).snapshot()


def test_life_when_folded_as_it_happens_then_it_equals_the_fold_of_what_is_stored():
    live = council(MEMBERS, **SHORT)
    rows = life(7, 60, made_by=live, swap_outcomes=(5, 6, 20))
    assert live.snapshot() == folded(rows, **SHORT).snapshot()


def test_restore_when_settings_fold_differently_then_it_is_refused():
    body = folded(life(1, 10)).snapshot()
    with pytest.raises(SettingError, match="Fold the ledger"):
        council(MEMBERS, half_life=500.0).restore(body)
    with pytest.raises(SettingError, match="Fold the ledger"):
        council(("a",)).restore(body)  # who is pooled shapes what is learned about pooling
    other = council(MEMBERS, eta=2.0)  # η acts on the output only
    other.restore(body)
    assert other.snapshot() == body


def test_track_when_two_decisions_were_made_on_a_bar_then_the_first_is_what_was_published():
    track = Track(CouncilSettings(), 1)
    track.publication(0, Published(0.6))
    track.publication(0, Published(0.4))
    track.opinion(0, "a", Said(0.5))
    track.outcome(0, 0.01, 0.0, 0.0)
    assert track.head.scores["a"].loss == pytest.approx(0.25 - 0.16)
