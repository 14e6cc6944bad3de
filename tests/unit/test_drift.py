"""Drift statistics: right by definition and by oracle, quiet without drift, quick with it."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from domain.quantiles import CANONICAL_LEVELS
from domain.times import DAY_MS
from sim.drift import (
    LIMIT,
    DayScore,
    Reference,
    brier_z,
    coverage,
    day_scores,
    drift_of,
    ks,
    page,
    psi,
)
from sim.feature_drift import CALENDAR, INSIDE, LEVELS, PSI_MAJOR

Floats = NDArray[np.float64]
STEP = 300_000
NAMES = ("ret_0", "rsi_14", "log_s", "tod_sin_1")


def knots_of(values: Floats) -> Floats:
    return np.quantile(values, LEVELS)


def rows(seed: int, n: int, scale: float = 1.0) -> Floats:
    """Two quick columns, one that wanders for days, and a clock."""
    rng = np.random.default_rng(seed)
    slow = stats.zscore(np.convolve(rng.standard_normal(n + 2_000), np.ones(2_000), "valid")[:n])
    clock = np.sin(2 * np.pi * np.arange(n) / 288)
    return np.column_stack([rng.standard_normal(n), rng.random(n) - 0.5, slow, clock]) * scale


def stamps(n: int) -> NDArray[np.int64]:
    return np.arange(n, dtype=np.int64) * STEP + 20_000 * DAY_MS


@lru_cache
def reference() -> Reference:
    n = 20 * 1_440
    return Reference.of(
        NAMES, rows(1, n), stamps(n), symbol="BTC/USDT", timeframe="5m", window=1_440
    )


def forecasts(seed: int, days: int, horizon: int = 5) -> tuple[Floats, Floats, Floats]:
    """p, outcome and σ of a calibrated forecaster on overlapping labels of ``horizon`` bars."""
    rng = np.random.default_rng(seed)
    n = days * 288
    drift = 0.05 * rng.standard_normal(n + horizon)
    returns = drift + rng.standard_normal(n + horizon)
    known, r = (np.convolve(x[1:], np.ones(horizon), "valid") for x in (drift, returns))
    p = stats.norm.cdf(known / math.sqrt(horizon))
    return p, r, np.full(n, math.sqrt(horizon))


def board(p: Floats, r: Floats, sigma: Floats, width: float = 1.0, **changes: Any) -> Any:
    quantiles = width * sigma[:, None] * stats.norm.ppf(CANONICAL_LEVELS)[None, :]
    given = {"reference": None, "features": rows(5, len(p)), **changes}
    return drift_of(
        given["reference"], given["features"], p, r > 0, quantiles, r, stamps(len(p)), names=NAMES
    )


# Features


def test_psi_when_counted_by_hand_then_it_is_the_sum_over_decile_bins() -> None:
    base = np.random.default_rng(0).standard_normal(5_000)
    moved = np.random.default_rng(1).standard_normal(3_000) * 1.3 + 0.2
    knots = knots_of(base)

    shares = np.histogram(moved, [-np.inf, *knots[2:-2:2], np.inf])[0] / len(moved)
    expected = ((shares - 0.1) * np.log(shares / 0.1)).sum()

    assert psi(knots, moved) == pytest.approx(expected, abs=1e-12)
    assert psi(knots, base) < 1e-4


def test_psi_when_bins_are_empty_or_coincide_then_it_is_large_and_finite() -> None:
    base = np.random.default_rng(0).standard_normal(5_000)
    clipped = np.clip(base, 0.0, 1.0)  # half of it at 0, a sixth at 1

    assert 5.0 < psi(knots_of(base), base + 50.0) < 20.0
    assert psi(knots_of(clipped), clipped) < 0.02
    assert psi(knots_of(clipped), np.clip(base + 1.0, 0.0, 1.0)) > PSI_MAJOR
    assert ks(knots_of(clipped), clipped) < 0.05


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (3.0, 0.0), (1.0, 4.0), (0.2, -0.5)])
def test_ks_when_compared_with_scipy_then_they_agree(scale: float, shift: float) -> None:
    rng = np.random.default_rng(3)
    knots = knots_of(rng.standard_normal(4_000))
    values = scale * rng.standard_normal(700) + shift

    oracle = stats.kstest(values, lambda x: np.interp(x, knots, LEVELS)).statistic

    assert ks(knots, values) == pytest.approx(oracle, abs=1e-9)


def test_ks_when_the_reference_is_a_sample_then_its_quantiles_lose_little_of_it() -> None:
    rng = np.random.default_rng(4)
    base, values = rng.standard_normal(20_000), rng.standard_normal(3_000) + 0.3

    assert ks(knots_of(base), values) == pytest.approx(
        stats.ks_2samp(base, values).statistic, abs=0.01
    )


def test_reference_when_nothing_drifts_then_slow_columns_are_quiet_too() -> None:
    made = reference()
    fresh = rows(2, 40 * 1_440)

    textbook = 0
    for stop in range(1_440, len(fresh) + 1, 1_440):
        found = made.compare(NAMES, fresh[:stop])
        assert found is not None
        assert not any(one.alarm for one in found)
        textbook += any(one.psi > PSI_MAJOR for one in found)

    assert textbook > 20  # of 40: what .25 alone would have cried


def test_reference_when_features_are_scaled_then_these_columns_alarm_and_the_clock_never() -> None:
    made, fresh = reference(), rows(2, 1_440)
    scaled = fresh * [3.0, 1.0, 1.0, 3.0]

    found = made.compare(NAMES, scaled)

    assert found is not None
    assert [one.name for one in found if one.alarm] == ["ret_0"]
    assert found[0].name == "ret_0"
    assert found[0].psi > PSI_MAJOR
    assert found[-1].name == "tod_sin_1"
    assert found[-1].threshold is None


def test_reference_when_rows_are_few_then_nothing_is_measured() -> None:
    assert reference().compare(NAMES, rows(2, 1_200)) is None
    short = Reference.of(
        NAMES, rows(1, 5_000), stamps(5_000), symbol="BTC/USDT", timeframe="5m", window=1_440
    )
    found = short.compare(NAMES, rows(2, 1_440, 9.0))
    assert found is not None
    assert not any(one.alarm or one.threshold is not None for one in found)


def test_reference_when_bars_are_of_another_market_then_it_does_not_suit_them() -> None:
    assert reference().suits("BTC/USDT", "5m")
    assert not reference().suits("ETH/USDT", "5m")
    assert not reference().suits("BTC/USDT", "1h")


def test_inside_when_listed_then_it_names_every_column_but_the_calendar() -> None:
    from data.features.names import REFERENCE_54

    assert set(INSIDE) | CALENDAR == set(REFERENCE_54)
    assert not set(INSIDE) & CALENDAR


# Probabilities


def test_brier_z_when_forecasts_are_calibrated_then_it_is_standard_under_overlap() -> None:
    p, r, _ = forecasts(7, 400)
    z = np.array([brier_z(p[d : d + 288], r[d : d + 288] > 0, 5) for d in range(0, len(p), 288)])

    assert abs(z.mean()) < 3 / math.sqrt(len(z))
    assert 0.85 < z.std() < 1.15


def test_brier_z_when_labels_do_not_overlap_then_it_is_spiegelhalters() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.3, 0.7, 200)
    y = rng.random(200) < p

    loss, expected = (p - y) ** 2, p * (1 - p)
    oracle = (loss - expected).sum() / math.sqrt(((1 - 2 * p) ** 2 * expected).sum())

    assert brier_z(p, y, 1) == pytest.approx(oracle, abs=1e-12)
    assert brier_z(np.full(50, 0.5), y[:50], 5) == 0.0
    assert brier_z(p[:5], y[:5], 5) is None


def test_brier_z_when_hardly_anything_is_said_then_being_wrong_raises_no_alarm() -> None:
    _, r, _ = forecasts(7, 60)
    wrong = np.where(r > 0, 0.4995, 0.5005)
    z = [brier_z(wrong[d : d + 288], r[d : d + 288] > 0, 5) for d in range(0, len(r), 288)]
    loud = [brier_z(q, q < 0.5, 5) for q in (0.5 + 20 * (wrong[:288] - 0.5),)]

    assert not any(page(z)[1])
    assert any(page(loud)[1])


def test_cusum_when_nothing_drifts_then_false_alarms_are_more_than_a_year_apart() -> None:
    z = np.random.default_rng(11).standard_normal(200_000)

    _, alarms = page(z.tolist())

    assert 365 < len(z) / sum(alarms) < 1_500


def test_cusum_when_a_day_is_missing_then_it_waits_and_after_an_alarm_it_restarts() -> None:
    path, alarms = page([3.0, None, 3.1, 0.6], start=0.5)

    assert path == [3.0, 3.0, pytest.approx(5.6), pytest.approx(0.1)]
    assert alarms == [False, False, True, False]


@pytest.mark.parametrize(("turned", "days"), [(-1.0, 8), (0.0, 14)])
def test_cusum_when_the_forecaster_turns_then_it_is_found_within_days(
    turned: float, days: int
) -> None:
    waited = []
    for seed in range(10):
        p, r, _ = forecasts(seed, 40)
        p = 0.5 + 2.5 * (p - 0.5)  # the usual spread of a direction model: .05
        other = r if turned else forecasts(seed + 100, 40)[1]
        found = day_scores(
            1.0 - p if turned else p, other > 0, p * np.nan, p * np.nan, other, stamps(len(p)), 5
        )
        waited.append(page([day.z for day in found])[1].index(True) + 1)

    assert float(np.median(waited)) <= days


# Intervals


def covered_days(share: float, days: int, spread: float = 0.02) -> list[DayScore]:
    rng = np.random.default_rng(2)
    hits = 288 * (share + spread * rng.standard_normal(days))
    return [DayScore((k + 1) * DAY_MS, None, 288, int(h)) for k, h in enumerate(hits)]


@pytest.mark.parametrize(
    ("share", "spread", "alarm"),
    [(0.8, 0.03, False), (0.78, 0.03, False), (0.74, 0.03, True), (0.87, 0.03, True),
     (0.74, 0.25, False)],
)  # fmt: skip
def test_coverage_when_off_by_more_than_tolerance_and_noise_then_and_only_then_it_alarms(
    share: float, spread: float, alarm: bool
) -> None:
    found = coverage(covered_days(share, 40, spread))

    assert found is not None
    assert found.alarm is alarm


def test_coverage_when_days_are_independent_then_the_error_is_the_textbooks() -> None:
    days = covered_days(0.8, 30, 0.05)
    found = coverage(days)

    assert found is not None
    assert found.value == pytest.approx(np.mean([d.hits / d.n for d in days]))
    assert found.se == pytest.approx(0.05 / math.sqrt(30), rel=0.5)
    assert coverage(days[:19]) is None


# Together


def test_drift_when_there_is_none_then_no_alarm_and_no_features_without_reference() -> None:
    quiet = board(*forecasts(1, 60))

    assert quiet["features"] == []
    assert quiet["cusum"]["alarms"] == []
    assert quiet["coverage"]["alarms"] == []
    assert quiet["cusum"]["threshold"] == LIMIT
    assert len(quiet["cusum"]["path"]) == 60
    json.dumps(quiet, allow_nan=False)


def test_drift_when_one_thing_is_planted_then_exactly_that_alarms() -> None:
    p, r, sigma = forecasts(1, 60)
    halved = board(p, r, sigma, width=0.5)
    sure = 0.5 + 2.0 * (p - 0.5)
    turned = board(1.0 - sure, r, sigma)
    scaled = board(p, r, sigma, reference=reference(), features=rows(5, len(p), 3.0))

    assert len(halved["coverage"]["alarms"]) == 1  # an alarm is told where it begins
    assert halved["cusum"]["alarms"] == []
    assert len(turned["cusum"]["alarms"]) > 3
    assert turned["coverage"]["alarms"] == []
    assert {row["name"] for row in scaled["features"] if row["alarm"]} >= {"ret_0", "rsi_14"}
    assert scaled["cusum"]["alarms"] == scaled["coverage"]["alarms"] == []
    assert list(scaled["features"][0]) == ["name", "psi", "ks", "alarm", "threshold"]


def test_drift_when_outcomes_and_forecasts_are_missing_then_the_rest_is_scored() -> None:
    p, r, sigma = forecasts(1, 40)
    p[:2_000], r[3_000:4_000] = np.nan, np.nan

    found = board(p, r, sigma)

    assert len(found["cusum"]["path"]) == 40
    assert all(point["value"] is not None for point in found["cusum"]["path"])
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("hours", [4, 24])
def test_drift_when_a_day_has_too_few_bars_then_the_cusum_says_it_is_not_measured(
    hours: int,
) -> None:
    p, r, sigma = (column[:480] for column in forecasts(1, 2))
    quantiles = sigma[:, None] * stats.norm.ppf(CANONICAL_LEVELS)[None, :]
    ts = 20_000 * DAY_MS + np.arange(480, dtype=np.int64) * hours * 3_600_000

    cusum = drift_of(None, rows(5, 480), 1.0 - p, r > 0, quantiles, r, ts, names=NAMES)["cusum"]

    assert cusum["note"] == "Not measured: no day has 12 forecasts with an outcome."
    assert cusum["path"] == cusum["alarms"] == []


def test_drift_when_some_days_have_too_few_rows_then_the_note_counts_them() -> None:
    p, r, sigma = forecasts(1, 40)
    assert board(p, r, sigma)["cusum"]["note"] == ""
    p[:2_000] = np.nan  # six days and most of the seventh

    note = board(p, r, sigma)["cusum"]["note"]

    assert note == "6 of 40 days were not measured: fewer than 12 forecasts with an outcome."


def test_drift_when_days_are_many_then_the_path_keeps_its_ends() -> None:
    found = board(*forecasts(1, 130))["cusum"]["path"]

    assert len(found) == 120
    assert (found[0]["at"], found[-1]["at"]) == ("2024-10-05T00:00:00Z", "2025-02-11T00:00:00Z")
