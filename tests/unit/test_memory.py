import pickle
from itertools import pairwise

import numpy as np
import pytest
from feature_bars import joined, random_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from data.features import build_features
from data.memory import MarketMemory
from data.resample import resample
from domain.errors import DataRefused

STEP = 300_000
BARS = random_bars(900, seed=31, gaps=(400,))
FEATURES = build_features(BARS)


def remembered(bars=BARS, keep=None):
    memory = MarketMemory("BTC/USDT", "5m", keep=keep)
    memory.append(bars)
    return memory


def same(state, other):
    assert (state.as_of, state.bars_since_gap) == (other.as_of, other.bars_since_gap)
    np.testing.assert_array_equal(state.bars.ts, other.bars.ts)
    np.testing.assert_array_equal(state.bars.close, other.bars.close)
    np.testing.assert_array_equal(state.features.values, other.features.values)


def test_memory_when_empty_then_there_is_no_state():
    memory = MarketMemory("BTC/USDT", "5m")
    assert (len(memory), memory.last_as_of, memory.state()) == (0, None, None)
    assert memory.state(as_of=10**13) is None
    assert len(memory.states()) == 0


def test_memory_when_bars_came_then_everything_is_there_in_order():
    memory = remembered()
    assert memory.last_as_of == BARS.ts[-1] + STEP
    np.testing.assert_array_equal(memory.bars().volume, BARS.volume)
    np.testing.assert_array_equal(memory.features().values, FEATURES.values)
    assert memory.features().schema == FEATURES.schema


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 900), max_size=8))
def test_memory_when_filled_in_any_pieces_then_states_are_the_same(cuts):
    edges = sorted({0, 900, *cuts})
    memory = MarketMemory("BTC/USDT", "5m", keep=None)
    for a, b in pairwise(edges):
        assert memory.append(BARS.slice(a, b)) == b - a
    whole = remembered()
    for i in (0, 399, 400, 899):
        as_of = int(BARS.ts[i]) + STEP
        same(memory.state(as_of, 64, 8), whole.state(as_of, 64, 8))


def test_memory_when_single_bars_come_then_they_are_as_good_as_frames():
    memory = remembered(BARS.slice(0, 880))
    for bar in BARS.slice(880, 900).bars():
        assert memory.append(bar) == 1
    same(memory.state(None, 500, 500), remembered().state(None, 500, 500))


def test_state_when_as_of_is_a_close_then_it_ends_with_that_bar():
    state = remembered().state(int(BARS.ts[850]) + STEP, bars=60, feature_rows=4)
    assert state.as_of == BARS.ts[850] + STEP
    np.testing.assert_array_equal(state.bars.close, BARS.close[791:851])
    np.testing.assert_array_equal(state.features.values, FEATURES.values[847:851])
    assert state.feature("rsi_14") == FEATURES.column("rsi_14")[850]


def test_state_when_as_of_is_one_ms_before_a_close_then_that_bar_is_not_known():
    state = remembered().state(int(BARS.ts[850]) + STEP - 1)
    assert state.bars.ts[-1] == BARS.ts[849]


def test_state_when_as_of_lies_in_a_hole_then_it_says_how_old_it_is():
    state = remembered().state(int(BARS.ts[400]))
    assert state.as_of == BARS.ts[399] + STEP < BARS.ts[400]
    assert remembered().state(int(BARS.ts[0])) is None


def test_state_when_a_gap_is_near_then_neither_bars_nor_features_reach_across_it():
    state = remembered().state(int(BARS.ts[409]) + STEP, bars=100, feature_rows=100)
    assert len(state.bars) == len(state.features.values) == state.bars_since_gap == 10
    assert state.bars.ts[0] == BARS.ts[400]
    assert np.isnan(state.features.values).all()


def test_state_when_the_run_is_longer_than_the_view_then_its_whole_length_is_told():
    assert remembered().state(bars=5).bars_since_gap == 500
    trimmed = remembered(keep=50).state(bars=200)
    assert (len(trimmed.bars), trimmed.bars_since_gap) == (50, 500)


def test_state_when_the_future_is_appended_then_it_stays_as_it_was():
    memory = remembered(BARS.slice(0, 700))
    before = memory.state(bars=64, feature_rows=64)
    ts, values = before.bars.ts.copy(), before.features.values.copy()
    memory.append(BARS.slice(700, 900))
    np.testing.assert_array_equal(before.bars.ts, ts)
    np.testing.assert_array_equal(before.features.values, values)
    same(memory.state(before.as_of, 64, 64), before)


