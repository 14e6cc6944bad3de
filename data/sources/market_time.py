"""The time of an exchange's market, which need not be the wall's where the market is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data.sources.answers import time_of
from domain.errors import DataRefused

SPEED, NAME = "X-Market-Speed", "X-Market-Name"
"""Headers by which a server says that its market is a made one, how fast it goes and which it is.

No exchange sends them: its market is the world's, at the wall's time.
"""

_ASKED = 3  # times; the answer that took the least is the nearest to the truth
_FASTEST = 10_000.0


@dataclass(frozen=True, slots=True)
class MarketTime:
    """What an exchange told of its time.

    Attributes
    ----------
    at : market time, UTC ms, at ``wall`` of this machine.
    took : until the answer was here, ms; ``wall`` is the middle of it.
    speed : market seconds a second of a market with a time of its own; None = the wall's time.
    market : its name, so that what is learned of one is not taken for another's; may be empty.
    """

    at: int
    wall: int
    took: int
    speed: float | None = None
    market: str = ""


def market_time(exchange: Any, wall: Callable[[], int]) -> MarketTime:
    """Ask an exchange for its time.

    Parameters
    ----------
    exchange : ccxt's, which can tell it.
    wall : this machine's time, ms.

    Raises
    ------
    DataRefused : if it tells none, or a speed that is none. What ccxt raises is passed on.
    """
    best: MarketTime | None = None
    for _ in range(_ASKED):
        asked = wall()
        at = time_of(exchange.fetch_time())
        took = wall() - asked
        speed, market = _told(exchange.last_response_headers or {})
        if best is None or took < best.took:
            best = MarketTime(at, asked + took // 2, took, speed, market)
        if speed is None:
            break  # the difference is looked at only, and not counted with
    assert best is not None
    return best


def market_name(exchange: Any) -> str:
    """Return the market's name as the last answer of an exchange told it; empty if it did not."""
    return _told(exchange.last_response_headers or {})[1]


def _told(headers: Mapping[str, str]) -> tuple[float | None, str]:
    found = {name.lower(): value for name, value in headers.items()}
    text, name = found.get(SPEED.lower()), found.get(NAME.lower(), "")
    if text is None:
        return None, name
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.0 < speed <= _FASTEST:
        raise DataRefused(SPEED, f"must be a positive number up to {_FASTEST:,.0f}", text)
    return speed, name
