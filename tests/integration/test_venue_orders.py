"""Signed orders at the venue, by ccxt as it is and by a client of its own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import ccxt
import pytest
from aiohttp import web

from data.sources.exchange import connect
from domain.market import Market
from sim.venue.refusals import Refused
from sim.venue.signing import Key
from sim.venue.tape import STEP_MS
from sim.venue.trading import Call, Take, Trading
from tests.venue_server import key_for, markets, trading, venue, wall

BTC, PERP = "BTC/USDT", "BTC/USDT:USDT"
READS, DRAWS = key_for("reader", trades=False), key_for("drawer", withdraws=True)


@pytest.fixture
def now() -> list[int]:
    """What drives the market alone; keys are checked against the wall's clock."""
    return [0]


@pytest.fixture
def accounts(now: list[int]) -> Trading:
    keys = (key_for(), key_for("poor"), READS, DRAWS)
    made = markets(now=lambda: now[0], speed=1.0)
    found = trading(made, keys=keys)
    found.exchange.ledger.accounts["poor"].perp.balances["USDT"] /= 1_000
    return found


@pytest.fixture
def url(accounts: Trading) -> Iterator[str]:
    with venue(made=accounts.exchange.markets, accounts=accounts) as address:
        yield address


def client(url: str, market: Market, key: Key | None = None) -> Any:
    known = key or key_for()
    made = connect("binance", market, url)
    made.apiKey, made.secret = known.key, known.secret
    made.enableRateLimit = False
    return made


@pytest.fixture
def spot(url: str) -> Any:
    return client(url, "spot")


@pytest.fixture
def perp(url: str) -> Any:
    return client(url, "perp")


def test_a_market_order_is_filled_from_the_book_and_pays_the_taker(spot: Any) -> None:
    asked = spot.fetch_order_book(BTC, 20)["asks"]
    amount = asked[0][1] + asked[1][1] / 2.0
    order = spot.create_order(BTC, "market", "buy", amount)
    assert (order["status"], order["filled"]) == ("closed", pytest.approx(amount, abs=1e-5))
    trades = spot.fetch_my_trades(BTC)
    assert [trade["price"] for trade in trades] == [asked[0][0], asked[1][0]]
    assert {trade["takerOrMaker"] for trade in trades} == {"taker"}
    assert sum(trade["fee"]["cost"] for trade in trades) == pytest.approx(order["filled"] * 0.001)
    held = spot.fetch_balance()["total"]
    assert held["USDT"] == pytest.approx(100_000 - order["cost"])
    assert held["BTC"] == pytest.approx(1.0 + order["filled"] * 0.999)
    assert order["fee"] == {"currency": "BTC", "cost": pytest.approx(order["filled"] * 0.001)}


def test_money_can_be_spent_whole(spot: Any) -> None:
    order = spot.create_market_buy_order_with_cost(BTC, 1_000)
    assert 990 < order["cost"] <= 1_000
    assert order["status"] == "closed"


def test_an_order_that_rests_can_be_found_and_cancelled(spot: Any) -> None:
    given = spot.create_order(BTC, "limit", "buy", 0.01, 90_000, {"clientOrderId": "mine-1"})
    assert given["status"] == "open"
    assert spot.fetch_balance()["USDT"] == {"free": 99_100.0, "used": 900.0, "total": 100_000.0}
    assert [each["id"] for each in spot.fetch_open_orders(BTC)] == [given["id"]]
    by_client = spot.fetch_order("", BTC, {"clientOrderId": "mine-1"})
    assert (by_client["id"], by_client["price"]) == (given["id"], 90_000)
    assert spot.cancel_order(given["id"], BTC)["status"] == "canceled"
    assert spot.fetch_open_orders(BTC) == []
    assert spot.fetch_order(given["id"], BTC)["status"] == "canceled"
    assert [each["id"] for each in spot.fetch_orders(BTC)] == [given["id"]]
    assert spot.fetch_balance()["USDT"]["free"] == 100_000.0
    for _ in range(2):
        spot.create_order(BTC, "limit", "buy", 0.01, 90_000)
    assert len(spot.cancel_all_orders(BTC)) == 2
    with pytest.raises(ccxt.OrderNotFound, match="-2011"):
        spot.cancel_all_orders(BTC)


