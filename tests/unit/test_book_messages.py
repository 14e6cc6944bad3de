"""Messages of order books and trades: whatever comes, what was said or nothing."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.book_messages import BestQuote, Print, Said, said_of, snapshot_of
from data.sources.order_book import Diff, Snapshot
from domain.errors import DataRefused
from domain.market import Trade

SPOT, PERP = {"BTCUSDT": "BTC/USDT"}, {"BTCUSDT": "BTC/USDT:USDT"}
T0 = 1_735_689_600_000
BIDS, ASKS = [["100.1", "2"], ["100.0", "1.5"]], [["100.2", "3"]]
READ = ((100.1, 2.0), (100.0, 1.5)), ((100.2, 3.0),)
DEPTH: dict[str, Any] = {"e": "depthUpdate", "E": T0, "s": "BTCUSDT", "U": 7, "u": 9, "b": BIDS,
                         "a": [["100.2", "0"]]}  # fmt: skip
TRADE: dict[str, Any] = {"e": "trade", "E": T0, "s": "BTCUSDT", "t": 5, "p": "100.1", "q": "0.5",
                         "T": T0 - 1, "m": True, "M": True}  # fmt: skip
TICKER: dict[str, Any] = {"u": 3, "s": "BTCUSDT", "b": "100.1", "B": "2", "a": "100.2", "A": "3"}
BOOK: dict[str, Any] = {"lastUpdateId": 9, "bids": BIDS, "asks": ASKS}


def depth(**changes: Any) -> str:
    return json.dumps({**DEPTH, **changes})


def trade(**changes: Any) -> str:
    return json.dumps({**TRADE, **changes})


def ticker(**changes: Any) -> str:
    return json.dumps({**TICKER, **changes})


def combined(stream: str, body: dict[str, Any]) -> str:
    return json.dumps({"stream": stream, "data": body})


@pytest.mark.parametrize(
    ("text", "symbols", "said"),
    [
        (depth(), SPOT, Diff("BTC/USDT", T0, 7, 9, None, READ[0], ((100.2, 0.0),))),
        (combined("btcusdt@depth@100ms", DEPTH), SPOT,
         Diff("BTC/USDT", T0, 7, 9, None, READ[0], ((100.2, 0.0),))),
        (depth(pu=4, T=T0), PERP, Diff("BTC/USDT:USDT", T0, 7, 9, 4, READ[0], ((100.2, 0.0),))),
        (combined("btcusdt@depth10@100ms", BOOK), SPOT, Snapshot("BTC/USDT", 9, *READ, 10)),
        (combined("btcusdt@depth5", {**DEPTH, "a": ASKS, "pu": 4}), PERP,
         Snapshot("BTC/USDT:USDT", 9, *READ, 5)),
        (trade(), SPOT, Print("BTC/USDT", 5, Trade(T0 - 1, 100.1, 0.5, True))),
        (trade(e="aggTrade", a=8, f=5, l=6), PERP,
         Print("BTC/USDT:USDT", 8, Trade(T0 - 1, 100.1, 0.5, True))),
        (ticker(), SPOT, BestQuote("BTC/USDT", 3, None, (100.1, 2.0), (100.2, 3.0))),
        (ticker(e="bookTicker", E=T0, T=T0), PERP,
         BestQuote("BTC/USDT:USDT", 3, T0, (100.1, 2.0), (100.2, 3.0))),
    ],
)  # fmt: skip
def test_what_was_said_is_read(text: str, symbols: dict[str, str], said: Said) -> None:
    assert said_of(text, symbols) == said
    assert said_of(text.encode(), symbols) == said


@pytest.mark.parametrize(
    "text",
    [
        depth(s="ETHUSDT"), trade(s="ETHUSDT"), ticker(s="ETHUSDT"), trade(e="kline"),
        combined("ethusdt@depth5", BOOK), combined("btcusdt@depth7", BOOK), "{}",
        '{"result": null, "id": 1}', json.dumps(BOOK),
    ],
)  # fmt: skip
def test_what_nobody_asked_about_is_nothing(text: str) -> None:
    assert said_of(text, SPOT) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "no JSON", "[]", "7", '{"data": 3}', "[" * 10_000, "x" * (1 << 21),
        depth(E=None), depth(E=0), depth(E="1"), depth(E=10**15), depth(U=10), depth(U=-1),
        depth(u=True), depth(u=1 << 63), depth(u=9.0), depth(b=None), depth(b={}), depth(b=[[]]),
        depth(b=[["1"]]), depth(b=[["1", "1", []]]), depth(b=["11"]), depth(a=[["0", "1"]]),
        depth(a=[["-1", "1"]]), depth(a=[["1", "-1"]]), depth(a=[["nan", "1"]]),
        depth(a=[["1", "inf"]]), depth(a=[["1", "1e400"]]), depth(a=[["1_0", "1"]]),
        depth(a=[["1", None]]), depth(a=[[True, "1"]]), depth(a=[["١", "1"]]),
        trade(p="0"), trade(q="-1"), trade(q=None), trade(T=None), trade(m="true"), trade(m=None),
        trade(t="5"), trade(t=-1), trade(p="1e400"), trade(p=[1]),
        ticker(b="100.2"), ticker(B="0"), ticker(a=None), ticker(u=None), ticker(E="1"),
        combined("btcusdt@depth5", {**BOOK, "bids": BIDS[::-1]}),
        combined("btcusdt@depth5", {**BOOK, "asks": BIDS}),
        combined("btcusdt@depth5", {**BOOK, "asks": [["100.2", "0"]]}),
        combined("btcusdt@depth5", {**BOOK, "lastUpdateId": "9"}), combined("btcusdt@depth5", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(DataRefused):
        said_of(text, SPOT)


@pytest.mark.parametrize("pu", [None, "4", -1, 9, 10])
def test_a_perpetual_s_diff_without_the_number_before_it_is_refused(pu: object) -> None:
    with pytest.raises(DataRefused, match="pu"):
        said_of(depth(pu=pu), PERP)


def test_a_book_over_http_is_read_or_refused() -> None:
    assert snapshot_of(BOOK, "BTC/USDT", 1_000) == Snapshot("BTC/USDT", 9, *READ, 1_000)
    for body in ({}, {**BOOK, "bids": None}, {**BOOK, "lastUpdateId": None}):
        with pytest.raises(DataRefused, match="book of BTC/USDT"):
            snapshot_of(body, "BTC/USDT", 1_000)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
texts = st.sampled_from(["1", "0", "1e400", "100.2", "0.001", "-1"])
rows = st.lists(st.lists(leaves | texts | st.floats(0.0, 9.0), max_size=3), max_size=4)
names = ["e", "E", "s", "U", "u", "pu", "b", "a", "B", "A", "T", "t", "p", "q", "m", "data",
         "stream", "lastUpdateId", "bids", "asks"]  # fmt: skip
kinds = st.sampled_from(["depthUpdate", "trade", "aggTrade", "bookTicker", "kline", "BTCUSDT"])
streams = st.sampled_from(["btcusdt@depth5", "btcusdt@depth20@100ms", "btcusdt@depth", ""])
bodies = st.recursive(
    leaves | texts | kinds | streams, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(names), inner, max_size=12
    ), max_leaves=25,
)  # fmt: skip
changed = st.dictionaries(st.sampled_from(names), leaves | texts | kinds | rows, max_size=3)
known = st.sampled_from([DEPTH, {**DEPTH, "pu": 4}, TRADE, {**TRADE, "a": 8}, TICKER, BOOK])
near = st.builds(lambda body, other: {**body, **other}, known, changed)


@pytest.mark.long
@given(
    st.one_of(
        bodies.map(json.dumps),
        near.map(json.dumps),
        st.text(),
        st.binary(),
        st.builds(lambda stream, body: json.dumps({"stream": stream, "data": body}), streams, near),
    ),
    st.sampled_from([SPOT, PERP]),
)
def test_whatever_comes_it_can_be_or_is_none(text: str | bytes, symbols: dict[str, str]) -> None:
    try:
        said = said_of(text, symbols)
    except DataRefused:
        return
    if said is None:
        return
    assert said.symbol == symbols["BTCUSDT"]
    if isinstance(said, Print):
        assert 0.0 < said.trade.price < inf
        assert 0.0 < said.trade.qty < inf
        assert said.trade.at > 0
        assert said.number >= 0
    elif isinstance(said, BestQuote):
        assert 0.0 < said.bid[0] < said.ask[0] < inf
        assert min(said.bid[1], said.ask[1]) > 0.0
    else:
        for price, qty in (*said.bids, *said.asks):
            assert 0.0 < price < inf
            assert 0.0 <= qty < inf
        if isinstance(said, Snapshot):
            assert not (said.bids and said.asks) or said.bids[0][0] < said.asks[0][0]
        else:
            assert 0 <= said.first <= said.last
            assert (said.before is None) == (symbols is SPOT)
