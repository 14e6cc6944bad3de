"""A rehearsal: the live broker carries out orders at a local exchange, and everything must agree.

Some answers are lost on the way, as they are at a real exchange, before an order takes effect and
after it. What counts is that no order is lost or doubled and that the ledger's money is the
exchange's, to the last digit.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aiohttp import web

from data.sources.exchange import connect
from data.sources.listing import instrument_of
from domain.errors import ServiceUnreachable
from domain.market import Bar, Instrument
from domain.ports import Clock
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.waits import Waits
from serving.going_live_scene import LOSSES, SYMBOL, Rehearsal, Scene, rehearsing
from serving.rules import CURRENCY
from sim.venue.accounts import Account, Ledger
from sim.venue.market import Markets, VenueClock
from sim.venue.refusals import Refused
from sim.venue.server import serving
from sim.venue.signing import Key
from sim.venue.trading import Call, Take, Trading
from sim.worlds import DEMO_START_MS, DemoMarket

PAIR, LISTED = "BTC/USDT", "BTCUSDT"
STEP_MS = 300_000
CASH = Decimal(100_000)  # quote units
_PACE_MS = 7_000  # of every wall clock an order: by then it is certain what became of it
_LAST_BARS = 3  # after the last order: fills may come late
_STARTED_S = 10.0


@dataclass(slots=True)
class _Time:
    """Clocks that nobody waits for.

    Attributes
    ----------
    market : ms after the market's start. ``ahead`` : of the wall's, ms.
    """

    wall: Clock
    market: int = 0
    ahead: int = 0

    def now(self) -> int:
        """Return the wall's time, ms."""
        return self.wall.now() + self.ahead

    def monotonic(self) -> float:
        """Return it in seconds."""
        return self.now() / 1_000

    def sleep(self, seconds: float) -> None:
        """Let it pass."""
        self.ahead += int(seconds * 1_000)


def rehearse(orders: int, clock: Clock, seed: int, tick: Callable[[int, int], object]) -> Rehearsal:
    """Carry out so many orders, half of them entries, at an exchange of this process.

    Parameters
    ----------
    tick : told (done, all).
    """
    time, rng = _Time(clock), random.Random(seed)  # noqa: S311 - chooses faults, guards nothing
    lost: list[str] = []

    async def passage(request: web.Request, call: Call, take: Take) -> Any:
        if request.method != "POST" or "newClientOrderId" not in call.query:
            return take()
        chance = rng.random()
        if chance >= LOSSES[1]:
            return take()
        lost.append(call.query["newClientOrderId"])
        if chance >= LOSSES[0]:
            take()
        raise Refused(503, -1007, "Timeout waiting for response from backend server.")

    key = Key.made(seed)
    market_clock = VenueClock(DEMO_START_MS + 2 * 86_400_000, lambda: time.market)
    markets = Markets({PAIR: DemoMarket(seed, PAIR)}, market_clock, seed=seed)
    account = Account.funded(key.account, {CURRENCY: CASH}, [CURRENCY])
    trading = Trading(markets, Ledger({key.account: account}), (key,), time.now, passage)
    with _served(markets, trading, time.now) as url:
        broker = _broker(url, key, time)
        scene = Scene(*broker, CASH, markets.clock.now, _steps(markets, time))
        while scene.sent < orders:
            scene.order(rng)
            tick(scene.sent, orders)
        scene.wait(_LAST_BARS)
    sent = [order.client_id for order in account.orders.values()]
    known = {fill.order_id for fill in scene.fills}
    return Rehearsal(
        scene.sent, len(lost), scene.unplaced, len(sent) - len(set(sent)),
        sum(order.client_id.split("-")[0] not in known for order in account.orders.values()
            if order.filled),
        account.perp.balances[CURRENCY] - scene.cash,
    )  # fmt: skip


def _steps(markets: Markets, time: _Time) -> Callable[[], Bar]:
    """Return what lets a bar pass, and so much of the wall's time that all is certain."""

    def step() -> Bar:
        time.ahead += _PACE_MS
        opened = markets.clock.now() // STEP_MS * STEP_MS
        time.market += opened + STEP_MS - markets.clock.now()
        found = markets.bars(markets.listing("perp", LISTED), "5m", opened, 1).bar(0)
        prices = (found.open, found.high, found.low, found.close)
        return Bar(SYMBOL, "5m", opened, *prices, found.volume)

    return step


def _broker(url: str, key: Key, time: _Time) -> tuple[CcxtBroker, Instrument]:
    client = connect("binance", "perp", url)
    client.apiKey, client.secret, client.nonce = key.key, key.secret, time.now
    client.enableRateLimit = False
    gateway = Gateway(client, [SYMBOL], CURRENCY, monotonic=time.monotonic)
    gateway.open()
    gateway.settle_on_one()
    instrument = instrument_of(client.markets[SYMBOL])
    waits = Waits(0.0, 6.0, 0.01)
    return rehearsing(gateway, instrument, waits, time.monotonic, time.sleep), instrument


@contextmanager
def _served(markets: Markets, trading: Trading, wall: Callable[[], int]) -> Iterator[str]:
    """Serve in a thread while the block lasts; yields the address."""
    ports, ready, loop = list[int](), threading.Event(), asyncio.new_event_loop()
    leave = asyncio.Event()

    async def run() -> None:
        async with serving(markets, wall, trading=trading) as port:
            ports.append(port)
            ready.set()
            await leave.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    try:
        if not ready.wait(_STARTED_S):
            raise ServiceUnreachable("rehearsal", "its exchange must start", hint="Try again.")
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join(_STARTED_S)
        loop.close()
