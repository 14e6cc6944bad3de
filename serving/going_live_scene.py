"""What a rehearsal plays: entries and exits in turn by the live broker, each to its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from domain.errors import AmbiguousOutcome, ServiceUnreachable
from domain.market import Bar, Instrument
from domain.trading import Fill, Order, OrderStatus, OrderType, Refusal, Side, client_order_id
from execution import books
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import Bounds, LastGuard
from execution.adapters.waits import Waits
from execution.money import to_step
from serving.rules import CURRENCY

SYMBOL = "BTC/USDT:USDT"
NAME = "rehearsal"  # of account and strategy
WORTH = Decimal(200)  # of an order, quote units
LOSSES = (0.08, 0.16)  # share of orders whose answer is lost: before they take effect, after
_ROUNDS = 12  # bars that an order is followed for, at most


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


class Scene:
    """Entries and exits in turn, each a bar after the other.

    Parameters
    ----------
    cash : of the account, which holds nothing, quote units.
    now : the exchange's time, ms. ``step`` : lets time pass and returns the bar until then.
    """

    def __init__(
        self, broker: CcxtBroker, instrument: Instrument, cash: Decimal, now: Callable[[], int],
        step: Callable[[], Bar],
    ) -> None:  # fmt: skip
        self._broker, self._instrument = broker, instrument
        self._now, self._step = now, step
        self.fills: list[Fill] = []
        self.names: set[str] = set()  # ids of orders that were sent
        self.cash, self.held = cash, Decimal(0)
        self.sent = self.unplaced = self._number = 0
        self.refusal: Refusal | None = None  # of the newest order
        self._flying: list[Order] = []
        self._broker.restore(books.opening(NAME, CURRENCY, cash, now()))
        self._last = self._bar()

    def order(self, rng: random.Random) -> None:
        """Send one, what closes where something is held, else what opens, and follow it."""
        self._number += 1
        at, held = self._now(), self.held
        side = Side.SELL if held > 0 or (not held and rng.random() < 0.5) else Side.BUY
        qty = abs(held) or self._qty()
        name = client_order_id(NAME, SYMBOL, NAME, at, "order", self._number)
        order = Order(
            name, NAME, SYMBOL, side, qty, OrderType.MARKET, at, f"d{self._number}",
            "manual" if held else "entry", reduce_only=bool(held),
        )  # fmt: skip
        self.refusal = None
        try:
            self.refusal = self._broker.submit(order)
        except AmbiguousOutcome:
            self._flying.append(order)
        if self.refusal is None:
            self.sent += 1
            self.names.add(name)
        self._bar()
        self.settle()

    def _qty(self) -> Decimal:
        least = self._instrument
        return max(to_step(WORTH / Decimal(str(self._last.close)), least.step), least.min_qty)

    def settle(self) -> None:
        """Find out what became of everything, as far as it can be by now."""
        for _ in range(_ROUNDS):
            if not self._flying:
                return
            self._bar()

    def wait(self, bars: int) -> None:
        """Let so many bars pass."""
        for _ in range(bars):
            self._bar()

    def _bar(self) -> Bar:
        bar = self._step()
        for order in list(self._flying):
            try:
                status = self._broker.status(order.id)
            except (AmbiguousOutcome, ServiceUnreachable):
                continue
            if status is OrderStatus.HELD:  # it is sent again
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
            self.held += row.qty * row.side.sign
        self._last = bar
        return bar


def rehearsing(
    gateway: Gateway, instrument: Instrument, waits: Waits, monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> CcxtBroker:  # fmt: skip
    """Return a broker that sends small orders only, by the rules of live ones."""
    bounds = Bounds(2 * WORTH, 2 * WORTH, 2 * WORTH, 10_000, Decimal(2_000))
    guard = LastGuard(bounds, str, monotonic)
    return CcxtBroker(
        gateway, {SYMBOL: instrument}, guard, account=NAME, waits=waits, monotonic=monotonic,
        sleep=sleep,
    )  # fmt: skip
