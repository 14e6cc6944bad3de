"""What the council learns outcome by outcome: aggregation, recalibration, conformal tracking."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.boa import Boa
from consensus.conformal import BOUND, LEVELS, Tracker, moved
from consensus.recalibration import OnlineLine, OnlineLogistic, sigmoid

NAMES = ("a", "b", "c", "d")
FORGET = 5e-4

# Bernstein online aggregation


def learn(boa, said, aggregate, gradient):
    """Tell an outcome whose loss has ``gradient`` at ``aggregate``."""
    names = sorted(said)
    rows = np.stack([np.atleast_1d(gradient * (aggregate - said[name])) for name in names])
    boa.learn(names, rows, np.ones(rows.shape, dtype=bool))


def told(boa, saved):
    rows = np.array([[saved[name]] for name in sorted(saved)])
    boa.learn(sorted(saved), rows, np.ones(rows.shape, dtype=bool))


def shares(boa, names, problems=1):
    return boa.weights(names, np.ones((len(names), problems), dtype=bool))


rounds = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(NAMES), st.floats(0.02, 0.98), min_size=1), st.booleans()
    ),
    min_size=1, max_size=60,
)  # fmt: skip


@pytest.mark.long
@given(rounds)
def test_boa_when_anything_happens_then_convex_weights_between_the_inputs(played):
    boa = Boa(1, FORGET, len(NAMES))
    for said, up in played:
        names = sorted(said)
        w = shares(boa, names)[:, 0]
        assert (w >= 0).all()
        assert w.sum() == pytest.approx(1.0)
        p = float(w @ [said[n] for n in names])
        assert min(said.values()) - 1e-12 <= p <= max(said.values()) + 1e-12
        learn(boa, said, p, 2.0 * (p - float(up)))


@pytest.mark.long
@given(rounds, st.sampled_from(NAMES))
def test_boa_when_an_expert_sleeps_then_what_is_known_of_it_stays(played, sleeper):
    boa = Boa(1, FORGET, len(NAMES))
    told(boa, dict.fromkeys(NAMES, 0.1))
    before = boa.as_dict()[sleeper]
    for said, up in played:
        said.pop(sleeper, None)
        if said:
            learn(boa, said, 0.5, 2.0 * (0.5 - float(up)))
    assert boa.as_dict()[sleeper] == before


@pytest.mark.long
def test_boa_when_one_is_better_then_it_gets_the_weight_and_loses_it_when_it_turns_bad():
    rng, boa, good = np.random.default_rng(1), Boa(1, FORGET, len(NAMES)), []
    for t in range(12_000):
        y = float(rng.random() < 0.5)
        edge = 0.02 if t < 6_000 else -0.02
        said = {"good": 0.5 + edge * (2 * y - 1), "half": 0.5, "noise": rng.uniform(0.4, 0.6)}
        names = sorted(said)
        w = shares(boa, names)[:, 0]
        p = float(w @ [said[n] for n in names])
        learn(boa, said, p, 2.0 * (p - y))
        good.append(w[names.index("good")])
    assert good[5_999] > 0.9
    assert good[-1] < 0.1


def test_boa_when_levels_are_learned_side_by_side_then_each_has_its_own_expert():
    rng, boa = np.random.default_rng(2), Boa(2, FORGET, len(NAMES))
    taus = np.array([0.1, 0.9])
    sharp = {"low": np.array([-1.2816, 3.0]), "high": np.array([-3.0, 1.2816])}
    for _ in range(4_000):
        r = rng.normal()
        w = shares(boa, ["high", "low"], 2)
        q = (w * np.stack([sharp["high"], sharp["low"]])).sum(axis=0)
        gradient = (r <= q) - taus
        learn(boa, sharp, q, gradient)
    w = shares(boa, ["high", "low"], 2)
    assert w[1, 0] > 0.8  # "low" knows the low level
    assert w[0, 1] > 0.8


def test_boa_when_a_newcomer_was_never_scored_then_it_weighs_as_the_average():
    boa = Boa(1, FORGET, len(NAMES))
    assert shares(boa, ["a", "b"])[:, 0].tolist() == [0.5, 0.5]
    for _ in range(50):
        told(boa, {"a": 0.2, "b": -0.2})
    w = shares(boa, ["a", "b", "new"])[:, 0]
    assert w[2] == pytest.approx(1 / 3)
    assert w[0] > w[1]


@pytest.mark.long
@given(rounds)
def test_boa_when_stored_and_read_back_then_it_goes_on_with_the_same_bits(played):
    boa = Boa(1, FORGET, len(NAMES))
    for said, up in played:
        learn(boa, said, 0.5, 2.0 * (0.5 - float(up)))
    again = Boa(1, FORGET, len(NAMES)).restore(json.loads(json.dumps(boa.as_dict())))
    for one in (boa, again):
        told(one, {"a": 0.1, "new": -0.3})
    assert again.as_dict() == boa.as_dict()
    assert np.array_equal(shares(again, NAMES), shares(boa, NAMES))


def test_boa_when_an_expert_is_silent_on_a_problem_then_only_that_column_is_for_the_others():
    boa, spoke = Boa(2, FORGET, len(NAMES)), np.array([[True, True], [True, False]])
    for _ in range(30):
        boa.learn(["a", "b"], np.array([[-0.1, 0.1], [0.1, 0.0]]), spoke)
    w = boa.weights(["a", "b"], spoke)
    assert w[1, 0] > 0.9
    assert w[:, 1].tolist() == [1.0, 0.0]
    assert boa.as_dict()["b"][0][1] == 0.0
    nobody = boa.weights(["a", "b"], np.zeros((2, 2), dtype=bool))
    assert not nobody.any()


def test_boa_when_nothing_is_at_stake_then_equal_weights():
    boa = Boa(1, FORGET, len(NAMES))
    for _ in range(10):
        told(boa, {"a": 0.0, "b": 0.0})
    assert shares(boa, ["a", "b"])[:, 0].tolist() == [0.5, 0.5]


# Recalibration


def platt(half_life=20_000.0, share=1.0, spread=(0.2, 0.5)):
    return OnlineLogistic([0.0, 1.0], spread, half_life, share)


def test_logistic_when_nothing_was_learned_then_the_prior():
    assert platt().chance(np.array([1.0, 0.7])) == sigmoid(0.7)


def test_logistic_when_forecasts_are_too_sure_then_it_finds_the_slope():
    rng, model = np.random.default_rng(3), platt(half_life=1e7)
    for _ in range(20_000):
        logit = rng.normal()
        y = float(rng.random() < sigmoid(0.1 + 0.5 * logit))
        model.learn(np.array([1.0, logit]), y)
    assert model.beta == pytest.approx([0.1, 0.5], abs=0.06)


def test_logistic_when_the_prior_is_tight_then_little_is_learned_from_little():
    rng, model = np.random.default_rng(4), platt(share=0.2, spread=(0.01, 0.05))
    for _ in range(500):
        model.learn(np.array([1.0, 0.1 * rng.normal()]), float(rng.random() < 0.5))
    assert model.beta == pytest.approx([0.0, 1.0], abs=0.03)


def test_logistic_when_it_learns_no_more_then_it_drifts_back_to_its_prior():
    model = platt(half_life=100.0)
    for _ in range(200):
        model.learn(np.array([1.0, 0.0]), 1.0)
    high = model.beta[0]
    for _ in range(1_000):
        model.learn(np.zeros(2), 1.0)  # nobody said anything
    assert abs(model.beta[0]) < 0.01 * high


def test_logistic_when_against_a_batch_fit_then_close():
    from scipy.optimize import minimize

    rng = np.random.default_rng(5)
    x = rng.normal(size=(3_000, 2))
    y = (rng.random(3_000) < 1 / (1 + np.exp(-x @ [0.4, -0.3]))).astype(float)
    model = OnlineLogistic([0.0, 0.0], [0.3, 0.3], 1e12, 1.0)
    for row, up in zip(x, y, strict=True):
        model.learn(row, up)

    def loss(beta):
        eta = x @ beta
        return np.sum(np.logaddexp(0, eta) - y * eta) + np.sum(beta**2) / (2 * 0.3**2)

    assert model.beta == pytest.approx(minimize(loss, np.zeros(2)).x, abs=0.01)


def test_logistic_when_it_grows_then_what_it_knew_stays_and_the_new_one_starts_at_its_prior():
    model, small = platt(), platt()
    for one in (model, small):
        one.learn(np.array([1.0, 0.4]), 1.0)
    model.grow(0.0, 0.3)
    assert model.beta.tolist() == [*small.beta.tolist(), 0.0]
    for one, x in ((model, [1.0, 0.4, 0.0]), (small, [1.0, 0.4])):
        one.learn(np.array(x), 0.0)
    assert model.beta[:2] == pytest.approx(small.beta, rel=1e-12)
    model.learn(np.array([0.0, 0.0, 1.0]), 1.0)
    assert model.beta[2] > 0.0


def test_logistic_when_stored_and_read_back_then_the_same_bits():
    model = platt()
    for k in range(20):
        model.learn(np.array([1.0, k / 7 - 1]), float(k % 3 == 0))
    again = platt().restore(json.loads(json.dumps(model.as_dict())))
    for one in (model, again):
        one.learn(np.array([1.0, 0.3]), 1.0)
    assert again.as_dict() == model.as_dict()


def test_line_when_it_learns_then_it_is_the_same_filter_of_an_intercept_and_a_slope():
    rng, line = np.random.default_rng(6), OnlineLine((0.0, 1.0), (0.2, 0.5), 300.0, 0.2)
    model = platt(half_life=300.0, share=0.2)
    for k in range(2_000):
        x, y = float(rng.normal()), float(rng.random() < 0.4)
        assert line.chance(x) == pytest.approx(model.chance([1.0, x]), rel=1e-12)
        line.learn(x, y)
        model.learn([1.0, x], y)
        if k == 1_000:
            line = OnlineLine((0.0, 1.0), (0.2, 0.5), 300.0, 0.2).restore(
                json.loads(json.dumps(line.as_dict()))
            )
    assert line.beta == pytest.approx(model.beta.tolist(), rel=1e-10)
    assert np.array(line.as_dict()["p"]) == pytest.approx(np.array(model.as_dict()["p"]), rel=1e-9)


# The conformal tracker


def play(rng, horizon, rate, outcomes, q=lambda t: np.zeros(13), sigma=lambda t: 1.0):
    """Publish and resolve with delay; returns θ_1, θ_{T+1}, e, and the publications."""
    tracker, waiting, under, seen = Tracker(rate), [], [], []
    first = np.array(tracker.theta)
    for t, r in enumerate(outcomes):
        while waiting and waiting[0][0] + horizon <= t:
            under.append(tracker.learn(*waiting.pop(0)[1:]))
        waiting.append((t, q(t), sigma(t), np.array(tracker.theta), r))
        seen.append((q(t), sigma(t), np.array(tracker.theta), r))
        assert (np.abs(tracker.theta) <= BOUND + (horizon + 1) * rate + 1e-12).all()
    for item in waiting:
        under.append(tracker.learn(*item[1:]))
    return first, np.array(tracker.theta), np.array(under), seen


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.floats(1e-4, 2.0))
def test_tracker_when_anything_happens_then_the_identity_and_the_bound_hold(seed, horizon, rate):
    rng = np.random.default_rng(seed)
    outcomes = rng.standard_cauchy(200) * rng.uniform(0.01, 100)
    first, last, under, _ = play(
        rng, horizon, rate, outcomes, lambda t: np.sin(t) * LEVELS, lambda t: 1.0 + t % 3
    )
    identity = under.mean(axis=0) - LEVELS + (last - first) / (rate * len(outcomes))
    assert np.abs(identity).max() < 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_tracker_when_theta_is_within_the_bound_then_e_is_coverage_of_what_was_published(seed):
    rng = np.random.default_rng(seed)
    outcomes = rng.standard_t(2, 150) * 3
    _, _, under, seen = play(rng, 5, 0.5, outcomes)
    for e, (q, sigma, theta, r) in zip(under, seen, strict=True):
        inside = (theta >= -BOUND) & (theta < BOUND)
        assert (e == (r <= moved(q, sigma, theta)))[inside].all()


@pytest.mark.long
def test_tracker_when_quantiles_are_too_narrow_then_it_widens_them_to_what_they_promise():
    rng = np.random.default_rng(6)
    outcomes = rng.normal(size=20_000)
    narrow = np.array([-1.0, -0.8, -0.6, -0.4, -0.2, -0.1, 0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
    _, theta, under, _ = play(rng, 5, 0.005, outcomes, lambda t: narrow)
    assert under[-10_000:].mean(axis=0) == pytest.approx(LEVELS, abs=0.01)
    assert theta[0] < 0 < theta[-1]
    assert (narrow + theta)[2] == pytest.approx(-1.2816, abs=0.1)


def test_tracker_when_its_rate_is_0_then_nothing_moves():
    tracker = Tracker(0.0)
    tracker.learn(np.zeros(13), 1.0, tracker.theta, 3.0)
    assert not any(tracker.theta)
    assert math.isclose(moved(np.full(13, 2.0), 1.0, tracker.theta)[4], 2.0)
