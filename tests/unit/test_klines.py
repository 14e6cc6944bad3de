"""Messages of a stream: whatever comes, a right bar or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.klines import closed_bar
from domain.errors import DataRefused
from domain.market import Bar

SYMBOLS = {"BTCUSDT": "BTC/USDT"}
GOOD: dict[str, Any] = {
    "t": 1_735_689_600_000, "s": "BTCUSDT", "i": "5m", "o": "100.5", "h": "101", "l": "99.25",
    "c": "100", "v": "12.5", "x": True,
}  # fmt: skip


def message(**changes: Any) -> str:
    return json.dumps({"e": "kline", "E": 1, "s": "BTCUSDT", "k": {**GOOD, **changes}})


def test_a_closed_bar_is_read_single_or_combined() -> None:
    bar = Bar("BTC/USDT", "5m", 1_735_689_600_000, 100.5, 101.0, 99.25, 100.0, 12.5)
    assert closed_bar(message(), SYMBOLS, ("5m",)) == bar
    combined = json.dumps({"stream": "btcusdt@kline_5m", "data": json.loads(message())})
    assert closed_bar(combined, SYMBOLS, ("5m",)) == bar
    assert closed_bar(combined.encode(), SYMBOLS, ("5m",)) == bar


@pytest.mark.parametrize(
    "text",
    [
        message(x=False), message(s="ETHUSDT"), message(i="1m"), '{"result": null, "id": 1}',
        '{"e": "trade", "p": "1"}', "{}",
    ],
)  # fmt: skip
def test_what_is_no_closed_bar_of_ours_is_nothing(text: str) -> None:
    assert closed_bar(text, SYMBOLS, ("5m",)) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "no JSON", "[]", "7", '{"data": 3}', '{"e": "kline"}', '{"e": "kline", "k": []}',
        message(x="true"), message(t="1735689600000"), message(t=1_735_689_600_001),
        message(t=-300_000), message(t=True), message(o="nan"), message(h="inf"), message(l="0"),
        message(l="-1"), message(c="102"), message(o="99"), message(v="-1"), message(v=None),
        message(o=[1]), message(h=True), message(o="1_00"), message(o=" 100.5 "),
        message(o="١٠٠"), "[" * 10_000, "x" * 70_000,
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(DataRefused):
        closed_bar(text, SYMBOLS, ("5m",))


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
bodies = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["e", "k", "data", "s", "i", "t", "x", *"ohlcv"]), inner, max_size=10
    ), max_leaves=25,
)  # fmt: skip
changed = st.dictionaries(st.sampled_from(sorted(GOOD)), leaves | st.sampled_from(["1", "1e400"]))


@given(
    st.one_of(bodies.map(json.dumps), changed.map(lambda c: message(**c)), st.text(), st.binary())
)
def test_whatever_comes_it_is_a_bar_that_can_be_or_none(text: str | bytes) -> None:
    try:
        bar = closed_bar(text, SYMBOLS, ("5m",))
    except DataRefused:
        return
    if bar is not None:
        assert 0.0 < bar.low <= min(bar.open, bar.close)
        assert max(bar.open, bar.close) <= bar.high < float("inf")
        assert bar.volume >= 0.0
        assert bar.open_ms % 300_000 == 0
        assert (bar.symbol, bar.timeframe) == ("BTC/USDT", "5m")