def test_what_rests_is_filled_when_the_market_trades_through_it(
    spot: Any, accounts: Trading, now: list[int]
) -> None:
    book = spot.fetch_order_book(BTC, 5)
    given = spot.create_order(BTC, "limit", "sell", 0.5, book["asks"][0][0] + 30)
    taken = spot.create_order(BTC, "limit", "buy", 0.001, 1e6, {"timeInForce": "IOC"})
    assert (taken["status"], taken["average"]) == ("closed", book["asks"][0][0])
    now[0] += 3 * 3_600_000
    done = spot.fetch_order(given["id"], BTC)
    assert (done["status"], done["average"]) == ("closed", given["price"])
    made = [each for each in spot.fetch_my_trades(BTC) if each["order"] == given["id"]]
    tape = accounts.exchange.markets.tape(accounts.exchange.markets.listing("spot", "BTCUSDT"))
    assert len(made) > 1  # in parts: no print is larger than it was
    for each in made:
        printed = tape.prints(each["timestamp"], each["timestamp"] + 1)
        assert printed.price[0] > given["price"]
        assert each["amount"] <= printed.qty[0]
        assert each["takerOrMaker"] == "maker"


def test_stops_of_spot_wait_for_their_price(spot: Any, now: list[int]) -> None:
    last = spot.fetch_ticker(BTC)["last"]
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        spot.create_order(BTC, "market", "sell", 0.01, params={"stopLossPrice": last + 100})
    stop = spot.create_order(BTC, "market", "sell", 0.01, params={"stopLossPrice": last - 50})
    aim = spot.create_order(BTC, "limit", "sell", 0.01, last + 40, {"takeProfitPrice": last + 50})
    assert {each["status"] for each in spot.fetch_open_orders(BTC)} == {"open"}
    assert spot.fetch_balance()["BTC"]["used"] == 0.02
    now[0] += 6 * 3_600_000
    for given in (stop, aim):
        done = spot.fetch_order(given["id"], BTC)
        assert (done["status"], done["filled"]) == ("closed", 0.01)
    assert spot.fetch_order(stop["id"], BTC)["average"] < last - 40
    assert spot.fetch_order(aim["id"], BTC)["average"] >= last + 40


def test_makers_and_killers_get_what_they_asked_for(spot: Any, perp: Any) -> None:
    for made, symbol in ((spot, BTC), (perp, PERP)):
        book = made.fetch_order_book(symbol, 5)
        ask = book["asks"][0][0]
        with pytest.raises(ccxt.InvalidOrder, match=r"-5022|immediately match"):
            made.create_order(symbol, "limit", "buy", 0.01, ask, {"postOnly": True})
        rests = made.create_order(symbol, "limit", "buy", 0.01, ask - 500, {"postOnly": True})
        assert (rests["status"], rests["postOnly"]) == ("open", True)
        huge = {"timeInForce": "FOK"}
        if made is spot:
            killed = made.create_order(symbol, "limit", "sell", 1, book["bids"][0][0], huge)
            assert (killed["status"], killed["filled"]) == ("expired", 0.0)
        else:
            with pytest.raises(ccxt.OrderNotFillable, match="-5021"):
                made.create_order(symbol, "limit", "buy", 10, ask, huge)
        some = made.create_order(symbol, "limit", "sell", 1, book["bids"][0][0],
                                 {"timeInForce": "IOC"})  # fmt: skip
        assert some["status"] == "expired"
        assert 0 < some["filled"] < 1


