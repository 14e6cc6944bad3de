"""What becomes of a new order, where that is not what the book would make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from sim.venue.accounts import Account
from sim.venue.orders import Order

WHOLE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Fate:
    """An order's.

    Attributes
    ----------
    part : of its quantity that the book fills at once at most, [0, 1].
    after_ms : market time for which it is acknowledged and nothing happens.
    expires : after that; else it meets the book of that moment.
    """

    part: Decimal = WHOLE
    after_ms: int = 0
    expires: bool = False


USUAL = Fate()
Fated = Callable[[Account, Order], Fate]


def usual(account: Account, order: Order) -> Fate:
    """Return the fate of an order that nothing strikes."""
    del account, order
    return USUAL
