"""ccxt, unmodified, against the venue."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import ccxt
import numpy as np
import pytest

from data.sources.exchange import Caller, connect
from data.sources.history import History
from domain.errors import SettingError
from sim.venue.market import Markets, VenueClock
from sim.worlds import DemoMarket
from tests.venue_server import BTC, markets, venue

MARKETS = markets()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with venue(made=MARKETS) as address:
        yield address


@pytest.fixture(scope="module")
def spot(url: str) -> Any:
    return connect("binance", "spot", url)


@pytest.fixture(scope="module")
def perp(url: str) -> Any:
    return connect("binance", "perp", url)


def test_markets_carry_the_filters(spot: Any, perp: Any) -> None:
    listed = spot.load_markets()["BTC/USDT"]
    assert (listed["spot"], listed["active"]) == (True, True)
    assert listed["precision"] == {**listed["precision"], "price": 0.01, "amount": 0.00001}
    assert listed["limits"]["cost"]["min"] == 5.0
    swap = perp.load_markets()["BTC/USDT:USDT"]
    assert (swap["swap"], swap["linear"], swap["settle"]) == (True, True, "USDT")
    assert swap["precision"]["price"] == 0.1
    assert swap["limits"]["cost"]["min"] == 100.0


def test_bars_are_those_of_the_market(spot: Any) -> None:
    now = spot.fetch_time()
    assert now == MARKETS.clock.now()
    rows = spot.fetch_ohlcv(BTC, "5m", limit=100)
    own = DemoMarket(7).bars(int(rows[0][0]), 99)
    got = np.array(rows)[:99]
    for place, name in enumerate(("ts", "open", "high", "low", "close", "volume")):
        np.testing.assert_array_equal(got[:, place], getattr(own, name))
    assert rows[-1][0] <= now < rows[-1][0] + 300_000  # the newest is not over
    since = int(rows[10][0])
    again = spot.fetch_ohlcv(BTC, "5m", since=since, limit=5)
    assert [row[0] for row in again] == [since + n * 300_000 for n in range(5)]


def test_book_trades_and_tickers_tell_one_price(spot: Any) -> None:
    book = spot.fetch_order_book(BTC, 20)
    assert (len(book["bids"]), len(book["asks"])) == (20, 20)
    assert book["bids"][0][0] < book["asks"][0][0]
    bids, asks = ([price for price, _ in book[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    last = spot.fetch_trades(BTC, limit=10)[-1]
    assert book["bids"][0][0] <= last["price"] <= book["asks"][0][0]
    ticker = spot.fetch_ticker(BTC)
    assert ticker["last"] == last["price"]
    assert (ticker["bid"], ticker["ask"]) == (bids[0], asks[0])
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert spot.fetch_bids_asks([BTC])[BTC]["bid"] == bids[0]


def test_funding_is_told_for_now_and_the_past(perp: Any) -> None:
    symbol = "BTC/USDT:USDT"
    told = perp.fetch_funding_rate(symbol)
    assert told["fundingTimestamp"] > MARKETS.clock.now()
    past = perp.fetch_funding_rate_history(symbol, limit=30)
    stamps = [row["timestamp"] for row in past]
    assert len(stamps) == 30
    assert set(np.diff(stamps)) == {8 * 3_600_000}
    assert all(abs(row["fundingRate"]) < 0.001 for row in past)


def test_hours_of_funding_are_told_where_they_are_not_eight(perp: Any) -> None:
    assert perp.fetch_funding_intervals() == {}
    symbol, day = "BTC/USDT:USDT", 86_400_000
    clock = VenueClock(DemoMarket().start_ms + 3 * day + 7, lambda: 0, 0.0)
    with venue(made=Markets({BTC: DemoMarket(7)}, clock, funding_hours=4)) as url:
        other = connect("binance", "perp", url)
        assert other.fetch_funding_intervals()[symbol]["interval"] == "4h"
        told = other.fetch_funding_rate_history(symbol, limit=4)
        assert np.diff([row["timestamp"] for row in told]).tolist() == [4 * 3_600_000] * 3
        assert History(Caller(other, time.sleep, print)).funding_hours()[symbol] == 4


def test_what_is_not_there_is_refused_as_the_exchange_would(spot: Any, url: str) -> None:
    with pytest.raises(ccxt.BadSymbol):
        spot.publicGetKlines({"symbol": "NOPEUSDT", "interval": "5m"})
    with pytest.raises(ccxt.BadRequest):
        spot.publicGetKlines({"symbol": "BTCUSDT", "interval": "7m"})
    for path, code in (
        ("/api/v3/klines?symbol=BTCUSDT", -1102), ("/api/v3/depth", -1102),
        ("/api/v3/klines?symbol=BTCUSDT&interval=5m&limit=x", -1100),
        ("/fapi/v1/fundingRate?symbol=XUSDT", -1121),
    ):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(url + path, timeout=10)
        assert told.value.code == 400
        assert json.loads(told.value.read())["code"] == code


def asked(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=10) as reply:
        return json.loads(reply.read())


def test_prices_alone_can_be_asked_for(url: str, spot: Any) -> None:
    last = spot.fetch_ticker(BTC)["last"]
    assert asked(url, "/api/v3/ticker/price?symbol=BTCUSDT") == {
        "symbol": "BTCUSDT", "price": repr(last),
    }  # fmt: skip
    assert len(asked(url, "/api/v3/ticker/price")) == 2
    perp = asked(url, "/fapi/v1/ticker/price?symbol=BTCUSDT")
    assert perp["time"] == MARKETS.clock.now() // 2_500 * 2_500
    mean = asked(url, "/api/v3/avgPrice?symbol=BTCUSDT")
    prints = asked(url, "/api/v3/trades?symbol=BTCUSDT&limit=120")
    worth = sum(float(each["price"]) * float(each["qty"]) for each in prints)
    assert float(mean["price"]) == pytest.approx(worth / sum(float(e["qty"]) for e in prints))
    assert (mean["mins"], mean["closeTime"]) == (5, prints[-1]["time"])


def test_some_symbols_can_be_asked_for(url: str) -> None:
    def names(path: str) -> list[str]:
        return [each["symbol"] for each in asked(url, path)["symbols"]]

    both = "%5B%22ETHUSDT%22,%22BTCUSDT%22%5D"
    assert names("/api/v3/exchangeInfo?symbol=ETHUSDT") == ["ETHUSDT"]
    assert names(f"/api/v3/exchangeInfo?symbols={both}") == ["ETHUSDT", "BTCUSDT"]
    assert len(asked(url, f"/api/v3/ticker/24hr?symbols={both}")) == 2
    for text, code in (("BTCUSDT", -1100), ("%5B1%5D", -1100), ("%5B%22X%22%5D", -1121)):
        with pytest.raises(urllib.error.HTTPError) as told:
            asked(url, f"/api/v3/exchangeInfo?symbols={text}")
        assert json.loads(told.value.read())["code"] == code


def test_what_there_is_not_is_answered_in_json(url: str) -> None:
    for method, path, status in (("GET", "/api/v3/nope", 404), ("GET", "/", 404),
                                 ("PATCH", "/api/v3/time", 405)):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(urllib.request.Request(url + path, method=method), timeout=10)
        body = json.loads(told.value.read())
        assert (told.value.code, body["status"], body["path"]) == (status, status, path)
        assert body["code"] == -1020


def test_ccxt_takes_what_there_is_not_for_no_outage(perp: Any) -> None:
    perp.apiKey = perp.secret = "k"
    with pytest.raises(ccxt.BadRequest, match="not supported"):
        perp.edit_order("1", "BTC/USDT:USDT", "limit", "buy", 0.01, 50_000.0)


@pytest.mark.long
def test_too_many_questions_are_refused_then_banned() -> None:
    time = [1_000_000_000_000]
    with venue(made=markets(), now=lambda: time[0]) as address:
        asked = f"{address}/api/v3/depth?symbol=BTCUSDT&limit=1000"

        def status() -> tuple[int, str | None]:
            try:
                with urllib.request.urlopen(asked, timeout=10) as reply:
                    return reply.status, reply.headers["X-MBX-USED-WEIGHT-1M"]
            except urllib.error.HTTPError as error:
                return error.code, error.headers["Retry-After"]

        allowed = [status() for _ in range(120)]
        assert allowed[-1] == (200, "6000")
        assert [status()[0] for _ in range(4)] == [429, 429, 429, 418]
        time[0] += 60_000
        assert status()[0] == 418
        time[0] += 60_000
        assert status() == (200, "50")


def test_an_exchange_that_ccxt_does_not_know_is_refused() -> None:
    with pytest.raises(SettingError, match="EXCHANGE") as told:
        connect("binanse", "spot")
    assert 'Did you mean "binance"' in str(told.value)
