import math
from itertools import pairwise

import numpy as np
import pytest
from consensus_cases import MEMBERS, SYMBOL, T0, TIMEFRAME, opinion, quantiles
from hypothesis import given
from hypothesis import strategies as st

from consensus.admission import admit
from consensus.explain import FUSION, contributions
from consensus.fusion import fuse, learnt_for
from consensus.intervals import distribution
from consensus.learnt import Learnt
from consensus.pooling import (
    BOA_POOL,
    BRIER_POOL,
    CONSTANT,
    DEBATED,
    EQUAL_POOL,
    RECALIBRATED,
    STACKED,
    agents_of,
    aggregate,
    calibrated,
    candidate_pools,
    log_pool,
    logit,
)
from consensus.publish import publish
from consensus.scoring import Fold
from consensus.settings import CouncilSettings
from consensus.weights import brier_weights
from domain.quantiles import QuantileTable

SETTINGS = CouncilSettings(members=MEMBERS)
names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
chances = st.dictionaries(names, st.floats(0.02, 0.98), min_size=1)
losses = st.dictionaries(names, st.floats(-500, 500), min_size=1)


def fused(opinions, at_losses=None, absent=None, settings=SETTINGS):
    admission = admit(SYMBOL, TIMEFRAME, T0, opinions, absent or {}, settings)
    losses = at_losses or dict.fromkeys(settings.members, 0.0)
    learnt = learnt_for(admission, losses, Fold(settings), 0)
    return fuse(SYMBOL, TIMEFRAME, T0, admission, learnt, settings)


@given(losses, st.floats(0, 4), st.floats(0, 1))
def test_weights_when_losses_are_any_then_they_sum_to_one_and_keep_the_floor(loss, eta, floor):
    weights = brier_weights(loss, eta, floor)
    assert math.fsum(weights.values()) == pytest.approx(1.0, abs=1e-12)
    assert min(weights.values()) >= floor / len(loss) * (1 - 1e-12)
    assert list(weights) == sorted(loss)


@given(st.sets(names, min_size=1), st.floats(-100, 100), st.floats(0, 2))
def test_weights_when_losses_and_priors_are_equal_then_weights_are_equal(agents, loss, eta):
    weights = brier_weights(dict.fromkeys(agents, loss), eta, 1e-3)
    assert set(weights.values()) == {weights[min(agents)]}
    assert weights[min(agents)] == pytest.approx(1 / len(agents))


@given(losses)
def test_weights_when_one_loses_less_then_it_weighs_no_less(loss):
    weights = brier_weights(loss, 1.0, 1e-3)
    ranked = sorted(loss, key=lambda agent: loss[agent])
    assert all(weights[a] >= weights[b] - 1e-15 for a, b in pairwise(ranked))


def test_weights_when_losses_are_known_then_they_follow_the_formula():
    weights = brier_weights({"a": 0.0, "b": math.log(3)}, eta=1.0, floor=0.1)
    assert weights["a"] == pytest.approx(0.9 * 0.75 + 0.05)
    priors = brier_weights({"a": 5.0, "b": 5.0}, 1.0, 0.0, {"a": 3.0, "b": 1.0})
    assert priors == {"a": 0.75, "b": 0.25}


def test_weights_when_there_are_no_agents_then_there_are_none():
    assert brier_weights({}, 1.0, 1e-3) == {}


@given(chances, st.data())
def test_log_pool_when_inputs_are_any_then_it_lies_between_them_in_any_order(p, data):
    raw = {agent: data.draw(st.floats(0, 1)) + 1e-6 for agent in p}
    weights = {agent: w / math.fsum(raw.values()) for agent, w in raw.items()}
    pooled = log_pool(p, weights)
    assert min(p.values()) <= pooled <= max(p.values())
    shuffled = dict(data.draw(st.permutations(list(p.items()))))
    assert log_pool(shuffled, weights) == pooled


def test_log_pool_when_two_are_symmetric_then_it_is_one_half():
    assert log_pool({"a": 0.9, "b": 0.1}, {"a": 0.5, "b": 0.5}) == pytest.approx(0.5, abs=1e-15)


