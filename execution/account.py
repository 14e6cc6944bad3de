"""An account as a fold over ledger rows: cash, positions, closed trades, high-water mark.

The loop folds what it is about to append, a restart folds what is stored: the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from domain.decision import Decision
from domain.errors import LedgerError
from domain.market import market_of
from domain.records import changed
from domain.times import timeframe_ms
from domain.trading import (
    ZERO,
    ClosedTrade,
    EquityMark,
    Fill,
    Order,
    Portfolio,
    Position,
    Posting,
    Refusal,
)
from execution.exits import Waiting, put_off
from execution.money import money

_OWN = (Fill, Order, Posting, Refusal, EquityMark)  # of one account each


@dataclass(slots=True)
class _Open:
    """A position with what has already left it."""

    position: Position
    cost: Decimal  # of what is still held: Σ price · signed quantity
    bought: Decimal  # quantity ever entered
    left: Decimal = ZERO  # quantity already closed
    proceeds: Decimal = ZERO  # Σ price · quantity of the closing fills
    realised: Decimal = ZERO


class Account:
    """Cash, positions and trades of one account in one currency.

    Parameters
    ----------
    routes : forecast symbol → execution symbol, so that a decision finds its position.
    strategy : written on the closed trades.
    """

    def __init__(
        self,
        name: str,
        currency: str,
        routes: Mapping[str, str] | None = None,
        strategy: str = "",
    ) -> None:
        self.name, self.currency, self.strategy = name, currency, strategy
        self.cash = ZERO
        self.high_water = ZERO
        self.funded = False  # whether the opening capital is booked
        self.trades = 0
        self._routes = dict(routes or {})
        self._open: dict[str, _Open] = {}
        self._orders: dict[str, Order] = {}
        self._due: dict[str, int] = {}
        self._waiting: dict[str, Waiting] = {}

    def waiting(self, symbol: str) -> Waiting | None:
        """Return the exit of a symbol's position that waits for a better book."""
        return self._waiting.get(symbol)

    def position(self, symbol: str) -> Position | None:
        """Return the open position of an execution symbol."""
        held = self._open.get(symbol)
        return None if held is None else held.position

    def positions(self) -> Iterator[Position]:
        """Iterate over the open positions."""
        return (held.position for held in self._open.values())

    def realises(self, symbol: str, sign: int, qty: Decimal, price: Decimal) -> Decimal:
        """Return the profit that a fill of ``sign · qty`` at ``price`` realises, before its fee."""
        held = self._open.get(symbol)
        if held is None or held.position.qty * sign > 0:
            return ZERO
        size = abs(held.position.qty)
        # The last part takes whatever cost rounding left, so that the books end at zero.
        share = held.cost if qty >= size else money(held.cost * qty / size)
        return -sign * price * min(qty, size) - share

    def equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return cash plus what the positions are worth at ``marks`` (the entry where missing)."""
        total = self.cash
        for symbol, held in self._open.items():
            mark = marks.get(symbol, held.position.entry_price)
            paid = ZERO if market_of(symbol) == "spot" else held.cost
            total += mark * held.position.qty - paid
        return total

    def portfolio(self, at: int, marks: Mapping[str, Decimal]) -> Portfolio:
        """Mark the account to market."""
        equity = self.equity(marks)
        return Portfolio(
            self.name, self.currency, at, self.cash, equity, max(self.high_water, equity),
            {p.symbol: p for p in self.positions()}, dict(marks),
        )  # fmt: skip

    def fold(self, record: Any) -> ClosedTrade | None:
        """Take in one ledger row; return the trade that it closed, if it closed one.

        Raises
        ------
        LedgerError : for a fill that would turn a position through zero.
        """
        kind = type(record)
        if kind is Decision:
            self._decision(record)
        elif kind not in _OWN or record.account != self.name:
            return None
        elif kind is Fill:
            return self._fill(record)
        elif kind is Order:
            self._orders[record.id] = record
        elif kind is Posting:
            self._posting(record)
        elif kind is Refusal:
            waits = put_off(record, self._waiting.get(record.symbol))
            if waits is not None:
                self._waiting[record.symbol] = waits
        else:
            self.high_water = max(self.high_water, record.high_water)
        return None

    def _decision(self, decision: Decision) -> None:
        # The latest side decided moves the horizon exit, whether it opened, turned or held.
        if decision.origin != "bar" or decision.action.sign == 0:
            return
        symbol = self._routes.get(decision.symbol, decision.symbol)
        due = decision.as_of + decision.horizon_bars * timeframe_ms(decision.timeframe)
        self._due[symbol] = due
        held = self._open.get(symbol)
        if held is not None and held.position.qty * decision.action.sign > 0:
            held.position = changed(held.position, horizon_due=due)
            self._waiting.pop(symbol, None)

    def _posting(self, line: Posting) -> None:
        # Money that moves with a fill arrives with the fill.
        if line.asset != self.currency or line.book not in ("capital", "funding"):
            return
        self.cash -= line.amount
        if line.book == "capital":
            self.funded = True
            self.high_water = max(self.high_water, self.cash)
            return
        held = self._open.get(line.memo.split(" ")[0])
        if held is not None:
            paid = held.position.funding + line.amount
            held.position = changed(held.position, funding=paid)

    def _fill(self, fill: Fill) -> ClosedTrade | None:
        self.cash += fill.realised - fill.fee
        if market_of(fill.symbol) == "spot":
            # The cost of what is held left the cash when it was bought.
            notional = fill.price * fill.qty
            self.cash += -notional if fill.side.sign > 0 else notional - fill.realised
        held = self._open.get(fill.symbol)
        if held is None or held.position.qty * fill.side.sign > 0:
            self._enter(fill, held)
            return None
        return self._leave(fill, held)

    def _enter(self, fill: Fill, held: _Open | None) -> None:
        signed = fill.qty * fill.side.sign
        if held is not None:
            old = held.position
            cost = old.entry_price * abs(old.qty) + fill.price * fill.qty
            held.position = _paid(
                changed(old, qty=old.qty + signed, entry_price=cost / (abs(old.qty) + fill.qty)),
                fill,
            )
            held.bought += fill.qty
            held.cost += fill.price * signed
            return
        order = self._orders.get(fill.order_id)
        decision_id = order.decision_id if order else ""
        levels = {o.intent: o for o in self._orders.values() if o.decision_id == decision_id}
        stop, target = levels.get("stop"), levels.get("target")
        position = Position(
            self.name, fill.symbol, signed, fill.price, fill.at, decision_id,
            self._due.get(fill.symbol, 0),
            stop.trigger if stop else None, target.price if target else None,
        )  # fmt: skip
        self._open[fill.symbol] = _Open(_paid(position, fill), fill.price * signed, fill.qty)

    def _leave(self, fill: Fill, held: _Open) -> ClosedTrade | None:
        signed = fill.qty * fill.side.sign
        left = held.position.qty + signed
        if left * held.position.qty < 0:
            raise LedgerError(
                "fill", "must not turn a position through zero", str(left), "Close it first."
            )
        held.position = _paid(changed(held.position, qty=left), fill)
        held.cost += fill.price * signed + fill.realised
        held.left += fill.qty
        held.proceeds += fill.price * fill.qty
        held.realised += fill.realised
        if left != 0:
            return None
        del self._open[fill.symbol]
        self._waiting.pop(fill.symbol, None)
        self.trades += 1
        position = held.position
        self._orders = {k: o for k, o in self._orders.items() if o.symbol != fill.symbol
                        or o.created_at > position.opened_at}  # fmt: skip
        return ClosedTrade(
            fill.symbol, "LONG" if fill.side.sign < 0 else "SHORT", held.bought,
            position.opened_at, fill.at, position.entry_price, held.proceeds / held.left,
            position.fee, position.slippage, position.spread, position.funding,
            held.realised - position.fee - position.funding, fill.intent,
            self.name, self.strategy, position.decision_id,
        )  # fmt: skip


def _paid(position: Position, fill: Fill) -> Position:
    return changed(
        position,
        fee=position.fee + fill.fee,
        spread=position.spread + fill.spread,
        slippage=position.slippage + fill.slippage,
    )
