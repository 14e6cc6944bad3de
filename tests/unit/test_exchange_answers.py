"""Answers of an exchange that are garbled: no bar comes of them, and no crash."""

from __future__ import annotations

import math
from typing import Any

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.answers import bars_of, hours_of, settled_of, time_of
from data.sources.exchange import TRIES, Caller, connect
from domain.errors import DataRefused, ServiceUnreachable

MINUTE = 60_000
GOOD = [[MINUTE * i, 100.0, 101.5, 99.0, 100.5, 2.0] for i in range(1, 6)]
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


def test_bars_when_rows_are_whole_then_they_are_the_bars() -> None:
    frame = bars_of(GOOD, "BTC/USDT", "1m")
    assert frame.ts.tolist() == [row[0] for row in GOOD]
    assert frame.high.tolist() == [101.5] * 5
    assert len(bars_of([], "BTC/USDT", "1m")) == 0


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, MINUTE + 1), (0, None), (0, -MINUTE), (0, 4 * MINUTE), (0, True), (0, 1e300),
        (1, math.nan), (1, "abc"), (2, 100.0), (3, 0.0), (3, 100.2), (4, None), (5, -1.0),
        (5, math.inf), (2, [101.5]),
    ],
)  # fmt: skip
def test_bars_when_a_value_cannot_be_then_none_of_them_is_taken(place: int, value: Any) -> None:
    rows = [list(row) for row in GOOD]
    rows[1][place] = value
    with pytest.raises(DataRefused, match="bars of BTC/USDT 1m"):
        bars_of(rows, "BTC/USDT", "1m")


@given(anything)
def test_bars_when_anything_comes_then_they_are_bars_or_it_is_refused(rows: Any) -> None:
    try:
        frame = bars_of(rows, "BTC/USDT", "1m")
    except DataRefused:
        return
    assert (frame.low > 0).all()
    assert (frame.high >= frame.low).all()


PAID = [{"timestamp": 28_800_003, "fundingRate": "0.0001"}, {"timestamp": 2, "fundingRate": -0.75}]


def test_settled_when_rows_are_whole_then_they_are_stamps_and_rates_in_order() -> None:
    assert settled_of(PAID, "BTC/USDT:USDT") == [(2, -0.75), (28_800_003, 0.0001)]
    assert settled_of([], "BTC/USDT:USDT") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestamp", None), ("timestamp", "2"), ("timestamp", -1), ("timestamp", 2.5),
        ("fundingRate", None), ("fundingRate", "abc"), ("fundingRate", math.nan),
        ("fundingRate", 1.0), ("fundingRate", True),
    ],
)  # fmt: skip
def test_settled_when_a_value_cannot_be_then_none_of_them_is_taken(name: str, value: Any) -> None:
    with pytest.raises(DataRefused):
        settled_of([PAID[0], PAID[1] | {name: value}], "BTC/USDT:USDT")


@given(anything)
def test_settled_when_anything_comes_then_it_is_rates_or_refused(rows: Any) -> None:
    try:
        found = settled_of(rows, "BTC/USDT:USDT")
    except DataRefused:
        return
    assert all(abs(rate) < 1.0 for _, rate in found)


def test_hours_when_told_then_those_that_make_a_day_are_taken() -> None:
    told = {"A": {"interval": "4h"}, "B": {"interval": "1h"}, "C": {"interval": None},
            "D": {"interval": "5h"}, "E": None, "F": {"interval": "48h"}}  # fmt: skip
    assert hours_of(told) == {"A": 4, "B": 1, "C": None, "D": None, "E": None, "F": None}


@given(anything)
def test_hours_when_anything_comes_then_they_make_a_day_or_it_is_refused(value: Any) -> None:
    try:
        assert all(hours is None or 24 % hours == 0 for hours in hours_of(value).values())
    except DataRefused:
        assert not isinstance(value, dict)


@given(anything)
def test_time_when_anything_comes_then_it_is_a_time_or_refused(value: Any) -> None:
    try:
        assert 0 < time_of(value) < 1 << 53
    except DataRefused:
        return


@pytest.mark.parametrize(
    "error",
    [TypeError("int()"), KeyError("symbol"), IndexError(0), ValueError("x"), AttributeError("get"),
     ZeroDivisionError(), DataRefused("bars", "must be bars")],
)  # fmt: skip
def test_caller_when_ccxt_cannot_read_an_answer_then_it_asks_again(error: Exception) -> None:
    waits: list[float] = []
    answers: list[Any] = [error, error, 7]

    def ask() -> int:
        told = answers.pop(0)
        if isinstance(told, Exception):
            raise told
        return int(told)

    assert Caller(connect("binance", "spot"), waits.append)(ask) == 7
    assert len(waits) == 2
    answers[:] = [error] * TRIES
    with pytest.raises(ServiceUnreachable, match="did not answer in 8 attempts"):
        Caller(connect("binance", "spot"), waits.append)(ask)
    assert isinstance(connect("binance", "spot"), ccxt.binance)


def test_caller_when_it_was_told_to_wait_then_it_asks_nothing_until_then() -> None:
    exchange = connect("binance", "spot")
    exchange.last_response_headers = {"Retry-After": "3600"}
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        raise ccxt.DDoSProtection("418")

    caller = Caller(exchange, lambda _: None, tries=1)
    with pytest.raises(ServiceUnreachable, match="did not answer in 1 attempt"):
        caller(ask)
    for _ in range(3):
        with pytest.raises(ServiceUnreachable, match="asks to wait"):
            caller(ask)
    assert len(asked) == 1
