"""What Chronos sees of a market: windows of closed bars only, brought onto the horizon."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.chronos_network import LEVELS
from agents.chronos_views import (
    AHEAD,
    POINTS,
    TIMEFRAMES,
    Stretch,
    View,
    by_state,
    needed_bars,
    usable,
)
from agents.chronos_views import views_of as views_with
from domain.market import BarFrame
from domain.quantiles import t4_ppf
from domain.times import MINUTE_MS, timeframe_ms
from tests.agents_world import START, market

FIVE = usable("5m", TIMEFRAMES)
H = 5
NORMAL = np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0, 0.2533, 0.5244, 0.8416, 1.2816])


class Walks:
    """A model for which every series is a Gaussian walk: no drift but the window's own mean return,
    and its own spread. Remembers the windows it was asked about."""

    def __init__(self):
        self.asked = np.empty((0, POINTS + 1))

    def cumulative(self, closes, steps):
        self.asked = np.concatenate((self.asked, closes))
        returns = np.diff(np.log(closes))
        k = np.arange(1, steps + 1)[None, :, None]
        drift, spread = returns.mean(axis=1), returns.std(axis=1)
        return drift[:, None, None] * k + spread[:, None, None] * np.sqrt(k) * NORMAL


def views_of(bars, rows, lengths, timeframes=FIVE, network=None):
    rows, lengths = np.asarray(rows), np.asarray(lengths)
    (views,) = views_with([Stretch(bars, rows, lengths)], network or Walks(), timeframes, H)
    return views


def shifted(bars, by):
    """The same bars, some base bars later: higher bars begin elsewhere in them."""
    return replace(bars, ts=bars.ts + by * bars.step_ms)


def of_minutes(n, seed=0):
    bars = market(n, seed)
    ts = START + MINUTE_MS * np.arange(n, dtype=np.int64)
    return BarFrame("BTC/USDT", "1m", ts, *(getattr(bars, c) for c in
                    ("open", "high", "low", "close", "volume")))  # fmt: skip


def last_closes(bars, row, timeframe):
    """The window of a state by its definition: the last 201 closes that end a higher bar."""
    closed = bars.ts[: row + 1] + bars.step_ms
    return bars.close[: row + 1][closed % timeframe_ms(timeframe) == 0][-POINTS - 1 :]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 11), st.lists(st.integers(2500, 2699), min_size=1, max_size=9, unique=True))
def test_views_when_asked_then_every_window_ends_with_the_last_closed_bar(offset, rows):
    bars = shifted(market(2700), offset)
    rows = sorted(rows)
    network = Walks()
    views = views_of(bars, rows, np.array(rows) + 1, network=network)
    assert set(views) == set(FIVE)
    for name, view in views.items():
        assert view.states.tolist() == list(range(len(rows)))
        for k, row in enumerate(rows):
            window = last_closes(bars, row, name)
            assert (network.asked == window).all(axis=1).sum() >= 1
            expected = Walks().cumulative(window[None], AHEAD)[0]
            np.testing.assert_array_equal(view.quantiles[k], expected)
            since = (bars.ts[row] + bars.step_ms) % timeframe_ms(name)
            assert view.elapsed[k] == since / timeframe_ms(name)


def test_views_when_states_share_a_window_then_it_is_asked_about_once():
    network, bars = Walks(), market(2700)
    rows = np.arange(2600, 2640)
    views_of(bars, rows, rows + 1, network=network)
    assert len(network.asked) == len(np.unique(network.asked, axis=0))
    assert len(network.asked) == 40 + 14 + 8 + 5  # windows of 5m, 15m, 30m and 1h


@settings(max_examples=20, deadline=None)
@given(st.integers(2500, 2690), st.integers(0, 2**31))
def test_views_when_the_future_is_scrambled_then_nothing_changes(row, seed):
    bars = market(2700)
    later = np.arange(len(bars)) > row
    noise = np.random.default_rng(seed).uniform(0.5, 2.0, len(bars))
    close = np.where(later, bars.close * noise, bars.close)
    changed = replace(bars, close=close, high=np.maximum(bars.high, close),
                      low=np.minimum(bars.low, close))  # fmt: skip
    same(views_of(bars, [row], [row + 1]), views_of(changed, [row], [row + 1]))


def test_views_when_a_higher_bar_has_not_closed_then_nothing_of_it_is_read():
    bars, row, ended = market(2700), 2606, 2603  # row 2603 closes an hour, 2615 the next
    growing = (np.arange(len(bars)) > ended) & (np.arange(len(bars)) <= row)
    close = np.where(growing, bars.close * 1.1, bars.close)
    changed = replace(bars, close=close, high=bars.high * 1.2)
    before, after = (views_of(x, [row], [row + 1]) for x in (bars, changed))
    same({"1h": before["1h"]}, {"1h": after["1h"]})
    assert not np.array_equal(before["5m"].quantiles, after["5m"].quantiles)


def same(a, b):
    assert set(a) == set(b)
    for name in a:
        for field in View.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(a[name], field), getattr(b[name], field))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 11), st.integers(0, 100))
def test_needed_bars_when_a_state_has_them_then_no_timeframe_is_missing(offset, cut):
    need = needed_bars("5m", FIVE)
    bars = shifted(market(need + 100), offset).slice(cut, cut + need)
    assert set(views_of(bars, [need - 1], [need])) == set(FIVE)


@pytest.mark.parametrize("offset", [0, 7, 59])
def test_needed_bars_when_bars_are_of_a_minute_then_they_make_all_six(offset):
    need = needed_bars("1m", TIMEFRAMES)
    bars = shifted(of_minutes(need), offset)
    assert set(views_of(bars, [need - 1], [need], TIMEFRAMES)) == set(TIMEFRAMES)


def test_needed_bars_when_bars_are_of_the_only_timeframe_then_one_window():
    assert needed_bars("5m", ["5m"]) == POINTS + 1


def test_usable_when_bars_are_coarser_then_finer_timeframes_fall_away():
    assert usable("1m", TIMEFRAMES) == TIMEFRAMES
    assert FIVE == ("5m", "15m", "30m", "1h")
    assert usable("15m", TIMEFRAMES) == ("15m", "30m", "1h")
    assert usable("30m", TIMEFRAMES) == ("30m", "1h")
    assert usable("4h", TIMEFRAMES) == ()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 11), st.integers(0, 2600))
def test_views_when_a_state_is_asked_alone_then_as_in_a_run(offset, first):
    bars = shifted(market(2700), offset)
    limit = needed_bars("5m", FIVE)
    rows = np.arange(first, first + 100, 7)
    lengths = np.minimum(rows + 1, limit)
    together = by_state(views_of(bars, rows, lengths), len(rows))
    for k, row in enumerate(rows):
        alone = bars.slice(max(0, int(row) + 1 - limit), int(row) + 1)
        single = by_state(views_of(alone, [len(alone) - 1], [len(alone)]), 1)
        heard = {name for name, (_, known) in together.items() if known[k]}
        assert heard == set(single)
        for name in heard:
            np.testing.assert_array_equal(single[name][0][0], together[name][0][k])


@pytest.mark.parametrize(
    ("seen", "heard"),
    [
        (200, ()), (201, FIVE[:1]), (602, FIVE[:1]), (603, FIVE[:2]), (1206, FIVE[:3]),
        (2411, FIVE[:3]), (2412, FIVE),
    ],
)  # fmt: skip
def test_views_when_history_is_short_then_only_what_has_201_closes(seen, heard):
    bars = market(3000)  # a state must not read further back than it sees, whatever there is
    assert tuple(views_of(bars, [2999], [seen])) == heard
    assert tuple(views_of(bars.slice(3000 - seen, 3000), [seen - 1], [seen])) == heard


def test_views_when_some_states_are_too_young_then_the_others_are_answered():
    bars = market(700)
    rows = np.arange(150, 700, 50)
    views = views_of(bars, rows, rows + 1)
    assert rows[views["5m"].states].tolist() == [200, *range(250, 700, 50)]
    assert rows[views["15m"].states].tolist() == [650]
    tables = by_state(views, len(rows))
    values, known = tables["15m"]
    assert known.tolist() == [row == 650 for row in rows]
    assert np.isnan(values[~known]).all()
    assert np.isfinite(values[known]).all()


def test_views_when_the_market_was_calm_of_late_then_volatility_says_so():
    returns = np.r_[np.full(180, 2e-3), np.full(20, 1e-3)] * np.where(np.arange(200) % 2, 1, -1)
    bars = market(201)
    close = 100.0 * np.exp(np.r_[0.0, np.cumsum(returns)])
    views = views_of(replace(bars, close=close), [200], [201])
    whole = np.sqrt((180 * 4e-6 + 20 * 1e-6) / 200)
    assert views["5m"].volatility == pytest.approx([1e-3 / whole])


def test_views_when_the_price_is_frozen_then_no_division_by_zero():
    bars = replace(market(201), close=np.full(201, 7.0))
    assert views_of(bars, [200], [201])["5m"].volatility == pytest.approx([0.0])


def view(quantiles, elapsed, ahead):
    quantiles = np.asarray(quantiles)
    n = len(quantiles)
    return View("x", np.arange(n), quantiles, np.full(n, elapsed), ahead, np.ones(n))


PATHS = {"gauss": NORMAL, "heavy tails": t4_ppf(LEVELS)}
HORIZONS = st.sampled_from([5 / 12, 5 / 6, 5 / 3, 1.0, 5.0, 15.0, 25.0, 60.0])


@given(
    st.sampled_from(list(PATHS.values())), st.floats(-1e-3, 1e-3), st.floats(1e-5, 1e-2),
    st.floats(0.0, 0.99), HORIZONS,
)  # fmt: skip
def test_at_horizon_when_prices_walk_then_spread_by_the_root_of_time_and_median_by_time(
    shape, drift, spread, elapsed, ahead
):
    k = np.arange(1, AHEAD + 1)[:, None]
    path = drift * k + spread * np.sqrt(k) * shape
    got = view(path[None], elapsed, ahead).at_horizon()[0]
    np.testing.assert_allclose(got, drift * ahead + spread * np.sqrt(ahead) * shape, atol=1e-12)


@given(st.integers(0, 2**31), st.floats(0.0, 0.99), HORIZONS)
def test_at_horizon_when_quantiles_are_in_order_then_they_stay_in_order(seed, elapsed, ahead):
    rng = np.random.default_rng(seed)
    paths = np.sort(rng.normal(size=(4, AHEAD, 9)) * rng.uniform(0, 2, (4, AHEAD, 1)), axis=2)
    got = view(paths, elapsed, ahead).at_horizon()
    assert np.isfinite(got).all()
    assert (np.diff(got, axis=1) >= 0).all()


def test_at_horizon_when_a_whole_number_of_bars_ahead_then_the_model_s_own_quantiles():
    paths = np.sort(np.random.default_rng(1).normal(size=(3, AHEAD, 9)), axis=2)
    np.testing.assert_allclose(view(paths, 0.0, 5.0).at_horizon(), paths[:, 4], atol=1e-15)
    np.testing.assert_allclose(view(paths, 0.0, 15.0).at_horizon(), paths[:, 14], atol=1e-15)
