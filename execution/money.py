"""Decimal at the edges: prices on the tick, quantities on the step, money to 1e-8."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

CENT = Decimal("0.00000001")  # what a venue books at the finest
BPS = Decimal(10_000)
_MILLIONTH = Decimal("0.000001")


def dec(value: float) -> Decimal:
    """Return the decimal that a float's shortest text names: 0.1 → 0.1."""
    return Decimal(repr(float(value)))


def money(amount: Decimal) -> Decimal:
    """Round an amount of money to 1e-8, ties to even."""
    return amount.quantize(CENT, rounding=ROUND_HALF_EVEN)


def to_tick(price: Decimal, tick: Decimal, side: int = 0) -> Decimal:
    """Put a price on the tick; one within half a millionth of a tick of it is there already.

    Parameters
    ----------
    side : +1 rounds up (against a buyer), −1 down (against a seller), 0 to the nearest.
    """
    how = {1: ROUND_CEILING, -1: ROUND_FLOOR, 0: ROUND_HALF_EVEN}[side]
    return (price / tick).quantize(_MILLIONTH).to_integral_value(rounding=how) * tick


def to_step(qty: Decimal, step: Decimal) -> Decimal:
    """Round a quantity down to the step."""
    return (qty / step).to_integral_value(rounding=ROUND_DOWN) * step