def test_state_when_written_to_then_it_refuses():
    state = remembered().state(bars=10, feature_rows=10)
    for array in (state.bars.close, state.bars.ts, state.features.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_state_when_taken_then_it_shares_the_memorys_arrays():
    memory = remembered()
    state = memory.state(bars=10, feature_rows=10)
    assert np.shares_memory(state.bars.close, memory.bars().close)
    assert np.shares_memory(state.features.values, memory.features().values)


def test_state_when_pickled_then_only_its_own_rows_travel():
    state = remembered().state(bars=64, feature_rows=8)
    payload = pickle.dumps(state)
    same(pickle.loads(payload), state)
    assert len(payload) < 20_000


def test_frames_when_read_then_they_hold_closed_higher_bars_of_the_states_own():
    state = remembered().state(bars=200)
    assert list(state.frames) == ["15m", "30m", "1h"]
    hours = state.frames["1h"]
    assert hours.ts[-1] + 3_600_000 <= state.as_of
    np.testing.assert_array_equal(hours.close, resample(state.bars, "1h").close)
    assert "4h" not in state.frames


def test_states_when_read_by_range_then_they_are_those_of_each_close():
    memory = remembered()
    states = memory.states(int(BARS.ts[300]), int(BARS.ts[420]), bars=32, feature_rows=2)
    assert len(states) == 120
    for j in (0, 57, 100, 119, -1):
        as_of = int(BARS.ts[300 + j % 120]) + STEP
        same(states[j], memory.state(as_of, 32, 2))
    same(states[10:20][3], states[13])
    with pytest.raises(IndexError):
        states[120]


@pytest.mark.long
def test_states_when_the_memory_forgets_then_they_do_not_move():
    memory = remembered(BARS.slice(0, 500), keep=100)
    states = memory.states(bars=16)
    expected = [state.as_of for state in states]
    memory.append(BARS.slice(500, 900))
    for bar in random_after(BARS, 300).bars():
        memory.append(bar)
    assert [state.as_of for state in states] == expected


def random_after(bars, n):
    more = random_bars(n, seed=77)
    more.ts[:] = bars.ts[-1] + STEP * np.arange(1, n + 1)
    return more


@pytest.mark.long
def test_memory_when_it_trims_then_it_keeps_the_newest_and_the_features_do_not_notice():
    more = random_after(BARS, 700)
    memory = remembered(keep=128)
    for bar in more.bars():
        memory.append(bar)
    assert len(memory) == 128
    whole = build_features(joined(BARS, more)).values[-128:]
    np.testing.assert_array_equal(memory.features().values, whole)
    assert memory.state().bars_since_gap == 1200


def test_append_when_bars_are_known_then_they_are_ignored_and_the_first_word_counts():
    memory = remembered(BARS.slice(0, 600))
    again = random_bars(900, seed=99, gaps=(400,))
    again.ts[:] = BARS.ts
    assert memory.append(again.slice(590, 600)) == 0
    assert memory.append(BARS.slice(580, 620)) == 20
    np.testing.assert_array_equal(memory.bars().close, BARS.close[:620])


def test_append_when_bars_are_late_then_they_are_refused_and_nothing_changes():
    holed = joined(BARS.slice(0, 500), BARS.slice(501, 600))
    memory = remembered(holed)
    with pytest.raises(DataRefused, match="older than the newest known") as refusal:
        memory.append(BARS.slice(495, 620))
    assert refusal.value.hint.startswith("Append in order")
    assert len(memory) == 599
    assert memory.append(BARS.slice(600, 620)) == 20


def test_append_when_bars_are_foreign_or_disordered_then_they_are_refused():
    memory = remembered()
    with pytest.raises(DataRefused, match="must be BTC/USDT 5m"):
        memory.append(random_bars(10, timeframe="1m"))
    with pytest.raises(DataRefused, match="strictly increasing"):
        memory.append(joined(BARS.slice(5, 10), BARS.slice(0, 5)))
    with pytest.raises(DataRefused, match="at least one bar"):
        MarketMemory("BTC/USDT", "5m", keep=0)
