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
from domain.errors import AmbiguousOutcome, ServiceUnreachable
from domain.market import Bar, Instrument
from domain.ports import Clock
from domain.trading import Fill, Order, OrderStatus, OrderType, Refusal, Side, client_order_id
from execution import books
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import Bounds, LastGuard
from execution.adapters.waits import Waits
from execution.money import to_step
from serving.rules import CURRENCY
from sim.venue.accounts import Account, Ledger
from sim.venue.market import Markets, VenueClock
from sim.venue.refusals import Refused
from sim.venue.server import serving
from sim.venue.signing import Key
from sim.venue.trading import Call, Take, Trading
from sim.worlds import DEMO_START_MS, DemoMarket

PAIR, SYMBOL, LISTED = "BTC/USDT", "BTC/USDT:USDT", "BTCUSDT"
_NAME = "rehearsal"  # of account and strategy
STEP_MS = 300_000
CASH, WORTH = Decimal(100_000), Decimal(200)  # quote units
LOSSES = (0.08, 0.16)  # share of orders whose answer is lost: before they take effect, after
_PACE_MS = 7_000  # of every wall clock an order: by then it is certain what became of it
_STARTED_S = 10.0


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of it.

    Attributes
    ----------
    orders : that were sent. ``answers_lost`` : of them without an answer. ``unplaced`` : that the
        exchange never had, and that were found out not to be there.
    doubled, lost : orders that are at the exchange twice, or filled there and not known here.
    apart : the exchange's money less the ledger's, quote units.
    """

    orders: int
    answers_lost: int
    unplaced: int
    doubled: int
    lost: int
    apart: Decimal

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled or different."""
        return not (self.doubled or self.lost or self.apart)


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
        scene = _Scene(*_broker(url, key, time), markets, time)
        while scene.sent < orders:
            scene.order(rng)
            tick(scene.sent, orders)
        scene.settle()
    sent = [order.client_id for order in account.orders.values()]
    known = {fill.order_id for fill in scene.fills}
    return Rehearsal(
        scene.sent, len(lost), scene.unplaced, len(sent) - len(set(sent)),
        sum(order.client_id.split("-")[0] not in known for order in account.orders.values()
            if order.filled),
        account.perp.balances[CURRENCY] - scene.cash,
    )  # fmt: skip


class _Scene:
    """Entries and exits in turn, each a bar after the other."""

    def __init__(
        self, broker: CcxtBroker, instrument: Instrument, markets: Markets, time: _Time
    ) -> None:
        self._broker, self._instrument = broker, instrument
        self._markets, self._time = markets, time
        self.fills: list[Fill] = []
        self.cash, self._held = CASH, Decimal(0)
        self.sent = self.unplaced = self._number = 0
        self._flying: list[Order] = []
        self._broker.restore(books.opening(_NAME, CURRENCY, CASH, markets.clock.now()))
        self._last = self._bar()

    def order(self, rng: random.Random) -> None:
        """Send one: what closes where something is held, else what opens; then a bar passes."""
        self._number += 1
        at, held = self._markets.clock.now(), self._held
        side = Side.SELL if held > 0 or (not held and rng.random() < 0.5) else Side.BUY
        qty = abs(held) or to_step(WORTH / Decimal(str(self._last.close)), self._instrument.step)
        name = client_order_id(_NAME, SYMBOL, _NAME, at, "order", self._number)
        order = Order(
            name, _NAME, SYMBOL, side, qty, OrderType.MARKET, at, f"d{self._number}",
            "manual" if held else "entry", reduce_only=bool(held),
        )  # fmt: skip
        try:
            self.sent += self._broker.submit(order) is None
        except AmbiguousOutcome:
            self.sent += 1
            self._flying.append(order)
        self._time.ahead += _PACE_MS
        self._bar()

    def settle(self) -> None:
        """Find out what became of everything."""
        for _ in range(3):
            self._time.ahead += 10_000
            self._bar()

    def _bar(self) -> Bar:
        opened = self._markets.clock.now() // STEP_MS * STEP_MS
        self._time.market += opened + STEP_MS - self._markets.clock.now()
        found = self._markets.bars(self._markets.listing("perp", LISTED), "5m", opened, 1).bar(0)
        bar = Bar(SYMBOL, "5m", opened, found.open, found.high, found.low, found.close,
                  found.volume)  # fmt: skip
        for order in list(self._flying):
            try:
                status = self._broker.status(order.id)
            except (AmbiguousOutcome, ServiceUnreachable):
                continue
            self._flying.remove(order)
            self.unplaced += status is OrderStatus.UNKNOWN
        for line in self._broker.funding(bar):
            self.cash -= line.amount if line.book == "funding" else 0
        for row in self._broker.on_bar(bar):
            if isinstance(row, Refusal):
                continue
            self.fills.append(row)
            self.cash += row.realised - row.fee
            self._held += row.qty * row.side.sign
        self._last = bar
        return bar


def _broker(url: str, key: Key, time: _Time) -> tuple[CcxtBroker, Instrument]:
    client = connect("binance", "perp", url)
    client.apiKey, client.secret, client.nonce = key.key, key.secret, time.now
    client.enableRateLimit = False
    gateway = Gateway(client, [SYMBOL], CURRENCY, monotonic=time.monotonic)
    gateway.open()
    gateway.settle_on_one()
    instrument = instrument_of(client.markets[SYMBOL])
    bounds = Bounds(2 * WORTH, 2 * WORTH, 2 * WORTH, 10_000, Decimal(2_000))
    guard = LastGuard(bounds, str, time.monotonic)
    broker = CcxtBroker(
        gateway, {SYMBOL: instrument}, guard, account=_NAME, waits=Waits(0.0, 6.0, 0.01),
        monotonic=time.monotonic, sleep=time.sleep,
    )  # fmt: skip
    return broker, instrument


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
