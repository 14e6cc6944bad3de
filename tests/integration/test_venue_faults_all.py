"""All faults at random on one venue, with clients who go on as best they can."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter
from decimal import Decimal

import pytest
from websockets.asyncio.client import connect as ws_connect

from sim.venue.faults.kinds import KINDS
from sim.venue.faults.schedule import Random, Schedule
from tests.fault_scenes import Scene, scene
from tests.integration.test_venue_faults_orders import keyed

SECONDS = 4.0
STREAMS = "/stream?streams=btcusdt@trade/btcusdt@depth@100ms/btcusdt@kline_1m"


async def listen(venue: Scene, until: float) -> int:
    heard = 0
    while time.monotonic() < until:
        try:
            address = venue.url.replace("http", "ws") + STREAMS
            async with ws_connect(address, max_queue=None, open_timeout=1) as socket:
                while time.monotonic() < until:
                    await asyncio.wait_for(socket.recv(), 0.5)
                    heard += 1
        except Exception:  # noqa: BLE001 - whatever it is, go on
            await asyncio.sleep(0.02)
    return heard


def trade(venue: Scene, until: float) -> tuple[list[str], Counter[str]]:
    perp, sent, met = keyed(venue, "perp"), list[str](), Counter[str]()
    perp.timeout = 500
    for n in itertools.count():
        if time.monotonic() > until:
            return sent, met
        sent.append(f"order-{n}")
        try:
            perp.create_order("BTC/USDT:USDT", "market", "buy" if n % 2 else "sell", 0.01,
                              params={"clientOrderId": sent[-1]})  # fmt: skip
        except Exception as error:  # noqa: BLE001 - ccxt trips over numbers that are none
            met[type(error).__name__] += 1
        time.sleep(0.12)  # the exchange's limit on orders
    raise AssertionError


@pytest.mark.long
def test_the_venue_stands_whatever_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    random = Random(0.05, 0.3, 11, tuple(KINDS))
    with caplog.at_level(logging.WARNING), scene(240.0, Schedule(3, (), random)) as venue:
        until = time.monotonic() + SECONDS

        async def run() -> tuple[int, tuple[list[str], Counter[str]]]:
            found = await asyncio.gather(
                listen(venue, until), asyncio.to_thread(trade, venue, until)
            )
            return found[0], found[1]

        heard, (sent, met) = asyncio.run(run())
        told = venue.faults()
        assert told["random"]["drawn"] > 60
        assert set(told["counts"]) > {"drop", "disconnect", "error"}
        assert heard > 100
        assert met
        account = venue.accounts.exchange.ledger.accounts["main"]
        clients = [order.client_id for order in account.orders.values()]
        assert len(clients) == len(set(clients))  # none is there twice
        assert set(clients) <= set(sent)
        assert len({each.number for each in account.trades}) == len(account.trades)
        filled = sum((order.filled for order in account.orders.values()), Decimal())
        assert filled == sum((each.qty for each in account.trades), Decimal()) > 0
    wrong = [each for each in caplog.records if each.name in ("asyncio", "aiohttp.server")]
    assert [each.getMessage() for each in wrong] == []
