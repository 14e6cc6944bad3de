"""Distribution measures against scoringrules, closed forms, simulated truth and sums by hand."""

import numpy as np
import pytest
from scipy import stats

from domain.canonical import plain
from domain.quantiles import CANONICAL_LEVELS, QuantileTable
from domain.times import DAY_MS, parse_iso
from sim.statistics.calibration import OverlapDraws
from sim.statistics.distribution import (
    Covered,
    coverage,
    coverage_by_block,
    coverage_by_month,
    coverage_by_tercile,
    crps,
    pit,
    pit_histogram,
    qlike,
    risk_coverage,
    rolling_coverage,
    thinned,
)

HORIZON = 5
HOUR = 3_600_000
START = parse_iso("2024-11-01")


def normals(n, levels=CANONICAL_LEVELS, seed=1):
    """Quantiles of n normals, outcomes drawn from them, their means and deviations."""
    rng = np.random.default_rng(seed)
    mean, sigma = rng.normal(0, 0.3, n), np.exp(rng.normal(0, 0.5, n))
    values = mean[:, None] + sigma[:, None] * stats.norm.ppf(levels)
    return values, mean + sigma * rng.standard_normal(n), mean, sigma


@pytest.mark.long
def test_crps_when_compared_with_scoringrules_then_it_agrees_on_the_same_levels():
    import scoringrules

    values, r, _, _ = normals(5000)  # more than one chunk
    u = (np.arange(100) + 0.5) / 100
    q = QuantileTable.of(CANONICAL_LEVELS, values).ppf(u)
    ours = crps(CANONICAL_LEVELS, values, r)
    theirs = scoringrules.crps_quantile(r, q, u, backend="numpy")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    each = [scoringrules.quantile_score(r, q[:, k], u[k], backend="numpy") for k in range(100)]
    np.testing.assert_allclose(ours, 2 * np.mean(each, axis=0), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("levels", "row", "average"),
    [(np.arange(1, 200) / 200, 0.003, 2e-4), (np.array(CANONICAL_LEVELS), 0.02, 1e-3)],
    ids=["dense", "canonical"],
)
def test_crps_when_forecasts_are_normal_then_it_is_near_the_closed_form(levels, row, average):
    values, r, mean, sigma = normals(5000, levels)
    z = (r - mean) / sigma
    exact = sigma * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi**-0.5)
    ours = crps(levels, values, r)
    assert np.abs((ours - exact) / sigma).max() < row
    assert ours.mean() == pytest.approx(exact.mean(), rel=average)


def test_crps_when_the_forecast_is_a_point_then_it_is_the_absolute_error():
    np.testing.assert_allclose(crps([0.1, 0.5, 0.9], np.full((2, 3), 0.4), [1.0, 0.1]), [0.6, 0.3])


def test_crps_when_quantiles_cross_then_they_are_sorted_first():
    straight = crps([0.1, 0.5, 0.9], [[-1.0, 0.0, 1.0]], [0.3])
    assert crps([0.1, 0.5, 0.9], [[1.0, -1.0, 0.0]], [0.3]) == straight


@pytest.mark.parametrize("measure", [crps, pit])
def test_distribution_when_input_does_not_fit_then_it_is_refused(measure):
    levels = [0.1, 0.9]
    with pytest.raises(ValueError, match="do not fit outcomes"):
        measure(levels, np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="must be finite"):
        measure(levels, np.array([[0.0, np.nan]]), np.zeros(1))
    with pytest.raises(ValueError, match="must be finite"):
        measure(levels, np.zeros((1, 2)), np.array([np.inf]))
    with pytest.raises(ValueError, match="increase strictly"):
        measure([0.9, 0.1], np.zeros((1, 2)), np.zeros(1))
    assert measure(levels, np.zeros((0, 2)), np.zeros(0)).shape == (0,)


def test_crps_when_no_level_is_asked_for_then_it_is_refused():
    with pytest.raises(ValueError, match="at least one level"):
        crps([0.1, 0.9], np.zeros((1, 2)), np.zeros(1), points=0)


