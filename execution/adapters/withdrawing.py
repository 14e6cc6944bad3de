"""Takes orders off the venue, and closes what an entry had filled that is wanted no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import structlog

from domain.decision import ExitReason
from domain.trading import ZERO, Order, OrderType, Side
from execution.adapters.courier import Courier
from execution.adapters.statement import Statement
from execution.adapters.tracked import Stage, Tracked, Tracking, unwind_id, unwound
from execution.adapters.waits import LaterIfUnreachable

log = structlog.get_logger("live")


class Withdrawing:
    """Of one broker.

    Parameters
    ----------
    send : sends an order that nobody waits for.
    monotonic : seconds.
    """

    def __init__(
        self, tracking: Tracking, courier: Courier, statement: Statement,
        send: Callable[[Tracked], None], monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._tracking, self._courier, self._statement = tracking, courier, statement
        self._send, self._monotonic = send, monotonic

    def is_idle(self, tracked: Tracked) -> bool:
        """Return whether what a stop or target is to close is not there, and will not be."""
        order = tracked.order
        return tracked.bracket and not self.holds(order) and not any(
            one.entry and not one.withdrawn and one.order.decision_id == order.decision_id
            for one in self._tracking.of(order.symbol)
        )  # fmt: skip

    def holds(self, order: Order) -> bool:
        """Return whether the venue holds what an order's decision entered, and no other."""
        symbol, position = order.symbol, self._statement.account.position(order.symbol)
        untold = [o for o in self._tracking.of(symbol) if o.entry and o.filled > o.handed]
        holder = None if position is None else position.decision_id
        if untold:  # an entry leaves only where nothing is held, so the newest holds
            holder = untold[-1].order.decision_id
        return holder == order.decision_id and self._statement.held(symbol) != ZERO

    def is_done(self, tracked: Tracked) -> bool:
        """Return whether nothing is left to be done between two bars about what is withdrawn."""
        if tracked.stage is Stage.DOUBT or tracked.may_fill:
            return False
        if not tracked.bracket:
            return not (tracked.entry and self.holds(tracked.order))
        told_by_a_bar = tracked.filled > tracked.handed
        return told_by_a_bar or self.holds(tracked.order)

    def take_off(self, tracked: Tracked) -> None:
        """Take off a stop or target whose position is closed.

        Raises
        ------
        ServiceUnreachable : if the venue does not answer.
        """
        if tracked.stage is Stage.TAKEN:
            self._courier.recall(tracked)
            self._courier.find(tracked)  # what was not open to be recalled may have filled
        if tracked.filled > tracked.handed:  # its fills come
            tracked.withdrawn = True
        else:
            self._tracking.drop(tracked)

    def withdraw(self, tracked: Tracked) -> None:
        """Take an order off, and close what it had filled; tried again until it is done.

        A stop or target stays for as long as its position does: what is to close that may be
        refused, or nobody may answer.
        """
        if tracked.stage is Stage.HELD:
            self._tracking.drop(tracked)
            return
        if tracked.bracket and tracked.stage is Stage.TAKEN and self.holds(tracked.order):
            return
        with LaterIfUnreachable("cancel"):
            left = self._courier.too_old(tracked)
            if tracked.stage is Stage.DOUBT and not self._courier.find(tracked):
                if left > 0:
                    return
                if tracked.unwinds:  # what it should close is still open
                    self._tracking.forget(tracked)
                else:
                    self._tracking.drop(tracked)
                return
            if not tracked.unwinds:
                self._courier.recall(tracked)
            self._courier.find(tracked)
            self._statement.pull(tracked.order.symbol)
            if tracked.entry and self.holds(tracked.order):
                self.unwind(tracked)
                return  # until it is closed
            if tracked.handed >= tracked.filled:
                self._tracking.drop(tracked)

    def unwind(self, tracked: Tracked) -> None:
        """Close what is held of an order's symbol at the market, once it is due.

        Raises
        ------
        ServiceUnreachable : if the venue does not answer.
        """
        order = tracked.order
        for one in self._tracking.of(order.symbol):
            if unwound(one.order.id) == order.id:
                report = self._courier.present(one) if one.stage is Stage.TAKEN else None
                if report is None or report.open:
                    return
                self._courier.note(one, report)  # it is over; what it left open goes on
        held = self._statement.held(order.symbol)
        if not held or not tracked.sending.due(self._monotonic()):
            return
        numbers = (unwind_id(order.id, n) for n in count())
        back = replace(
            order, id=next(one for one in numbers if one not in self._tracking.mine),
            side=Side.SELL if held > 0 else Side.BUY, qty=abs(held), type=OrderType.MARKET,
            intent=ExitReason.RISK.value, price=None, trigger=None, reduce_only=True,
        )  # fmt: skip
        log.warning("entry_unwound", order=order.id, qty=f"{back.qty:f}")
        closing = self._tracking.add(back)
        closing.withdrawn = True  # the loop knows nothing of it
        self._send(closing)
        if closing.stage is Stage.HELD:
            tracked.sending.put_off(self._monotonic())  # the next one has another id
            self._tracking.forget(closing)