def said(p, weights, debated=None, **learnt):
    usual = {"losses": {}, "stack": dict.fromkeys(p, 0.5)}
    after = debated or p
    return candidate_pools(p, weights, Learnt(**(usual | learnt)), 0.52, after, (0.02, 0.98))


def test_candidates_when_made_then_every_pool_is_what_its_name_says():
    p = {"a": 0.7, "b": 0.4}
    debated, weights = {"a": 0.6, "b": 0.45}, {"a": 0.9, "b": 0.1}
    candidates = said(p, weights, debated, stack={"a": 1.0, "b": -0.5}, platt=(0.1, 0.5), base=0.48)
    assert candidates[BOA_POOL] == 0.52
    assert logit(candidates[STACKED]) == pytest.approx(logit(0.7) - 0.5 * logit(0.4))
    assert logit(candidates[RECALIBRATED]) == pytest.approx(
        0.1 + 0.5 * logit(candidates[BRIER_POOL])
    )
    assert candidates[CONSTANT] == 0.48
    assert candidates[DEBATED] == log_pool(debated, weights)
    assert said(p, weights)[DEBATED] == candidates[BRIER_POOL]
    assert agents_of(candidates) == p
    assert logit(candidates[EQUAL_POOL]) == pytest.approx(logit(0.7) / 2 + logit(0.4) / 2)
    assert logit(candidates[BRIER_POOL]) == pytest.approx(0.9 * logit(0.7) + 0.1 * logit(0.4))


@given(chances, st.data())
def test_published_when_candidates_are_any_then_it_lies_between_them(p, data):
    candidates = said(p, dict.fromkeys(p, 1 / len(p)))
    mixture = {name: data.draw(st.floats(-50, 50)) for name in candidates}
    published, shares = publish(candidates, mixture)
    assert min(candidates.values()) <= published <= max(candidates.values())
    assert math.fsum(shares.values()) == pytest.approx(1.0)
    assert shares.keys() == candidates.keys()


@given(chances, st.floats(0.02, 0.98), losses)
def test_contributions_when_p_is_anything_then_they_sum_to_its_logit(p, published, loss):
    weights = brier_weights({agent: loss.get(agent, 0.0) for agent in p}, 0.01, 1e-3)
    parts = contributions(published, p, weights)
    assert math.fsum(parts.values()) == pytest.approx(logit(published), abs=1e-12)
    assert parts.keys() == p.keys() | {FUSION}


rows = st.lists(st.floats(-0.05, 0.05), min_size=13, max_size=13)


@given(st.lists(rows, min_size=1, max_size=4))
def test_aggregate_when_rows_are_any_then_between_them_and_monotone(many):
    stack = np.sort(np.array(many), axis=1)
    pooled = aggregate(stack, np.full(stack.shape, 1 / len(many)))
    assert np.all(np.diff(pooled) >= -1e-15)
    assert np.all(pooled >= stack.min(axis=0))
    assert np.all(pooled <= stack.max(axis=0))


def test_aggregate_when_somebody_is_silent_then_the_others_and_nan_where_nobody_speaks():
    stack = np.array([[0.1, np.nan, np.nan], [0.3, 0.2, np.nan]])
    weights = np.array([[0.75, 0.0, 0.0], [0.25, 1.0, 0.0]])
    pooled = aggregate(stack, weights)
    assert pooled[:2] == pytest.approx([0.15, 0.2])
    assert np.isnan(pooled[2])


@given(rows, st.none() | st.floats(1e-4, 1e-2), rows)
def test_distribution_when_quantiles_are_any_then_it_is_monotone_and_coherent(pooled, sigma, theta):
    spread = distribution(sorted(pooled), sigma, theta)
    assert np.all(np.diff(spread.quantiles.values) >= 0)
    assert spread.mean_abs >= abs(spread.mean) - 1e-12
    assert 0 <= spread.p_up <= 1
    table = QuantileTable.of(spread.quantiles.levels, spread.quantiles.values)
    assert spread.mean == pytest.approx(float(table.mean()[0]), abs=1e-15)
    assert 1 - spread.p_up == pytest.approx(float(table.cdf(0.0)[0]), abs=1e-12)
    assert spread.mean_abs == pytest.approx(float(table.mean_abs()[0]), abs=1e-15)


