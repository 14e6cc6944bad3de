"""Decision → orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from domain.decision import Decision, ExitReason
from domain.market import Instrument
from domain.trading import ZERO, Order, OrderType, Position, Side, client_order_id
from execution.money import dec, to_tick


@dataclass(frozen=True, slots=True)
class Desk:
    """Whose orders these are."""

    account: str
    strategy: str


def _id(desk: Desk, symbol: str, at: int, intent: str) -> str:
    return client_order_id(desk.account, symbol, desk.strategy, at, intent)


def exit_order(desk: Desk, position: Position, reason: ExitReason, at: int) -> Order:
    """Close a whole position at the market; ``at`` (ms) is the instant of the cause."""
    side = Side.SELL if position.qty > 0 else Side.BUY
    return Order(
        _id(desk, position.symbol, at, reason.value), desk.account, position.symbol, side,
        abs(position.qty), OrderType.MARKET, at, position.decision_id, reason.value,
        reduce_only=True,
    )  # fmt: skip


def entry_orders(
    desk: Desk, decision: Decision, instrument: Instrument, qty: Decimal, scale: Decimal
) -> list[Order]:
    """Open a position at the market, with its stop and target.

    Parameters
    ----------
    qty : base units, on the step.
    scale : execution price / forecast price, to carry stop and target to the market traded.
    """
    symbol, at = instrument.symbol, decision.as_of
    side, back = (Side.BUY, Side.SELL) if decision.action.sign > 0 else (Side.SELL, Side.BUY)
    orders = [
        Order(_id(desk, symbol, at, "entry"), desk.account, symbol, side, qty,
              OrderType.MARKET, at, decision.id, "entry")
    ]  # fmt: skip
    if decision.stop is not None:
        trigger = to_tick(dec(decision.stop) * scale, instrument.tick)
        orders.append(
            Order(_id(desk, symbol, at, "stop"), desk.account, symbol, back, qty, OrderType.STOP,
                  at, decision.id, "stop", trigger=trigger, reduce_only=True)
        )  # fmt: skip
    if decision.target is not None:
        price = to_tick(dec(decision.target) * scale, instrument.tick)
        orders.append(
            Order(_id(desk, symbol, at, "target"), desk.account, symbol, back, qty,
                  OrderType.LIMIT, at, decision.id, "target", price=price, reduce_only=True)
        )  # fmt: skip
    return orders


def closing(working: Iterable[Order], symbol: str) -> bool:
    """Return whether an exit at the market already works for a symbol."""
    return any(order.symbol == symbol and order.closes for order in working)


def pending_elsewhere(
    working: Iterable[Order], symbol: str, marks: Mapping[str, Decimal]
) -> dict[str, Decimal]:
    """Return the notional of other symbols' entries on their way, by symbol, quote units."""
    pending: dict[str, Decimal] = {}
    for order in working:
        if order.intent == "entry" and order.symbol != symbol:
            notional = order.qty * marks.get(order.symbol, ZERO)
            pending[order.symbol] = pending.get(order.symbol, ZERO) + notional
    return pending
