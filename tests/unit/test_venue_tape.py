"""Prints inside bars: they add up to the bars, on every timeframe, and to nothing of the future."""

from __future__ import annotations

import numpy as np
import pytest

from data.resample import resample
from domain.errors import DataRefused
from domain.market import BarFrame
from domain.times import timeframe_ms
from sim.venue.market import Stored
from sim.venue.tape import STEP_MS, MadeTape
from sim.worlds import DEMO_START_MS, DemoMarket

COLUMNS = ("ts", "open", "high", "low", "close")
DAY = 86_400_000
END = DEMO_START_MS + 3 * DAY


@pytest.fixture(scope="module")
def tape() -> MadeTape:
    return MadeTape(DemoMarket(), 0.01, seed=7)


def same(one: BarFrame, other: BarFrame) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.volume, other.volume, rtol=1e-12)


def test_prints_add_up_to_the_bars_that_they_are_from(tape: MadeTape) -> None:
    own = DemoMarket().bars(DEMO_START_MS, 288)
    made = tape.bars("1m", DEMO_START_MS, 288 * 5, END)
    same(resample(made, "5m"), own)
    same(tape.bars("5m", DEMO_START_MS, 288, END), own)
    assert len(made) == 288 * 5
    assert np.ptp(made.close[:5]) > 0.0  # there is life inside a bar


@pytest.mark.parametrize("timeframe", ["1m", "3m", "5m", "15m", "30m", "1h", "4h"])
def test_every_timeframe_agrees_with_the_minutes(tape: MadeTape, timeframe: str) -> None:
    minutes = tape.bars("1m", DEMO_START_MS, 24 * 60, END)
    n = DAY // timeframe_ms(timeframe)
    same(tape.bars(timeframe, DEMO_START_MS, n, END), resample(minutes, timeframe))


def test_the_newest_bar_is_as_far_as_it_is_and_knows_nothing_later(tape: MadeTape) -> None:
    now = DEMO_START_MS + DAY + 7 * 60_000 + 31_000
    bars = tape.bars("5m", DEMO_START_MS, 10_000, now)
    assert int(bars.ts[-1]) == DEMO_START_MS + DAY + 5 * 60_000
    seen = tape.prints(int(bars.ts[-1]), now + 1)
    assert bars.close[-1] == seen.price[-1]
    assert bars.high[-1] == seen.price.max()
    assert seen.at[-1] <= now < seen.at[-1] + STEP_MS
    whole = DemoMarket().bars(int(bars.ts[-1]), 1)
    assert bars.volume[-1] < whole.volume[0]


def test_prints_are_the_same_whenever_they_are_asked_for() -> None:
    one, other = (MadeTape(DemoMarket(), 0.01, seed=7) for _ in range(2))
    late = other.prints(END - 60_000, END)
    whole = one.prints(END - DAY, END)
    np.testing.assert_array_equal(whole.price[-len(late) :], late.price)
    assert (np.diff(whole.at) == STEP_MS).all()
    assert (whole.qty > 0.0).all()
    assert not np.array_equal(MadeTape(DemoMarket(), 0.01, seed=8).prints(END - 60_000, END).price,
                              late.price)  # fmt: skip


@pytest.mark.parametrize("step", [0.00001, 0.001])
def test_prints_are_of_whole_steps_and_add_up(step: float) -> None:
    bars = DemoMarket().bars(DEMO_START_MS, 100)
    on_step = BarFrame(
        bars.symbol, bars.timeframe, bars.ts, bars.open, bars.high, bars.low, bars.close,
        np.round(np.round(bars.volume / step) * step, 10),
    )  # fmt: skip
    for world, off in ((Stored(on_step), 0), (DemoMarket(), 1)):
        tape = MadeTape(world, 0.01, 7, step)
        for bar in world.bars(DEMO_START_MS, 20).bars():
            qty = tape.prints(bar.open_ms, bar.close_ms).qty
            lots = qty / step
            assert (qty > 0.0).all()
            assert int((np.abs(lots - np.round(lots)) > 1e-6).sum()) <= off
            assert qty.sum() == pytest.approx(bar.volume, rel=1e-14)
    small = DemoMarket().bars(DEMO_START_MS, 1)
    thin = BarFrame(small.symbol, "5m", small.ts, small.open, small.high, small.low, small.close,
                    np.array([step * 3]))  # fmt: skip
    qty = MadeTape(Stored(thin), 0.01, 7, step).prints(DEMO_START_MS, DEMO_START_MS + 300_000).qty
    assert qty.sum() == pytest.approx(3 * step)


def test_stored_bars_end_and_a_hole_is_flat_and_untraded() -> None:
    bars = DemoMarket().bars(DEMO_START_MS, 100)
    keep = np.ones(100, dtype=bool)
    keep[40:43] = False
    columns = (
        getattr(bars, name)[keep] for name in ("ts", "open", "high", "low", "close", "volume")
    )
    world = Stored(BarFrame(bars.symbol, bars.timeframe, *columns))
    shown = world.bars(DEMO_START_MS, 100)
    np.testing.assert_array_equal(shown.close[40:43], bars.close[39])
    np.testing.assert_array_equal(shown.volume[40:43], 0.0)
    np.testing.assert_array_equal(shown.close[43:], bars.close[43:])
    with pytest.raises(DataRefused, match="stored"):
        world.bars(int(bars.ts[-1]), 2)
    flat = MadeTape(world, 0.01).prints(int(bars.ts[40]), int(bars.ts[41]))
    assert (flat.price == bars.close[39]).all()


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h"])
def test_a_bar_is_the_same_to_the_bit_however_it_is_asked_for(
    tape: MadeTape, timeframe: str
) -> None:
    step = timeframe_ms(timeframe)
    first = DEMO_START_MS + DAY
    many = tape.bars(timeframe, first, 40, END)
    for n in range(40):
        alone = tape.bars(timeframe, first + n * step, 1, END).bar(0)
        last = tape.bars(timeframe, first, n + 1, END).bar(-1)
        just = tape.bars(timeframe, first + n * step, 1, first + (n + 1) * step).bar(0)
        assert many.bar(n) == alone == last == just
