"""Numbers as messages show them; what is not known is an en dash."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

NONE = "–"
Number = float | int | str | Decimal | None


def fixed(value: Number, digits: int = 2, *, sign: bool = False, unit: str = "") -> str:
    """Return a number with so many decimals: ``1,234.50``; texts of numbers are read."""
    if value is None:
        return NONE
    text = f"{Decimal(str(value)):{'+' if sign else ''},.{digits}f}"
    return f"{text} {unit}" if unit else text


def percent(value: Number, digits: int = 2, *, sign: bool = False) -> str:
    """Return a fraction in percent."""
    if value is None:
        return NONE
    return fixed(100 * Decimal(str(value)), digits, sign=sign, unit="%")


def bps(value: Number, digits: int = 1, *, sign: bool = True) -> str:
    """Return a fraction in basis points."""
    return NONE if value is None else f"{10_000 * float(value):{'+' if sign else ''}.{digits}f} bps"


def chance(value: Number) -> str:
    """Return a probability with three decimals."""
    return NONE if value is None else f"{float(value):.3f}"


def price(value: Number) -> str:
    """Return a price with the digits it was given, at most two decimals from 1,000 on."""
    if value is None:
        return NONE
    number = Decimal(str(value))
    if abs(number) >= 1000:
        return f"{number:,.2f}"
    return f"{number.normalize():,f}" if isinstance(value, str) else f"{float(value):,.6g}"


def plain_number(value: Number) -> str:
    """Return a quantity without trailing zeros."""
    return NONE if value is None else f"{Decimal(str(value)).normalize():,f}"


def when(text: Any) -> str:
    """Return an ISO time as ``2025-06-01 12:05 UTC``; seconds only where there are some."""
    if not text:
        return NONE
    day, _, clock = str(text).removesuffix("Z").partition("T")
    clock = clock.split(".")[0]
    clock = clock.removesuffix(":00") if clock.count(":") == 2 else clock
    return f"{day} {clock} UTC"


def quote_of(symbol: str) -> str:
    """Return the currency a symbol is quoted in."""
    return symbol.partition("/")[2].partition(":")[0]


def words(code: Any) -> str:
    """Return a code in words: ``below_cost`` → ``below cost``."""
    return str(code).replace("_", " ")
