"""The venue's streams, heard by a plain WebSocket client and by ccxt.pro."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import ccxt.pro
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect

from data.sources.exchange_urls import moved
from sim.venue.market import Markets
from sim.venue.messages import stream_of
from sim.venue.tape import STEP_MS
from sim.worlds import DemoMarket
from tests.venue_server import BTC, markets, venue

SPEED = 240.0  # a print each 10 ms
Said = list[dict[str, Any]]


@pytest.fixture(scope="module")
def made() -> Markets:
    return markets(speed=SPEED)


@pytest.fixture(scope="module")
def url(made: Markets) -> Iterator[str]:
    with venue(made=made) as address:
        yield address


async def heard(socket: ClientConnection, n: int) -> Said:
    return [json.loads(await asyncio.wait_for(socket.recv(), 10)) for _ in range(n)]


def listen(url: str, path: str, n: int) -> Said:
    async def run() -> Said:
        async with ws_connect(url.replace("http", "ws") + path, max_queue=None) as socket:
            return await heard(socket, n)

    return asyncio.run(run())


def test_closed_bars_of_a_stream_are_those_of_the_market(url: str) -> None:
    said = listen(url, "/ws/btcusdt@kline_1m", 120)
    closed = [body["k"] for body in said if body["k"]["x"]]
    assert len(closed) >= 3
    assert set(np.diff([bar["t"] for bar in closed])) == {60_000}  # none lost, none twice
    own = markets().tape(markets().listing("spot", "BTCUSDT"))
    for bar in closed:
        made = own.bars("1m", bar["t"], 1, bar["T"]).bar(0)
        told = tuple(float(bar[name]) for name in "ohlcv")
        assert told == (made.open, made.high, made.low, made.close, made.volume)
    for body in said:
        bar = body["k"]
        assert float(bar["l"]) <= float(bar["c"]) <= float(bar["h"])
        assert bar["t"] <= body["E"] <= bar["T"] + 1


def test_five_minute_bars_end_as_the_market_s_own(url: str) -> None:
    said = listen(url, "/ws/btcusdt@kline_5m", 140)
    closed = [body["k"] for body in said if body["k"]["x"]]
    assert closed
    for bar in closed:
        own = DemoMarket(7).bars(bar["t"], 1).bar(0)
        assert [float(bar[name]) for name in "ohlc"] == [own.open, own.high, own.low, own.close]
        assert float(bar["v"]) == pytest.approx(own.volume, rel=1e-12)


@pytest.mark.parametrize(("prefix", "futures"), [("", False), ("/fstream", True)])
def test_a_book_kept_by_diffs_is_the_book(
    url: str, made: Markets, prefix: str, futures: bool
) -> None:
    async def run() -> tuple[dict[str, Any], Said]:
        address = url.replace("http", "ws") + f"{prefix}/ws/btcusdt@depth@100ms"
        async with ws_connect(address, max_queue=None) as socket:
            said = await heard(socket, 3)
            path = "/fapi/v1" if futures else "/api/v3"
            asked = await asyncio.to_thread(_get, f"{url}{path}/depth?symbol=BTCUSDT&limit=1000")
            while said[-1]["u"] <= asked["lastUpdateId"] + 100:  # and what came meanwhile
                said += await heard(socket, 1)
            return asked, said

    start, said = asyncio.run(run())
    last = int(start["lastUpdateId"])
    sides = [{float(p): float(q) for p, q in start[name]} for name in ("bids", "asks")]
    follow = [body for body in said if body["u"] > last]
    assert follow[0]["U"] <= last + 1 <= follow[0]["u"]
    for body in follow:
        assert body["U"] == last + 1
        if futures:
            assert body["pu"] == last
        for side, changes in zip(sides, (body["b"], body["a"]), strict=True):
            for price, qty in changes:
                side[float(price)] = float(qty)
                if float(qty) == 0.0:
                    del side[float(price)]
        last = body["u"]
    market = "perp" if futures else "spot"
    own = made.book(made.listing(market, "BTCUSDT"), 1_000, last * STEP_MS)
    assert sorted(sides[0].items(), reverse=True) == list(own.bids)
    assert sorted(sides[1].items()) == list(own.asks)


def _get(address: str) -> Any:
    import urllib.request

    with urllib.request.urlopen(address, timeout=10) as reply:
        return json.loads(reply.read())


def test_streams_of_one_moment_tell_one_price(url: str) -> None:
    names = "btcusdt@trade/btcusdt@bookTicker/btcusdt@depth5@100ms/btcusdt@ticker/ethusdt@aggTrade"
    said = listen(url, f"/stream?streams={names}", 100)
    assert {body["stream"] for body in said} == set(names.split("/"))
    by_stream = {
        name: [b["data"] for b in said if b["stream"] == name] for name in names.split("/")
    }
    trades = {body["t"]: float(body["p"]) for body in by_stream["btcusdt@trade"]}
    assert sorted(trades) == list(range(min(trades), max(trades) + 1))
    for body in by_stream["btcusdt@bookTicker"]:
        if body["u"] in trades:
            assert float(body["b"]) <= trades[body["u"]] <= float(body["a"])
    for body in by_stream["btcusdt@depth5@100ms"]:
        assert len(body["bids"]) == len(body["asks"]) == 5
    for body in by_stream["btcusdt@ticker"]:
        assert float(body["l"]) <= float(body["c"]) <= float(body["h"])
    perps = listen(url, "/fstream/market/ws/btcusdt@markPrice", 2)
    assert perps[0]["e"] == "markPriceUpdate"
    assert perps[0]["T"] > perps[0]["E"]


@pytest.mark.parametrize(
    ("route", "told"),
    [("public", {"depth", "bookTicker", "trade"}), ("market", {"kline_1m", "aggTrade", "ticker"}),
     ("", {"depth", "bookTicker", "trade"})],
)  # fmt: skip
def test_perpetuals_tell_books_at_one_address_and_all_else_at_another(
    url: str, route: str, told: set[str]
) -> None:
    kinds = ("depth", "bookTicker", "trade", "kline_1m", "aggTrade", "ticker")
    names = "/".join(f"btcusdt@{kind}" for kind in kinds)
    said = listen(url, f"/fstream{route and '/'}{route}/stream?streams={names}", 30)
    assert {body["stream"].split("@")[1] for body in said} == told


def test_subscriptions_come_and_go_on_one_connection(url: str) -> None:
    async def run() -> None:
        async with ws_connect(url.replace("http", "ws") + "/ws", max_queue=None) as socket:

            async def ask(body: Any) -> Any:
                await socket.send(body if isinstance(body, str) else json.dumps(body))
                while True:
                    [said] = await heard(socket, 1)
                    if "e" not in said:
                        return said

            params = ["btcusdt@trade", "nope@trade", "btcusdt@nope"]
            assert await ask({"method": "SUBSCRIBE", "params": params, "id": 1}) == {
                "result": None, "id": 1,
            }  # fmt: skip
            assert (await heard(socket, 1))[0]["e"] == "trade"
            told = await ask({"method": "LIST_SUBSCRIPTIONS", "id": 2})
            assert told == {"result": ["btcusdt@trade"], "id": 2}
            await ask({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 3})
            assert (await ask({"method": "LIST_SUBSCRIPTIONS", "id": 4}))["result"] == []
            assert "error" in await ask("no JSON")
            assert (await ask({"method": "DANCE", "id": 5}))["error"]["code"] == 2
            await (await socket.ping())  # and the venue answers

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "market", "there"),
    [
        ("btcusdt@kline_5m", "spot", True), ("btcusdt@kline_7m", "spot", False),
        ("btcusdt@kline", "spot", False), ("btcusdt@trade_5m", "spot", False),
        ("btcusdt@depth5@100ms", "spot", True), ("btcusdt@depth7", "spot", False),
        ("btcusdt@trade5", "spot", False), ("btcusdt@markPrice@1s", "perp", True),
        ("btcusdt@markPrice", "spot", False), ("BTCUSDT@trade", "spot", False),
        ("xusdt@trade", "spot", False), ("", "spot", False), ("@@", "spot", False),
    ],
)  # fmt: skip
def test_only_streams_that_there_are_are_streams(name: str, market: Any, there: bool) -> None:
    assert (stream_of(name, market, markets()) is not None) == there


def test_ccxt_pro_watches_bars_books_and_trades(url: str) -> None:
    async def run() -> None:
        exchange = ccxt.pro.binance({
            "options": {"fetchCurrencies": False, "fetchMarkets": {"types": ["spot"]}},
        })  # fmt: skip
        exchange.urls["api"] = moved(exchange.urls["api"], url)
        try:
            await exchange.load_markets()
            bars = await asyncio.wait_for(exchange.watch_ohlcv(BTC, "1m"), 20)
            assert bars[-1][0] % 60_000 == 0
            book = await asyncio.wait_for(exchange.watch_order_book(BTC, 20), 20)
            for _ in range(5):
                book = await asyncio.wait_for(exchange.watch_order_book(BTC, 20), 20)
                assert book["bids"][0][0] < book["asks"][0][0]
            trades = await asyncio.wait_for(exchange.watch_trades(BTC), 20)
            assert trades[-1]["price"] > 0.0
            ticker = await asyncio.wait_for(exchange.watch_ticker(BTC), 20)
            assert ticker["last"] > 0.0
        finally:
            await exchange.close()

    asyncio.run(run())
