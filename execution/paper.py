"""The paper broker: real bars, invented fills, the fill engine of :mod:`execution.fills`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from domain.canonical import short_hash
from domain.decision import Reason
from domain.errors import UsageError
from domain.market import Bar, Instrument
from domain.trading import (
    Fill,
    Order,
    OrderType,
    Portfolio,
    Position,
    Posting,
    Refusal,
)
from execution import books
from execution.account import Account
from execution.fills import CostModel, Execution, limit_fill, market_fill, stop_fill
from execution.funding import FundingRate, base_rate, payment, stamps_between
from execution.money import dec


class PaperBroker:
    """Implements :class:`domain.ports.Broker` on closed bars.

    Market orders fill at the open of the first bar that opens at or after their creation, exits
    before entries. Stops and targets wait for their entry, work from the bar in which it filled,
    the stop first, and leave with the position. A position is entered only when flat. On a spot
    market nothing is sold that is not held.

    Parameters
    ----------
    instruments : what can be traded, by symbol.
    costs : cost model by symbol; the default is each instrument's fees with 1 bp of spread and
        1 bp of slippage.
    funding : rate per symbol and stamp, for perpetuals.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        costs: Mapping[str, CostModel] | None = None,
        *,
        account: str = "paper",
        currency: str = "USDT",
        funding: FundingRate = base_rate,
    ) -> None:
        self._instruments = dict(instruments)
        self._costs = {s: CostModel.of(i) for s, i in instruments.items()} | dict(costs or {})
        self._account = Account(account, currency)
        self._funding = funding
        self._working: dict[str, Order] = {}
        self._seen: set[str] = set()
        self._last: dict[str, Bar] = {}
        self._funded_to: dict[str, int] = {}

    def submit(self, order: Order) -> Refusal | None:
        """Accept an order, or say which venue rule it breaks; a known id changes nothing.

        Raises
        ------
        UsageError : if the symbol is none of the broker's instruments.
        """
        if order.id in self._seen:
            return None
        refusal = self._refuse(order)
        if refusal is None:
            self._seen.add(order.id)
            self._working[order.id] = order
            self._account.fold(order)
        return refusal

    def cancel(self, order_id: str) -> None:
        """Withdraw a working order, and the brackets of an entry; unknown ids are ignored."""
        order = self._working.pop(order_id, None)
        if order is not None and order.intent == "entry":
            self._drop_brackets(order.symbol)

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
        for stamp in stamps_between(since, bar.open_ms):
            mark = bar.open if stamp == bar.open_ms or last is None else last.close
            amount = payment(position, dec(mark), self._funding(bar.symbol, stamp))
            account = self._account
            lines += books.of_funding(account.name, account.currency, bar.symbol, stamp, amount)
        for line in lines:
            self._account.fold(line)
        return lines

    def on_bar(self, bar: Bar) -> list[Fill]:
        """Let the market move by one bar; a bar already seen changes nothing."""
        self._instrument(bar.symbol)
        last = self._last.get(bar.symbol)
        if last is not None and bar.open_ms <= last.open_ms:
            return []
        self._last[bar.symbol] = bar
        if not self._working:
            return []
        fills = self._market_fills(bar)
        bracket = self._bracket_fill(bar)
        if bracket is not None:
            fills.append(bracket)
        self._drop_brackets(bar.symbol)
        return fills

    def open_orders(self) -> list[Order]:
        """Return the working orders, oldest first."""
        return list(self._working.values())

    def position(self, symbol: str) -> Position | None:
        """Return the open position of a symbol."""
        return self._account.position(symbol)

    def portfolio(self, at: int, marks: Mapping[str, Decimal] | None = None) -> Portfolio:
        """Mark the account to market at ``marks`` (quote units), else at the last closes."""
        closes = {symbol: dec(bar.close) for symbol, bar in self._last.items()}
        return self._account.portfolio(at, closes | dict(marks or {}))

    def restore(self, records: Iterable[Any]) -> None:
        """Fold stored rows, in the ledger's order, into a fresh broker; may come in pieces."""
        for record in records:
            if isinstance(record, Order):
                # An order of a symbol that is no longer traded can never fill here.
                if record.account == self._account.name and record.symbol in self._instruments:
                    self.submit(record)
            elif isinstance(record, Bar):
                self._restore_bar(record)
            elif isinstance(record, Refusal):
                self._restore_refusal(record)
            elif isinstance(record, Fill):
                self._account.fold(record)
                self._working.pop(record.order_id, None)
                self._drop_brackets(record.symbol)
            else:
                self._account.fold(record)

    def _restore_bar(self, bar: Bar) -> None:
        # Whatever could trade at this open did (its fill is the next row) or had nothing to close.
        if bar.symbol not in self._instruments:
            return
        ready = self._ready(bar)
        held = self._account.position(bar.symbol) is not None
        closes = held and any(order.reduce_only for order in ready)
        for order in ready:
            if not held if order.reduce_only else held and not closes:
                self._working.pop(order.id)
        self._last[bar.symbol] = bar
        self._funded_to[bar.symbol] = bar.open_ms

    def _restore_refusal(self, refusal: Refusal) -> None:
        for order in list(self._working.values()):
            same = (order.decision_id, order.intent) == (refusal.decision_id, refusal.intent)
            if same and order.account == refusal.account:
                self.cancel(order.id)

    def _instrument(self, symbol: str) -> Instrument:
        if symbol not in self._instruments:
            known = ", ".join(sorted(self._instruments))
            raise UsageError("symbol", "must be one the broker trades", symbol, f"It has {known}.")
        return self._instruments[symbol]

    def _refuse(self, order: Order) -> Refusal | None:
        instrument = self._instrument(order.symbol)
        code, rule = _broken_rule(order, instrument, self._last.get(order.symbol))
        if code is None:
            return None
        return Refusal(
            order.account, order.symbol, order.created_at, code, rule, str(order.qty),
            order.intent, order.decision_id,
        )  # fmt: skip

    def _ready(self, bar: Bar) -> list[Order]:
        ready = [
            order
            for order in self._working.values()
            if order.symbol == bar.symbol
            and order.type is OrderType.MARKET
            and order.created_at <= bar.open_ms
        ]
        return sorted(ready, key=lambda order: not order.reduce_only)

    def _market_fills(self, bar: Bar) -> list[Fill]:
        fills = []
        for order in self._ready(bar):
            del self._working[order.id]
            held = self._account.position(bar.symbol)
            qty = order.qty
            if order.reduce_only:
                if held is None or held.qty * order.side.sign > 0:
                    continue
                qty = min(qty, abs(held.qty))
            elif held is not None:
                continue
            instrument, costs = self._instruments[bar.symbol], self._costs[bar.symbol]
            fills.append(
                self._book(order, qty, market_fill(order.side, qty, bar, costs, instrument))
            )
        return fills

    def _bracket_fill(self, bar: Bar) -> Fill | None:
        position = self._account.position(bar.symbol)
        if position is None:
            return None
        instrument, costs = self._instruments[bar.symbol], self._costs[bar.symbol]
        qty = abs(position.qty)
        for order in self._brackets(position):
            done = None
            if order.type is OrderType.STOP and order.trigger is not None:
                done = stop_fill(order.side, qty, order.trigger, bar, costs, instrument)
            elif order.price is not None:
                rested = position.opened_at < bar.open_ms
                done = limit_fill(
                    order.side, qty, order.price, bar, costs, instrument, rested=rested
                )
            if done is not None:
                del self._working[order.id]
                return self._book(order, qty, done)
        return None

    def _brackets(self, position: Position) -> list[Order]:
        mine = [
            order
            for order in self._working.values()
            if order.type is not OrderType.MARKET
            and order.symbol == position.symbol
            and order.decision_id == position.decision_id
        ]
        return sorted(mine, key=lambda order: order.type is not OrderType.STOP)

    def _drop_brackets(self, symbol: str) -> None:
        # A bracket lives while its position is open or its entry still works.
        position = self._account.position(symbol)
        alive = {position.decision_id} if position is not None else set()
        alive |= {o.decision_id for o in self._working.values() if o.intent == "entry"}
        self._working = {
            key: order
            for key, order in self._working.items()
            if order.type is OrderType.MARKET
            or order.symbol != symbol
            or order.decision_id in alive
        }

    def _book(self, order: Order, qty: Decimal, done: Execution) -> Fill:
        fill = Fill(
            short_hash([order.id, 0]), order.id, order.account, order.symbol, order.side, qty,
            done.price, done.at, done.fee, done.spread, done.slippage, done.reference, done.maker,
            order.intent,
            self._account.realises(order.symbol, order.side.sign, qty, done.price),
        )  # fmt: skip
        self._account.fold(fill)
        return fill


def _broken_rule(
    order: Order, instrument: Instrument, last: Bar | None
) -> tuple[Reason | None, str]:
    if order.qty < instrument.min_qty or order.qty > instrument.max_qty:
        return Reason.RISK_VETO, f"quantity between {instrument.min_qty} and {instrument.max_qty}"
    if order.qty % instrument.step != 0:
        return Reason.RISK_VETO, f"quantity a multiple of {instrument.step}"
    if any(p is not None and p % instrument.tick != 0 for p in (order.price, order.trigger)):
        return Reason.RISK_VETO, f"price a multiple of {instrument.tick}"
    if order.reduce_only:
        return None, ""
    if instrument.market == "spot" and order.side.sign < 0:
        return Reason.SHORT_NOT_POSSIBLE, "spot sells only what it holds"
    price = order.price or (dec(last.close) if last is not None else None)
    if price is not None and order.qty * price < instrument.min_notional:
        return Reason.BELOW_MIN_NOTIONAL, f"notional at least {instrument.min_notional}"
    return None, ""
