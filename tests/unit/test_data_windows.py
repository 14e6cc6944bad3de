import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.datasets import build_windows, interpolate_gaps, valid_windows
from data.resample import resample
from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from tests.data_fixtures import COLUMNS, START, clean_bars, pick, without

STEP = 300_000


def by_hand(ts, encoder, horizon, made_up):
    """Say the same as valid_windows, bar by bar."""
    known = {int(at): bool(flag) for at, flag in zip(ts, made_up, strict=True)}
    rows = []
    for row, at in enumerate(ts.tolist()):
        window = [at + k * STEP for k in range(-encoder + 1, horizon + 1)]
        label = [at + k * STEP for k in range(horizon + 1)]
        if all(w in known for w in window) and not any(known[w] for w in label):
            rows.append(row)
    return rows


@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(1, 6),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_valid_windows_when_holes_and_made_up_bars_lie_anywhere_then_it_agrees_with_a_bar_by_bar_check(  # noqa: E501
    present, encoder, horizon, rng
):
    ts = START + np.flatnonzero(present).astype(np.int64) * STEP
    made_up = np.array([rng.random() < 0.2 for _ in ts], dtype=bool)
    got = valid_windows(ts, STEP, encoder, horizon, made_up)
    assert got.tolist() == by_hand(ts, encoder, horizon, made_up)


def test_valid_windows_when_there_is_a_hole_then_no_window_spans_it():
    frame = without(clean_bars(200), 100, 16)
    rows = valid_windows(frame.ts, STEP, 60, 5)
    assert rows.tolist() == [*range(59, 95), *range(159, 179)]


@pytest.mark.parametrize(("encoder", "horizon"), [(0, 5), (60, 0)])
def test_valid_windows_when_a_length_is_zero_then_it_says_so(encoder, horizon):
    with pytest.raises(UsageError, match="at least 1"):
        valid_windows(clean_bars().ts, STEP, encoder, horizon)


def test_build_windows_when_there_is_a_hole_then_time_jumps_and_a_new_group_begins():
    frame = without(clean_bars(200), 100, 16)
    windows = build_windows(frame, 60, 5)
    assert np.unique(np.diff(windows.time_idx)).tolist() == [1, 17]
    assert (windows.group(99), windows.group(100)) == ("BTC/USDT#0", "BTC/USDT#1")
    assert windows.segment[[0, 99, 100, 183]].tolist() == [0, 0, 1, 1]
    assert np.flatnonzero(windows.valid).tolist() == valid_windows(frame.ts, STEP, 60, 5).tolist()
    assert not windows.interpolated.any()


def test_build_windows_when_there_are_no_bars_then_it_is_empty():
    assert len(build_windows(clean_bars(0), 60, 5)) == 0


def test_interpolate_gaps_when_holes_are_short_then_they_are_filled_and_flagged():
    frame = without(without(clean_bars(200), 150, 10), 100, 2)
    filled, made_up = interpolate_gaps(frame, max_bars=3)
    assert np.flatnonzero(made_up).tolist() == [100, 101]
    assert np.diff(filled.ts).max() == 11 * STEP  # the long hole stays
    np.testing.assert_array_equal(filled.ts[~made_up], frame.ts)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(filled, name)[~made_up], getattr(frame, name))
    assert filled.volume[made_up].tolist() == [0.0, 0.0]
    assert filled.open[100] == pytest.approx(frame.close[99])
    steps = np.diff(np.log([frame.close[99], *filled.close[[100, 101]], frame.open[100]]))
    np.testing.assert_allclose(steps, steps[0])
    assert np.all(filled.high >= filled.close)
    assert np.all(filled.low <= filled.open)


def test_interpolate_gaps_when_used_for_windows_then_no_label_holds_a_made_up_bar():
    frame = without(clean_bars(200), 100, 2)
    filled, made_up = interpolate_gaps(frame, max_bars=3)
    rows = valid_windows(filled.ts, STEP, 60, 5, made_up)
    assert rows.tolist() == [*range(59, 95), *range(102, 195)]


def test_interpolate_gaps_when_there_is_nothing_to_fill_then_bars_are_untouched():
    frame = clean_bars(20)
    filled, made_up = interpolate_gaps(frame, 3)
    assert filled is frame
    assert not made_up.any()
    with pytest.raises(UsageError):
        interpolate_gaps(frame, 0)


def test_resample_when_bars_are_complete_then_columns_are_what_the_hour_showed():
    frame = clean_bars(30)
    hours = resample(frame, "1h")
    assert hours.ts.tolist() == [START, START + 12 * STEP]
    first = frame.slice(0, 12)
    assert hours.open[0] == first.open[0]
    assert hours.high[0] == first.high.max()
    assert hours.low[0] == first.low.min()
    assert hours.close[0] == first.close[-1]
    assert hours.volume[0] == pytest.approx(first.volume.sum())


@pytest.mark.parametrize("missing", range(12, 24))
def test_resample_when_one_base_bar_is_missing_then_its_hour_does_not_exist(missing):
    hours = resample(without(clean_bars(36), missing, 1), "1h")
    assert hours.ts.tolist() == [START, START + 24 * STEP]


@given(st.lists(st.booleans(), min_size=0, max_size=80), st.integers(0, 11), st.data())
def test_resample_when_bars_are_missing_then_only_complete_hours_exist_and_the_past_never_changes(
    present, offset, data
):
    base = clean_bars(len(present), start=START + offset * STEP)
    frame = pick(base, np.array(present, dtype=bool))
    hours = resample(frame, "1h")
    known = set(frame.ts.tolist())
    every = {at // 3_600_000 * 3_600_000 for at in known}
    whole = [at for at in sorted(every) if all(at + k * STEP in known for k in range(12))]
    assert hours.ts.tolist() == whole
    cut = data.draw(st.integers(0, len(frame)))
    early = resample(frame.slice(0, cut), "1h")
    for name in ("ts", *COLUMNS):
        np.testing.assert_array_equal(getattr(hours, name)[: len(early)], getattr(early, name))


def test_resample_when_the_timeframe_does_not_fit_or_bars_are_in_disorder_then_it_refuses():
    frame = clean_bars(30)
    assert resample(frame, "5m") is frame
    with pytest.raises(UsageError, match="multiple"):
        resample(frame, "7m")
    with pytest.raises(UsageError, match="multiple"):
        resample(resample(frame, "1h"), "5m")
    with pytest.raises(DataRefused, match="order"):
        resample(pick(frame, np.arange(30)[::-1]), "1h")
    columns = [getattr(frame, name) for name in COLUMNS]
    with pytest.raises(DataRefused, match="aligned"):
        resample(BarFrame("BTC/USDT", "5m", frame.ts + 1, *columns), "1h")
