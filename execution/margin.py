"""Isolated margin of perpetuals: what a position needs, and where it is liquidated.

A position has margin WB = notional / leverage at its entry. It is liquidated at the price P at
which WB + side·q·(P − EP) falls to the maintenance margin of its notional q·P,

    P = (WB + cum − side·q·EP) / (q·rate − side·q),

rate and cum those of the tier of q·P itself. Maintenance margin is continuous in the notional and
its rate below 1, so there is one such price.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from domain.errors import UsageError
from domain.market import MarginTier
from domain.trading import ZERO


def tier_of(tiers: Sequence[MarginTier], notional: Decimal) -> MarginTier:
    """Return the tier of a notional (quote units); the last one beyond its end.

    Raises
    ------
    UsageError : without tiers.
    """
    if not tiers:
        raise UsageError("margin tiers", "must be known for a perpetual", None)
    return next((tier for tier in tiers if notional <= tier.up_to), tiers[-1])


def maintenance(tiers: Sequence[MarginTier], notional: Decimal) -> Decimal:
    """Return the margin below which a position of this notional is liquidated, quote units."""
    tier = tier_of(tiers, notional)
    return notional * tier.rate - tier.deducted


def liquidation_price(
    qty: Decimal, entry: Decimal, wallet: Decimal, tiers: Sequence[MarginTier]
) -> Decimal | None:
    """Return the price at which a position is liquidated; None if no price above 0 does it.

    Parameters
    ----------
    qty : signed, base units, not 0. ``entry`` : average price, quote units.
    wallet : isolated margin WB, quote units.

    Raises
    ------
    UsageError : without tiers.
    """
    signed, size = qty, abs(qty)
    if not tiers:
        raise UsageError("margin tiers", "must be known for a perpetual", None)
    price = ZERO
    for tier in tiers:
        price = (wallet + tier.deducted - signed * entry) / (size * tier.rate - signed)
        if size * price <= tier.up_to:
            break
    return price if price > 0 else None
