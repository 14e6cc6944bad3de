"""The last guard: what is checked right before an order leaves, whatever was decided before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from domain.decision import Reason
from domain.trading import ZERO, Order
from execution.filters import Broken
from execution.money import BPS

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a live order may be at most; quote units.

    Attributes
    ----------
    order, symbol, account : notional of one order, of a symbol's position, of all together.
    per_minute : entries in any sixty seconds.
    band_bps : how far the market may be from the last bar, and a limit from the market.
    """

    order: Decimal = Decimal(250)
    symbol: Decimal = Decimal(250)
    account: Decimal = Decimal(500)
    per_minute: int = 10
    band_bps: Decimal = Decimal(100)


@dataclass(slots=True)
class LastGuard:
    """Looks at every order that opens something; what closes always passes.

    Attributes
    ----------
    allowed : why nothing may be opened now, empty if it may.
    monotonic : seconds.
    """

    bounds: Bounds
    allowed: Callable[[], str]
    monotonic: Callable[[], float]
    _sent: deque[float] = field(default_factory=deque)

    def check(
        self, order: Order, market: Decimal, last: Decimal | None, held: Mapping[str, Decimal]
    ) -> Broken | None:
        """Return the first bound that an order breaks, None if it may be sent.

        Parameters
        ----------
        market : middle of the book now. ``last`` : close of the last bar; None = none was seen.
        held : worth of what is held by symbol, as the venue says, quote units ≥ 0.
        """
        if order.reduce_only:
            return None
        why = self.allowed()
        if why:
            return Broken(Reason.RISK_VETO, "live trading must be enabled", why)
        bounds, notional = self.bounds, order.qty * max(market, order.price or ZERO)
        if last is None:
            return Broken(Reason.STALE_DATA, "a bar must have been seen before an entry", "none")
        for name, price, beside in (("market", market, last), ("limit", order.price, market)):
            if price is not None and abs(price / beside - 1) * BPS > bounds.band_bps:
                rule = f"{name} within {bounds.band_bps:f} bps of {beside:f}"
                return Broken(Reason.RISK_VETO, rule, f"{price:f}")
        within = {
            "order": (bounds.order, notional),
            "symbol": (bounds.symbol, held.get(order.symbol, ZERO) + notional),
            "account": (bounds.account, sum(held.values(), ZERO) + notional),
        }
        for name, (most, worth) in within.items():
            if worth > most:
                rule = f"live notional of the {name} at most {most:f}"
                return Broken(Reason.RISK_VETO, rule, f"{worth:.2f}")
        if self._in_last_minute() >= bounds.per_minute:
            rule = f"at most {bounds.per_minute} live entries a minute"
            return Broken(Reason.RISK_VETO, rule, str(len(self._sent)))
        return None

    def sent(self) -> None:
        """Count an entry that leaves."""
        self._sent.append(self.monotonic())

    def _in_last_minute(self) -> int:
        now = self.monotonic()
        while self._sent and now - self._sent[0] >= MINUTE_S:
            self._sent.popleft()
        return len(self._sent)
