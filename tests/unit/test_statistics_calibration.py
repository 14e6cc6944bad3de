"""Calibration measures against scikit-learn, scoringrules, statsmodels and simulated truth."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit, ndtr

from domain.canonical import plain
from sim.statistics.calibration import (
    OverlapDraws,
    brier_decomposition,
    calibration_line,
    calibration_slope,
    ece,
    ece_noise,
    reliability,
)

HORIZON = 5


def forecasts(n=3000, seed=1, scale=0.8):
    """p of a slow state plus noise, and outcomes of a too sure forecaster."""
    rng = np.random.default_rng(seed)
    p = expit(np.sin(np.arange(n) / 50) + rng.normal(0, 0.5, n))
    return p, rng.random(n) < expit(scale * logit(p) + 0.1)


def rounded(p):
    return np.round(p, 1)


def total(parts):
    return parts.reliability - parts.resolution + parts.uncertainty + parts.within


@pytest.mark.long
@pytest.mark.parametrize(
    ("p", "up"),
    [
        forecasts(),
        (rounded(forecasts()[0]), forecasts()[1]),
        (np.full(40, 0.3), np.arange(40) % 3 == 0),
        (np.array([0.2, 0.9, 0.4]), np.array([True, False, True])),
        (np.array([0.0, 1.0, 1.0, 0.5]), np.array([False, True, False, False])),
        (np.array([0.7]), np.array([True])),
        (np.linspace(0, 1, 50), np.ones(50, dtype=bool)),
    ],
    ids=["smooth", "ties", "constant", "few", "certain", "one row", "one class"],
)
def test_brier_decomposition_when_added_up_then_it_is_the_mean_brier_score(p, up):
    import scoringrules
    from sklearn.metrics import brier_score_loss

    parts = brier_decomposition(p, up)
    assert total(parts) == pytest.approx(brier_score_loss(up, p, labels=[0, 1]), abs=1e-12)
    whole = np.mean(scoringrules.brier_score(up.astype(float), p, backend="numpy"))
    assert total(parts) == pytest.approx(whole, abs=1e-12)
    assert parts.reliability >= 0
    assert parts.resolution >= 0


def test_brier_decomposition_when_worked_by_hand_then_every_part_is_as_defined():
    p = np.array([0.2, 0.4, 0.6, 0.8])
    up = np.array([False, True, True, True])
    parts = brier_decomposition(p, up, bins=2)  # bins {.2, .4} and {.6, .8}
    assert parts.reliability == pytest.approx(0.5 * (0.3 - 0.5) ** 2 + 0.5 * (0.7 - 1.0) ** 2)
    assert parts.resolution == pytest.approx(0.5 * (0.5 - 0.75) ** 2 + 0.5 * (1.0 - 0.75) ** 2)
    assert parts.uncertainty == pytest.approx(0.75 * 0.25)
    assert parts.within == pytest.approx(0.1**2 - 2 * 0.5 * (0.1 * 0.5))


def test_brier_decomposition_when_the_forecast_is_constant_then_nothing_is_resolved():
    up = np.arange(40) % 4 == 0
    parts = brier_decomposition(np.full(40, 0.3), up)
    assert (parts.resolution, parts.within) == (0.0, 0.0)
    assert parts.reliability == pytest.approx(0.05**2)


@pytest.mark.parametrize("p", [forecasts()[0], rounded(forecasts()[0]), forecasts()[0][:7]])
def test_reliability_when_compared_with_scikit_learn_then_the_points_agree(p):
    from sklearn.calibration import calibration_curve

    up = forecasts()[1][: len(p)]
    observed, forecast = calibration_curve(up, p, n_bins=10, strategy="quantile")
    bins = reliability(p, up, OverlapDraws.of(len(p), draws=3))
    np.testing.assert_allclose([b.forecast for b in bins], forecast, rtol=0, atol=1e-12)
    np.testing.assert_allclose([b.observed for b in bins], observed, rtol=0, atol=1e-12)
    assert sum(b.n for b in bins) == len(p)
    assert all(b.lo <= b.forecast <= b.hi for b in bins)


def test_reliability_when_forecasts_tie_then_equal_ones_share_a_bin():
    p = np.repeat([0.2, 0.5, 0.9], [30, 60, 10])
    bins = reliability(p, p > 0.4, OverlapDraws.of(100, draws=3))
    assert [(b.lo, b.hi, b.n) for b in bins] == [(0.2, 0.2, 30), (0.5, 0.5, 60), (0.9, 0.9, 10)]
    one = reliability(np.full(100, 0.51), p > 0.4, OverlapDraws.of(100, draws=3))
    assert [(b.lo, b.forecast, b.hi, b.n) for b in one] == [(0.51, 0.51, 0.51, 100)]


def test_overlap_draws_when_paths_overlap_then_correlations_fall_linearly_to_the_horizon():
    z = OverlapDraws.of(40_000, HORIZON, draws=5).z.astype(float)
    assert z.std() == pytest.approx(1.0, abs=0.01)
    for lag in (1, 3, 5, 8):
        measured = np.mean(z[:, lag:] * z[:, :-lag])
        assert measured == pytest.approx(max(0, 1 - lag / HORIZON), abs=0.02)


@pytest.mark.parametrize("p", [0.0, 0.02, 0.5, 0.9, 1.0])
def test_overlap_draws_when_a_probability_is_given_then_events_happen_that_often(p):
    n = 20_000
    (found,) = reliability(np.full(n, p), np.zeros(n, dtype=bool), OverlapDraws.of(n, draws=99))
    assert found.band_lo <= p <= found.band_hi
    width = found.band_hi - found.band_lo
    assert width <= 2 * 1.96 * np.sqrt(HORIZON * p * (1 - p) / n) * 1.25


def test_overlap_draws_when_rows_are_left_out_then_bands_and_noise_are_those_of_the_rest():
    draws = OverlapDraws.of(300, draws=39)
    mask = np.arange(300) % 7 > 1
    p, up = (column[mask] for column in forecasts(300))
    rest = draws.at(mask)
    events = ndtr(draws.z.astype(float))[:, mask] > 1 - p  # (draws, n), the definition itself
    error = np.zeros(39)
    for found in reliability(p, up, rest):
        inside = (p >= found.lo) & (p <= found.hi)
        observed = events[:, inside].mean(axis=1)
        band = np.quantile(observed, [0.025, 0.975], method="weibull")
        np.testing.assert_allclose((found.band_lo, found.band_hi), band)
        error += np.abs(observed - found.forecast) * inside.sum() / len(p)
    expected = (error.mean(), np.quantile(error, 0.95, method="weibull"))
    assert ece_noise(p, rest) == pytest.approx(expected)
    assert ece_noise(p, draws.at(np.flatnonzero(mask))) == ece_noise(p, rest)


def test_ece_noise_when_bins_differ_in_size_then_it_weighs_by_size():
    p = np.repeat([0.2, 0.6], [30, 10])
    draws = OverlapDraws.of(40, draws=19)
    events = ndtr(draws.z.astype(float)) > 1 - p
    error = [0.75 * abs(e[:30].mean() - 0.2) + 0.25 * abs(e[30:].mean() - 0.6) for e in events]
    assert ece_noise(p, draws)[0] == pytest.approx(np.mean(error))


def clipped(p):
    """Three rows that break a rule of probabilities."""
    return np.array([0.5, p, 0.5]), np.array([True, False, True])


@pytest.mark.parametrize("p", [np.nan, -0.01, 1.01])
def test_calibration_when_a_forecast_is_no_probability_then_it_is_refused(p):
    for measure in (brier_decomposition, ece, calibration_line, calibration_slope):
        with pytest.raises(ValueError, match="probabilities must lie in"):
            measure(*clipped(p))
    with pytest.raises(ValueError, match="probabilities must lie in"):
        reliability(*clipped(p), OverlapDraws.of(3, draws=2))


def test_calibration_when_shapes_disagree_then_it_is_refused():
    draws = OverlapDraws.of(3, draws=2)
    with pytest.raises(ValueError, match="must be"):
        ece([0.5, 0.5], [True])
    with pytest.raises(ValueError, match="do not fit 2 forecasts"):
        reliability([0.5, 0.5], [True, False], draws)
    with pytest.raises(ValueError, match="do not fit 2 forecasts"):
        ece_noise([0.5, 0.5], draws)
    with pytest.raises(ValueError, match="at least one bin"):
        ece([0.5, 0.5], [True, False], bins=0)
    with pytest.raises(ValueError, match="leave 0 to 2"):
        draws.at([0, 3])
    with pytest.raises(ValueError, match="does not fit a span of 3"):
        draws.at([True, False])
    with pytest.raises(ValueError, match="needed"):
        OverlapDraws.of(3, horizon=0)


def test_calibration_when_there_are_no_rows_then_there_is_nothing():
    none, draws = np.array([]), OverlapDraws.of(0)
    assert brier_decomposition(none, none) is None
    assert reliability(none, none, draws) == []
    assert ece(none, none) is None
    assert ece_noise(none, draws) is None
    assert calibration_line(none, none) is None


def test_calibration_when_made_plain_then_it_is_json_with_the_keys_of_the_scoreboard():
    p, up = forecasts(200)
    first, *_ = plain(reliability(p, up, OverlapDraws.of(200, draws=9)))
    assert list(first) == ["lo", "hi", "n", "forecast", "observed", "band_lo", "band_hi"]
    parts = plain(brier_decomposition(p, up))
    assert list(parts) == ["reliability", "resolution", "uncertainty", "within"]


def test_calibration_when_run_twice_then_every_number_is_the_same():
    p, up = forecasts(500)
    twice = [OverlapDraws.of(500, draws=30, seed=3) for _ in range(2)]
    assert reliability(p, up, twice[0]) == reliability(p, up, twice[1])
    assert ece_noise(p, twice[0]) == ece_noise(p, twice[1])
    assert ece_noise(p, OverlapDraws.of(500, draws=30, seed=4)) != ece_noise(p, twice[0])


def test_ece_when_compared_with_the_curve_of_scikit_learn_then_they_agree():
    from sklearn.calibration import calibration_curve

    p, up = forecasts(3000)  # 300 a bin
    observed, forecast = calibration_curve(up, p, n_bins=10, strategy="quantile")
    assert ece(p, up) == pytest.approx(np.abs(observed - forecast).mean(), abs=1e-12)


def test_ece_when_bins_differ_in_size_then_it_weighs_by_size():
    p = np.repeat([0.2, 0.6], [30, 10])
    up = np.repeat([True, False, True], [15, 15, 10])
    assert ece(p, up) == pytest.approx(0.75 * 0.3 + 0.25 * 0.4)


@pytest.fixture(scope="module")
def worlds():
    """Calibrated forecasts of overlapping sums that are not normal, and 80 histories.

    The event is that the sum of the next five exponential steps exceeds a threshold known
    before, so p is exact (Gamma) and nothing here is shared with the draws under test.
    """
    n = 3000
    level = ndtr(0.8 * np.sin(np.arange(n) / 40))
    limit = stats.gamma.ppf(level, HORIZON)
    rng = np.random.default_rng(11)
    steps = rng.exponential(size=(80, n + HORIZON - 1))
    sums = np.stack([np.convolve(row, np.ones(HORIZON), "valid") for row in steps])
    return 1.0 - level, sums > limit


def test_reliability_when_outcomes_overlap_then_its_bands_cover_and_naive_ones_do_not(worlds):
    p, histories = worlds
    share = {}
    for horizon in (HORIZON, 1):  # 1: as if outcomes were independent
        draws = OverlapDraws.of(len(p), horizon, draws=200)
        (low, high) = np.transpose(
            [(b.band_lo, b.band_hi) for b in reliability(p, histories[0], draws)]
        )
        seen = [[b.observed for b in reliability(p, up, _quick(draws))] for up in histories]
        share[horizon] = np.mean((low <= seen) & (seen <= high))
    assert share[HORIZON] == pytest.approx(0.95, abs=0.03)
    assert share[1] < 0.8


def test_ece_noise_when_outcomes_overlap_then_it_is_what_calibrated_forecasts_show(worlds):
    p, histories = worlds
    found = np.array([ece(p, up) for up in histories])
    mean, high = ece_noise(p, OverlapDraws.of(len(p), HORIZON, draws=200))
    assert found.mean() == pytest.approx(mean, rel=0.1)
    assert (found > high).mean() <= 0.12
    naive_mean, naive_high = ece_noise(p, OverlapDraws.of(len(p), 1, draws=200))
    assert naive_mean < 0.7 * mean
    assert (found > naive_high).mean() > 0.5


def _quick(draws):
    """Two of the paths: enough where only the points of the diagram are asked for."""
    return OverlapDraws(draws.z[:2], draws.rows)


def fitted(p, up, **how):
    from statsmodels.discrete.discrete_model import Logit

    x = np.column_stack([np.ones(len(p)), logit(p)])
    return Logit(up.astype(float), x).fit(disp=0, method="newton", tol=1e-12, **how)


def test_calibration_line_when_compared_with_statsmodels_then_line_and_error_agree():
    p, up = forecasts()
    line = calibration_line(p, up, lag=60)
    theirs = fitted(p, up, cov_type="HAC", cov_kwds={"maxlags": 60})
    np.testing.assert_allclose((line.intercept, line.slope), theirs.params, rtol=0, atol=1e-9)
    assert line.slope_se == pytest.approx(theirs.bse[1], abs=1e-9)
    assert calibration_slope(p, up) == line.slope
    white = fitted(p, up, cov_type="HC0")
    assert calibration_line(p, up, lag=0).slope_se == pytest.approx(white.bse[1], abs=1e-9)


def test_calibration_line_when_the_forecaster_is_too_sure_then_the_slope_is_below_one():
    p, up = forecasts(40_000, scale=0.5)
    line = calibration_line(p, up)
    assert line.slope == pytest.approx(0.5, abs=4 * line.slope_se)
    assert line.intercept == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(
    ("p", "up"),
    [
        (np.full(30, 0.6), np.arange(30) % 2 == 0),
        (np.linspace(0.1, 0.9, 30), np.ones(30, dtype=bool)),
        (np.linspace(0.1, 0.9, 30), np.linspace(0.1, 0.9, 30) > 0.5),
        (np.array([0.2, 0.8]), np.array([True, False])),
    ],
    ids=["constant", "one class", "separated", "two rows"],
)
def test_calibration_line_when_there_is_nothing_to_fit_then_it_is_none(p, up):
    assert calibration_line(p, up) is None
    assert calibration_slope(p, up) is None