def test_pit_when_forecasts_are_right_then_it_is_the_level_reached():
    levels = np.arange(1, 200) / 200
    values, r, mean, sigma = normals(2000, levels)
    np.testing.assert_allclose(pit(levels, values, r), stats.norm.cdf(r, mean, sigma), atol=2e-3)
    np.testing.assert_allclose(pit(levels, values, values[:, 49]), 0.25, atol=1e-12)


def test_pit_when_the_outcome_is_far_out_then_it_stays_between_nought_and_one():
    r = np.concatenate([-np.logspace(0, 9, 20_000), np.logspace(0, 9, 20_000)])
    u = pit([0.1, 0.5, 0.9], np.tile([-0.1, 0.0, 0.1], (len(r), 1)), r)
    assert (u.min(), u.max()) == (0.0, 1.0)
    assert sum(pit_histogram(u, OverlapDraws.of(len(r), draws=2)).counts) == len(r)


@pytest.fixture(scope="module")
def uniforms():
    """Calibrated PIT values of overlapping sums of exponential steps: 200 histories."""
    steps = np.random.default_rng(12).exponential(size=(200, 2000 + HORIZON - 1))
    sums = [np.convolve(row, np.ones(HORIZON), "valid") for row in steps]
    return stats.gamma.cdf(sums, HORIZON)


def test_pit_histogram_when_outcomes_overlap_then_its_bands_cover_and_naive_ones_do_not(uniforms):
    share, tails = {}, {}
    for horizon in (HORIZON, 1):  # 1: as if outcomes were independent
        draws = OverlapDraws.of(2000, horizon, draws=200)
        made = [pit_histogram(u, OverlapDraws(draws.z[:2], draws.rows)) for u in uniforms]
        counts = np.array([h.counts for h in made])
        band = pit_histogram(uniforms[0], draws)
        share[horizon] = np.mean((band.band_lo <= counts) & (counts <= band.band_hi))
        inside = (band.lows <= counts) & (counts <= band.highs)
        tails[horizon] = inside[:, [0, -1]].mean()
    assert share[HORIZON] == pytest.approx(0.95, abs=0.02)
    assert tails[HORIZON] == pytest.approx(0.95, abs=0.04)
    assert share[1] < 0.93
    assert tails[1] < 0.8  # where the dependence is strongest, and where one looks first


def test_pit_histogram_when_neighbours_stay_in_the_tails_then_the_outer_bands_are_wider():
    found = pit_histogram(np.full(4000, 0.5), OverlapDraws.of(4000, HORIZON, draws=200))
    width = np.subtract(found.highs, found.lows)
    assert min(width[0], width[-1]) > 1.3 * width[5:15].mean()
    assert found.lows == found.lows[::-1]


def test_pit_histogram_when_rows_are_left_out_then_the_bands_are_those_of_the_rest():
    draws = OverlapDraws.of(400, draws=39)
    mask = np.arange(400) % 5 > 1
    simulated = stats.norm.cdf(draws.z[:, mask].astype(float))
    counts = np.array([np.histogram(row, bins=4, range=(0, 1))[0] for row in simulated])
    both = np.concatenate([counts, counts[:, ::-1]])
    found = pit_histogram(np.full(mask.sum(), 0.5), draws.at(mask), bins=4)
    bands = np.quantile(both, [0.025, 0.975], axis=0, method="weibull")
    np.testing.assert_allclose((found.lows, found.highs), bands)
    pooled = np.quantile(both, [0.025, 0.975], method="weibull")
    np.testing.assert_allclose((found.band_lo, found.band_hi), pooled)


def test_pit_histogram_when_values_lie_on_edges_then_they_count_as_in_numpy():
    u = np.array([0.0, 0.25, 0.5, 0.74, 1.0, 1.0])
    found = pit_histogram(u, OverlapDraws.of(6, draws=3), bins=4)
    assert list(found.counts) == np.histogram(u, bins=4, range=(0, 1))[0].tolist()
    assert found.n == 6


def test_pit_histogram_when_there_are_no_rows_then_every_count_is_nought():
    found = pit_histogram([], OverlapDraws.of(0))
    assert (found.counts, found.n, found.band_lo, found.band_hi) == ((0,) * 20, 0, 0.0, 0.0)


