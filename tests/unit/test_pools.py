"""Simple pools: causal weights, formulas, and nobody who could not have been followed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import pools
from sim.pools import BEST_AGENT, EQUAL_WEIGHT, GREEDY, INVERSE_BRIER, greedy, inverse_brier, pooled
from sim.scoring import Forecasts, Truth

H = 5


def truth(rng, n):
    r = rng.normal(0, 1e-3, n)
    return Truth(r, np.abs(r), np.abs(r), np.arange(n) * 300_000, r * r, np.full(n, 1e-3))


def saying(p, q=None, risk=None):
    made = Forecasts.silent(len(p))
    made.p_up[:] = p
    if q is not None:
        made.quantiles[:] = q
    if risk is not None:
        made.risk_down[:] = risk
    return made


def world(seed, n=300, agents=("a", "b", "climatology")):
    rng = np.random.default_rng(seed)
    happened = truth(rng, n)
    said = {a: saying(rng.uniform(0.3, 0.7, n), None, rng.uniform(0, 0.4, n)) for a in agents}
    for columns in said.values():
        columns.p_up[rng.random(n) < 0.1] = np.nan
    return said, happened, rng.random(n) < 0.95


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(50, 299))
def test_pools_when_the_future_is_another_one_then_nothing_said_before_it_changes(seed, row):
    said, happened, valid = world(seed)
    other = happened.take(np.arange(300))
    other.log_return[row:] *= -1
    was, now = (pooled(said, x, valid, H) for x in (happened, other))
    for name in (EQUAL_WEIGHT, INVERSE_BRIER, GREEDY):
        assert np.array_equal(was[name].p_up[: row + H], now[name].p_up[: row + H], equal_nan=True)


def test_inverse_brier_when_losses_are_known_then_weights_are_one_over_their_mean():
    losses = np.array([[0.2, 0.4, np.nan, 0.3], [0.1, 0.1, 0.1, 0.1]])
    weights = inverse_brier(losses, 1)
    assert weights[0].tolist() == pytest.approx([1.0, 1 / 0.2, 1 / 0.3, 1 / 0.3])
    assert weights[1].tolist() == pytest.approx([1.0, 10, 10, 10])


def test_greedy_when_one_agent_knows_then_it_is_picked_alone_after_the_first_month():
    rng = np.random.default_rng(1)
    happened = truth(rng, 300)
    knows = saying(np.where(happened.up, 0.7, 0.3))
    said = {"knows": knows, "noise": saying(rng.uniform(0.2, 0.8, 300))}
    weights = greedy(said, happened, np.ones(300, bool), H, every=100)
    assert (weights[:, :100] == 1).all()
    assert (weights[:, 100:] == [[pools.PICKS], [0]]).all()


def test_pools_when_agents_sleep_then_the_mean_is_of_the_others_and_nan_without_any():
    rng = np.random.default_rng(2)
    happened = truth(rng, 4)
    first, second = saying([0.6, np.nan, 0.6, np.nan]), saying([0.4, 0.4, np.nan, np.nan])
    found = pooled({"a": first, "b": second}, happened, np.ones(4, bool), H)[EQUAL_WEIGHT].p_up
    assert found[:3] == pytest.approx([0.5, 0.4, 0.6])
    assert np.isnan(found[3])


def test_pools_when_weights_are_given_then_quantiles_and_risks_follow_them():
    q = np.linspace(-1, 1, 13)
    said = {"a": saying([0.5], q, [0.1]), "b": saying([0.5], 3 * q, [0.5])}
    found = pools.mean_of(said, np.array([[3.0], [1.0]]))
    assert found.quantiles[0] == pytest.approx(1.5 * q)
    assert found.risk_down[0] == pytest.approx(0.2)
    assert np.isnan(found.risk_up[0])


def test_best_agent_when_climatology_is_best_then_the_best_of_the_others():
    rng = np.random.default_rng(3)
    happened = truth(rng, 500)
    said = {"climatology": saying(np.full(500, 0.5)), "bad": saying(rng.choice([0.1, 0.9], 500))}
    valid = np.ones(500, bool)
    assert pooled(said, happened, valid, H)[BEST_AGENT] is said["bad"]
    assert BEST_AGENT not in pooled({"climatology": said["climatology"]}, happened, valid, H)
    assert pooled({}, happened, valid, H) == {}
