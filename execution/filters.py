"""What a venue demands of an order before it takes it, checked in decimals."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from domain.decision import Reason
from domain.market import Bar, Instrument
from domain.trading import Order
from execution.money import dec


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that an order breaks."""

    code: Reason
    rule: str
    value: str


def broken_rule(
    order: Order, instrument: Instrument, last: Bar | None, leverage: Decimal
) -> Broken | None:
    """Return the first rule of the venue that an order breaks.

    Parameters
    ----------
    last : the newest bar, for the notional of a market order.
    leverage : of the account.
    """
    value = str(order.qty)
    if order.qty < instrument.min_qty or order.qty > instrument.max_qty:
        rule = f"quantity between {instrument.min_qty} and {instrument.max_qty}"
        return Broken(Reason.RISK_VETO, rule, value)
    if order.qty % instrument.step != 0:
        return Broken(Reason.RISK_VETO, f"quantity a multiple of {instrument.step}", value)
    for price in (order.price, order.trigger):
        if price is not None and price % instrument.tick != 0:
            rule = f"price a multiple of {instrument.tick}"
            return Broken(Reason.RISK_VETO, rule, str(price))
    if order.reduce_only:  # exempt from the least notional: what is held can always be closed
        return None
    if instrument.market == "spot" and order.side.sign < 0:
        return Broken(Reason.SHORT_NOT_POSSIBLE, "spot sells only what it holds", value)
    price = order.price or (dec(last.close) if last is not None else None)
    if price is None:
        return None
    notional = order.qty * price
    if notional < instrument.min_notional:
        rule = f"notional at least {instrument.min_notional}"
        return Broken(Reason.BELOW_MIN_NOTIONAL, rule, f"{notional:.2f}")
    return None if instrument.market == "spot" else _too_large(notional, instrument, leverage)


def _too_large(notional: Decimal, instrument: Instrument, leverage: Decimal) -> Broken | None:
    for tier in instrument.tiers:
        if notional <= tier.up_to:
            if leverage <= tier.max_leverage:
                return None
            rule = f"leverage at most {tier.max_leverage} at this notional"
            return Broken(Reason.INSUFFICIENT_MARGIN, rule, f"{leverage:f}")
    if not instrument.tiers:
        return None
    rule = f"notional at most {instrument.tiers[-1].up_to}"
    return Broken(Reason.RISK_VETO, rule, f"{notional:.2f}")
