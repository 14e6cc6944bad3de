"""From one forecast per timeframe to one: by fixed weights, by learned ones, and the learning."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.chronos_fusion import DECAY, WEIGHTS, FixedFusion, LearnedFusion, inputs_of
from agents.chronos_network import LEVELS
from agents.chronos_views import AHEAD, STEPS, TIMEFRAMES, View
from agents.risk import Logistic
from agents.training.fusion import Heard, learn
from domain.errors import ModelError
from domain.quantiles import CANONICAL_LEVELS, QuantileTable

NORMAL = np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0, 0.2533, 0.5244, 0.8416, 1.2816])
Z = np.array([
    -1.96, -1.645, -1.2816, -0.8416, -0.5244, -0.2533, 0, 0.2533, 0.5244, 0.8416, 1.2816, 1.645,
    1.96,
])  # fmt: skip
SIGMA = 1e-3
FIVE = ("5m", "15m", "30m", "1h")


def walk(name="5m", n=3, sigma=SIGMA, tilt=0.0, volatility=1.0, states=None, ahead=5.0):
    """A view of Gaussian walks whose median is ``tilt`` spreads up, at every step.

    Parameters
    ----------
    sigma : of one of the timeframe's bars.
    """
    states = np.arange(n) if states is None else np.asarray(states)
    k = np.sqrt(np.arange(1, AHEAD + 1))[:, None]
    path = sigma * k * (NORMAL + tilt)
    m = len(states)
    return View(
        name, states, np.repeat(path[None], m, axis=0), np.zeros(m), ahead, np.full(m, volatility)
    )


def logit_of(row):
    """Logit of P(up) of one row of nine quantiles."""
    p = 1.0 - QuantileTable.of(LEVELS, row).cdf(0.0)[0]
    return np.log(p / (1.0 - p))


def p_of(logits):
    return 1.0 / (1.0 + np.exp(-np.asarray(logits)))


def width(fused, k=0):
    return fused.quantiles[k][10] - fused.quantiles[k][2]


FLAT = FixedFusion(adjust=0.0)


def test_weights_when_all_are_there_then_they_are_one():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert tuple(WEIGHTS) == TIMEFRAMES


def test_fixed_when_timeframes_differ_then_their_quantiles_are_averaged_by_weight():
    views = {"5m": walk("5m", sigma=1e-3), "1h": walk("1h", sigma=3e-3)}
    alone = [FLAT.fuse({name: view}, 3).quantiles for name, view in views.items()]
    fused = FLAT.fuse(views, 3)
    share = WEIGHTS["5m"] / (WEIGHTS["5m"] + WEIGHTS["1h"])
    np.testing.assert_allclose(fused.quantiles, share * alone[0] + (1 - share) * alone[1])
    assert fused.timeframes == ("5m", "1h")
    assert fused.heard.all()
    assert fused.risk_down is None
    assert fused.risk_up is None


def test_fixed_when_a_state_lacks_a_timeframe_then_the_others_share_its_weight():
    views = {"5m": walk("5m", tilt=0.1), "1h": walk("1h", sigma=3e-3, tilt=0.4, states=[0, 2])}
    fused = FLAT.fuse(views, 3)
    only = FLAT.fuse({"5m": views["5m"]}, 3)
    np.testing.assert_allclose(fused.quantiles[1], only.quantiles[1])
    assert fused.p_up[1] == pytest.approx(only.p_up[1])
    assert fused.heard.tolist() == [[True, True], [True, False], [True, True]]
    assert width(fused, 0) > 1.5 * width(fused, 1)
    assert fused.p_up[0] > fused.p_up[1]


def test_fixed_when_no_timeframe_is_there_then_nan():
    fused = FLAT.fuse({"5m": walk(states=[1])}, 3)
    assert np.isnan(fused.quantiles[[0, 2]]).all()
    assert np.isfinite(fused.quantiles[1]).all()


def test_fixed_when_the_steps_disagree_then_a_step_counts_95_percent_of_the_one_before():
    view = walk(n=1)
    paths = view.quantiles.copy()
    for step, tilt in zip(STEPS, (0.5, -0.2, 0.3, 0.1, -0.6), strict=True):
        paths[0, step - 1] += tilt * SIGMA * np.sqrt(step)
    fused = FLAT.fuse({"5m": replace(view, quantiles=paths)}, 1)
    counts = [0.95**1, 0.95**3, 0.95**5, 0.95**10, 0.95**15]
    assert DECAY == 0.95
    logits = [logit_of(paths[0, step - 1]) for step in (1, 3, 5, 10, 15)]
    assert fused.p_up[0] == pytest.approx(p_of(np.average(logits, weights=counts)))


def test_fixed_when_timeframes_lean_apart_then_logits_are_averaged_by_weight():
    views = {"5m": walk("5m", tilt=0.3), "15m": walk("15m", tilt=-0.2)}
    logits = [logit_of(view.quantiles[0, 0]) for view in views.values()]
    assert FLAT.fuse(views, 3).p_up == pytest.approx(p_of(np.average(logits, weights=[0.2, 0.25])))


def test_fixed_when_a_timeframe_is_less_sure_than_wanted_then_the_others_have_the_direction():
    views = {"5m": walk("5m", tilt=0.3), "15m": walk("15m", tilt=0.01)}
    strong = logit_of(views["5m"].quantiles[0, 0])
    picky = FixedFusion(min_confidence=0.05, adjust=0.0).fuse(views, 3)
    assert picky.p_up == pytest.approx(p_of(strong))
    np.testing.assert_array_equal(picky.quantiles, FLAT.fuse(views, 3).quantiles)
    deaf = FixedFusion(min_confidence=0.99, adjust=0.0).fuse(views, 3)
    assert deaf.p_up.tolist() == [0.5] * 3


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 5.0), st.floats(0.0, 1.0))
def test_fixed_when_the_market_woke_up_then_wider_and_when_it_calmed_then_narrower(ratio, adjust):
    views = {"5m": walk(tilt=0.2, volatility=ratio)}
    fused, plain = FixedFusion(adjust=adjust).fuse(views, 3), FLAT.fuse(views, 3)
    assert width(fused) == pytest.approx(width(plain) * ratio**adjust)
    assert fused.quantiles[0][6] == pytest.approx(plain.quantiles[0][6])  # the median stays
    assert fused.sigma == pytest.approx(plain.sigma * ratio**adjust)


def test_fixed_when_the_price_was_frozen_of_late_then_still_in_order_and_finite():
    fused = FixedFusion().fuse({"5m": walk(volatility=0.0)}, 3)
    assert np.isfinite(fused.quantiles).all()
    assert (np.diff(fused.quantiles, axis=1) >= 0).all()


def test_fixed_when_quantiles_are_completed_then_sigma_is_that_of_the_walk():
    fused = FLAT.fuse({"5m": walk(ahead=5.0)}, 3)
    assert fused.sigma == pytest.approx(SIGMA * np.sqrt(5.0), rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(TIMEFRAMES), min_size=1, unique=True), st.integers(0, 2**31),
    st.floats(0.0, 1.0),
)  # fmt: skip
def test_fixed_when_anything_is_said_then_intervals_are_nested(names, seed, adjust):
    rng = np.random.default_rng(seed)
    views = {name: noisy(name, rng) for name in names}
    nested(FixedFusion(adjust=adjust).fuse(views, 5))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(FIVE[1:]), unique=True), st.integers(0, 2**31))
def test_learned_when_anything_is_said_then_intervals_are_nested(names, seed):
    rng = np.random.default_rng(seed)
    nested(learned().fuse({name: noisy(name, rng) for name in ("5m", *names)}, 5))


def noisy(name, rng):
    """Any quantiles in order, of any size, seen by some of five states."""
    scale = np.exp(rng.uniform(-9, -3, (5, 1, 1)))
    paths = np.sort(rng.standard_t(3, (5, AHEAD, 9)) * scale, axis=2)
    states = np.arange(5) if name == "5m" else np.flatnonzero(rng.random(5) < 0.7)
    m = len(states)
    return View(name, states, paths[states], rng.uniform(0, 0.99, m), 5.0, rng.uniform(0.2, 3.0, m))


def nested(fused):
    """80 % in 90 % in 95 %, the median inside, where there is a forecast at all."""
    there = np.isfinite(fused.quantiles).all(axis=1)
    assert (there == fused.heard.any(axis=1)).all()
    rows = fused.quantiles[there]
    at = {level: rows[:, k] for k, level in enumerate(CANONICAL_LEVELS)}
    order = [at[u] for u in (0.025, 0.05, 0.1, 0.5, 0.9, 0.95, 0.975)]
    for below, above in itertools.pairwise(order):
        assert (below <= above).all()
    assert ((fused.p_up[there] > 0) & (fused.p_up[there] < 1)).all()
    assert (fused.sigma[there] >= 0).all()


def learned(**changes):
    usual = {
        "timeframes": FIVE, "width": np.array([0.1, 0.4, 0.3, 0.1, 0.2]),
        "direction": np.array([0.0, 0.5, 0.3, -0.2, 0.1]), "residuals": Z, "drift": 0.3,
        "down": Logistic(-2.0, 1.5), "up": Logistic(-2.5, 1.2),
    }  # fmt: skip
    return LearnedFusion(**usual | changes)


def test_learned_when_all_timeframes_speak_then_the_formulas_of_its_docstring():
    views = {name: walk(name, sigma=s, tilt=t) for name, s, t in
             zip(FIVE, (1e-3, 2e-3, 3e-3, 4e-3), (0.1, -0.3, 0.2, 0.4), strict=True)}  # fmt: skip
    model, fused = learned(), learned().fuse(views, 3)
    widths = np.log([np.sqrt(5) * s for s in (1e-3, 2e-3, 3e-3, 4e-3)])
    logits = np.array([logit_of(view.at_horizon()[0]) for view in views.values()])
    sigma = np.exp(0.1 + model.width[1:] @ widths)
    p = p_of(model.direction[1:] @ logits)
    assert fused.sigma == pytest.approx(sigma, rel=1e-3)
    assert fused.p_up == pytest.approx(p)
    moved = 0.3 * (2 * p - 1) * sigma
    np.testing.assert_allclose(fused.quantiles[0], sigma * Z + moved, rtol=1e-3)
    assert fused.risk_down == pytest.approx(model.down.chance(fused.sigma))
    assert fused.risk_up == pytest.approx(model.up.chance(fused.sigma))
    assert fused.heard.all()


def test_learned_when_a_timeframe_is_missing_then_it_has_the_base_s_width_and_no_direction():
    views = {"5m": walk("5m", tilt=0.2), "1h": walk("1h", sigma=5e-3, tilt=0.5, states=[1])}
    widths, logits, heard = inputs_of(views, 3, FIVE)
    assert heard.tolist() == [[True, False, False, k == 1] for k in range(3)]
    np.testing.assert_array_equal(widths[0], np.repeat(widths[0, 0], 4))
    assert widths[1, 3] > widths[1, 0]
    assert logits[0, 1:].tolist() == [0, 0, 0]
    assert logits[1, 3] > logits[1, 0] > 0


def test_learned_when_the_base_timeframe_is_missing_then_nan():
    fused = learned().fuse({"5m": walk(states=[0, 2]), "1h": walk("1h")}, 3)
    assert np.isnan(fused.quantiles[1]).all()
    assert np.isfinite(fused.quantiles[[0, 2]]).all()


def test_learned_when_a_timeframe_is_certain_then_its_logit_is_bounded():
    _, logits, _ = inputs_of({"5m": walk(tilt=50.0), "1h": walk("1h", tilt=-50.0)}, 3, FIVE)
    assert logits[0].tolist() == [4.0, 0.0, 0.0, -4.0]


def test_learned_when_every_quantile_is_the_same_then_still_finite():
    fused = learned().fuse({"5m": walk(sigma=0.0)}, 3)
    assert np.isfinite(fused.quantiles).all()


def test_learned_when_written_and_read_then_the_same_forecasts():
    model = learned()
    body = json.loads(json.dumps(model.to_json()))
    again = LearnedFusion.from_json(body)
    assert again.to_json() == body
    views = {"5m": walk("5m", tilt=0.2), "1h": walk("1h", sigma=5e-3)}
    np.testing.assert_array_equal(again.fuse(views, 3).quantiles, model.fuse(views, 3).quantiles)


BAD = {
    "no width": ({"width": None}, "lacks a field"),
    "no timeframes": ({"timeframes": None}, "lacks a field"),
    "text": ({"drift": "much"}, "has a bad one"),
    "other curve": ({"down": {"intercept": 1.0, "tilt": 2.0}}, "has a bad one"),
    "too few coefficients": ({"width": [0.0, 1.0]}, "needs 5 coefficients"),
    "too many directions": ({"direction": [0.0] * 6}, "needs 5 coefficients"),
    "residuals out of order": ({"residuals": [*Z[::-1]]}, "13 increasing numbers"),
    "nan": ({"width": [float("nan")] * 5}, "finite"),
    "nan drift": ({"drift": float("nan")}, "finite"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "rule"), BAD.values(), ids=BAD)
def test_learned_when_params_are_not_its_own_then_model_error(changes, rule):
    body = {k: v for k, v in (learned().to_json() | changes).items() if v is not None}
    with pytest.raises(ModelError, match=rule):
        LearnedFusion.from_json(body)


def world(n, seed, width, direction, drift=0.0):
    """What four timeframes said and what came of it, by planted coefficients."""
    rng = np.random.default_rng(seed)
    widths = -7.0 + rng.normal(size=(n, 1)) * 0.6 + rng.normal(size=(n, 4)) * 0.4
    logits = rng.normal(size=(n, 4)) * 0.5
    sigma = np.exp(width[0] + widths @ width[1:])
    p = p_of(logits @ direction)
    size = np.abs(rng.normal(size=n)) * sigma
    y = np.where(rng.random(n) < p, size, -size) + drift * (2 * p - 1) * sigma
    down, up = (rng.random(n) < c.chance(sigma) for c in (Logistic(-1.0, 1.4), Logistic(-1.5, 1.1)))
    return Heard(widths, logits, y, down, up), sigma, p


WIDTH = np.array([0.2, 0.5, 0.3, 0.1, 0.1])
TRUE = np.array([0.8, -0.4, 0.0, 0.5])


def test_learn_when_coefficients_were_planted_then_they_are_found():
    heard, sigma, p = world(60_000, 1, WIDTH, TRUE)
    model = learn(heard, heard, FIVE)
    np.testing.assert_allclose(model.width, WIDTH, atol=0.04)
    np.testing.assert_allclose(model.direction, [0.0, *TRUE], atol=0.05)
    said = np.exp(model.width[0] + heard.widths @ model.width[1:])
    assert np.abs(np.log(said / sigma)).max() < 0.05
    assert (model.down.slope, model.up.slope) == pytest.approx((1.4, 1.1), abs=0.1)
    assert (model.down.intercept, model.up.intercept) == pytest.approx((-1.0, -1.5), abs=0.2)
    assert np.abs(p_of(heard.logits @ model.direction[1:]) - p).max() < 0.03
    assert model.timeframes == FIVE


def test_learn_when_learned_then_residuals_are_those_of_its_own_rows():
    heard, _, _ = world(20_000, 2, WIDTH, TRUE)
    model = learn(heard, heard, FIVE)
    sigma = np.exp(model.width[0] + heard.widths @ model.width[1:])
    p = p_of(heard.logits @ model.direction[1:])
    tilt = model.drift * (2 * p - 1) * sigma
    for level, edge in zip(CANONICAL_LEVELS, model.residuals, strict=True):
        assert np.mean(heard.y <= sigma * edge + tilt) == pytest.approx(level, abs=2e-4)
    assert (np.diff(model.residuals) > 0).all()


def test_learn_when_logits_carry_nothing_then_one_half():
    heard, _, _ = world(60_000, 3, WIDTH, np.zeros(4))
    model = learn(heard, heard, FIVE)
    p = p_of(heard.logits @ model.direction[1:])
    assert model.direction[0] == 0.0
    assert np.abs(p - 0.5).max() < 0.03
    silent = learn(heard, replace(heard, logits=np.zeros_like(heard.logits)), FIVE)
    assert silent.direction.tolist() == [0.0] * 5  # not the base rate: no direction is heard


def test_learn_when_everything_is_turned_round_then_the_same_drift_within_0_and_1():
    heard, _, _ = world(20_000, 4, WIDTH, TRUE, drift=0.2)
    turned = replace(heard, y=-heard.y, logits=-heard.logits)
    drift = learn(heard, heard, FIVE).drift
    assert 0.2 < drift <= 1.0
    assert learn(turned, turned, FIVE).drift == pytest.approx(drift, abs=0.02)


def test_learn_when_rows_are_unseen_then_the_direction_is_theirs_and_the_rest_is_not():
    heard, _, _ = world(20_000, 6, WIDTH, np.array([3.0, 3.0, 3.0, 3.0]))  # far too sure
    unseen, _, _ = world(20_000, 7, WIDTH + 0.5, TRUE)
    model = learn(heard, unseen, FIVE)
    np.testing.assert_allclose(model.direction, [0.0, *TRUE], atol=0.08)
    np.testing.assert_array_equal(model.width, learn(heard, heard, FIVE).width)
    assert model.down == learn(heard, heard, FIVE).down


def test_learn_when_two_timeframes_say_the_same_then_it_still_finds_widths():
    heard, sigma, _ = world(20_000, 5, WIDTH, TRUE)
    twice = replace(heard, widths=np.repeat(np.log(sigma)[:, None], 4, axis=1))
    model = learn(twice, twice, FIVE)
    said = np.exp(model.width[0] + twice.widths @ model.width[1:])
    np.testing.assert_allclose(said, sigma, rtol=0.05)
