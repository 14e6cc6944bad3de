"""Faults of orders and of user streams, as ccxt and a plain client meet them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import ccxt
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed

from data.sources.exchange import connect
from domain.market import Market
from tests.fault_scenes import Scene, scene
from tests.venue_server import key_for

SYMBOLS = {"spot": "BTC/USDT", "perp": "BTC/USDT:USDT"}
MARKETS: list[Market] = ["spot", "perp"]


@pytest.fixture
def venue() -> Iterator[Scene]:
    with scene() as found:
        yield found


def client(venue: Scene, market: Market, account: str = "main") -> Any:
    made = keyed(venue, market, account)
    made.load_markets()
    return made


def keyed(venue: Scene, market: Market, account: str = "main") -> Any:
    made, key = connect("binance", market, venue.url), key_for(account)
    made.apiKey, made.secret, made.enableRateLimit = key.key, key.secret, False
    made.options["maxRetriesOnFailure"] = 0
    return made


def buy(made: Any, market: Market, name: str = "mine", **params: Any) -> Any:
    return made.create_order(SYMBOLS[market], "market", "buy", 0.01,
                             params={"clientOrderId": name, **params})  # fmt: skip


def known(made: Any, market: Market, name: str = "mine") -> Any:
    return made.fetch_order("", SYMBOLS[market], {"clientOrderId": name})


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("market", MARKETS)
def test_an_order_without_an_answer_is_there_or_not(
    venue: Scene, market: Market, effect: bool
) -> None:
    made = client(venue, market)
    venue.fault("no_answer", seconds=0.1, effect=effect, times=1)
    with pytest.raises(ccxt.NetworkError):
        buy(made, market)
    if effect:
        assert known(made, market)["filled"] == 0.01
        with pytest.raises(ccxt.InvalidOrder):  # never twice for one client id
            buy(made, market)
        assert len(made.fetch_my_trades(SYMBOLS[market])) == 1
    else:
        with pytest.raises(ccxt.OrderNotFound):
            known(made, market)
        assert buy(made, market)["id"]


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize(("code", "error"), [(-1006, ccxt.OperationFailed),
                                             (-1007, ccxt.RequestTimeout)])  # fmt: skip
def test_nobody_knows_whether_an_order_was_executed(
    venue: Scene, code: int, error: type[Exception], effect: bool
) -> None:
    spot = client(venue, "spot")
    venue.fault("unknown_status", code=code, effect=effect, times=1)
    with pytest.raises(error, match=str(code)):
        buy(spot, "spot")
    if effect:
        assert known(spot, "spot")["status"] == "closed"
    else:
        with pytest.raises(ccxt.OrderNotFound):
            known(spot, "spot")


@pytest.mark.parametrize(("code", "error"), [(-1001, ccxt.OperationFailed),
                                             (-1015, ccxt.DDoSProtection)])  # fmt: skip
def test_an_order_is_refused_and_not_there(venue: Scene, code: int, error: type[Exception]) -> None:
    for market in MARKETS:
        made = client(venue, market)
        venue.fault("refused", code=code, times=1)
        with pytest.raises(error, match=str(code)):
            buy(made, market)
        with pytest.raises(ccxt.OrderNotFound):
            known(made, market)


def test_a_cancellation_can_be_struck_as_well(venue: Scene) -> None:
    spot = client(venue, "spot")
    given = spot.create_order(SYMBOLS["spot"], "limit", "buy", 0.01, 90_000)
    venue.fault("unknown_status", paths="DELETE *", times=1)
    with pytest.raises(ccxt.RequestTimeout):
        spot.cancel_order(given["id"], SYMBOLS["spot"])
    assert spot.fetch_order(given["id"], SYMBOLS["spot"])["status"] == "canceled"


@pytest.mark.parametrize("market", MARKETS)
def test_an_order_is_filled_in_part(venue: Scene, market: Market) -> None:
    made = client(venue, market)
    venue.fault("partial", part=0.4, times=2)
    buy(made, market)
    done = known(made, market)
    assert (done["status"], done["filled"]) == ("expired", 0.004)
    ask = made.fetch_order_book(SYMBOLS[market], 5)["asks"][0][0]
    rests = made.create_order(SYMBOLS[market], "limit", "buy", 0.01, ask)
    found = made.fetch_order(rests["id"], SYMBOLS[market])
    assert (found["status"], found["filled"], found["remaining"]) == ("open", 0.004, 0.006)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("kind", ["late_fill", "expire"])
def test_an_acknowledged_order_is_filled_late_or_never(
    venue: Scene, market: Market, kind: str
) -> None:
    made = client(venue, market)
    venue.fault(kind, after_ms=20_000, times=1)
    assert buy(made, market)["status"] == "open"
    venue.now[0] += 15_000
    assert (known(made, market)["status"], known(made, market)["filled"]) == ("open", 0.0)
    venue.now[0] += 10_000
    done = known(made, market)
    if kind == "expire":
        assert (done["status"], done["filled"]) == ("expired", 0.0)
        assert made.fetch_my_trades(SYMBOLS[market]) == []
    else:
        assert (done["status"], done["filled"]) == ("closed", 0.01)
        [trade] = made.fetch_my_trades(SYMBOLS[market])
        placed = venue.accounts.exchange.ledger.accounts["main"].orders[int(done["id"])].placed_at
        assert 20_000 <= trade["timestamp"] - placed < 22_500


def test_an_order_that_is_held_can_be_cancelled_and_survives_a_restart(venue: Scene) -> None:
    spot = client(venue, "spot")
    venue.fault("late_fill", after_ms=60_000)
    for name in ("one", "two"):
        buy(spot, "spot", name)
    ledger = venue.accounts.exchange.ledger
    assert type(ledger).restored(json.loads(json.dumps(ledger.state()))) == ledger
    assert spot.cancel_order("", SYMBOLS["spot"], {"clientOrderId": "one"})["status"] == "canceled"
    venue.now[0] += 70_000
    assert known(spot, "spot", "one")["filled"] == 0.0
    assert known(spot, "spot", "two")["filled"] == 0.01


@pytest.mark.parametrize("market", MARKETS)
def test_no_orders_while_trading_is_halted_but_cancellations(venue: Scene, market: Market) -> None:
    made = client(venue, market)
    rests = made.create_order(SYMBOLS[market], "limit", "buy", 0.01, 90_000)
    ask = made.fetch_order_book(SYMBOLS[market], 5)["asks"][0][0]
    would = made.create_order(SYMBOLS[market], "limit", "buy", 0.01, ask - 1)
    fault = venue.fault("halt", symbol="BTCUSDT")
    with pytest.raises(ccxt.BaseError, match=r"Market is closed|-4140"):
        buy(made, market)
    assert made.load_markets(reload=True)[SYMBOLS[market]]["active"] is False
    assert made.cancel_order(rests["id"], SYMBOLS[market])["status"] == "canceled"
    book = made.fetch_order_book(SYMBOLS[market], 5)
    venue.now[0] += 8 * 3_600_000
    assert made.fetch_order(would["id"], SYMBOLS[market])["status"] == "open"
    assert made.fetch_order_book(SYMBOLS[market], 5)["bids"] == book["bids"]
    assert made.fetch_ticker(SYMBOLS[market])["last"] > 0
    venue.asked("DELETE", f"/{fault['id']}")
    assert made.load_markets(reload=True)[SYMBOLS[market]]["active"] is True
    assert buy(made, market, "after")["id"]


def hear(venue: Scene, market: Market, act: Any) -> Any:
    """Listen to the account while ``act(socket)`` runs."""
    made = client(venue, market)
    key = (made.publicPostUserDataStream() if market == "spot"
           else made.fapiPrivatePostListenKey())["listenKey"]  # fmt: skip
    path = "/ws/" if market == "spot" else "/fstream/ws/"

    async def run() -> Any:
        address = venue.url.replace("http", "ws") + path + key
        async with ws_connect(address) as socket:
            return await asyncio.wait_for(act(socket, made), 60)

    return asyncio.run(run())


def fills_of(said: list[Any]) -> list[Any]:
    """Return the reports of fills among events."""
    reports = [body["o"] if isinstance(body.get("o"), dict) else body for body in said]
    return [report for report in reports if report.get("x") == "TRADE"]


async def events(socket: ClientConnection, fills: int) -> list[Any]:
    """Hear so many fills, and whatever comes until there is a lull."""
    found: list[Any] = []
    try:
        while True:
            wait = 0.3 if len(fills_of(found)) >= fills else 10.0
            found.append(json.loads(await asyncio.wait_for(socket.recv(), wait)))
    except TimeoutError:
        return found


@pytest.mark.parametrize("market", MARKETS)
def test_a_fill_is_told_twice_and_happened_once(venue: Scene, market: Market) -> None:
    venue.fault("double_fill", symbol="BTCUSDT")

    async def act(socket: ClientConnection, made: Any) -> tuple[list[Any], Any]:
        await asyncio.to_thread(buy, made, market)
        return await events(socket, 2), made

    said, made = hear(venue, market, act)
    fills = [report["t"] for report in fills_of(said)]
    assert len(fills) == 2
    assert len(set(fills)) == 1
    rows = (made.privateGetMyTrades if market == "spot" else made.fapiPrivateGetUserTrades)(
        {"symbol": "BTCUSDT"}
    )
    assert [int(row["id"]) for row in rows] == fills
    account = venue.accounts.exchange.ledger.accounts["main"]
    assert len(account.trades) == 1
    assert known(made, market)["filled"] == 0.01
    assert venue.faults()["active"][0]["did"] == {"rows": 1}


@pytest.mark.parametrize("market", MARKETS)
def test_listen_keys_expire_and_new_ones_are_given(venue: Scene, market: Market) -> None:
    async def act(socket: ClientConnection, made: Any) -> tuple[Any, int]:
        await asyncio.to_thread(venue.fault, "listen_key", market=market, account="main")
        told = json.loads(await asyncio.wait_for(socket.recv(), 5))
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 5)
        assert closed.value.rcvd is not None
        return told, closed.value.rcvd.code

    told, code = hear(venue, market, act)
    assert (told["e"], code) == ("listenKeyExpired", 1001)

    async def again(socket: ClientConnection, made: Any) -> list[Any]:
        await asyncio.to_thread(buy, made, market)
        return await events(socket, 1)

    assert hear(venue, market, again)


def test_the_user_s_stream_alone_is_cut(venue: Scene) -> None:
    async def act(socket: ClientConnection, made: Any) -> None:
        address = venue.url.replace("http", "ws") + "/ws/btcusdt@trade"
        async with ws_connect(address) as other:
            await asyncio.to_thread(venue.fault, "disconnect", streams="user", code=1011)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5)
            await asyncio.wait_for(await other.ping(), 5)

    hear(venue, "spot", act)
    assert venue.faults()["counts"] == {"disconnect": 1}


def test_one_account_is_struck_and_the_other_is_not(venue: Scene) -> None:
    venue.fault("refused", account="other")
    assert buy(client(venue, "spot"), "spot")["status"] == "closed"
    with pytest.raises(ccxt.OperationFailed):
        buy(client(venue, "spot", "other"), "spot")
