"""Markets drawn from old bars: whole blocks, all symbols together, by regime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from domain.times import DAY_MS
from sim.worlds import DEMO_START_MS, REGIMES, RandomWalk, Resampled

DAYS = 40


@pytest.fixture(scope="module")
def past() -> dict[str, BarFrame]:
    worlds = (RandomWalk(3), RandomWalk(3, symbol="ETH/USDT"))
    return {world.symbol: world.bars(DEMO_START_MS, 288 * DAYS) for world in worlds}


@pytest.fixture(scope="module")
def drawn_from(past: dict[str, BarFrame]) -> Resampled:
    return Resampled(past)


def _moves(bars: BarFrame) -> np.ndarray:
    return np.diff(np.log(bars.close))


def test_every_block_is_one_of_the_past_and_all_symbols_take_the_same(
    past: dict[str, BarFrame], drawn_from: Resampled
) -> None:
    made = drawn_from.draw(5, DEMO_START_MS, 288 * 6)
    known = {symbol: _moves(bars) for symbol, bars in past.items()}
    size, found = drawn_from.block_bars, []
    for block in range(1, 24):
        rows = slice(block * size - 1, block * size + size - 1)
        places = []
        for symbol, bars in made.items():
            mine = _moves(bars)[rows]
            windows = np.lib.stride_tricks.sliding_window_view(known[symbol], size)
            close = np.flatnonzero(np.abs(windows - mine).max(axis=1) < 1e-9)
            assert len(close) == 1
            places.append(int(close[0]))
        assert places[0] == places[1]
        assert (places[0] + 1) % 288 == block * size % 288  # its own time of day
        found.append(places[0])
    assert len(set(found)) > 10


def test_bars_are_bars_and_prices_do_not_jump_between_blocks(drawn_from: Resampled) -> None:
    made = drawn_from.draw(11, DEMO_START_MS, 1_000)["BTC/USDT"]
    assert (made.high >= np.maximum(made.open, made.close)).all()
    assert (made.low <= np.minimum(made.open, made.close)).all()
    assert (made.low > 0).all()
    assert (np.diff(made.ts) == made.step_ms).all()
    np.testing.assert_allclose(made.open[1:], made.close[:-1], rtol=1e-4)


def test_a_longer_market_begins_as_a_shorter_one(drawn_from: Resampled) -> None:
    short = drawn_from.draw(2, DEMO_START_MS, 100)["ETH/USDT"]
    long = drawn_from.draw(2, DEMO_START_MS, 900)["ETH/USDT"]
    np.testing.assert_array_equal(short.close, long.close[:100])
    other = drawn_from.draw(3, DEMO_START_MS, 100)["ETH/USDT"]
    assert not np.array_equal(short.close, other.close)


def test_regimes_asked_for_are_those_drawn(drawn_from: Resampled) -> None:
    wild = drawn_from.draw(1, DEMO_START_MS, 288 * 10, ["wild, trending"])["BTC/USDT"]
    calm = drawn_from.draw(1, DEMO_START_MS, 288 * 10, ["calm, ranging"])["BTC/USDT"]
    assert _moves(wild).std() > 1.2 * _moves(calm).std()
    size = drawn_from.block_bars

    def straight(bars: BarFrame) -> float:
        parts = _moves(bars)[: size * 39].reshape(-1, size)
        return float(np.mean(np.abs(parts.sum(axis=1)) / np.abs(parts).sum(axis=1)))

    assert straight(wild) > 2 * straight(calm)


def test_chains_follow_the_transitions_of_the_past(past: dict[str, BarFrame]) -> None:
    # ten days calm, ten days wild: a regime stays
    bars = past["BTC/USDT"]
    wild = np.repeat(np.tile([1.0, 4.0], 2), 288 * DAYS // 4)
    moves = np.log(np.stack((bars.open, bars.high, bars.low, bars.close)))
    before = np.concatenate((moves[0, :1], moves[3, :-1]))
    scaled = (moves - before) * wild
    level = moves[0, 0] + np.cumsum(scaled[3]) - scaled[3]
    rows = np.exp(level + scaled)
    rows[1], rows[2] = rows.max(axis=0), rows.min(axis=0)
    frame = replace(bars, open=rows[0], high=rows[1], low=rows[2], close=rows[3])
    blocks = Resampled({"BTC/USDT": frame})
    chain = blocks.transitions()
    np.testing.assert_allclose(chain.sum(axis=1), 1.0)
    assert chain[:2, :2].sum(axis=1).min() > 0.8  # calm after calm
    assert chain[2:, 2:].sum(axis=1).min() > 0.8  # wild after wild
    labels = [label for _, label in blocks.labels()]
    assert {*labels} == {*REGIMES}


def test_what_cannot_be_drawn_is_refused(past: dict[str, BarFrame], drawn_from: Resampled) -> None:
    with pytest.raises(UsageError, match="divide a day"):
        Resampled(past, "7h")
    with pytest.raises(DataRefused, match="blocks of every regime"):
        Resampled({name: bars.slice(0, 288 * 5) for name, bars in past.items()})
    with pytest.raises(DataRefused, match="without a gap"):
        Resampled({name: bars.slice(0, 50) for name, bars in past.items()})
    with pytest.raises(UsageError, match="regime"):
        drawn_from.draw(1, DEMO_START_MS, 10, ["stormy"])
    with pytest.raises(UsageError, match="midnight"):
        drawn_from.draw(1, DEMO_START_MS + 300_000, 10)


def test_blocks_do_not_reach_over_gaps(past: dict[str, BarFrame]) -> None:
    holed = {}
    for name, bars in past.items():
        keep = np.ones(len(bars), dtype=bool)
        if name == "ETH/USDT":  # one symbol's gap is everybody's
            keep[288 * 3 + 10] = False
        columns = (getattr(bars, c)[keep] for c in ("open", "high", "low", "close", "volume"))
        holed[name] = BarFrame(bars.symbol, bars.timeframe, bars.ts[keep], *columns)
    starts = {start for start, _ in Resampled(holed).labels()}
    gap_day = DEMO_START_MS + 3 * DAY_MS
    whole = {start for start, _ in Resampled(past).labels()}
    assert whole - starts == {gap_day}
