import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.climatology import Climatology
from agents.contract import trim
from agents.technical import Technical
from agents.windows import Run, joined_rows, run_of, runs, trailing_sums
from data.memory import MarketMemory
from domain.market import BarFrame
from domain.ports import Needs
from tests.agents_world import market


def memory_of(bars: BarFrame) -> MarketMemory:
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None)
    memory.append(bars)
    return memory


@pytest.mark.long
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60),
    st.lists(st.integers(1, 70), min_size=1, max_size=4, unique=True),
    st.sampled_from([1.0, 0.94]),
)
def test_trailing_sums_when_any_windows_then_equal_the_plain_sums(values, windows, decay):
    x = np.array(values)
    sums = trailing_sums(x, windows, decay)
    for window in windows:
        for i in range(len(x)):
            past = x[max(0, i - window + 1) : i + 1][::-1]
            assert sums[window][i] == pytest.approx(
                float(np.sum(past * decay ** np.arange(len(past)))), rel=1e-9, abs=1e-6
            )


def test_trailing_sums_when_older_values_come_before_then_the_bits_stay():
    x = np.random.default_rng(1).normal(size=5000)
    whole, part = trailing_sums(x, (288, 2016)), trailing_sums(x[2000:], (288, 2016))
    for window in (288, 2016):
        tail = slice(window, None)
        assert np.array_equal(whole[window][2000:][tail], part[window][tail])


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60),
    st.lists(st.integers(1, 70), min_size=1, max_size=4, unique=True),
    st.sampled_from([1.0, 0.94]), st.integers(1, 12),
)  # fmt: skip
def test_run_sums_when_of_few_states_then_the_bits_of_the_trailing_sums(
    values, windows, decay, states
):
    x, bars = np.array(values), market(len(values))
    n = min(states, len(x))
    run = Run(tuple(range(n)), bars, len(bars) - n, 70)
    sums, whole = run.sums(x, windows, decay), trailing_sums(x, windows, decay)
    assert all(np.array_equal(sums[w], whole[w][len(x) - n :]) for w in windows)


def test_runs_when_states_are_consecutive_then_one_run_holds_the_joined_bars():
    bars = market(400)
    states = list(memory_of(bars).states(bars=100, feature_rows=1))[150:170]
    (run,) = runs(states, 50)
    assert run.index == tuple(range(20))
    assert np.array_equal(run.last(run.bars.close), bars.close[150:170])
    assert run.lengths().tolist() == [50] * 20


def test_runs_when_a_state_is_missing_then_two_runs():
    states = list(memory_of(market(400)).states(bars=50, feature_rows=1))[150:170]
    assert [run.index for run in runs(states[:5] + states[6:9], 50)] == [
        (0, 1, 2, 3, 4), (5, 6, 7),
    ]  # fmt: skip


def test_runs_when_pasts_differ_in_one_value_then_not_joined():
    first, second = market(400), market(400)
    second.high[120] *= 1.001
    states = [
        memory_of(bars).states(bars=50, feature_rows=1)[row]
        for bars, row in ((first, 150), (second, 151))
    ]
    assert len(list(runs(states, 50))) == 2
    assert len(list(runs(states, 25))) == 1  # the difference lies further back than that


def test_runs_when_equal_pasts_lie_in_other_memory_then_joined():
    states = [memory_of(market(400)).states(bars=50, feature_rows=40)[row] for row in (150, 151)]
    (run,) = runs(states, 50, rows=0)
    assert len(run.bars) == 51


def test_joined_rows_when_run_then_newest_row_of_each_state_in_order():
    memory = memory_of(market(700))
    states = list(memory.states(bars=200, feature_rows=200))[500:520]
    (run,) = runs(states, 200, 200)
    table = joined_rows(states, run, 200, [2, 0])
    expected = memory.features().values[500:520][:, [2, 0]]
    assert np.array_equal(table[-20:], expected)
    assert len(table) == 219


def test_run_of_when_whole_frame_then_early_states_see_fewer_bars():
    run = run_of(market(100), 30)
    assert run.lengths()[[0, 28, 29, 99]].tolist() == [1, 29, 30, 30]


def test_trim_when_needs_are_small_then_only_the_tail_is_kept():
    state = memory_of(market(700)).states(bars=600, feature_rows=600)[650]
    small = trim(state, Needs(bars=10, feature_rows=3))
    assert np.array_equal(small.bars.close, state.bars.close[-10:])
    assert np.array_equal(small.features.values, state.features.values[-3:])
    assert small.bars_since_gap == state.bars_since_gap
    assert trim(small, Needs(bars=10, feature_rows=3)) is small


def test_needs_when_read_then_climatology_wants_thirty_days_and_technical_a_week():
    assert Climatology().needs.bars == 8645
    assert Technical().needs == Needs(bars=2016, feature_rows=2016)
