"""Standard errors and comparisons of losses against other people's implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from domain.errors import UsageError
from sim.statistics.comparing import (
    block_bars,
    block_bootstrap,
    day_bars,
    diebold_mariano,
    dm_t,
    hac_lag,
    hac_se,
    ratio_bootstrap,
)

Floats = NDArray[np.float64]


def persistent(n: int, seed: int = 1, phi: float = 0.8) -> Floats:
    """(n,) an autoregression of order one around 0.3."""
    shocks = np.random.default_rng(seed).standard_normal(n)
    out = np.empty(n)
    out[0] = shocks[0]
    for t in range(1, n):
        out[t] = phi * out[t - 1] + shocks[t]
    return out + 0.3


def resample_means(x: Floats, block: int) -> Floats:
    """The mean of every resample there is: all starts of all blocks, the last one cut."""
    n = len(x)
    sizes = [block] * (n // block) + ([n % block] if n % block else [])
    sums = [[x[(s + np.arange(size)) % n].sum() for s in range(n)] for size in sizes]
    return np.array([sum(parts) for parts in itertools.product(*sums)]) / n


@pytest.mark.parametrize("lag", [0, 1, 7, 60])
def test_hac_se_when_the_series_is_correlated_then_it_is_that_of_statsmodels(lag: int) -> None:
    from statsmodels.regression.linear_model import OLS

    x = persistent(2000)
    fit = OLS(x, np.ones(len(x))).fit(
        cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False}
    )
    assert hac_se(x, lag) == pytest.approx(fit.bse[0], rel=1e-9)
    assert dm_t(x, lag) == pytest.approx(fit.tvalues[0], rel=1e-9)


def test_hac_se_when_rows_are_independent_and_the_lag_is_zero_then_it_is_sd_over_root_n() -> None:
    x = np.random.default_rng(2).standard_normal(500)
    assert hac_se(x, 0) == pytest.approx(x.std() / np.sqrt(500), rel=1e-12)


def test_hac_se_when_there_are_too_few_rows_or_gaps_then_it_refuses() -> None:
    with pytest.raises(UsageError, match="needs more than lag"):
        hac_se(np.ones(61), 60)
    with pytest.raises(UsageError, match="finite"):
        hac_se(np.array([1.0, np.nan, 2.0]), 0)


@pytest.mark.parametrize(
    ("horizon", "step", "lag", "block"),
    [(5, 300_000, 60, 288), (30, 300_000, 60, 288), (288, 300_000, 576, 576),
     (5, 3_600_000, 60, 24), (5, 86_400_000, 60, 10), (1, 604_800_000, 60, 2)],
)  # fmt: skip
def test_lag_and_block_when_bars_or_horizons_differ_then_they_hold_two_horizons_and_a_day(
    horizon: int, step: int, lag: int, block: int
) -> None:
    assert hac_lag(horizon) == lag
    assert block_bars(horizon, step) == block
    assert day_bars(step) == max(1, 86_400_000 // step)


def test_dm_t_when_labels_span_a_day_then_the_null_is_not_called_skill() -> None:
    rng = np.random.default_rng(17)
    ts: dict[int, list[float]] = {60: [], hac_lag(288): []}
    for _ in range(60):
        moves = np.cumsum(rng.standard_normal(16_288))
        gain = moves[288:] - moves[:-288]  # what a constant bet earns on labels of 288 bars
        for lag, found in ts.items():
            found.append(dm_t(gain, lag) or 0.0)
    assert np.std(ts[60]) > 1.6
    assert np.std(ts[576]) < 1.35


def test_dm_t_when_the_gain_does_not_vary_or_is_short_then_there_is_none() -> None:
    assert dm_t(np.full(500, 0.25)) is None
    assert dm_t(persistent(61)) is None
    assert dm_t(persistent(62)) is not None


def test_diebold_mariano_when_a_has_the_lower_loss_then_the_difference_is_positive() -> None:
    from statsmodels.regression.linear_model import OLS

    worse = np.abs(persistent(1500, seed=3)) + 0.2
    better = worse - 0.05 - 0.02 * persistent(1500, seed=4)
    result = diebold_mariano(better, worse, lag=12)
    fit = OLS(worse - better, np.ones(1500)).fit(
        cov_type="HAC", cov_kwds={"maxlags": 12, "use_correction": False}
    )
    assert result.n == 1500
    assert result.difference == pytest.approx((worse - better).mean(), rel=1e-12)
    assert result.difference > 0.0
    assert result.se == pytest.approx(fit.bse[0], rel=1e-9)
    assert result.p_value == pytest.approx(fit.pvalues[0], rel=1e-9)
    swapped = diebold_mariano(worse, better, lag=12)
    assert swapped.t == pytest.approx(-result.t if result.t else None, rel=1e-12)


def test_diebold_mariano_when_losses_are_equal_then_only_the_difference_is_known() -> None:
    result = diebold_mariano(np.ones(200), np.ones(200))
    assert (result.difference, result.se, result.t, result.p_value) == (0.0, None, None, None)


def test_diebold_mariano_when_columns_differ_in_length_then_it_refuses() -> None:
    with pytest.raises(UsageError, match="same rows"):
        diebold_mariano(np.ones(200), np.ones(201))


@pytest.mark.parametrize(("n", "block"), [(4, 2), (5, 2), (6, 3), (7, 3)])
def test_block_bootstrap_when_all_resamples_can_be_listed_then_it_has_their_spread(
    n: int, block: int
) -> None:
    x = persistent(n, seed=5)
    every = resample_means(x, block)
    drawn = block_bootstrap(x, block, resamples=100_000, seed=11, level=0.8)
    assert drawn is not None
    assert float(drawn.mean) == pytest.approx(x.mean(), rel=1e-12)
    assert float(drawn.se) == pytest.approx(every.std(), rel=0.01)
    for bound, share in ((float(drawn.lo), 0.1), (float(drawn.hi), 0.9)):
        assert (every < bound - 1e-9).mean() < share + 0.01
        assert (every < bound + 1e-9).mean() > share - 0.01


def test_block_bootstrap_when_compared_with_arch_then_errors_and_bounds_agree() -> None:
    from arch.bootstrap import CircularBlockBootstrap

    x = persistent(1300, seed=6)  # 1300 = 26 blocks of 48 and a rest of 52
    other = CircularBlockBootstrap(48, x, seed=8).apply(np.mean, 4000).ravel()
    drawn = block_bootstrap(x, 48, resamples=4000, seed=9)
    assert drawn is not None
    # The error of a standard deviation of 4000 draws is 1.1 %.
    assert float(drawn.se) == pytest.approx(other.std(ddof=1), rel=0.05)
    assert float(drawn.lo) == pytest.approx(np.quantile(other, 0.025), abs=0.1 * other.std())
    assert float(drawn.hi) == pytest.approx(np.quantile(other, 0.975), abs=0.1 * other.std())
    assert float(drawn.se) == pytest.approx(hac_se(x, 48), rel=0.2)


def test_block_bootstrap_when_given_columns_then_each_is_as_if_alone() -> None:
    x = np.column_stack([persistent(700, seed=k) for k in range(3)])
    together = block_bootstrap(x, 50, resamples=200)
    assert together is not None
    assert together.se.shape == (3,)
    for k in range(3):
        alone = block_bootstrap(x[:, k], 50, resamples=200)
        assert alone is not None
        assert (alone.mean, alone.se, alone.lo, alone.hi) == (
            together.mean[k], together.se[k], together.lo[k], together.hi[k],
        )  # fmt: skip


def test_block_bootstrap_when_there_are_fewer_than_two_blocks_then_it_says_nothing() -> None:
    assert block_bootstrap(persistent(99), 50) is None
    assert block_bootstrap(persistent(100), 50) is not None
    with pytest.raises(UsageError, match="finite"):
        block_bootstrap(np.array([1.0, np.inf, 2.0, 3.0]), 2)


def test_ratio_bootstrap_when_one_loss_is_a_multiple_then_it_is_sure_of_the_percentage() -> None:
    b = np.abs(persistent(600, seed=7))
    sure = ratio_bootstrap(0.97 * b, b, 30)
    assert sure is not None
    assert float(sure.mean) == pytest.approx(-3.0, abs=1e-9)
    assert float(sure.se) == pytest.approx(0.0, abs=1e-9)
    assert float(sure.lo) == pytest.approx(-3.0, abs=1e-9)


def test_ratio_bootstrap_when_losses_are_noisy_then_its_error_is_that_of_the_delta_method() -> None:
    rng = np.random.default_rng(12)
    b = np.abs(persistent(4000, seed=8)) + 1.0
    a = 0.9 * b + 0.1 * np.abs(rng.standard_normal(4000))
    drawn = ratio_bootstrap(a, b, 40, resamples=2000)
    assert drawn is not None
    ratio = a.mean() / b.mean()
    expected = 100.0 * hac_se((a - ratio * b) / b.mean(), 40)
    assert float(drawn.mean) == pytest.approx(100.0 * (ratio - 1.0), rel=1e-12)
    assert float(drawn.se) == pytest.approx(expected, rel=0.12)
    with pytest.raises(UsageError, match="reference loss"):
        ratio_bootstrap(a, -b, 40)
