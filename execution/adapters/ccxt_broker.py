"""The live broker: orders of the loop at a venue of perpetuals, by ccxt.

An order is sent once, under its own id. Where nobody can say whether it arrived it is asked after;
that it never will is certain once the venue would refuse a request as old as that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import structlog

from domain.decision import Reason
from domain.errors import AmbiguousOutcome, ServiceUnreachable, UsageError
from domain.market import Bar, Instrument
from domain.trading import (
    ZERO,
    Fill,
    Holdings,
    Order,
    OrderStatus,
    OrderType,
    Posting,
    Refusal,
)
from execution.account import Account
from execution.adapters.answers import Verdict
from execution.adapters.courier import Courier
from execution.adapters.gateway import Gateway
from execution.adapters.guard import LastGuard
from execution.adapters.restoring import Restoring
from execution.adapters.statement import News, Statement
from execution.adapters.tracked import Stage, Tracked, Tracking
from execution.adapters.waits import LaterIfUnreachable, Waits
from execution.adapters.withdrawing import Withdrawing
from execution.filters import Broken, broken_rule
from execution.money import dec

log = structlog.get_logger("live")

_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,32}")  # the venue takes 36; the number of a part comes on
_LEVERAGE = Decimal(1)
_GIVEN_UP = 5  # refusals of a stop, a minute: then its position is closed


class CcxtBroker:
    """Implements :class:`domain.ports.Broker` at a venue.

    Stops and targets are sent once their entry has filled, because a venue takes no order that
    reduces nothing, and leave with the position. An entry is sent only where the venue says that
    nothing is held; one that is withdrawn after it was filled is closed at once. An exit that the
    venue ends before it is filled goes on with the rest. A fill is handed out in the bar in which
    it happened. While the venue is left alone (:mod:`execution.adapters.breaker`), entries are
    refused. An exit or a stop that could not leave, was refused, or certainly never arrived, is
    kept and sent again after 2, 4, 8 … 60 s, for as long as there is something to close. Where a
    stop is refused five times, its position is closed.

    Parameters
    ----------
    gateway : opened.
    instruments : what may be traded, by symbol.
    guard : looks at every entry before it leaves.
    news : of the user's stream; None = polling alone.
    monotonic, sleep : seconds.
    """

    def __init__(
        self, gateway: Gateway, instruments: Mapping[str, Instrument], guard: LastGuard, *,
        account: str = "live", news: News | None = None, waits: Waits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._gateway, self._instruments, self._guard = gateway, dict(instruments), guard
        self._tracking, self._waits = Tracking(), waits or Waits()
        self._courier = Courier(gateway, self._tracking, self._waits, monotonic, sleep)
        self._statement = Statement(
            gateway, self._tracking, self._courier, Account(account, gateway.currency),
            self._instruments, news, self._waits, sleep,
        )  # fmt: skip
        self._last: dict[str, Bar] = {}
        self._untold: dict[str, Refusal] = {}  # of brackets and rests, for the next bar, by order
        self._monotonic = monotonic
        self._withdrawing = Withdrawing(
            self._tracking, self._courier, self._statement, self._send_on, monotonic
        )
        self._restoring = Restoring(self._tracking, self._statement, self._instruments)

    # Orders

    def submit(self, order: Order) -> Refusal | None:
        """Send an order, or say why not; a known id changes nothing.

        Raises
        ------
        AmbiguousOutcome : if nobody can say whether the venue has it.
        UsageError : if the symbol is none of the broker's instruments.
        """
        self._reopen()
        if order.id in self._tracking.mine:
            return None
        broken = self._against_rules(order)
        if broken is None and not order.reduce_only:
            broken = self._against_bounds(order)
        if broken is not None:
            return _refusal(order, broken)
        tracked = self._tracking.add(order)
        self._statement.account.fold(order)  # so that a position knows whose it is
        if tracked.bracket:
            idle = self._withdrawing.is_idle(tracked)
            if self._to_reduce(order) and not idle:  # else it waits for its entry
                self._send_on(tracked)
            return None
        self._statement.begin(order.symbol, order.created_at)
        refused: Verdict | None = None
        try:
            refused = self._courier.send(tracked)
        finally:
            if tracked.entry and (refused is None or refused.left):
                self._guard.sent()
        if refused is None:
            return None
        if tracked.entry or (refused.nothing_to_close and not self._venue_holds(order)):
            self._tracking.forget(tracked)  # never placed: the same id may try again
            return _refusal(order, _as_broken(refused))
        self._tell_kept(tracked, refused)
        return None

    def status(self, order_id: str) -> OrderStatus:
        """Return what became of an order.

        Raises
        ------
        AmbiguousOutcome : while a request of it may still arrive.
        ServiceUnreachable : if the venue does not answer.
        """
        self._reopen()
        tracked = self._tracking.live.get(order_id)
        if tracked is None:
            return OrderStatus.DONE if order_id in self._tracking.mine else OrderStatus.UNKNOWN
        left = self._ask_after(tracked) if tracked.stage is Stage.DOUBT else 0.0
        if left > 0:
            raise AmbiguousOutcome(order_id, f"may still arrive for {left:.1f} s")
        if tracked.stage is Stage.DOUBT:
            self._tracking.drop(tracked)
            return OrderStatus.UNKNOWN
        if tracked.stage is Stage.TAKEN and tracked.may_fill:
            self._courier.find(tracked)
        if tracked.filled >= tracked.order.qty:
            return OrderStatus.FILLED
        return OrderStatus.HELD if tracked.kept else OrderStatus.WORKING

    def cancel(self, order_id: str) -> None:
        """Withdraw a working order, and the brackets of an entry; unknown ids are ignored."""
        self._reopen()
        tracked = self._tracking.live.get(order_id)
        if tracked is None:
            return
        tracked.withdrawn = True
        tracked.asking.reset()
        brackets = self._tracking.brackets(tracked) if tracked.entry else []
        for bracket in brackets:
            bracket.withdrawn = True
        for one in (tracked, *brackets):  # a stop leaves after what it protects
            if one.order.id in self._tracking.live:
                self._withdrawing.withdraw(one)

    def open_orders(self) -> list[Order]:
        """Return the working orders, oldest first; a filled one until its fills are handed out."""
        self._reopen()
        return [
            tracked.order for tracked in self._tracking.live.values()
            if not tracked.withdrawn and tracked.stage is not Stage.DOUBT
        ]  # fmt: skip

    # What happened

    def funding(self, bar: Bar) -> list[Posting]:
        """Book what the venue charged the bar's symbol for funding up to its close."""
        self._instrument(bar.symbol)
        return self._statement.settlements(bar)

    def on_bar(self, bar: Bar) -> list[Fill | Refusal]:
        """Return what was filled up to the bar's close, in the venue's order, and what was not."""
        self._instrument(bar.symbol)
        self._reopen()
        self._last[bar.symbol] = bar
        with LaterIfUnreachable("on_bar"):
            self._statement.pull(bar.symbol)
        said: list[Fill | Refusal] = [*self._statement.hand_out(bar)]
        with LaterIfUnreachable("on_bar"):
            said += self._look_after(bar)
        for order_id, refusal in list(self._untold.items()):
            if refusal.symbol == bar.symbol:
                said.append(self._untold.pop(order_id))
        return said

    def tend(self) -> None:
        """Look after what is in doubt, withdrawn, or not at the venue yet, between two bars.

        What was refused is tried again after 2, 4, 8 … 60 s. What the venue has taken costs no
        question, but for an entry that has not filled yet; the next bar looks at it.
        """
        self._reopen()
        with LaterIfUnreachable("tend"):
            self._statement.hear()
        for tracked in self._closing_first():
            with LaterIfUnreachable("tend"):
                self._tend(tracked)

    def _closing_first(self, symbol: str | None = None) -> Iterator[Tracked]:
        """Iterate over what has no end yet; what closes does not wait for what protects."""
        live = self._tracking.live
        for tracked in sorted(live.values(), key=lambda one: not one.order.closes):
            if tracked.order.id in live and symbol in (None, tracked.order.symbol):
                yield tracked

    def _tend(self, tracked: Tracked) -> None:
        now, doubt = self._monotonic(), tracked.stage is Stage.DOUBT
        if tracked.withdrawn:
            if tracked.asking.due(now) and not self._withdrawing.is_done(tracked):
                before = self._statement.held(tracked.order.symbol)
                self._withdrawing.withdraw(tracked)
                if self._statement.held(tracked.order.symbol) == before:
                    self._asked_in_vain(tracked)
            return
        if doubt and tracked.asking.due(now):
            left = self._ask_after(tracked)
            if left <= 0 and tracked.stage is Stage.DOUBT:
                tracked.asking.leave()  # an entry that certainly never arrived: a bar tells of it
        if self._gateway.left_alone():
            return
        if tracked.stage is Stage.HELD and not self._withdrawing.is_idle(tracked):
            self._send_held(tracked)
        elif self._is_naked(tracked) and tracked.asking.due(now):
            self._courier.find(tracked)
            self._asked_in_vain(tracked)

    def _asked_in_vain(self, tracked: Tracked) -> None:
        if not self._gateway.left_alone():  # else that is waited for, and no longer
            tracked.asking.put_off(self._monotonic())

    def _is_naked(self, tracked: Tracked) -> bool:
        """Return whether an entry that was not filled yet, when last seen, will need its stop."""
        unfilled = tracked.stage is Stage.TAKEN and tracked.may_fill and not tracked.filled
        return unfilled and bool(self._tracking.brackets(tracked))

    def holdings(self) -> Holdings:
        """Return what the venue holds for us, less what was not handed out yet."""
        self._reopen()
        return self._statement.holdings()

    # After a restart

    def restore(self, records: Iterable[Any]) -> list[Refusal]:
        """Fold stored rows, in the ledger's order; the venue is asked about open ends later."""
        for record in records:
            if isinstance(record, Bar):
                if record.symbol in self._instruments:
                    self._last[record.symbol] = record
            elif getattr(record, "account", "") in ("", self._statement.account.name):
                self._restoring.fold(record)
        return []

    def _reopen(self) -> None:
        """Ask the venue about every order of the ledger that has no end there."""
        if not self._restoring.open_ends:
            return
        self._restoring.open_ends = False
        for tracked in list(self._tracking.live.values()):
            self._statement.begin(tracked.order.symbol, tracked.order.created_at)
            self._courier.doubt(tracked)
            with LaterIfUnreachable("restore"):
                self._courier.find(tracked)
        with LaterIfUnreachable("restore"):
            self._statement.pull()
        for tracked in list(self._tracking.live.values()):
            if tracked.withdrawn:
                self._withdrawing.withdraw(tracked)

    # Before an order leaves

    def _against_rules(self, order: Order) -> Broken | None:
        instrument = self._instrument(order.symbol)
        if _ID.fullmatch(order.id) is None:
            rule = "an id of 1 to 32 letters, digits and .:/_-, as the venue takes 36"
            return Broken(Reason.RISK_VETO, rule, order.id)
        return broken_rule(order, instrument, self._last.get(order.symbol), _LEVERAGE)

    def _against_bounds(self, order: Order) -> Broken | None:
        for one in self._tracking.of(order.symbol):
            # what is kept or in doubt would close what is entered now, or double it
            if one.stage is Stage.DOUBT or one.kept or one.may_fill:
                rule = "nothing of the symbol may be in flight"
                return Broken(Reason.IN_FLIGHT, rule, one.order.id)
        try:
            held, quote = self._gateway.positions(), self._gateway.quote(order.symbol)
        except ServiceUnreachable as error:
            return Broken(Reason.NOT_PLACED, "the venue must answer before an entry", error.message)
        apart = self._not_flat(order.symbol, held[order.symbol])
        if apart is not None:
            return apart
        try:  # stop and target of what was held before would close what is entered now
            for one in self._tracking.of(order.symbol):
                if one.bracket and one.order.decision_id != order.decision_id:
                    self._withdrawing.take_off(one)
            worth = self._worth(held)
        except ServiceUnreachable as error:
            rule = "stop and target of what was held before must be off"
            return Broken(Reason.NOT_PLACED, rule, error.message)
        last = self._last.get(order.symbol)
        return self._guard.check(order, quote.mid, None if last is None else dec(last.close), worth)

    def _not_flat(self, symbol: str, held: Decimal) -> Broken | None:
        if held:
            rule = "a position is entered only when flat"
            return Broken(Reason.UNFILLED, rule, f"{held:f} is held")
        if self._statement.held(symbol):  # a stop may have filled since it was asked last
            try:
                self._statement.pull(symbol)
            except ServiceUnreachable as error:
                rule = "what was filled must be known before an entry"
                return Broken(Reason.NOT_PLACED, rule, error.message)
        if ours := self._statement.held(symbol):  # its fill would be taken for that one's close
            rule = "ledger and venue must agree that nothing is held"
            return Broken(Reason.UNFILLED, rule, f"the ledger holds {ours:f}")
        return None

    def _worth(self, held: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Return the worth by symbol, quote units, of what is held and of what may still fill."""
        sizes = {symbol: abs(qty) for symbol, qty in held.items()}
        for one in self._tracking.live.values():
            if one.may_fill:
                symbol = one.order.symbol
                sizes[symbol] = sizes.get(symbol, ZERO) + one.order.qty - one.filled
        return {symbol: size * self._price(symbol) for symbol, size in sizes.items() if size}

    def _price(self, symbol: str) -> Decimal:
        bar = self._last.get(symbol)
        return self._gateway.quote(symbol).mid if bar is None else dec(bar.close)

    def _venue_holds(self, order: Order) -> bool:
        """Return whether there may be something to close, whatever was said of it."""
        try:
            return self._gateway.positions()[order.symbol] * order.side.sign < 0
        except ServiceUnreachable:
            return True

    def _to_reduce(self, order: Order) -> bool:
        return self._statement.held(order.symbol) * order.side.sign < 0

    # After it has left

    def _look_after(self, bar: Bar) -> Iterator[Refusal]:
        for tracked in self._closing_first(bar.symbol):
            with LaterIfUnreachable("on_bar"):
                yield from self._look_at(tracked, bar)

    def _look_at(self, tracked: Tracked, bar: Bar) -> Iterator[Refusal]:
        if tracked.withdrawn:
            self._withdrawing.withdraw(tracked)
            return
        if tracked.stage is Stage.DOUBT and not tracked.entry:  # whoever sent that asks
            self._ask_after(tracked)
        if tracked.stage is Stage.DOUBT:
            return
        if self._withdrawing.is_idle(tracked):
            self._withdrawing.take_off(tracked)
        elif tracked.stage is Stage.HELD:
            self._send_held(tracked)
        elif tracked.filled <= tracked.handed:
            yield from self._ended(tracked, bar)

    def _send_held(self, tracked: Tracked) -> None:
        order = tracked.order
        if self._to_reduce(order):
            if not tracked.sending.due(self._monotonic()):
                return
            if order.type is OrderType.STOP and tracked.refusals >= _GIVEN_UP:
                self._withdrawing.unwind(tracked)  # nothing is held without a stop for long
            else:
                self._send_on(tracked)
        elif tracked.kept:  # nothing is left to close
            self._tracking.drop(tracked)

    def _ask_after(self, tracked: Tracked) -> float:
        """Ask after an order in doubt; return for how many seconds more it may arrive.

        What closes and certainly never arrived is to be sent.
        """
        left = self._courier.too_old(tracked)  # before it is looked for: it may come meanwhile
        if self._courier.find(tracked):
            return 0.0
        if left <= 0 and not tracked.entry:
            tracked.stage, tracked.refusals = Stage.HELD, tracked.refusals + 1
        return max(left, 0.0)

    def _ended(self, tracked: Tracked, bar: Bar) -> Iterator[Refusal]:
        """Look whether the venue has ended an order before it was filled whole."""
        report = self._courier.present(tracked)
        if report is None or report.open:
            return
        self._courier.note(tracked, report)
        order = tracked.order
        if tracked.filled > tracked.handed or tracked.filled >= order.qty:
            return  # its fills come
        if tracked.entry:
            self._tracking.drop(tracked)
            rest = f"{tracked.filled:f} of {order.qty:f}"
            broken = Broken(Reason.UNFILLED, "the venue fills it whole", rest)
            yield replace(_refusal(order, broken), at=bar.open_ms)
        elif not self._to_reduce(order):
            self._tracking.drop(tracked)
        else:  # what is left of an exit goes on
            tracked.before, tracked.part = tracked.filled, tracked.part + 1
            self._send_on(tracked)

    def _send_on(self, tracked: Tracked) -> None:
        """Send what nobody waits for; a refusal is told at the next bar, once."""
        try:
            refused = self._courier.send(tracked)
        except AmbiguousOutcome as error:
            log.warning("in_flight", order=tracked.client_id, why=error.message)
            return
        if refused is not None:
            self._tell_kept(tracked, refused)

    def _tell_kept(self, tracked: Tracked, refused: Verdict) -> None:
        """Tell why what closes is not at the venue; whatever the reason, it is sent again."""
        if not self._gateway.left_alone():  # else that is waited for, and no longer
            tracked.sending.put_off(self._monotonic())
        if refused.kind == "unsent":
            log.warning("not_sent", order=tracked.client_id, why=refused.why)
        else:
            tracked.refusals += 1
            log.error("refused", order=tracked.client_id, why=refused.why)
            self._untold.setdefault(tracked.order.id, _refusal(tracked.order, _as_broken(refused)))

    def _instrument(self, symbol: str) -> Instrument:
        if symbol not in self._instruments:
            known = ", ".join(sorted(self._instruments))
            raise UsageError("symbol", "must be one the broker trades", symbol, f"It has {known}.")
        return self._instruments[symbol]


def _as_broken(said: Verdict) -> Broken:
    return Broken(said.code, said.rule, said.value)


def _refusal(order: Order, broken: Broken) -> Refusal:
    return Refusal(
        order.account, order.symbol, order.created_at, broken.code, broken.rule, broken.value,
        order.intent, order.decision_id,
    )  # fmt: skip
