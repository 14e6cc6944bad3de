"""Funding of perpetual contracts: who pays what at 00:00, 08:00 and 16:00 UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from domain.trading import Position
from execution.money import dec, money

INTERVAL_MS = 8 * 3_600_000
BASE_RATE = 0.0001  # fraction per 8 h, where the venue publishes nothing else

FundingRate = Callable[[str, int], float]
"""(symbol, stamp in ms) → fraction of notional; positive: longs pay."""


def base_rate(symbol: str, stamp: int) -> float:  # noqa: ARG001 - the shape of FundingRate
    """Return 0.01 % for every stamp."""
    return BASE_RATE


def no_funding(symbol: str, stamp: int) -> float:  # noqa: ARG001 - the shape of FundingRate
    """Return 0 for every stamp: funding switched off."""
    return 0.0


def rates_of(stamps: Iterable[int], rates: Iterable[float]) -> FundingRate:
    """Return a lookup of one symbol's published rates; :data:`BASE_RATE` where one is missing.

    Parameters
    ----------
    stamps : settlement times, ms; a few seconds late still belong to their hour.
    rates : fractions, one per stamp.
    """
    hour = 3_600_000
    table = {int(s) // hour * hour: float(r) for s, r in zip(stamps, rates, strict=True)}
    return lambda _, stamp: table.get(stamp, BASE_RATE)


def stamps_between(after_ms: int, up_to_ms: int) -> Iterator[int]:
    """Iterate over the funding stamps in (after, up_to]."""
    first = (after_ms // INTERVAL_MS + 1) * INTERVAL_MS
    return iter(range(first, up_to_ms + 1, INTERVAL_MS))


def payment(position: Position, mark: Decimal, rate: float) -> Decimal:
    """Return mark × quantity × rate in quote units; positive is paid by the position."""
    return money(mark * position.qty * dec(rate))
