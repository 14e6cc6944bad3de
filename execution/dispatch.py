"""Orders on their way out, and whether broker and ledger still agree.

An order is on the ledger before it is sent. Where nobody can say whether it arrived, it stays in
flight and is asked after by its id, never sent again from here; what the broker has never had is
refused. An exit that the broker keeps, because its venue does not take it now, is in flight too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from domain.decision import Reason
from domain.errors import AmbiguousOutcome, ServiceUnreachable
from domain.operations import Level, RiskEvent
from domain.ports import Broker
from domain.trading import ZERO, ClosedTrade, Fill, Order, OrderStatus, Refusal
from execution.account import Account

EPSILON = Decimal("0.00000001")  # of a quantity or of money: what a venue books at the finest
IN_FLIGHT, RECONCILIATION = "in_flight", "reconciliation"  # kinds of risk event
_BY = "loop"


class Dispatch:
    """Sends orders once, follows what became of them, and compares holdings.

    Parameters
    ----------
    broker : the port; every order goes through here.
    account : whose orders these are.
    """

    def __init__(self, broker: Broker, account: str) -> None:
        self._broker, self._account = broker, account
        self._in_flight: dict[str, Order] = {}
        self._sent: dict[str, Order] = {}  # while a restart reads: orders without an end yet
        self._refused: dict[str, Refusal] = {}  # likewise: what the broker said of some of them
        self._apart: Mapping[str, Any] = {}  # the last difference written down

    def in_flight(self, symbol: str) -> bool:
        """Return whether nobody knows what became of an order of this symbol."""
        return any(order.symbol == symbol for order in self._in_flight.values())

    def entries(self) -> list[Order]:
        """Return the entries of which nobody knows whether they arrived: they may still fill."""
        return [order for order in self._in_flight.values() if not order.reduce_only]

    def give_up(self, order: Order) -> None:
        """Ask no more after an order that is withdrawn: the broker sees to that, if it fills."""
        self._in_flight.pop(order.id, None)

    def is_filled(self, order: Order) -> bool | None:
        """Return whether an order is filled, though no bar has told of it; None = nobody knows."""
        status = self._status(order)
        return None if status is None else status is OrderStatus.FILLED

    def unsent(self) -> list[Order]:
        """Return the exits that are not known to have reached the venue, oldest first."""
        return [
            order
            for order in self._in_flight.values()
            if order.closes and self._status(order) in (None, OrderStatus.HELD)
        ]

    def send(self, orders: Iterable[Order]) -> list[Refusal | RiskEvent]:
        """Submit orders that are on the ledger; return what is to be written down about them."""
        rows: list[Refusal | RiskEvent] = []
        for order in orders:
            try:
                refusal = self._broker.submit(order)
            except AmbiguousOutcome as error:
                self._in_flight[order.id] = order
                rows.append(self._event(order, order.created_at, "sent", error.message))
            else:
                if refusal is not None:
                    rows.append(refusal)
                elif order.closes and self._status(order) is OrderStatus.HELD:
                    self._in_flight[order.id] = order
                    why = "it leaves as soon as the venue takes it"
                    rows.append(self._event(order, order.created_at, "kept", why))
        return rows

    def ask(self, at: int) -> list[Refusal | RiskEvent]:
        """Ask after what is in flight at ``at`` (ms); return what is now known of it."""
        rows: list[Refusal | RiskEvent] = []
        for order in list(self._in_flight.values()):
            status = self._status(order)
            if status in (None, OrderStatus.HELD):
                continue
            del self._in_flight[order.id]
            if status is OrderStatus.UNKNOWN:
                rule = "the broker must have it, or it was never placed"
                rows.append(
                    Refusal(
                        order.account, order.symbol, at, Reason.NOT_PLACED, rule, status.value,
                        order.intent, order.decision_id,
                    )
                )  # fmt: skip
            else:
                rows.append(self._event(order, at, status.value))
        return rows

    def compare(self, ledger: Account, at: int) -> RiskEvent | None:
        """Return what broker and ledger disagree about, once until it changes; None if nothing.

        None as well while the broker cannot say what it holds.
        """
        held = self._broker.holdings()
        ours = {position.symbol: position.qty for position in ledger.positions()}
        if held.cash is None:
            return None  # the broker cannot say: neither that they differ, nor that they agree
        if not self._apart and held.cash == ledger.cash and held.quantities == ours:
            return None  # as at nearly every bar
        sides = {symbol: (qty, ZERO) for symbol, qty in ours.items()}
        for symbol, qty in held.quantities.items():
            sides[symbol] = (sides.get(symbol, (ZERO, ZERO))[0], qty)
        sides[ledger.currency] = (ledger.cash, held.cash)
        apart = {
            name: {"ledger": f"{own:f}", "broker": f"{theirs:f}"}
            for name, (own, theirs) in sorted(sides.items())
            if abs(own - theirs) > EPSILON
        }
        if apart == self._apart:
            return None
        self._apart = apart
        told = (f"{name} {both['ledger']} ≠ {both['broker']}" for name, both in apart.items())
        subject = ", ".join(told) or "agree again"
        level: Level = "error" if apart else "info"
        return RiskEvent(self._account, at, RECONCILIATION, subject, level, _BY, apart)

    # After a restart

    def follow(self, record: Any, refused: Iterable[Refusal] = ()) -> None:
        """Take in one stored row, in the ledger's order, and what the broker refused of it."""
        if getattr(record, "account", self._account) != self._account:
            return  # a world's paper account may have gone before a live one
        if isinstance(record, Order):
            self._sent[record.id] = record
            for refusal in refused:
                self._refused[record.id] = refusal
        elif isinstance(record, Fill):
            self._sent.pop(record.order_id, None)
        elif isinstance(record, Refusal):
            self._ended(lambda o: (o.decision_id, o.intent) == (record.decision_id, record.intent))
        elif isinstance(record, ClosedTrade):
            self._ended(lambda o: o.decision_id == record.decision_id)
        elif isinstance(record, RiskEvent) and record.kind == RECONCILIATION:
            self._apart = record.body

    def resumed(self) -> list[Refusal]:
        """Ask after every order without an end that the broker does not work on.

        Returns
        -------
        What the broker refused and a crash kept from the ledger.
        """
        unsaid = {key: self._refused[key] for key in self._sent if key in self._refused}
        working = {order.id for order in self._broker.open_orders()}
        self._in_flight = {
            order.id: order
            for order in self._sent.values()
            if order.id not in working | unsaid.keys()
            and self._status(order) in (None, OrderStatus.UNKNOWN)
        }
        self._sent, self._refused = {}, {}
        return list(unsaid.values())

    def _ended(self, ended: Callable[[Order], bool]) -> None:
        self._sent = {key: order for key, order in self._sent.items() if not ended(order)}

    def _status(self, order: Order) -> OrderStatus | None:
        try:
            return self._broker.status(order.id)
        except (AmbiguousOutcome, ServiceUnreachable):
            return None  # still nobody knows

    def _event(self, order: Order, at: int, status: str, why: str = "") -> RiskEvent:
        body = {"order": order.id, "symbol": order.symbol, "intent": order.intent, "why": why}
        level: Level = "warning" if why else "info"
        return RiskEvent(self._account, at, IN_FLIGHT, f"{order.id} {status}", level, _BY, body)