def test_a_position_is_opened_turned_and_closed(perp: Any) -> None:
    bought = perp.create_order(PERP, "market", "buy", 0.03)
    [held] = perp.fetch_positions([PERP])
    assert (held["side"], held["contracts"]) == ("long", 0.03)
    assert held["entryPrice"] == pytest.approx(bought["average"], rel=1e-9)
    assert held["initialMargin"] == pytest.approx(held["notional"] / 20)
    perp.create_order(PERP, "market", "sell", 0.05)
    [held] = perp.fetch_positions([PERP])
    assert (held["side"], held["contracts"]) == ("short", pytest.approx(0.02))
    done = perp.create_order(PERP, "market", "buy", 0.1, params={"reduceOnly": True})
    assert (done["status"], done["filled"]) == ("expired", pytest.approx(0.02))
    assert perp.fetch_positions([PERP]) == []
    with pytest.raises(ccxt.InvalidOrder, match="-2022"):
        perp.create_order(PERP, "market", "buy", 0.01, params={"reduceOnly": True})
    gained = sum(float(each["info"]["realizedPnl"]) for each in perp.fetch_my_trades(PERP))
    fees = sum(each["fee"]["cost"] for each in perp.fetch_my_trades(PERP))
    assert gained < 0 < fees
    assert perp.fetch_balance()["USDT"]["total"] == pytest.approx(100_000 + gained - fees)
    assert fees == pytest.approx(0.0005 * sum(each["cost"] for each in perp.fetch_my_trades(PERP)))


@pytest.mark.long
def test_a_stop_closes_the_position_and_the_target_goes_with_it(perp: Any, now: list[int]) -> None:
    last = perp.fetch_ticker(PERP)["last"]
    perp.create_order(PERP, "market", "buy", 0.02)
    stop = perp.create_order(PERP, "market", "sell", 0.02,
                             params={"stopLossPrice": last - 60, "closePosition": True,
                                     "clientOrderId": "stop-1"})  # fmt: skip
    target = {"takeProfitPrice": last + 4_000, "reduceOnly": True}
    aim = perp.create_order(PERP, "market", "sell", 0.02, params=target)
    rest = perp.create_order(PERP, "limit", "sell", 0.02, last + 5_000, {"reduceOnly": True})
    waiting = perp.fetch_open_orders(PERP, params={"trigger": True})
    assert [each["id"] for each in waiting] == [stop["id"], aim["id"]]
    assert (
        perp.fetch_order("", PERP, {"trigger": True, "clientOrderId": "stop-1"})["id"]
        == (stop["id"])
    )
    now[0] += 6 * 3_600_000
    done = perp.fetch_order(stop["id"], PERP, {"trigger": True})
    assert done["info"]["algoStatus"] == "FINISHED"
    sold = perp.fetch_order(done["info"]["actualOrderId"], PERP)
    assert (sold["status"], sold["filled"]) == ("closed", 0.02)
    assert sold["average"] < last - 50
    assert perp.fetch_positions([PERP]) == []
    assert perp.fetch_order(rest["id"], PERP)["status"] == "expired"  # nothing left to reduce
    assert perp.cancel_order(aim["id"], PERP, {"trigger": True})["info"]["code"] == "200"
    assert perp.fetch_open_orders(PERP, params={"trigger": True}) == []
    with pytest.raises(ccxt.InvalidOrder, match="-4120"):
        perp.fapiPrivatePostOrder({"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET",
                                   "stopPrice": 90_000, "quantity": 0.01})  # fmt: skip


def test_leverage_margin_and_fees_can_be_asked_and_set(perp: Any, spot: Any) -> None:
    assert perp.set_leverage(5, PERP)["leverage"] == 5
    perp.create_order(PERP, "market", "buy", 0.1)
    [held] = perp.fetch_positions([PERP])
    assert held["initialMargin"] == pytest.approx(held["notional"] / 5)
    told = perp.fapiPrivateV2GetPositionRisk({"symbol": "BTCUSDT"})[0]
    assert (told["leverage"], told["marginType"]) == ("5", "cross")
    assert perp.fapiPrivateV2GetBalance()[0]["asset"] == "USDT"
    assert perp.fetch_balance({"useV2": True})["USDT"]["total"] == pytest.approx(
        perp.fetch_balance()["USDT"]["total"]
    )
    assert perp.fetch_leverages([PERP])[PERP]["longLeverage"] == 5
    assert perp.fetch_leverage_tiers([PERP])[PERP][0]["maxLeverage"] == 150
    assert perp.fetch_position_mode()["hedged"] is False
    assert (perp.fetch_trading_fee(PERP)["taker"], spot.fetch_trading_fee(BTC)["taker"]) == (
        0.0005, 0.001,
    )  # fmt: skip
    with pytest.raises(ccxt.MarginModeAlreadySet):
        perp.set_margin_mode("cross", PERP)
    with pytest.raises(ccxt.BadRequest, match="-1130"):
        perp.set_margin_mode("isolated", PERP)
    with pytest.raises(ccxt.OperationRejected, match="-4059"):
        perp.set_position_mode(hedged=False)
    with pytest.raises(ccxt.BadRequest, match="-4028"):
        perp.fapiPrivatePostLeverage({"symbol": "BTCUSDT", "leverage": 151})


