"""Funding of perpetual contracts: who pays what at 00:00, 08:00 and 16:00 UTC, or more often."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from domain.market import SettledFunding
from domain.times import HOUR_MS
from domain.trading import Position
from execution.money import dec, money

INTERVAL_MS = 8 * HOUR_MS  # unless the venue says otherwise of a contract
BASE_RATE = 0.0001  # fraction per 8 h, where the venue publishes nothing else


def usual_rate(every_ms: int = INTERVAL_MS) -> float:
    """Return what a stamp pays where nothing else is known, fraction: .01 % for eight hours."""
    return BASE_RATE / (INTERVAL_MS / every_ms)  # exact for eight hours


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
    table = {int(s) // HOUR_MS * HOUR_MS: float(r) for s, r in zip(stamps, rates, strict=True)}
    return lambda _, stamp: table.get(stamp, BASE_RATE)


def else_usual(look: Callable[[str, int], float | None]) -> FundingRate:
    """Return a lookup with :data:`BASE_RATE` where there is no rate."""

    def rate(symbol: str, stamp: int) -> float:
        found = look(symbol, stamp)
        return BASE_RATE if found is None else found

    return rate


def stamps_between(after_ms: int, up_to_ms: int, every_ms: int = INTERVAL_MS) -> Iterator[int]:
    """Iterate over the funding stamps in (after, up_to], the multiples of ``every_ms``."""
    first = (after_ms // every_ms + 1) * every_ms
    return iter(range(first, up_to_ms + 1, every_ms))


def settled(
    symbol: str, after_ms: int, up_to_ms: int, published: Callable[[str, int], float | None],
    every_ms: int = INTERVAL_MS,
) -> list[SettledFunding]:  # fmt: skip
    """Return what the stamps in (after, up to] pay; the usual rate where none is published."""
    usual = usual_rate(every_ms)
    stamps = stamps_between(after_ms, up_to_ms, every_ms)
    found = ((stamp, published(symbol, stamp)) for stamp in stamps)
    return [
        SettledFunding(symbol, stamp, usual if rate is None else rate, rate is not None)
        for stamp, rate in found
    ]


def payment(position: Position, mark: Decimal, rate: float) -> Decimal:
    """Return mark × quantity × rate in quote units; positive is paid by the position."""
    return money(mark * position.qty * dec(rate))