def test_pit_histogram_when_values_are_wrong_then_they_are_refused():
    for bad in (np.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="must lie in"):
            pit_histogram([0.5, bad], OverlapDraws.of(2, draws=2))
    with pytest.raises(ValueError, match="do not fit draws for 3 rows"):
        pit_histogram([0.5], OverlapDraws.of(3, draws=2))


def test_qlike_when_worked_by_hand_then_it_is_least_at_the_true_variance():
    np.testing.assert_allclose(qlike([2.0, 1.0], [4.0, 0.0]), [np.log(4) + 1, 0.0])
    sigma = np.linspace(0.5, 3, 251)
    assert sigma[qlike(sigma, np.full(251, 2.25)).argmin()] == pytest.approx(1.5)


@pytest.mark.parametrize(("sigma", "rv"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (np.nan, 1.0)])
def test_qlike_when_a_variance_makes_no_sense_then_it_is_refused(sigma, rv):
    with pytest.raises(ValueError, match="leave other rows out"):
        qlike([1.0, sigma], [1.0, rv])


def test_coverage_by_tercile_when_volatility_varies_then_each_third_is_counted():
    volatility = np.array([5.0, 1.0, 3.0, 6.0, 2.0, 4.0])
    hit = np.array([True, True, False, False, True, True])
    assert coverage_by_tercile(hit, volatility) == [
        Covered("low", 2, 1.0), Covered("middle", 2, 0.5), Covered("high", 2, 0.5),
    ]  # fmt: skip


def test_coverage_by_tercile_when_volatility_is_constant_then_all_rows_are_low():
    found = coverage_by_tercile([True, False], [2.0, 2.0])
    assert found == [Covered("low", 2, 0.5), Covered("middle", 0, None), Covered("high", 0, None)]
    assert [c.n for c in coverage_by_tercile([], [])] == [0, 0, 0]


def test_coverage_by_block_when_the_hour_is_on_an_edge_then_it_opens_the_next_block():
    minute = HOUR // 60
    at = START + np.array([0, 6 * HOUR - minute, 6 * HOUR, 12 * HOUR - minute, 12 * HOUR,
                           24 * HOUR - minute, 24 * HOUR])  # fmt: skip
    hit = [True, False, True, True, False, False, True]
    assert coverage_by_block(hit, at) == [
        Covered("00–06", 3, 2 / 3), Covered("06–12", 2, 1.0), Covered("12–18", 1, 0.0),
        Covered("18–24", 1, 0.0),
    ]  # fmt: skip


def test_coverage_by_month_when_a_month_has_no_row_then_it_is_left_out():
    at = [parse_iso(day) for day in ("2024-11-30T23:55:00Z", "2025-01-01", "2025-01-31T23:55:00Z")]
    assert coverage_by_month([True, True, False], at) == [
        Covered("2024-11", 1, 1.0), Covered("2025-01", 2, 0.5),
    ]  # fmt: skip
    assert coverage_by_month([], []) == []


@pytest.mark.long
def test_coverage_when_grouped_then_every_grouping_holds_every_row():
    rng = np.random.default_rng(3)
    ts = START + HOUR * np.arange(24 * 90)
    hit, volatility = rng.random(len(ts)) < 0.8, rng.exponential(size=len(ts))
    found = coverage(hit, ts, volatility)
    for group in (found.terciles, found.blocks, found.months):
        assert sum(c.n for c in group) == len(ts)
        assert sum(c.n * c.coverage for c in group) == pytest.approx(hit.sum())
    assert [c.n for c in found.terciles] == [720, 720, 720]
    made = plain(found)
    assert list(made) == ["terciles", "blocks", "months", "rolling"]
    assert list(made["rolling"][0]) == ["at", "n", "coverage"]


def test_coverage_when_shapes_disagree_then_it_is_refused():
    with pytest.raises(ValueError, match="alike"):
        coverage_by_tercile([True, False], [1.0])
    with pytest.raises(ValueError, match="alike"):
        coverage_by_block([True, False], [START])
    with pytest.raises(ValueError, match="must be finite"):
        coverage_by_tercile([True, False], [1.0, np.nan])
    with pytest.raises(ValueError, match="must increase"):
        rolling_coverage([START, START], [True, False])