def test_what_cannot_be_paid_or_does_not_fit_is_refused(spot: Any, perp: Any, url: str) -> None:
    poor = client(url, "perp", key_for("poor"))
    with pytest.raises(ccxt.InsufficientFunds, match="-2019"):
        poor.create_order(PERP, "market", "buy", 0.1)
    with pytest.raises(ccxt.InsufficientFunds):
        spot.create_order(BTC, "market", "buy", 2)
    with pytest.raises(ccxt.InsufficientFunds):
        spot.create_order(BTC, "limit", "sell", 1.5, 200_000)
    with pytest.raises(ccxt.InvalidOrder, match="-4164"):
        perp.create_order(PERP, "limit", "buy", 0.001, 90_000)
    for params, told in (
        ({"quantity": "0.00001", "price": "90000"}, "NOTIONAL"),
        ({"quantity": "0.000015", "price": "90000"}, "LOT_SIZE"),
        ({"quantity": "0.01", "price": "90000.001"}, "PRICE_FILTER"),
        ({"quantity": "0.0000000001", "price": "90000"}, "-1111"),
        ({"price": "90000"}, "-1102"),
    ):
        with pytest.raises(ccxt.BaseError, match=told):
            spot.privatePostOrder({"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT",
                                   "timeInForce": "GTC", **params})  # fmt: skip
    with pytest.raises(ccxt.BadRequest, match="-1111"):
        perp.fapiPrivatePostOrder({"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET",
                                   "quantity": "0.00123"})  # fmt: skip
    for made, symbol in ((spot, BTC), (perp, PERP)):
        with pytest.raises(ccxt.OrderNotFound, match="-2013"):
            made.fetch_order("999", symbol)
        with pytest.raises(ccxt.OrderNotFound, match="-2011"):
            made.cancel_order("999", symbol)


def test_a_client_id_is_taken_once(spot: Any, perp: Any) -> None:
    mine = {"clientOrderId": "same"}
    spot.create_order(BTC, "market", "buy", 0.001, params=mine)
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        spot.create_order(BTC, "market", "buy", 0.001, params=mine)
    perp.create_order(PERP, "market", "buy", 0.01, params=mine)
    with pytest.raises(ccxt.InvalidOrder, match="-4116"):
        perp.create_order(PERP, "market", "buy", 0.01, params=mine)


def test_keys_and_times_are_checked(url: str, spot: Any) -> None:
    assert spot.sapiGetAccountApiRestrictions()["enableWithdrawals"] is False
    assert client(url, "spot", DRAWS).sapiGetAccountApiRestrictions()["enableWithdrawals"] is True
    reads = client(url, "spot", READS)
    assert reads.fetch_balance()["USDT"]["free"] == 100_000
    with pytest.raises(ccxt.BaseError, match="-2015"):
        reads.create_order(BTC, "market", "buy", 0.01)
    for key, code in ((Key("?", "x", ""), -2014), (Key("k" * 64, "x", ""), -2015),
                      (Key(key_for().key, "wrong", ""), -1022)):  # fmt: skip
        with pytest.raises(ccxt.AuthenticationError, match=str(code)):
            client(url, "spot", key).fetch_balance()
    for skew, told in ((-60_000, "recvWindow"), (60_000, "ahead")):
        late = client(url, "spot")
        late.nonce = lambda skew=skew: wall() + skew
        with pytest.raises(ccxt.InvalidNonce, match=told):
            late.fetch_balance()
    adjusted = client(url, "spot")  # to market time, as /time tells it
    adjusted.load_time_difference()
    assert abs(adjusted.options["timeDifference"]) > 86_400_000
    assert adjusted.fetch_balance()["USDT"]["free"] == 100_000


