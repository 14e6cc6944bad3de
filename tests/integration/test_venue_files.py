"""The venue on files of bars: where it begins, and what is left once they are over."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import ccxt
import numpy as np
import pytest
from websockets.asyncio.client import connect as socket_to

from data.sources.exchange import connect
from domain.errors import UsageError
from serving.venue_market import Wares, of_files, simulated
from sim.venue.accounts import Ledger
from sim.venue.market import Markets, Stored, VenueClock
from sim.venue.trading import Trading
from sim.worlds import DEMO_START_MS, DemoMarket
from tests.data_fixtures import write_parquet
from tests.venue_server import BTC, key_for, trading, venue, wall

STEP, DAY, N = 300_000, 86_400_000, 576  # two days
BARS = DemoMarket(7, BTC).bars(DEMO_START_MS, N)
END = DEMO_START_MS + N * STEP


def over(after_ms: int = 40 * DAY) -> Markets:
    """The file's market, long after its last bar; time stands still."""
    return Markets({BTC: Stored(BARS)}, VenueClock(END + after_ms, wall, 0.0), seed=7)


def client(url: str, market: Any) -> Any:
    made = connect("binance", market, url)
    made.apiKey, made.secret = key_for().key, key_for().secret
    return made


@pytest.mark.parametrize("market", ["spot", "perp"])
def test_when_the_file_is_over_then_its_history_answers_and_nothing_is_traded(market: Any) -> None:
    made = over()
    symbol = BTC if market == "spot" else f"{BTC}:USDT"
    with venue(made=made, accounts=trading(made)) as url:
        asked = client(url, market)
        newest = asked.fetch_ohlcv(symbol, "5m", limit=5)
        assert [row[0] for row in newest] == BARS.ts[-5:].tolist()
        rows = np.array(asked.fetch_ohlcv(symbol, "5m", since=END - 100 * STEP, limit=200))
        np.testing.assert_array_equal(rows[:, 0], BARS.ts[-100:])
        np.testing.assert_array_equal(rows[:, 4], BARS.close[-100:])
        hour = asked.fetch_ohlcv(symbol, "1h", since=END - 3 * 3_600_000)
        assert [row[0] for row in hour] == [END - hours * 3_600_000 for hours in (3, 2, 1)]
        assert asked.fetch_ohlcv(symbol, "5m", since=END) == []
        book = asked.fetch_order_book(symbol)
        assert book["bids"][0][0] < book["asks"][0][0]
        assert asked.fetch_ticker(symbol)["last"] == BARS.close[-1]
        assert asked.fetch_trades(symbol, limit=5)[-1]["price"] == BARS.close[-1]
        assert asked.markets[symbol]["active"] is False
        assert asked.fetch_balance()["USDT"]["total"] == 100_000
        with pytest.raises(ccxt.BaseError, match=r"closed|symbol status"):
            asked.create_order(symbol, "market", "buy", 0.01)
        if market == "perp":
            assert asked.fetch_funding_rate(symbol)["markPrice"] == BARS.close[-1]
            stamps = [row["timestamp"] for row in asked.fetch_funding_rate_history(symbol, limit=3)]
            assert stamps == [END - hours * 3_600_000 for hours in (24, 16, 8)]


def test_when_the_file_ends_then_its_last_bar_is_told_and_the_line_stays() -> None:
    made = Markets({BTC: Stored(BARS)}, VenueClock(END - 20_000, wall, 60.0), seed=7)

    async def heard(url: str) -> list[Any]:
        told = []
        name = f"{url.replace('http', 'ws')}/stream?streams=btcusdt@kline_5m/btcusdt@trade"
        async with socket_to(name) as socket:
            while made.clock.now() < END + 60_000:
                try:
                    told.append(json.loads(await asyncio.wait_for(socket.recv(), 0.2))["data"])
                except TimeoutError:
                    continue
            await socket.ping()  # it stands
        return told

    with venue(made=made) as url:
        told = asyncio.run(heard(url))
    closed = [one["k"] for one in told if one["e"] == "kline" and one["k"]["x"]]
    assert [(k["t"], float(k["c"])) for k in closed] == [(END - STEP, BARS.close[-1])]
    assert max(one["T"] for one in told if one["e"] == "trade") < END


def test_an_account_that_outlived_its_file_is_opened_again(files: Wares) -> None:
    before = files.markets(END - DAY, 0.0, 8)
    accounts = trading(before)
    with venue(made=before, accounts=accounts) as url:
        client(url, "perp").create_order(f"{BTC}:USDT", "market", "buy", 0.01)
    ledger = accounts.exchange.ledger
    ledger.at = END + DAY
    again = files.markets(files.begin(None, ledger.at), 0.0, 8)
    kept = Trading(again, Ledger.restored(ledger.state()), (key_for(),), wall)
    with venue(made=again, accounts=kept) as url:
        [held] = client(url, "perp").fetch_positions()
        assert (held["contracts"], held["markPrice"]) == (0.01, BARS.close[-1])


def test_a_market_that_began_within_the_hour_has_a_ticker() -> None:
    young = BARS.slice(3, N)  # 00:15
    made = Markets({BTC: Stored(young)}, VenueClock(int(young.ts[0]) + 70_000, wall, 60.0), seed=7)

    async def heard(url: str) -> Any:
        name = f"{url.replace('http', 'ws')}/stream?streams=btcusdt@ticker"
        async with socket_to(name) as socket:
            return json.loads(await asyncio.wait_for(socket.recv(), 5))["data"]

    with venue(made=made) as url:
        told = asyncio.run(heard(url))
        asked = connect("binance", "spot", url).fetch_ticker(BTC)
    assert float(told["o"]) == asked["open"] == young.open[0]


@pytest.fixture
def files(tmp_path: Path) -> Wares:
    path = tmp_path / "BTCUSDT-binance-spot-5m-2024.parquet"
    write_parquet(path, BARS)
    return of_files([path], 7)


def test_where_it_begins(files: Wares) -> None:
    assert (files.first_ms, files.last_ms, files.ends_ms) == (DEMO_START_MS, END, END)
    assert files.begin(None, 0) == files.begins_ms == DEMO_START_MS + DAY
    assert files.begin(None, END + 5) == END + 5  # a kept account goes on
    assert files.begin(DEMO_START_MS, 0) == DEMO_START_MS
    assert files.begin(DEMO_START_MS, DEMO_START_MS + 9) == DEMO_START_MS + 9
    for wanted in (DEMO_START_MS - 1, END):
        with pytest.raises(UsageError, match="from 2025-01-01T00:00:00Z to before 2025-01-03"):
            files.begin(wanted, 0)
    made = simulated([BTC], 7)
    assert (made.begin(END + 900 * DAY, 0), made.ends_ms) == (END + 900 * DAY, None)
    with pytest.raises(UsageError, match="--start"):
        made.begin(END + 4_000 * DAY, 0)  # it would be made for minutes


def test_a_market_is_named_by_what_it_is_made_of(files: Wares, tmp_path: Path) -> None:
    assert simulated([BTC], 7).name != simulated([BTC], 8).name
    again = of_files([tmp_path / "BTCUSDT-binance-spot-5m-2024.parquet"], 7)
    assert again.name == files.name
    assert of_files([tmp_path / "BTCUSDT-binance-spot-5m-2024.parquet"], 8).name != files.name
    other = tmp_path / "sub" / "BTCUSDT-binance-spot-5m-2024.parquet"
    other.parent.mkdir()
    write_parquet(other, BARS.slice(1, N))
    assert of_files([other], 7).name != files.name
    assert files.markets(END - DAY, 2.0, 8).name == files.name
