"""Bars of several timeframes, kept and compared: whatever order they come in, the same is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.resample import resample
from data.timeframes import TIMEFRAMES, Timeframes
from domain.market import BarFrame
from sim.worlds import DEMO_START_MS, RandomWalk

BTC, MINUTE = "BTC/USDT", 60_000
HOURS = 4
START = DEMO_START_MS


def minutes(n: int = HOURS * 60) -> BarFrame:
    return RandomWalk(3, timeframe="1m").bars(START, n)


BASE = minutes()
ALL = {name: resample(BASE, name) for name in TIMEFRAMES}


def changed(bars: BarFrame, name: str, row: int, value: float) -> BarFrame:
    column = getattr(bars, name).copy()
    column[row] = value
    return replace(bars, **{name: column})


def without(bars: BarFrame, row: int) -> BarFrame:
    return BarFrame.join(
        bars.symbol, bars.timeframe, [bars.slice(0, row), bars.slice(row + 1, len(bars))]
    )


def same(left: BarFrame, right: BarFrame) -> bool:
    names = ("ts", "open", "high", "low", "close", "volume")
    return all(np.array_equal(getattr(left, one), getattr(right, one)) for one in names)


@pytest.mark.long
@given(st.data())
def test_bars_however_they_are_cut_and_mixed_are_all_kept_and_all_compared(
    data: st.DataObject,
) -> None:
    kept, at = Timeframes(BTC), dict.fromkeys(TIMEFRAMES, 0)
    while any(at[name] < len(ALL[name]) for name in TIMEFRAMES):
        name = data.draw(st.sampled_from([one for one in TIMEFRAMES if at[one] < len(ALL[one])]))
        n = data.draw(st.integers(1, len(ALL[name])))
        part = ALL[name].slice(at[name], at[name] + n)
        assert kept.take(part) == len(part)
        assert kept.take(part) == 0  # told twice
        at[name] += n
    for name in TIMEFRAMES:
        one = kept.kept[name]
        assert same(one.frame, ALL[name])
        assert (one.whole, one.gaps, one.invalid) == (len(ALL[name]), 0, 0)
        assert one.compared == (0 if name == "1m" else len(ALL[name]))
    assert kept.different == 0


@given(
    st.sampled_from(TIMEFRAMES[1:]), st.sampled_from(["open", "high", "low", "close", "volume"]),
    st.integers(0, HOURS - 1),
)  # fmt: skip
def test_one_bar_that_is_another_is_counted_once_and_named(name: str, field: str, row: int) -> None:
    kept, own = Timeframes(BTC), ALL[name]
    # further from the others than any bar of the walk, and still a bar
    away = {"high": 2.0, "low": 0.5, "volume": 1.5}.get(field)
    value = getattr(own, field)[row] * away if away else (own.low[row] + own.high[row]) / 2
    if value == getattr(own, field)[row]:
        return
    kept.take(changed(own, field, row, value))
    kept.take(BASE)
    one = kept.kept[name]
    assert (one.compared, one.different, one.first) == (len(own), 1, int(own.ts[row]))


def test_bars_whose_minutes_are_not_all_there_are_not_compared() -> None:
    kept = Timeframes(BTC)
    kept.take(without(BASE, 7))
    kept.take(ALL["5m"])
    assert kept.kept["5m"].compared == len(ALL["5m"]) - 1
    assert kept.kept["1m"].gaps == 1
    assert kept.kept["1m"].whole == len(BASE) - 8


def test_no_more_is_kept_than_was_said_and_the_newest_of_it() -> None:
    kept = Timeframes(BTC, keep=50)
    for first in range(0, len(BASE), 7):
        kept.take(BASE.slice(first, first + 7))
        assert len(kept.kept["1m"].frame) <= 50
    assert same(kept.kept["1m"].frame, BASE.slice(len(BASE) - 50, len(BASE)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("close", float("nan")), ("high", float("inf")), ("low", 0.0), ("low", -1.0),
        ("volume", -1.0), ("low", 1e9), ("high", 1e-9), ("open", 1e9),
    ],
)  # fmt: skip
def test_what_cannot_be_a_bar_is_left_out_and_makes_a_gap(field: str, value: float) -> None:
    kept = Timeframes(BTC)
    assert kept.take(changed(BASE, field, 100, value)) == len(BASE) - 1
    one = kept.kept["1m"]
    assert (one.invalid, one.gaps, one.whole) == (1, 1, len(BASE) - 101)
    assert np.isfinite(one.frame.close).all()


def test_a_bar_that_does_not_open_where_bars_do_is_left_out() -> None:
    kept = Timeframes(BTC)
    ts = BASE.ts.copy()
    ts[3] += 1
    kept.take(replace(BASE, ts=ts))
    assert kept.kept["1m"].invalid == 1


def test_nothing_is_known_of_what_never_came() -> None:
    one = Timeframes(BTC).kept["1h"]
    assert (len(one.frame), one.whole, one.gaps, one.close_ms) == (0, 0, 0, 0)
