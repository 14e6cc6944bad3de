"""Overfitting: against published figures, skfolio, and CSCV written out as in the paper."""

from itertools import combinations
from math import log

import numpy as np
import pytest
from scipy.stats import rankdata
from skfolio.measures import (
    deflated_sharpe_ratio,
    expected_max_sharpe_ratio,
    probabilistic_sharpe_ratio,
)

from domain.errors import UsageError
from sim.statistics.overfitting import (
    deflated_sharpe,
    expected_max_sharpe,
    pbo,
    probabilistic_sharpe,
)


def daily(n=400, mean=5e-4, seed=0):
    return np.random.default_rng(seed).standard_t(5, n) * 0.01 + mean


def slow_pbo(performance, blocks):
    """The paper's steps, one combination at a time."""
    parts = np.array_split(np.arange(len(performance)), blocks)
    logits, earned = [], []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in chosen])
        outside = np.setdiff1d(np.arange(len(performance)), inside)
        best = np.argmax(performance[inside].mean(axis=0))
        share = rankdata(performance[outside].mean(axis=0))[best] / (performance.shape[1] + 1)
        logits.append(log(share / (1 - share)))
        earned.append([performance[part].mean(axis=0)[best] for part in (inside, outside)])
    return np.array(logits), np.array(earned).T


@pytest.mark.parametrize(
    ("trials", "skew", "kurtosis", "published"), [(100, -3, 10, 0.9004), (46, -3, 10, 0.9505),
                                                  (88, 0, 3, 0.9505)],
)  # fmt: skip
def test_deflated_sharpe_when_the_paper_works_an_example_then_it_is_that(
    trials, skew, kurtosis, published
):
    # Bailey & López de Prado (2014): SR 2.5 a year, V ½ a year, five years of 250 days.
    luck = expected_max_sharpe(trials, 0.5 / 250)
    found = probabilistic_sharpe(2.5 / np.sqrt(250), luck, 1_250, skew, kurtosis)
    assert found == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize("mean", [-1e-3, 5e-4])
def test_deflated_sharpe_when_compared_with_skfolio_then_they_agree(mean):
    returns = daily(mean=mean)
    known = list(np.random.default_rng(1).normal(0, 0.09, 12))
    assert deflated_sharpe(returns, 12, known) == pytest.approx(
        deflated_sharpe_ratio(returns, known), abs=1e-12
    )
    assert deflated_sharpe(returns, 1) == pytest.approx(
        probabilistic_sharpe_ratio(returns), abs=1e-12
    )
    assert expected_max_sharpe(30, 0.2) == pytest.approx(
        expected_max_sharpe_ratio(30, np.sqrt(0.2)), abs=1e-12
    )


def test_deflated_sharpe_when_few_sharpes_are_known_then_chance_gives_their_variance():
    returns = daily()
    null = deflated_sharpe(returns, 40)
    assert deflated_sharpe(returns, 40, [0.1, -0.5, 0.3, 0.7]) == null
    assert deflated_sharpe(returns, 40, [0.06] * 30) == null  # reruns do not lower the bar
    assert deflated_sharpe(returns, 40, [0.1, -0.5, 0.3, 0.7, 0.0]) < null
    assert deflated_sharpe(returns, 400) < null < deflated_sharpe(returns, 1)


def test_deflated_sharpe_when_the_best_of_many_is_noise_then_it_is_seldom_believed():
    rng = np.random.default_rng(5)
    believed = 0
    for _ in range(100):
        tries = rng.normal(0, 0.01, (20, 250))
        sharpes = tries.mean(1) / tries.std(1, ddof=1)
        best = tries[np.argmax(sharpes)]
        believed += deflated_sharpe(best, 20, sharpes) > 0.95
        assert deflated_sharpe(best, 1) > 0.7  # undeflated, nearly all of them look real
    assert believed <= 5


def test_deflated_sharpe_when_nothing_varies_then_it_is_not_a_number():
    assert np.isnan(deflated_sharpe(np.zeros(60), 3))
    assert np.isnan(deflated_sharpe(np.array([0.1, 0.2]), 3))
    assert np.isnan(probabilistic_sharpe(1.0, 0.0, 10, skew=2.0, kurtosis=3.0))


@pytest.mark.parametrize(("rows", "many", "blocks"), [(60, 5, 6), (53, 4, 8), (80, 7, 8)])
def test_pbo_when_written_out_then_every_logit_agrees(rows, many, blocks):
    performance = np.random.default_rng(rows).normal(0.1, 1, (rows, many))
    found, (expected, earned) = pbo(performance, blocks), slow_pbo(performance, blocks)
    np.testing.assert_allclose(found.logits, expected, atol=1e-9)
    middle = np.isclose(expected, 0)
    assert found.probability == pytest.approx((expected[~middle] < 0).sum() / len(expected)
                                              + middle.mean() / 2)  # fmt: skip
    assert found.n_combinations == len(expected)
    assert found.slope == pytest.approx(np.polyfit(*earned, 1)[0])
    assert found.loss == (earned[1] < 0).mean()


def test_pbo_when_all_is_noise_then_it_is_a_half_on_average():
    rng = np.random.default_rng(2)
    for many in (6, 9):
        found = [pbo(rng.normal(size=(160, many)), 8).probability for _ in range(300)]
        assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(300))


def test_pbo_when_one_candidate_dominates_then_it_is_nil():
    performance = np.random.default_rng(3).normal(size=(365, 20))
    performance[:, 4] += 1.0
    found = pbo(performance)
    assert (found.probability, found.loss, found.n_combinations) == (0.0, 0.0, 12_870)
    np.testing.assert_allclose(found.logits, np.log(20))
    assert found.slope == pytest.approx(-1, abs=1e-3)  # both halves share one mean


def test_pbo_when_luck_changes_sides_then_it_is_certain():
    # Each candidate shines in one quarter of the time and pays for it in the others.
    performance = np.kron(np.eye(4) * 4 - 1.5, np.ones((10, 1)))
    performance += np.random.default_rng(4).normal(0, 1e-3, performance.shape)
    found = pbo(performance, 4)
    assert (found.probability, found.loss) == (1.0, 1.0)


def test_pbo_when_winners_tie_then_they_share_their_rank():
    performance = np.random.default_rng(8).normal(size=(64, 5))
    performance[:, 1] += 4.0
    performance[:, 3] = performance[:, 1]
    np.testing.assert_allclose(pbo(performance, 8).logits, np.log(4.5 / 1.5))


def test_pbo_when_candidates_are_the_same_then_nobody_wins_by_rounding():
    one = np.random.default_rng(6).normal(size=(77, 1))
    found = pbo(np.repeat(one, 7, axis=1), 8)
    assert found.probability == 0.5
    assert (found.logits == 0).all()
    assert pbo(np.zeros((20, 3)), 4).slope is None


@pytest.mark.parametrize(
    ("shape", "blocks"), [((30, 3), 5), ((30, 3), 22), ((30, 3), 0), ((10, 3), 16), ((30, 1), 4)]
)
def test_pbo_when_it_cannot_be_split_then_it_says_why(shape, blocks):
    with pytest.raises(UsageError, match="pbo"):
        pbo(np.ones(shape), blocks)


def test_statistics_when_a_value_makes_no_sense_then_they_say_why():
    with pytest.raises(UsageError, match="finite"):
        pbo(np.full((20, 3), np.nan), 4)
    with pytest.raises(UsageError, match="periods"):
        probabilistic_sharpe(0.1, 0.0, 1)
    with pytest.raises(UsageError, match="trial"):
        expected_max_sharpe(0, 0.1)