def test_distribution_when_the_tracker_moved_levels_then_they_are_where_it_says():
    q = np.array(quantiles().values)
    spread = distribution(q, 2e-3, np.linspace(-0.1, 0.1, 13))
    np.testing.assert_allclose(spread.quantiles.values, q + 2e-3 * np.linspace(-0.1, 0.1, 13))
    assert distribution(q, None, np.ones(13)).quantiles.values == tuple(q)


@given(st.floats(0, 1), st.floats(-2, 2), st.floats(0.1, 3))
def test_calibrated_when_a_risk_is_any_then_a_probability_and_the_identity_changes_nothing(x, a, b):
    assert calibrated(x, (0.0, 1.0)) == x
    assert 0.0 <= calibrated(x, (a, b)) <= 1.0
    assert calibrated(None, (a, b)) is None


@given(st.permutations(["a", "b", "c", "climatology"]))
def test_fuse_when_opinions_are_permuted_then_the_consensus_is_the_same_to_the_bit(order):
    def said(agents):
        numbered = {agent: i for i, agent in enumerate(sorted(agents))}
        return [
            opinion(a, 0.5 + 0.013 * numbered[a], 0, quantiles(1e-4 * numbered[a])) for a in agents
        ]

    loss = {"a": 0.1, "b": -0.3, "c": 0.7, "climatology": 0.0}
    assert fused(said(order), loss) == fused(said(sorted(order)), loss)


def test_fuse_when_some_members_sleep_then_the_quorum_is_the_weight_of_the_awake():
    loss = {"a": 0.0, "b": 0.0, "c": 0.0, "climatology": 0.0}
    result = fused([opinion("a"), opinion("climatology", 0.5)], loss)
    assert result is not None
    assert result.quorum == pytest.approx(0.5)
    assert result.forecasters == 1
    assert result.weights == {"a": 0.5, "climatology": 0.5}


def test_fuse_when_an_agent_is_no_member_then_it_is_in_no_pool():
    with_stranger = fused([opinion("a", 0.6), opinion("stranger", 0.9)])
    alone = fused([opinion("a", 0.6)])
    assert with_stranger is not None
    assert alone is not None
    assert 0.5 < with_stranger.p_up == alone.p_up <= 0.6
    assert "stranger" not in with_stranger.weights
    assert {x.agent for x in with_stranger.opinions} == {"a", "stranger"}


def test_fuse_when_a_member_forecasts_risk_only_then_it_joins_that_pool_and_the_quorum():
    risk_only = opinion("b", None, q=None, risk_down=0.5, risk_up=None)
    result = fused([opinion("a", 0.6, risk_down=0.1, risk_up=0.2), risk_only])
    assert result is not None
    assert (result.risk_down, result.risk_up) == (pytest.approx(0.3), pytest.approx(0.2))
    assert result.weights == {"a": 1.0}
    assert result.quorum == pytest.approx(0.5)
    assert result.forecasters == 1


def test_fuse_when_nobody_gives_quantiles_then_returns_are_unknown():
    result = fused([opinion("a", 0.6, q=None)])
    assert result is not None
    assert result.quantiles is None
    assert result.expected_return is None
    assert result.mean_abs_return is None
    assert result.coherence_gap is None


def test_fuse_when_nobody_has_a_direction_then_there_is_no_consensus():
    assert fused([]) is None
    assert fused([opinion("stranger")]) is None


def test_fuse_when_agents_differ_then_dispersion_is_their_weighted_deviation():
    result = fused([opinion("a", 0.4), opinion("b", 0.6)])
    assert result is not None
    assert result.dispersion == pytest.approx(0.1)
    assert result.coherence_gap == pytest.approx(0.0, abs=1e-12)
