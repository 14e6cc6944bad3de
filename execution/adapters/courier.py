"""Brings an order to the venue once, and finds out what became of it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import ccxt

from domain.errors import AmbiguousOutcome
from domain.trading import OrderType
from execution.adapters.answers import Verdict, unsent, verdict
from execution.adapters.breaker import NotSent
from execution.adapters.gateway import Gateway, Report
from execution.adapters.tracked import Stage, Tracked, Tracking
from execution.adapters.waits import LaterIfUnreachable, Waits


class Courier:
    """Sends, and asks after what was sent.

    Parameters
    ----------
    monotonic, sleep : seconds.
    """

    def __init__(
        self, gateway: Gateway, tracking: Tracking, waits: Waits,
        monotonic: Callable[[], float], sleep: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._gateway, self._tracking, self._waits = gateway, tracking, waits
        self._monotonic, self._sleep = monotonic, sleep

    def send(self, tracked: Tracked, *, at_market: bool = False) -> Verdict | None:
        """Send the present part of an order.

        Parameters
        ----------
        at_market : whatever its type.

        Returns
        -------
        Why the venue refuses it, or why it did not leave; None if the venue has it.

        Raises
        ------
        AmbiguousOutcome : if nobody can say whether it has it.
        """
        order = tracked.order
        with LaterIfUnreachable("quote"):
            quote = self._gateway.quote(order.symbol)
            tracked.reference, tracked.half_spread = quote.mid, (quote.ask - quote.bid) / 2
        tracked.conditional = order.type is OrderType.STOP and not at_market
        tracked.stage, tracked.sent_at = Stage.DOUBT, self._monotonic()
        left = order.qty - tracked.before
        try:
            report = self._gateway.place(order, tracked.client_id, left, at_market=at_market)
        except NotSent as error:
            tracked.stage = Stage.HELD
            return unsent(error)
        except ccxt.BaseError as error:
            said = verdict(error)
            if said.kind == "triggers":  # the price is there: that is a stop's moment
                return self.send(tracked, at_market=True)
            if said.kind in ("refused", "invalid"):
                tracked.stage = Stage.HELD
                return said
            self._ask_for_a_while(tracked, said)
        else:
            self.note(tracked, report)
        return None

    def find(self, tracked: Tracked) -> bool:
        """Ask the venue for an order and its parts; False if it has none of them now.

        Raises
        ------
        ServiceUnreachable : if it does not answer.
        """
        known: tuple[int, Decimal] | None = None
        while (report := self._look(tracked)) is not None:
            self.note(tracked, report)
            known = tracked.part, tracked.before
            over = not report.open and not report.child
            if not over or tracked.entry or tracked.filled >= tracked.order.qty:
                return True
            tracked.before, tracked.part = tracked.filled, tracked.part + 1
        if known is not None:  # the part before it is the last there is
            tracked.part, tracked.before = known
        return known is not None

    def present(self, tracked: Tracked) -> Report | None:
        """Return what the venue says of the present part, None if it has none."""
        return self._gateway.find(
            tracked.order.symbol, tracked.client_id, conditional=tracked.conditional
        )

    def recall(self, tracked: Tracked) -> None:
        """Cancel the present part; one that is not open is left as it is."""
        self._gateway.cancel(
            tracked.order.symbol, tracked.client_id, conditional=tracked.conditional
        )

    def too_old(self, tracked: Tracked) -> float:
        """Return in how many seconds the venue will take no request of an order any more; ≤ 0."""
        return tracked.sent_at + self._waits.window - self._monotonic()

    def doubt(self, tracked: Tracked) -> None:
        """Take an order for one that a process which is no more may just have sent."""
        tracked.stage, tracked.sent_at = Stage.DOUBT, self._monotonic()

    def note(self, tracked: Tracked, report: Report) -> None:
        """Take in what the venue says of the present part."""
        if tracked.stage is not Stage.TAKEN:
            tracked.stage, tracked.refusals = Stage.TAKEN, 0
            tracked.sending.reset()
        filled = report.filled
        if not tracked.conditional:
            self._tracking.owns(report.number, tracked.order)
        if report.child:
            self._tracking.owns(report.child, tracked.order)
            child = self._gateway.numbered(tracked.order.symbol, report.child)
            filled = filled if child is None else child.filled
        tracked.filled = max(tracked.filled, tracked.before + filled)

    def _look(self, tracked: Tracked) -> Report | None:
        if tracked.order.type is OrderType.STOP:
            tracked.conditional = True
            if (report := self.present(tracked)) is not None:
                return report
        tracked.conditional = False
        return self.present(tracked)

    def _ask_for_a_while(self, tracked: Tracked, said: Verdict) -> None:
        until = self._monotonic() + self._waits.answer
        while True:
            with LaterIfUnreachable("submit"):
                if self.find(tracked):
                    return
            if self._monotonic() >= until or self._gateway.left_alone():
                rule = "may or may not have arrived"
                raise AmbiguousOutcome(tracked.client_id, rule, said.why)
            self._sleep(self._waits.pause)