def test_rolling_coverage_when_compared_with_pandas_then_the_windows_agree():
    import pandas as pd

    rng = np.random.default_rng(4)
    ts = START + HOUR * np.flatnonzero(rng.random(24 * 100) < 0.9)  # with gaps
    hit = rng.random(len(ts)) < 0.8
    series = pd.Series(hit.astype(float), index=pd.to_datetime(ts, unit="ms", utc=True))
    window = series.rolling("30D")
    means, counts = window.mean(), window.count()
    found = rolling_coverage(ts, hit)
    assert len(found) == 120
    for point in found:
        assert point.coverage == pytest.approx(means[pd.Timestamp(point.at)], abs=1e-12)
        assert point.n == counts[pd.Timestamp(point.at)]
    assert parse_iso(found[-1].at) == ts[-1]
    assert parse_iso(found[0].at) == ts[ts >= ts[0] + 30 * DAY_MS][0]


def test_rolling_coverage_when_the_rows_span_less_than_the_window_then_it_is_empty():
    ts = START + HOUR * np.arange(48)
    assert rolling_coverage(ts, np.ones(48, dtype=bool)) == []
    assert rolling_coverage([], []) == []
    assert len(rolling_coverage(ts, np.ones(48, dtype=bool), days=1, points=5)) == 5


def test_risk_coverage_when_the_surest_rows_are_best_then_gain_rises_as_the_share_falls():
    confidence = np.array([0.1, 0.4, 0.3, 0.2])
    gain, hit = confidence * 10, confidence > 0.15
    found = risk_coverage(confidence, gain, hit, shares=(1.0, 0.5, 0.25))
    assert [(s.share, s.n) for s in found] == [(1.0, 4), (0.5, 2), (0.25, 1)]
    np.testing.assert_allclose([s.gain for s in found], [2.5, 3.5, 4.0])
    np.testing.assert_allclose([s.accuracy for s in found], [0.75, 1.0, 1.0])


def test_risk_coverage_when_confidences_tie_then_it_is_the_mean_over_all_choices():
    from itertools import combinations

    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    gain, hit = np.array([1.0, 2.0, 4.0, 9.0, 50.0]), np.array([1, 0, 1, 1, 0], dtype=bool)
    (found,) = risk_coverage(confidence, gain, hit, shares=(0.6,))
    ways = [[0, *pair] for pair in combinations([1, 2, 3], 2)]
    assert found.gain == pytest.approx(np.mean([gain[w].mean() for w in ways]))
    assert found.accuracy == pytest.approx(np.mean([hit[w].mean() for w in ways]))
    (backwards,) = risk_coverage(confidence[::-1], gain[::-1], hit[::-1], shares=(0.6,))
    assert backwards.gain == pytest.approx(found.gain)


def test_risk_coverage_when_rows_are_few_then_one_is_kept_at_least():
    assert [s.n for s in risk_coverage([0.1, 0.2], [1.0, 2.0], [True, False])] == [2] + [1] * 6
    rows = np.arange(100)
    assert [s.n for s in risk_coverage(rows, rows, rows > 3, (0.07, 0.065))] == [7, 7]
    assert risk_coverage([], [], []) == []


def test_risk_coverage_when_a_share_or_a_number_is_wrong_then_it_is_refused():
    with pytest.raises(ValueError, match="shares must lie in"):
        risk_coverage([0.1], [1.0], [True], shares=(0.0,))
    with pytest.raises(ValueError, match="must be finite"):
        risk_coverage([np.nan], [1.0], [True])


def test_thinned_when_there_are_many_rows_then_first_and_last_stay_and_steps_are_even():
    rows = thinned(105_000)
    assert (len(rows), rows[0], rows[-1]) == (120, 0, 104_999)
    assert set(np.diff(rows).tolist()) <= {882, 883}
    assert thinned(5).tolist() == [0, 1, 2, 3, 4]
    assert thinned(0).tolist() == []
    assert thinned(9, points=1).tolist() == [8]
    with pytest.raises(ValueError, match="at least one point"):
        thinned(9, points=0)
