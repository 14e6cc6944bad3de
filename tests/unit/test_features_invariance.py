"""The same row for any chunking, and never a look ahead."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from feature_bars import joined, random_bars, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from data.features import MIN_BARS, FeatureEngine, build_features

N = 1200


def in_chunks(bars, cuts):
    engine = FeatureEngine(bars.timeframe)
    edges = sorted({0, len(bars), *cuts})
    parts = [engine.update(bars.slice(a, b)).values for a, b in pairwise(edges)]
    return np.concatenate(parts)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, N - 1), max_size=12),
    gaps=st.lists(st.integers(1, N - 1), max_size=3),
)
def test_engine_when_bars_come_in_any_chunks_then_rows_are_bit_for_bit_those_of_the_batch(
    seed, cuts, gaps
):
    bars = random_bars(N, seed, gaps=gaps)
    whole = build_features(bars).values
    assert np.array_equal(in_chunks(bars, cuts), whole, equal_nan=True)


@pytest.mark.parametrize("timeframe", ["5m", "1m"])
def test_engine_when_bars_come_one_by_one_then_rows_are_bit_for_bit_those_of_the_batch(timeframe):
    bars = random_bars(2700, seed=11, timeframe=timeframe, gaps=(90,))
    live = in_chunks(bars, [*range(1, 60), *range(2090, 2400)])
    assert np.array_equal(live, build_features(bars).values, equal_nan=True)


def test_engine_when_a_batch_is_longer_than_one_piece_then_nothing_shows_where_it_was_cut():
    bars = random_bars(20_000, seed=12)
    assert np.array_equal(in_chunks(bars, [7, 9_001]), build_features(bars).values, equal_nan=True)


def test_engine_when_a_gap_lies_in_the_past_then_nothing_before_it_matters():
    bars = random_bars(900, seed=13, gaps=(400,))
    after = build_features(bars.slice(400, 900)).values
    assert np.array_equal(build_features(bars).values[400:], after, equal_nan=True)
    assert np.isnan(after[: MIN_BARS - 1]).all()


def test_engine_when_one_bar_is_missing_then_it_starts_anew():
    bars = random_bars(1000, seed=14)
    holed = joined(bars.slice(0, 500), bars.slice(501, 1000))
    values = build_features(holed).values
    assert np.isfinite(values[499]).all()
    assert np.isnan(values[500 : 500 + MIN_BARS - 1]).all()
    assert np.isfinite(values[500 + MIN_BARS - 1 :]).all()


def test_engine_when_saved_and_restored_then_it_goes_on_bit_for_bit():
    bars = random_bars(900, seed=15)
    engine = FeatureEngine("5m")
    engine.update(bars.slice(0, 700))
    restored = pickle.loads(pickle.dumps(engine))
    expected = engine.update(bars.slice(700, 900)).values
    assert np.array_equal(restored.update(bars.slice(700, 900)).values, expected)


@pytest.mark.long
def test_features_when_the_future_is_cut_off_or_garbage_then_real_rows_stay_bit_for_bit():
    everything = sample()
    bars = everything.slice(120_000, 129_000)  # a hole of 933 bars lies within
    assert bars.bars_since_gap()[-1] < len(bars)
    whole = build_features(bars).values
    rng = np.random.default_rng(4)
    for i in rng.choice(np.arange(MIN_BARS, len(bars) - 1), 25, replace=False):
        assert np.array_equal(build_features(bars.slice(0, i + 1)).values[i], whole[i], True)
        noise = random_bars(500, seed=int(i))
        noise.ts[:] = bars.ts[i] + 300_000 * np.arange(1, 501)
        scrambled = build_features(joined(bars.slice(0, i + 1), noise)).values[: i + 1]
        assert np.array_equal(scrambled, whole[: i + 1], equal_nan=True)


@pytest.mark.slow
def test_features_when_the_future_is_cut_off_at_250_real_rows_then_they_stay_bit_for_bit():
    everything = sample()
    bars = everything.slice(len(everything) - 40_000, len(everything))
    whole = build_features(bars).values
    rng = np.random.default_rng(5)
    for i in rng.choice(np.arange(MIN_BARS, len(bars)), 250, replace=False):
        assert np.array_equal(build_features(bars.slice(0, i + 1)).values[i], whole[i], True)
