"""What Chronos learns from: windows that cross no gap, cumulative targets, what was known when."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.training.series import MixConfig, Mixture, Stretch, spread_rows, stretches, synthetic
from data.resample import resample
from domain.errors import DataRefused
from domain.market import BarFrame
from domain.times import timeframe_ms
from tests.agents_world import START, STEP, market, with_gap

SMALL = MixConfig(context=20, horizon=6, frequencies={"5m": 0.7, "15m": 0.3})
FOREVER = 2**62
GAP = 300


@pytest.fixture(scope="module")
def bars():
    """600 bars with 4 missing after the 300th."""
    return with_gap(market(604, seed=1), GAP, 4)


def all_of(frame, config=SMALL, start=0, end=FOREVER):
    return {part.timeframe: part for part in stretches([frame], config, start, end)}


def every(part, config=SMALL):
    return part.windows(np.arange(len(part.ends)), config.context, config.horizon)


def test_windows_when_cut_then_returns_and_their_running_sums(bars):
    for name, part in all_of(bars).items():
        joined = resample(bars, name)
        logs = {int(t): np.log(c) for t, c in zip(joined.ts, joined.close, strict=True)}
        step = timeframe_ms(name)
        past, ahead = every(part)
        assert (past.dtype, ahead.dtype) == (np.float32, np.float32)
        for k, opened in enumerate(part.opens.tolist()):
            levels = np.array([logs[opened + i * step] for i in range(-20, 7)])  # KeyError on a gap
            np.testing.assert_allclose(past[k], np.diff(levels)[:20], atol=1e-9)
            np.testing.assert_allclose(ahead[k], levels[21:] - levels[20], atol=1e-9)


def test_windows_when_bars_are_missing_then_none_crosses_and_none_is_left_out(bars):
    part = all_of(bars)["5m"]
    assert part.ends.tolist() == [*range(20, GAP - 6), *range(GAP + 20, 600 - 6)]
    np.testing.assert_array_equal(part.opens, bars.ts[part.ends])
    past, ahead = every(part)
    assert np.isfinite(past).all()
    assert np.isfinite(ahead).all()


def test_windows_when_a_higher_bar_lacks_one_then_it_is_a_gap_there_too(bars):
    part = all_of(bars)["15m"]
    step = 3 * STEP
    whole = set(resample(bars, "15m").ts.tolist())
    for opened in part.opens.tolist():
        assert {opened + k * step for k in range(-20, 7)} <= whole
    assert len(part.ends) == sum(
        {t + k * step for k in range(-20, 7)} <= whole for t in sorted(whole)
    )


def test_windows_when_prices_never_return_to_their_start_then_sums_stay_exact():
    walk = market(5000, seed=2, noise=3e-3)
    part = all_of(walk)["5m"]
    _, ahead = every(part)
    np.testing.assert_allclose(
        ahead[-1],
        np.log(walk.close[part.ends[-1] + 1 :][:6] / walk.close[part.ends[-1]]),
        atol=1e-9,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(27, 600), st.integers(0, 600))
def test_windows_when_training_ends_then_their_future_was_known_by_then(end_row, start_row):
    frame = market(604, seed=1)
    start, end = START + start_row * STEP, START + end_row * STEP
    try:
        parts = stretches([frame], SMALL, start, end)
    except DataRefused:
        return
    for part in parts:
        step = timeframe_ms(part.timeframe)
        known_at = part.opens + (1 + SMALL.horizon) * step  # close of the last bar of the future
        assert known_at.max() <= end
        assert part.opens.min() >= start
        if part.timeframe == "5m":
            assert known_at.max() == end or part.ends[-1] == 603 - 6
            assert part.opens.min() == max(start, START + 20 * STEP)


def test_windows_when_bars_after_the_end_change_then_the_training_ones_do_not(bars):
    end = START + 400 * STEP
    later = bars.ts >= end
    other = replace(bars, close=np.where(later, bars.close * 2, bars.close),
                    high=np.where(later, bars.high * 2, bars.high))  # fmt: skip
    for name, part in all_of(bars, end=end).items():
        changed = all_of(other, end=end)[name]
        np.testing.assert_array_equal(part.ends, changed.ends)
        for a, b in zip(every(part), every(changed), strict=True):
            np.testing.assert_array_equal(a, b)


def test_split_when_training_and_held_out_meet_then_no_future_is_in_both(bars):
    split = START + 450 * STEP
    training, held = all_of(bars, end=split), all_of(bars, start=split)
    for name, part in training.items():
        step = timeframe_ms(name)
        seen = {t + k * step for t in part.opens.tolist() for k in range(1, 7)}
        asked = {t + k * step for t in held[name].opens.tolist() for k in range(1, 7)}
        assert not seen & asked
        assert max(seen) + step <= split <= min(asked)
        together = len(part.ends) + len(held[name].ends)
        assert together == len(all_of(bars)[name].ends) - 6  # those whose future meets the split


def test_stretches_when_bars_are_coarse_then_only_what_they_can_make():
    frame = market(600)
    config = replace(SMALL, frequencies={"1m": 1.0, "5m": 1.0, "7m": 1.0, "1h": 1.0})
    assert [p.timeframe for p in stretches([frame], config, 0, FOREVER)] == ["5m", "1h"]


def test_stretches_when_there_are_several_symbols_then_each_of_them():
    frames = [market(300), replace(market(300, seed=2), symbol="ETH/USDT")]
    found = [(p.symbol, p.timeframe) for p in stretches(frames, SMALL, 0, FOREVER)]
    assert found == [(s, t) for s in ("BTC/USDT", "ETH/USDT") for t in ("5m", "15m")]


@pytest.mark.parametrize("n", [0, 1, 26])
def test_stretches_when_there_is_no_window_then_refused(n):
    with pytest.raises(DataRefused, match="windows of 21 \\+ 6 bars"):
        stretches([market(30).slice(0, n)], SMALL, 0, FOREVER)


def test_stretches_when_there_is_just_one_window_then_it_is_found():
    (part,) = stretches([market(27)], SMALL, 0, FOREVER)
    assert part.ends.tolist() == [20]


@pytest.fixture(scope="module")
def mixture(bars):
    return Mixture(stretches([bars], SMALL, 0, FOREVER), SMALL, seed=5)


def equal(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def test_batch_when_asked_for_then_a_pure_function_of_seed_and_number(bars, mixture):
    later = {k: mixture.batch(k, 64) for k in (9, 0, 4)}
    fresh = Mixture(stretches([bars], SMALL, 0, FOREVER), SMALL, seed=5)
    assert all(equal(fresh.batch(k, 64), later[k]) for k in (0, 4, 9))
    assert not equal(later[0], later[4])
    assert not equal(replace(mixture, seed=6).batch(0, 64), later[0])


def test_batch_when_drawn_then_of_the_size_asked_for_and_finite_but_for_the_oldest(mixture):
    for size in (1, 7, 256):
        past, ahead = mixture.batch(1, size)
        assert (past.shape, ahead.shape) == ((size, 20), (size, 6))
        assert (past.dtype, ahead.dtype) == (np.float32, np.float32)
        assert np.isfinite(ahead).all()
        assert np.isfinite(past[:, 15:]).all()  # at most three quarters are missing
        missing = np.isnan(past)
        assert (missing[:, :-1] >= missing[:, 1:]).all()  # the oldest, without a hole


def real(config, bars, size=4000):
    parts = stretches([bars], config, 0, FOREVER)
    return parts, Mixture(parts, config, seed=5).batch(0, size)


def test_batch_when_nothing_is_generated_then_every_sample_is_a_window_or_its_mirror(bars):
    config = replace(SMALL, synthetic=0.0, sparse=0.0)
    parts, (past, ahead) = real(config, bars, 200)
    windows = [every(part) for part in parts]
    known = np.concatenate([np.hstack(w) for w in windows])
    for row in np.hstack((past, ahead)):
        assert (
            min(np.abs(known - row).max(axis=1).min(), np.abs(known + row).max(axis=1).min()) == 0
        )


def test_batch_when_many_are_drawn_then_in_the_shares_of_the_config(bars):
    config = replace(SMALL, synthetic=0.0, sparse=0.3)
    parts, (past, _) = real(config, bars)
    assert np.isnan(past).any(axis=1).mean() == pytest.approx(0.3, abs=0.03)
    quarter = every(next(p for p in parts if p.timeframe == "15m"))[0]
    last = np.abs(quarter[:, -1])
    of_quarter = np.isin(np.abs(past[:, -1]), last)
    assert of_quarter.mean() == pytest.approx(0.3, abs=0.03)
    assert np.mean(past[:, -1] > 0) == pytest.approx(0.5, abs=0.03)  # by the mirror


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_batch_when_a_share_is_generated_then_so_many_are(bars, share):
    config = replace(SMALL, synthetic=share, sparse=0.0)
    parts, (past, _) = real(config, bars, 200)
    known = np.abs(np.concatenate([every(part)[0][:, -1] for part in parts]))
    assert np.isin(np.abs(past[:, -1]), known).sum() == round(200 * (1 - share))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_synthetic_when_drawn_then_finite_of_the_size_of_returns_and_cumulative(seed, n):
    config = MixConfig()
    past, ahead = synthetic(np.random.default_rng(seed), n, config)
    assert past.shape == (n, config.context)
    assert ahead.shape == (n, config.horizon)
    for x in (past, ahead):
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
    assert (past.std(axis=1) > 0).all()
    assert np.abs(past).max() < 10.0
    first = np.abs(ahead[:, 0])
    assert np.median(first) < np.median(np.abs(ahead).max(axis=1))  # sums, not steps


def test_synthetic_when_volatile_then_sums_spread_as_sums_do():
    config = MixConfig()
    past, ahead = synthetic(np.random.default_rng(1), 4000, config)
    half = slice(0, 2000)  # stochastic volatility; the others have a form
    unit = ahead[half] / past[half].std(axis=1, keepdims=True)
    spread = np.quantile(unit, 0.9, axis=0) - np.quantile(unit, 0.1, axis=0)
    growth = spread / spread[0] / np.sqrt(np.arange(1, 17))
    assert (np.abs(growth - 1) < 0.15).all()


def test_spread_rows_when_few_are_wanted_then_evenly_over_all_parts():
    parts = [part_of(1000), part_of(500)]
    chosen = list(spread_rows(parts, 30))
    assert [part for part, _ in chosen] == parts
    assert [len(rows) for _, rows in chosen] == [20, 10]
    assert all((np.diff(rows) == 50).all() for _, rows in chosen)
    everything = list(spread_rows(parts, 10**6))
    assert [len(rows) for _, rows in everything] == [1000, 500]


def part_of(n):
    ends = np.arange(n, dtype=np.int64)
    return Stretch("BTC/USDT", "5m", np.zeros(n, np.float32), np.zeros(n + 1), ends, ends)


def test_frames_when_given_then_left_as_they_are(bars):
    columns = ("ts", "open", "high", "low", "close", "volume")
    before = {name: getattr(bars, name).copy() for name in columns}
    Mixture(stretches([bars], SMALL, 0, FOREVER), SMALL, 1).batch(0, 16)
    assert BarFrame(bars.symbol, bars.timeframe, **before).close.tolist() == bars.close.tolist()
    for name in columns:
        np.testing.assert_array_equal(before[name], getattr(bars, name))
