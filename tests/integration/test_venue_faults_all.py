"""All faults at random on one venue, with clients who go on as best they can."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import Counter
from decimal import Decimal

import pytest
from websockets.asyncio.client import connect as ws_connect

from sim.venue.faults.kinds import KINDS
from sim.venue.faults.schedule import Random, Schedule
from tests.fault_scenes import Scene, scene
from tests.integration.test_venue_faults_orders import keyed

STREAMS = "/stream?streams=btcusdt@trade/btcusdt@depth@100ms/btcusdt@kline_1m"


async def listen(venue: Scene, heard: list[str | bytes], over: threading.Event) -> None:
    while not over.is_set():
        try:
            address = venue.url.replace("http", "ws") + STREAMS
            async with ws_connect(address, max_queue=None, open_timeout=1) as socket:
                while not over.is_set():
                    heard.append(await asyncio.wait_for(socket.recv(), 0.5))
        except Exception:  # noqa: BLE001 - whatever it is, go on
            await asyncio.sleep(0.02)


def trade(venue: Scene, sent: list[str], met: Counter[str], over: threading.Event) -> None:
    perp = keyed(venue, "perp")
    perp.timeout = 500
    for n in itertools.count():
        if over.is_set():
            return
        sent.append(f"order-{n}")
        try:
            perp.create_order("BTC/USDT:USDT", "market", "buy" if n % 2 else "sell", 0.01,
                              params={"clientOrderId": sent[-1]})  # fmt: skip
        except Exception as error:  # noqa: BLE001 - ccxt trips over numbers that are none
            met[type(error).__name__] += 1
        time.sleep(0.12)  # the exchange's limit on orders


@pytest.mark.long
def test_the_venue_stands_whatever_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    random = Random(0.05, 0.3, 11, tuple(KINDS))
    with caplog.at_level(logging.WARNING), scene(240.0, Schedule(3, (), random)) as venue:
        heard, sent, met = list[str | bytes](), list[str](), Counter[str]()
        account, over = venue.accounts.exchange.ledger.accounts["main"], threading.Event()

        def enough() -> bool:
            told = venue.faults()
            struck = set(told["counts"]) > {"drop", "disconnect", "error"}
            went_on = len(heard) > 100 and met and account.trades
            return bool(told["random"]["drawn"] > 60 and struck and went_on)

        async def watch() -> None:
            try:
                async with asyncio.timeout(60):
                    while not await asyncio.to_thread(enough):
                        await asyncio.sleep(0.1)
            finally:
                over.set()

        async def run() -> None:
            trading = asyncio.to_thread(trade, venue, sent, met, over)
            await asyncio.gather(watch(), listen(venue, heard, over), trading)

        asyncio.run(run())
        clients = [order.client_id for order in account.orders.values()]
        assert len(clients) == len(set(clients))  # none is there twice
        assert set(clients) <= set(sent)
        assert len({each.number for each in account.trades}) == len(account.trades)
        filled = sum((order.filled for order in account.orders.values()), Decimal())
        assert filled == sum((each.qty for each in account.trades), Decimal()) > 0
    wrong = [each for each in caplog.records if each.name in ("asyncio", "aiohttp.server")]
    assert [each.getMessage() for each in wrong] == []
