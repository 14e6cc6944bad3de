"""Generated markets: the same bits wherever one starts, an edge exactly where it was planted."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from domain.ports import MarketSource
from domain.scores import auc
from sim.worlds import (
    BLOCK,
    DEMO_START_MS,
    DemoMarket,
    DemoSource,
    GeneratedWorld,
    PlantedEdge,
    RandomWalk,
    World,
)

STEP = 300_000
COST = 13e-4


def columns(frame: BarFrame) -> np.ndarray:
    return np.vstack([frame.ts, frame.open, frame.high, frame.low, frame.close, frame.volume])


def open_of(index: int) -> int:
    return DEMO_START_MS + index * STEP


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    first=st.integers(0, 3 * BLOCK),
    n=st.integers(0, 2 * BLOCK),
    kind=st.sampled_from([DemoMarket, RandomWalk, PlantedEdge]),
)
def test_world_when_entered_anywhere_then_its_bars_are_the_bits_of_one_long_run(
    seed: int, first: int, n: int, kind: type[GeneratedWorld]
) -> None:
    whole = kind(seed).bars(DEMO_START_MS, 5 * BLOCK + 1)
    part = kind(seed).bars(open_of(first), n)
    np.testing.assert_array_equal(columns(whole.slice(first, first + n)), columns(part))


def test_world_when_old_blocks_were_dropped_then_they_come_back_the_same() -> None:
    world: World = DemoMarket()
    before = world.bars(DEMO_START_MS, BLOCK)
    world.bars(open_of(100 * BLOCK), BLOCK)
    np.testing.assert_array_equal(columns(before), columns(world.bars(DEMO_START_MS, BLOCK)))


def test_world_when_seed_or_pair_differ_then_moves_differ_but_a_perpetual_is_its_spot() -> None:
    def moves(seed: int, symbol: str) -> np.ndarray:
        return np.diff(np.log(DemoMarket(seed, symbol).bars(DEMO_START_MS, BLOCK).close))

    assert not np.allclose(moves(7, "BTC/USDT"), moves(8, "BTC/USDT"))
    assert abs(np.corrcoef(moves(7, "BTC/USDT"), moves(7, "ETH/USDT"))[0, 1]) < 0.4
    np.testing.assert_array_equal(moves(7, "BTC/USDT"), moves(7, "BTC/USDT:USDT"))


def test_world_when_asked_before_its_start_or_off_its_grid_then_it_refuses() -> None:
    with pytest.raises(DataRefused, match="from 2025-01-01"):
        DemoMarket().bars(DEMO_START_MS - STEP, 1)
    with pytest.raises(DataRefused):
        DemoMarket().bars(DEMO_START_MS + 1, 1)
    with pytest.raises(UsageError, match="multiple of 5m"):
        DemoMarket(start_ms=DEMO_START_MS + 1)


@pytest.mark.parametrize("world", [DemoMarket(), RandomWalk(3), PlantedEdge(3)])
def test_world_when_looked_at_then_every_bar_is_one_a_market_could_print(
    world: GeneratedWorld,
) -> None:
    frame = world.bars(DEMO_START_MS, 20 * BLOCK)
    assert np.all(np.diff(frame.ts) == STEP)
    np.testing.assert_array_equal(frame.open[1:], frame.close[:-1])
    assert np.all(frame.high >= np.maximum(frame.open, frame.close))
    assert np.all(frame.low <= np.minimum(frame.open, frame.close))
    assert np.all(frame.low > 0)
    assert np.all(frame.volume > 0)
    size = np.abs(np.diff(np.log(frame.close)))
    assert np.corrcoef(size, np.log(frame.volume[1:]))[0, 1] > 0.2
    np.testing.assert_allclose(frame.close / world.tick, np.round(frame.close / world.tick))


def test_demo_when_volatility_is_measured_then_it_varies_with_clusters_season_and_jumps() -> None:
    frame = RandomWalk(5).bars(DEMO_START_MS, 200 * BLOCK)
    moves = np.diff(np.log(frame.close))
    hour = (frame.ts[1:] // 3_600_000) % 24
    assert moves[hour == 15].std() > 1.3 * moves[hour == 3].std()
    size = np.abs(moves)
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.05
    assert ((moves - moves.mean()) ** 4).mean() / moves.var() ** 2 > 3.5


def test_book_when_asked_at_a_close_then_it_brackets_it_with_enough_money_to_trade() -> None:
    world = DemoMarket()
    frame = world.bars(DEMO_START_MS, 50)
    spreads = world.spread_bps(DEMO_START_MS, 50)
    for i in range(50):
        book = world.book(open_of(i + 1), levels=20)
        assert book.mid == pytest.approx(frame.close[i], rel=1e-9)
        assert book.spread_bps == pytest.approx(spreads[i], rel=1e-6)
        assert 0.02 < book.spread_bps < 10
        assert book.liquidity(5) > 50_000
        prices = [p for p, _ in book.bids[::-1]] + [p for p, _ in book.asks]
        assert prices == sorted(prices)
        assert len(set(prices)) == 40
        assert min(q for _, q in book.bids + book.asks) > 0
    assert DemoMarket().book(open_of(50)) == world.book(open_of(50))


def forecast(frame: BarFrame, train: int) -> np.ndarray:
    """Forecast 5 bars ahead by ridge regression on past returns; fitted on the first rows."""
    close = np.log(frame.close)
    past = [close - np.concatenate([np.full(w, close[0]), close[:-w]]) for w in (1, 2, 3, 6, 12)]
    x = np.column_stack([*past, np.full(len(close), 1e-3)])
    fit, y = x[12 : train - 5], close[17:train] - close[12 : train - 5]
    beta = np.linalg.solve(fit.T @ fit + 1e-6 * np.eye(x.shape[1]), fit.T @ y)
    return np.asarray(x @ beta)


def round_trips(signal: np.ndarray) -> list[int]:
    """Sides of the trades that a 5-bar horizon with extension and reversal would close."""
    side, until, closed = 0, 0, []
    for i, want in enumerate(signal.tolist()):
        if side and (want == -side or (i >= until and want != side)):
            closed.append(side)
            side = 0
        if want:
            side, until = want, i + 5
    return closed


def test_demo_when_traded_on_the_past_alone_then_ten_minutes_show_both_sides() -> None:
    warm_up, n = 30 * BLOCK, 60 * BLOCK
    frame = DemoMarket().bars(DEMO_START_MS, n)
    expected = forecast(frame, warm_up)
    signal = np.where(expected > COST, 1, np.where(expected < -COST, -1, 0))
    assert 0.2 < np.mean(signal[warm_up:] == 0) < 0.7
    windows = [round_trips(signal[at : at + 120]) for at in range(warm_up, n - 120, 30)]
    good = [len(trips) >= 5 and {1, -1} <= set(trips) for trips in windows]
    assert good[0]
    assert np.mean(good) >= 0.95


def test_demo_when_the_favoured_side_is_held_then_adverse_half_percent_moves_are_rare() -> None:
    warm_up, n = 30 * BLOCK, 60 * BLOCK
    frame = DemoMarket().bars(DEMO_START_MS, n)
    expected = forecast(frame, warm_up)[: n - 5]
    lows = np.lib.stride_tricks.sliding_window_view(frame.low[1:], 5).min(axis=1)
    drop = 1 - lows / frame.close[: n - 5]
    assert np.mean(drop[expected > COST] > 0.005) < 0.05


@pytest.mark.long
def test_random_walk_when_forecast_then_there_is_no_edge() -> None:
    scores = []
    for seed in range(6):
        frame = RandomWalk(seed).bars(DEMO_START_MS, 100 * BLOCK)
        close = np.log(frame.close)
        expected = forecast(frame, 50 * BLOCK)
        rows = np.arange(50 * BLOCK, len(close) - 5)
        scores.append(auc(expected[rows], close[rows + 5] > close[rows]))
    assert np.mean(scores) == pytest.approx(0.5, abs=0.008)
    assert not np.any(RandomWalk(1).planted_drift(DEMO_START_MS, 3 * BLOCK))


@pytest.mark.long
def test_planted_edge_when_forecast_then_it_is_found_and_as_weak_as_on_real_bars() -> None:
    scores = []
    for seed in range(6):
        world = PlantedEdge(seed)
        frame = world.bars(DEMO_START_MS, 100 * BLOCK)
        close = np.log(frame.close)
        expected = forecast(frame, 50 * BLOCK)
        rows = np.arange(50 * BLOCK, len(close) - 5)
        up = close[rows + 5] > close[rows]
        scores.append(auc(expected[rows], up))
        assert auc(world.planted_drift(DEMO_START_MS, len(close))[rows + 1], up) > 0.5
    assert 0.52 < np.mean(scores) < 0.55


def test_demo_source_when_streamed_then_symbols_are_merged_by_time_after_the_history() -> None:
    source: MarketSource = DemoSource(["BTC/USDT", "ETH/USDT"], warm_up_days=2)
    assert isinstance(source, DemoSource)
    history = source.history()
    assert [len(frame) for frame in history.values()] == [2 * BLOCK] * 2
    assert int(history["BTC/USDT"].ts[-1]) + STEP == source.live_ms
    assert len(source.history(days=1)["ETH/USDT"]) == BLOCK
    bars = list(islice(source.stream({}), 2 * BLOCK + 6))
    assert [bar.symbol for bar in bars[:4]] == ["BTC/USDT", "ETH/USDT"] * 2
    assert [bar.open_ms for bar in bars[::2]] == [
        source.live_ms + i * STEP for i in range(BLOCK + 3)
    ]
    assert source.label == "demo"


def test_demo_source_when_resumed_then_it_goes_on_after_the_last_known_bar() -> None:
    symbols = ["BTC/USDT", "ETH/USDT"]
    bars = list(islice(DemoSource(symbols).stream({}), 40))
    after = {"BTC/USDT": bars[18].open_ms, "ETH/USDT": bars[17].open_ms}
    assert list(islice(DemoSource(symbols).stream(after), 21)) == bars[19:]
    assert DemoSource(symbols).look("ETH/USDT", bars[1].close_ms).book.at == bars[1].close_ms
