import math

import numpy as np
import pytest
from feature_bars import joined, random_bars, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from data.features import build_features
from data.labels import adverse, make_labels, training_rows
from domain.errors import SettingError
from domain.opinion import outcome_of

STEP = 300_000


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12), st.integers(288, 590))
def test_labels_when_a_row_is_valid_then_they_say_what_the_outcome_will_say(seed, horizon, i):
    bars = random_bars(600, seed)
    labels = make_labels(bars, horizon)
    if i + horizon >= 600:
        assert not labels.valid[i]
        return
    path = [(b.high, b.low, b.close) for b in bars.slice(i + 1, i + 1 + horizon).bars()]
    outcome = outcome_of("BTC/USDT", "5m", 0, 0, float(bars.close[i]), path)
    assert labels.valid[i]
    assert labels.y[i] == pytest.approx(outcome.log_return, abs=1e-15)
    assert (labels.up[i], labels.drop[i], labels.rise[i]) == (
        outcome.up,
        pytest.approx(outcome.drop, abs=1e-15),
        pytest.approx(outcome.rise, abs=1e-15),
    )


def test_labels_when_the_close_is_the_same_then_it_is_not_up():
    bars = random_bars(400)
    bars.close[305] = bars.close[300]
    labels = make_labels(bars, 5)
    assert labels.y[300] == 0.0
    assert not labels.up[300]


def test_labels_when_there_are_gaps_then_only_contiguous_rows_with_a_day_behind_are_valid():
    bars = random_bars(1000, gaps=(400,))
    valid = make_labels(bars, 5).valid
    assert np.flatnonzero(valid).tolist() == [*range(287, 395), *range(400 + 287, 995)]


def test_labels_when_invalid_then_they_are_nan_or_false():
    labels = make_labels(random_bars(700, gaps=(350,)), 5)
    for column in (labels.y, labels.drop, labels.rise):
        np.testing.assert_array_equal(np.isnan(column), ~labels.valid)
    assert not labels.up[~labels.valid].any()
    assert not adverse(labels)[0][~labels.valid].any()


@pytest.mark.parametrize("n", [0, 1, 5])
def test_labels_when_there_are_no_more_bars_than_the_horizon_then_no_row_is_valid(n):
    labels = make_labels(random_bars(10).slice(0, n), 5)
    assert len(labels) == n
    assert not labels.valid.any()


def test_labels_when_the_horizon_is_below_one_then_they_are_refused():
    with pytest.raises(SettingError, match="at least 1 bar"):
        make_labels(random_bars(10), 0)


def test_labels_when_bars_follow_then_earlier_rows_stay():
    bars = random_bars(600)
    short, full = make_labels(bars.slice(0, 500), 5), make_labels(bars, 5)
    np.testing.assert_array_equal(short.valid[:495], full.valid[:495])
    np.testing.assert_array_equal(short.y[:495], full.y[:495])


def test_adverse_when_moves_differ_then_each_side_is_compared_with_its_own_limit():
    bars = random_bars(400)
    labels = make_labels(bars, 5)
    down, up = adverse(labels, 0.004)
    np.testing.assert_array_equal(down, labels.drop > 0.004)
    np.testing.assert_array_equal(up, labels.rise > 0.004)


def test_training_rows_when_a_label_ends_with_the_fit_then_it_is_the_last_one_used():
    ts = STEP * np.arange(100, dtype=np.int64)
    fit = int(ts[50] + 6 * STEP)
    assert np.flatnonzero(training_rows(ts, fit, 5, STEP)).tolist() == list(range(51))
    assert np.flatnonzero(training_rows(ts, fit - 1, 5, STEP)).tolist() == list(range(50))


@pytest.mark.parametrize("horizon", [1, 5])
def test_training_rows_when_bars_after_the_fit_change_then_no_training_label_does(horizon):
    bars = random_bars(700)
    fit = int(bars.ts[500])
    known, other = bars.slice(0, 500), random_bars(200, seed=9)
    other.ts[:] = bars.ts[500:]
    rows = training_rows(bars.ts, fit, horizon, STEP)
    a, b = make_labels(bars, horizon), make_labels(joined(known, other), horizon)
    for name in ("y", "drop", "rise"):
        np.testing.assert_array_equal(getattr(a, name)[rows], getattr(b, name)[rows])


def test_labels_when_made_of_btc_2025_then_base_rates_are_those_of_the_reference():
    bars = sample()
    bars = bars.slice(int(np.searchsorted(bars.ts, 1_735_689_600_000)) - 3000, len(bars))
    labels = make_labels(bars, 5)
    in_2025 = labels.valid & (bars.ts >= 1_735_689_600_000)
    sigma = build_features(bars).column("sigma25")
    assert in_2025.sum() == 105_115
    assert adverse(labels)[0][in_2025].mean() == pytest.approx(0.080, abs=0.0006)
    assert (labels.drop > sigma)[in_2025].mean() == pytest.approx(0.245, abs=0.0006)
    assert math.isclose(1e4 * np.abs(labels.y[in_2025]).mean(), 19.7, abs_tol=0.06)
