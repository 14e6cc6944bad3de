"""The paper broker: real bars, invented fills, the fill engine of :mod:`execution.fills`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from domain.canonical import short_hash
from domain.decision import ExitReason, Reason
from domain.errors import SettingError, UsageError
from domain.market import Bar, BookSnapshot, Instrument
from domain.ports import BookSource
from domain.trading import (
    ZERO,
    Fill,
    Holdings,
    Order,
    OrderStatus,
    OrderType,
    Portfolio,
    Position,
    Posting,
    Refusal,
    Side,
)
from execution import books
from execution.account import Account
from execution.draws import Latency, key_of, uniform
from execution.fills import (
    CostModel,
    Execution,
    book_fills,
    limit_fill,
    liquidation_fill,
    market_fill,
    stop_fill,
)
from execution.filters import broken_rule
from execution.funding import FundingRate, base_rate, payment, stamps_between
from execution.margin import liquidation_price, maintenance
from execution.money import dec, to_tick

BOOK_AGE_MS = 5_000  # a book that is older says nothing about what an order would meet
ATTEMPTS, AGAIN_MS = (
    5,
    1_000,
)  # what is left of an order is quoted again, so often and so much later
RECENT, BUSY = 288, 0.95  # bars that latency is compared with, and the share that is calm


@dataclass(frozen=True, slots=True)
class Venue:
    """What the simulated exchange is like, beyond its costs.

    Attributes
    ----------
    leverage : of isolated positions, ≥ 1.
    latency : of every order.
    seed : of all draws.
    books : who remembers order books; None = bars alone.
    """

    leverage: Decimal = Decimal(1)
    latency: Latency = field(default_factory=Latency)
    seed: int = 0
    books: BookSource | None = None

    def __post_init__(self) -> None:
        if self.leverage < 1:
            raise SettingError("leverage", "must be at least 1", self.leverage)


class PaperBroker:
    """Implements :class:`domain.ports.Broker` on closed bars.

    Market orders fill in the first bar that opens at or after their creation, exits before entries:
    from the book that was there when they arrived, else at the open. What is left of an exit goes
    on in the next bar, what is left of an entry is the loop's to withdraw. Stops and targets wait
    for their entry, work from the bar in which it filled, the stop first, and leave with the
    position. A position is entered only when flat and margined by itself (isolated); where its
    margin is used up it is liquidated. On a spot market nothing is sold that is not held.

    Parameters
    ----------
    instruments : what can be traded, by symbol.
    costs : cost model by symbol; the default is each instrument's fees with 1 bp of spread and
        1 bp of slippage.
    funding : rate per symbol and stamp, for perpetuals.
    venue : leverage, latency, books, seed.
    finer : returns the shorter bars inside a bar, in order, to tell which of stop, target and
        liquidation came first; where they do not tell, the worst one did.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        costs: Mapping[str, CostModel] | None = None,
        *,
        account: str = "paper",
        currency: str = "USDT",
        funding: FundingRate = base_rate,
        venue: Venue | None = None,
        finer: Callable[[Bar], Sequence[Bar]] | None = None,
    ) -> None:
        self._instruments = dict(instruments)
        self._costs = {s: CostModel.of(i) for s, i in instruments.items()} | dict(costs or {})
        self._account = Account(account, currency)
        self._funding = funding
        self._venue = venue or Venue()
        self._finer = finer
        self._working: dict[str, Order] = {}
        self._parts: dict[str, tuple[int, Decimal]] = {}  # of working orders: fills, quantity
        self._seen: set[str] = set()
        self._last: dict[str, Bar] = {}
        self._funded_to: dict[str, int] = {}
        self._reach = {symbol: deque[float](maxlen=RECENT) for symbol in self._instruments}
        self._levels: dict[str, tuple[Decimal, Decimal, Decimal | None]] = {}

    def submit(self, order: Order) -> Refusal | None:
        """Accept an order, or say which venue rule it breaks; a known id changes nothing.

        Raises
        ------
        UsageError : if the symbol is none of the broker's instruments.
        """
        if order.id in self._seen:
            return None
        instrument = self._instrument(order.symbol)
        last = self._last.get(order.symbol)
        broken = broken_rule(order, instrument, last, self._venue.leverage)
        if broken is not None:
            return _refusal(order, order.created_at, broken.code, broken.rule, broken.value)
        self._seen.add(order.id)
        self._working[order.id] = order
        self._account.fold(order)
        return None

    def cancel(self, order_id: str) -> None:
        """Withdraw a working order, and the brackets of an entry; unknown ids are ignored."""
        order = self._working.pop(order_id, None)
        self._parts.pop(order_id, None)
        if order is not None and order.intent == "entry":
            self._tidy(order.symbol)

    def funding(self, bar: Bar) -> list[Posting]:
        """Book the funding stamps up to the bar's open, before anything fills in it."""
        instrument = self._instrument(bar.symbol)
        position = self._account.position(bar.symbol)
        last = self._last.get(bar.symbol)
        since = max(self._funded_to.get(bar.symbol, 0), last.open_ms if last else 0)
        self._funded_to[bar.symbol] = max(since, bar.open_ms)
        if position is None or instrument.market != "perp":
            return []
        lines: list[Posting] = []
        for stamp in stamps_between(since, bar.open_ms, instrument.funding_ms):
            mark = bar.open if stamp == bar.open_ms or last is None else last.close
            amount = payment(position, dec(mark), self._funding(bar.symbol, stamp))
            account = self._account
            lines += books.of_funding(account.name, account.currency, bar.symbol, stamp, amount)
        for line in lines:
            self._account.fold(line)
        return lines

    def on_bar(self, bar: Bar) -> list[Fill | Refusal]:
        """Let the market move by one bar; a bar already seen changes nothing."""
        self._instrument(bar.symbol)
        last = self._last.get(bar.symbol)
        if last is not None and bar.open_ms <= last.open_ms:
            return []
        said: list[Fill | Refusal] = []
        if self._working or self._account.position(bar.symbol) is not None:
            said += self._market_fills(bar)
            for part in (bar,) if self._finer is None else self._finer(bar) or (bar,):
                said += self._inside(part)
        self._saw(bar)
        self._tidy(bar.symbol)
        return said

    def tend(self) -> None:
        """Do nothing: here all is certain."""

    def open_orders(self) -> list[Order]:
        """Return the working orders, oldest first."""
        return list(self._working.values())

    def status(self, order_id: str) -> OrderStatus:
        """Return whether an order works, is done, or was never accepted."""
        if order_id in self._working:
            return OrderStatus.WORKING
        return OrderStatus.DONE if order_id in self._seen else OrderStatus.UNKNOWN

    def holdings(self) -> Holdings:
        """Return cash and signed quantities as the broker's own books have them."""
        held = {position.symbol: position.qty for position in self._account.positions()}
        return Holdings(self._account.cash, held)

    def position(self, symbol: str) -> Position | None:
        """Return the open position of a symbol."""
        return self._account.position(symbol)

    def portfolio(self, at: int, marks: Mapping[str, Decimal] | None = None) -> Portfolio:
        """Mark the account to market at ``marks`` (quote units), else at the last closes."""
        closes = {symbol: dec(bar.close) for symbol, bar in self._last.items()}
        return self._account.portfolio(at, closes | dict(marks or {}))

    def restore(self, records: Iterable[Any]) -> list[Refusal]:
        """Fold stored rows, in the ledger's order, into a fresh broker; may come in pieces."""
        refused: list[Refusal] = []
        for record in records:
            if isinstance(record, Order):
                # An order of a symbol that is no longer traded can never fill here.
                if record.account == self._account.name and record.symbol in self._instruments:
                    refusal = self.submit(record)
                    refused += [] if refusal is None else [refusal]
            elif isinstance(record, Bar):
                self._restore_bar(record)
            elif isinstance(record, Refusal):
                self._restore_refusal(record)
            elif isinstance(record, Fill):
                self._account.fold(record)
                self._filled(record)
                self._tidy(record.symbol)
            else:
                self._account.fold(record)
        return refused

    def _restore_bar(self, bar: Bar) -> None:
        # Whatever could trade in it did (its fills are the next rows) or had nothing to close.
        if bar.symbol not in self._instruments:
            return
        held = self._account.position(bar.symbol)
        for order in self._ready(bar):
            if order.reduce_only and (held is None or held.qty * order.side.sign > 0):
                self._done(order)
        self._tidy(bar.symbol)
        self._funded_to[bar.symbol] = bar.open_ms
        self._saw(bar)

    def _restore_refusal(self, refusal: Refusal) -> None:
        for order in list(self._working.values()):
            same = (order.decision_id, order.intent) == (refusal.decision_id, refusal.intent)
            if same and order.account == refusal.account:
                self.cancel(order.id)

    def _saw(self, bar: Bar) -> None:
        self._last[bar.symbol] = bar
        self._reach[bar.symbol].append((bar.high - bar.low) / bar.open)

    def _instrument(self, symbol: str) -> Instrument:
        if symbol not in self._instruments:
            known = ", ".join(sorted(self._instruments))
            raise UsageError("symbol", "must be one the broker trades", symbol, f"It has {known}.")
        return self._instruments[symbol]

    # Market orders

    def _ready(self, bar: Bar) -> list[Order]:
        ready = [
            order
            for order in self._working.values()
            if order.symbol == bar.symbol
            and order.type is OrderType.MARKET
            and order.created_at <= bar.open_ms
        ]
        return sorted(ready, key=lambda order: not order.reduce_only)

    def _market_fills(self, bar: Bar) -> Iterator[Fill | Refusal]:
        since = bar.open_ms  # an entry never trades before the exit that makes room for it
        for order in self._ready(bar):
            held = self._account.position(bar.symbol)
            left = order.qty - self._parts.get(order.id, (0, ZERO))[1]
            if order.reduce_only:
                if held is None or held.qty * order.side.sign > 0:
                    self._done(order)
                    continue
                left = min(left, abs(held.qty))
            elif held is not None and held.decision_id != order.decision_id:
                rule, value = "a position is entered only when flat", f"{held.qty:f} is held"
                yield self._refused(order, since, Reason.UNFILLED, rule, value)
                continue
            for done in self._executions(order, left, bar, since):
                if not order.reduce_only and (short := self._short_of(order, done)):
                    yield self._refused(order, done.at, Reason.INSUFFICIENT_MARGIN, *short)
                    break
                since = done.at
                yield self._book(order, done)

    def _executions(self, order: Order, left: Decimal, bar: Bar, since: int) -> Iterator[Execution]:
        costs = self._costs[bar.symbol]
        instrument, looked = self._instruments[bar.symbol], 0
        arrived = at = max(since, bar.open_ms + self._wait(order, bar, 0))
        for attempt in range(1, ATTEMPTS + 1):
            book = self._book_at(bar.symbol, at)
            if book is None or at >= bar.close_ms:
                break
            levels = book.asks if order.side is Side.BUY else book.bids
            if book.at > looked:  # else nobody has offered anything new
                for done in book_fills(order.side, left, levels, book.mid, at, costs, instrument):
                    left -= done.qty
                    yield done
            looked = book.at
            if left <= 0:
                return
            at += AGAIN_MS + self._wait(order, bar, attempt)
        if not looked:
            wait = arrived - bar.open_ms
            done_by_bar = market_fill(order.side, left, bar, costs, instrument, wait)
            if done_by_bar is not None:
                yield done_by_bar

    def _wait(self, order: Order, bar: Bar, attempt: int) -> int:
        recent = self._reach[bar.symbol]
        busy = False
        if recent:
            calm = sorted(recent)[int(BUSY * (len(recent) - 1))]
            busy = recent[-1] > calm
        key = key_of(order.symbol, order.intent)
        draw = uniform(self._venue.seed, key, order.created_at, attempt)
        return self._venue.latency.ms(draw, busy=busy)

    def _book_at(self, symbol: str, at: int) -> BookSnapshot | None:
        if self._venue.books is None:
            return None
        book = self._venue.books.look(symbol, at).book
        if book is None or not book.two_sided or at - book.at > BOOK_AGE_MS:
            return None
        return book

    def _short_of(self, order: Order, done: Execution) -> tuple[str, str] | None:
        """What an entry would need beyond what is free, as rule and value; None if it is there."""
        account, leverage = self._account, self._venue.leverage
        marks = {symbol: dec(bar.close) for symbol, bar in self._last.items()}
        if self._instruments[order.symbol].market == "spot":
            free, needed = account.cash, done.price * done.qty + done.fee
        else:
            tied = sum((abs(p.qty) * p.entry_price for p in account.positions()), ZERO) / leverage
            free = account.equity(marks) - tied
            needed = done.price * done.qty / leverage + done.fee
        if needed <= free:
            return None
        return f"needs {needed:.2f} of free margin", f"{free:.2f}"

    # Stops, targets and liquidations

    def _inside(self, bar: Bar) -> Iterator[Fill]:
        position = self._account.position(bar.symbol)
        if position is None:
            return
        brackets = self._brackets(position) if self._working else []
        stop = next((o for o in brackets if o.type is OrderType.STOP), None)
        level = self._liquidation_level(position)
        sign = 1 if position.qty > 0 else -1
        if level is not None:
            trigger = None if stop is None else stop.trigger
            nearer = trigger is not None and (trigger - level) * sign > 0
            gapped = (level - dec(bar.open)) * sign >= 0
            if (gapped or not nearer) and (taken := self._liquidated(position, level, bar)):
                yield taken
                return
        for order in brackets:
            done = self._bracket_fill(order, position, bar)
            if done is not None:
                yield self._book(order, done)
                return

    def _bracket_fill(self, order: Order, position: Position, bar: Bar) -> Execution | None:
        instrument, costs = self._instruments[bar.symbol], self._costs[bar.symbol]
        qty = abs(position.qty)
        if order.type is OrderType.STOP and order.trigger is not None:
            return stop_fill(order.side, qty, order.trigger, bar, costs, instrument)
        if order.price is None:
            return None
        draw = 1.0
        if order.price == dec(bar.high if order.side is Side.SELL else bar.low):
            key = key_of(order.symbol, order.intent)
            draw = uniform(self._venue.seed, key, bar.open_ms, 0)
        rested = position.opened_at < bar.open_ms
        return limit_fill(
            order.side, qty, order.price, bar, costs, instrument, rested=rested, draw=draw
        )

    def _liquidation_level(self, position: Position) -> Decimal | None:
        """Where a position is liquidated, on the tick nearer to its entry; None = nowhere."""
        symbol, qty, entry = position.symbol, position.qty, position.entry_price
        instrument = self._instruments[symbol]
        if instrument.market == "spot" or not instrument.tiers:
            return None
        known = self._levels.get(symbol)
        if known is None or known[:2] != (qty, entry):
            wallet = abs(qty) * entry / self._venue.leverage
            price = liquidation_price(qty, entry, wallet, instrument.tiers)
            towards = 1 if qty > 0 else -1
            level = None if price is None else to_tick(price, instrument.tick, towards)
            known = self._levels[symbol] = (qty, entry, level)
        return known[2]

    def _liquidated(self, position: Position, level: Decimal, bar: Bar) -> Fill | None:
        instrument = self._instruments[bar.symbol]
        side, qty = Side.SELL if position.qty > 0 else Side.BUY, abs(position.qty)
        margin = max(maintenance(instrument.tiers, qty * level), ZERO)
        done = liquidation_fill(side, qty, level, margin, bar, instrument)
        if done is None:
            return None
        account, intent = self._account.name, ExitReason.LIQUIDATION.value
        order = Order(
            "autoclose-" + short_hash([account, bar.symbol, bar.open_ms], 24), account, bar.symbol,
            side, qty, OrderType.MARKET, bar.open_ms, position.decision_id, intent,
            reduce_only=True,
        )  # fmt: skip
        return self._book(order, done)

    def _brackets(self, position: Position) -> list[Order]:
        mine = [
            order
            for order in self._working.values()
            if order.type is not OrderType.MARKET
            and order.symbol == position.symbol
            and order.decision_id == position.decision_id
        ]
        return sorted(mine, key=lambda order: order.type is not OrderType.STOP)

    def _tidy(self, symbol: str) -> None:
        # A bracket lives while its position is open or its entry still works; an exit that could
        # have traded in the last bar, while there is something to close.
        if not self._working:
            return
        position, last = self._account.position(symbol), self._last.get(symbol)
        alive = {position.decision_id} if position is not None else set()
        alive |= {o.decision_id for o in self._working.values() if o.intent == "entry"}
        idle = last.open_ms if last is not None and position is None else -1
        for order in list(self._working.values()):
            if order.symbol != symbol or not order.reduce_only:
                continue
            if (
                order.created_at <= idle
                if order.type is OrderType.MARKET
                else order.decision_id not in alive
            ):
                self._done(order)

    # One way in for every fill, live and on restore

    def _book(self, order: Order, done: Execution) -> Fill:
        count = self._parts.get(order.id, (0, ZERO))[0]
        fill = Fill(
            short_hash([order.id, count]), order.id, order.account, order.symbol, order.side,
            done.qty, done.price, done.at, done.fee, done.spread, done.slippage, done.reference,
            done.maker, order.intent,
            self._account.realises(order.symbol, order.side.sign, done.qty, done.price),
        )  # fmt: skip
        self._account.fold(fill)
        self._filled(fill)
        return fill

    def _filled(self, fill: Fill) -> None:
        order = self._working.get(fill.order_id)
        if order is None:
            return
        count, qty = self._parts.get(order.id, (0, ZERO))
        flat = order.reduce_only and self._account.position(order.symbol) is None
        if flat or qty + fill.qty >= order.qty:
            self._done(order)
        else:
            self._parts[order.id] = (count + 1, qty + fill.qty)

    def _done(self, order: Order) -> None:
        self._working.pop(order.id, None)
        self._parts.pop(order.id, None)

    def _refused(self, order: Order, at: int, code: Reason, rule: str, value: str) -> Refusal:
        self.cancel(order.id)
        return _refusal(order, at, code, rule, value)


def _refusal(order: Order, at: int, code: Reason, rule: str, value: str) -> Refusal:
    return Refusal(
        order.account, order.symbol, at, code, rule, value, order.intent, order.decision_id
    )
