"""What the venue tells an account, heard by ccxt.pro as it is and by a plain client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from data.sources.exchange_urls import moved
from domain.market import Market
from sim.venue.signing import Key
from sim.venue.trading import Trading
from tests.venue_server import key_for, markets, trading, venue, wall

BTC, PERP = "BTC/USDT", "BTC/USDT:USDT"
Scene = Callable[[Any], Awaitable[None]]


@pytest.fixture
def now() -> list[int]:
    """What drives the market."""
    return [0]


@pytest.fixture
def accounts(now: list[int]) -> Trading:
    return trading(markets(now=lambda: now[0], speed=1.0))


@pytest.fixture
def url(accounts: Trading) -> Iterator[str]:
    with venue(made=accounts.exchange.markets, accounts=accounts) as address:
        yield address


def pro(url: str, market: Market, scene: Scene) -> None:
    kind, listed = {"spot": ("spot", "spot"), "perp": ("swap", "linear")}[market]
    known = key_for()

    async def run() -> None:
        exchange = ccxt.pro.binance({
            "apiKey": known.key, "secret": known.secret, "enableRateLimit": False,
            "options": {"defaultType": kind, "fetchCurrencies": False, "fetchMargins": False,
                        "fetchMarkets": {"types": [listed]}},
        })  # fmt: skip
        exchange.urls["api"] = moved(exchange.urls["api"], url)
        try:
            await exchange.load_markets()
            await asyncio.wait_for(scene(exchange), 60)
        finally:
            await exchange.close()

    asyncio.run(run())


async def heard(accounts: Trading, market: Market) -> None:
    while not accounts.users.listening(market, "main"):
        await asyncio.sleep(0.01)


async def waited_for(exchange: Any, *kinds: str) -> None:
    """Wait until a watcher of each kind waits on a connection."""

    def missing() -> set[str]:
        lines = exchange.clients.values()
        return {kind for kind in kinds if not any(kind in what for one in lines
                                                  for what in one.futures)}  # fmt: skip

    while missing():
        await asyncio.sleep(0.01)


async def until(watch: Callable[[], Awaitable[Any]], found: Callable[[Any], bool]) -> Any:
    while True:
        told = await watch()
        if found(told):
            return told


@pytest.mark.parametrize(("market", "symbol"), [("spot", BTC), ("perp", PERP)])
def test_ccxt_pro_watches_orders_fills_and_balances(
    url: str, accounts: Trading, now: list[int], market: Market, symbol: str
) -> None:
    async def scene(exchange: Any) -> None:
        book = await exchange.fetch_order_book(symbol, 5)
        price = book["bids"][0][0] - 20
        orders = asyncio.create_task(
            until(
                lambda: exchange.watch_orders(symbol), lambda all_: all_[-1]["status"] == "closed"
            )
        )
        fills = asyncio.create_task(exchange.watch_my_trades(symbol))
        balances = asyncio.create_task(
            until(exchange.watch_balance, lambda told: told["USDT"]["total"] < 100_000)
        )
        await heard(accounts, market)
        await waited_for(exchange, "orders", "myTrades", "balance")
        given = await exchange.create_order(symbol, "limit", "buy", 0.01, price)
        assert given["status"] == "open"
        now[0] += 3 * 3_600_000
        done, traded, held = await asyncio.gather(orders, fills, balances)
        assert (done[-1]["id"], done[-1]["filled"]) == (given["id"], 0.01)
        assert done[-1]["average"] in (None, price)  # spot does not tell it
        assert (traded[0]["order"], traded[0]["takerOrMaker"]) == (given["id"], "maker")
        spent = 0.01 * price * (1.0 if market == "spot" else 0.0002)
        assert held["USDT"]["total"] == pytest.approx(100_000 - spent, abs=1e-6)

    pro(url, market, scene)


def test_ccxt_pro_watches_positions(url: str, accounts: Trading) -> None:
    async def scene(exchange: Any) -> None:
        assert await exchange.watch_positions([PERP]) == []  # the snapshot
        told = asyncio.create_task(exchange.watch_positions([PERP]))
        await heard(accounts, "perp")
        await waited_for(exchange, "positions")
        await exchange.create_order(PERP, "market", "sell", 0.02)
        [held] = await told
        assert (held["side"], held["contracts"]) == ("short", 0.02)
        stops = asyncio.create_task(
            until(lambda: exchange.watch_orders(PERP), lambda all_: all_[-1]["triggerPrice"])
        )
        await waited_for(exchange, "orders")
        last = (await exchange.fetch_ticker(PERP))["last"]
        params = {"stopLossPrice": last + 5_000, "reduceOnly": True}
        given = await exchange.create_order(PERP, "market", "buy", 0.02, params=params)
        [stop] = (await stops)[-1:]
        assert (stop["id"], stop["status"], stop["triggerPrice"]) == (
            given["id"], "open", pytest.approx(last + 5_000, abs=0.1),
        )  # fmt: skip

    pro(url, "perp", scene)


def test_who_signs_wrongly_hears_nothing(url: str) -> None:
    async def run() -> None:
        key = Key(key_for().key, "wrong", "")
        async with aiohttp.ClientSession(url) as session, session.ws_connect("/ws-api/v3") as line:

            async def ask(method: str, params: dict[str, Any]) -> Any:
                await line.send_json({"id": 1, "method": method, "params": params})
                return json.loads((await line.receive(10)).data)

            subscribe = "userDataStream.subscribe.signature"
            params = {"apiKey": key.key, "timestamp": wall()}
            text = "&".join(f"{name}={value}" for name, value in params.items())
            told = await ask(subscribe, {**params, "signature": key.signature(text)})
            assert (told["status"], told["error"]["code"]) == (400, -1022)
            right = {**params, "signature": key_for().signature(text)}
            assert (await ask(subscribe, right))["result"] == {"subscriptionId": 0}
            assert (await ask("ping", {}))["status"] == 200
            assert (await ask("dance", {}))["error"]["code"] == -1000

    asyncio.run(run())


def test_perpetuals_bars_and_trades_are_streamed_where_ccxt_looks_for_them() -> None:
    async def scene(exchange: Any) -> None:
        assert (await exchange.watch_trades(PERP))[-1]["price"] > 0
        assert (await exchange.watch_ohlcv(PERP, "1m"))[-1][0] % 60_000 == 0

    made = markets(speed=240.0)
    with venue(made=made, accounts=trading(made)) as url:
        pro(url, "perp", scene)


@pytest.mark.parametrize(
    ("path", "stream", "event"),
    [
        ("/api/v3/userDataStream", "/ws/", "executionReport"),
        ("/fapi/v1/listenKey", "/fstream/ws/", "ORDER_TRADE_UPDATE"),
    ],
)
def test_a_listen_key_opens_a_stream_until_it_is_given_up(
    url: str, path: str, stream: str, event: str
) -> None:
    key = key_for()

    async def run() -> None:
        headers = {"X-MBX-APIKEY": key.key}
        async with aiohttp.ClientSession(url, headers=headers) as session:
            async with session.post(path) as reply:
                listen = (await reply.json())["listenKey"]
            async with session.post(path) as reply:
                assert (await reply.json())["listenKey"] == listen
            async with session.put(path, params={"listenKey": listen}) as reply:
                assert reply.status == 200
            async with session.ws_connect(stream + listen) as socket:
                query = (
                    "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01&recvWindow=5000"
                    f"&timestamp={wall()}"
                )
                order = "/api/v3/order" if stream == "/ws/" else "/fapi/v1/order"
                async with session.post(
                    f"{order}?{query}&signature={key.signature(query)}"
                ) as reply:
                    number = (await reply.json())["orderId"]
                said: list[Any] = [json.loads((await socket.receive(10)).data) for _ in range(3)]
                told = [body.get("o", body) if event != "executionReport" else body
                        for body in said if body["e"] == event]  # fmt: skip
                assert [(each["x"], each["X"]) for each in told] == [
                    ("NEW", "NEW"), ("TRADE", "FILLED"),
                ]  # fmt: skip
                assert {each["i"] for each in told} == {number}
                assert said[2]["e"] in ("outboundAccountPosition", "ACCOUNT_UPDATE")
                async with session.delete(path, params={"listenKey": listen}) as reply:
                    assert reply.status == 200
                assert (await socket.receive(10)).type is aiohttp.WSMsgType.CLOSE
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(stream + listen)
            async with session.put(path, params={"listenKey": listen}) as reply:
                assert (await reply.json())["code"] == -1125

    asyncio.run(run())