def test_orders_are_counted_in_ten_seconds() -> None:
    made, at = markets(), wall()
    accounts = trading(made, now=lambda: at)
    with venue(made=made, now=lambda: at, accounts=accounts) as url:
        spot = client(url, "spot")
        spot.nonce = lambda: at
        for _ in range(50):
            spot.create_order(BTC, "limit", "buy", 0.001, 90_000)
        assert spot.last_response_headers["X-MBX-ORDER-COUNT-10S"] == "50"
        with pytest.raises(ccxt.DDoSProtection, match="-1015"):
            spot.create_order(BTC, "limit", "buy", 0.001, 90_000)
        at += 10_000
        assert spot.create_order(BTC, "limit", "buy", 0.001, 90_000)["status"] == "open"


def test_a_client_of_its_own_signs_query_and_body(url: str) -> None:
    key = key_for()

    async def run() -> tuple[int, Any, Any]:
        async with aiohttp.ClientSession(headers={"X-MBX-APIKEY": key.key}) as session:

            def signed(query: str, body: str = "") -> str:
                text = (query + body).encode()
                return hmac.new(key.secret.encode(), text, hashlib.sha256).hexdigest()

            query = urlencode({"symbol": "ETHUSDT", "timestamp": wall()})
            body = urlencode({"side": "BUY", "type": "MARKET", "quantity": "0.1"})
            asked = f"{url}/api/v3/order?{query}&signature={signed(query, body)}"
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            async with session.post(asked, data=body, headers=headers) as reply:
                status, placed = reply.status, await reply.json()
            query = urlencode({"timestamp": wall(), "recvWindow": 70_000})
            async with session.get(
                f"{url}/fapi/v2/balance?{query}&signature={signed(query)}"
            ) as reply:
                return status, placed, await reply.json()

    status, placed, refused = asyncio.run(run())
    assert (status, placed["status"], placed["executedQty"]) == (200, "FILLED", "0.10000000")
    assert placed["fills"][0]["commissionAsset"] == "ETH"
    assert refused["code"] == -1131


def test_an_answer_can_be_lost_after_the_order_took_effect() -> None:
    lost: list[str] = []

    async def passage(request: web.Request, call: Call, take: Take) -> Any:
        answer = take()
        if "newClientOrderId" in call.query and not lost:
            lost.append(call.query["newClientOrderId"])
            raise Refused(503, -1007, "Timeout waiting for response from backend server.")
        return answer

    made = markets()
    with venue(made=made, accounts=trading(made, passage=passage)) as url:
        spot = client(url, "spot")
        with pytest.raises(ccxt.RequestTimeout):
            spot.create_order(BTC, "market", "buy", 0.01, params={"clientOrderId": "lost"})
        assert spot.fetch_order("", BTC, {"clientOrderId": "lost"})["status"] == "closed"


def test_a_restored_venue_goes_on_with_orders_and_balances(accounts: Trading, url: str) -> None:
    spot, perp = client(url, "spot"), client(url, "perp")
    perp.create_order(PERP, "market", "sell", 0.05)
    given = spot.create_order(BTC, "limit", "buy", 0.01, 90_000)
    state = json.loads(json.dumps(accounts.exchange.ledger.state()))
    ledger = type(accounts.exchange.ledger).restored(state)
    assert ledger == accounts.exchange.ledger
    later = Trading(accounts.exchange.markets, ledger, (key_for(),), wall)
    with venue(made=accounts.exchange.markets, accounts=later) as again:
        spot, perp = client(again, "spot"), client(again, "perp")
        assert perp.fetch_positions([PERP])[0]["contracts"] == 0.05
        assert spot.cancel_order(given["id"], BTC)["status"] == "canceled"
        assert spot.fetch_balance()["USDT"]["used"] == 0.0
        assert int(spot.create_order(BTC, "limit", "buy", 0.01, 90_000)["id"]) > int(given["id"])


def test_time_passes_by_itself() -> None:
    made = markets(speed=240.0)
    accounts = trading(made)
    with venue(made=made, accounts=accounts) as url:
        client(url, "perp").create_order(PERP, "market", "buy", 0.02)
        before = accounts.exchange.ledger.at

        async def wait() -> None:
            while accounts.exchange.ledger.at < before + 4 * STEP_MS:
                await asyncio.sleep(0.01)

        asyncio.run(asyncio.wait_for(wait(), 10))
