"""The exchange's time for what is signed: by a clock that went wrong, nothing would be taken."""

from __future__ import annotations

from typing import Any

import ccxt
import structlog

from data.sources.market_time import market_time
from domain.errors import DataRefused

log = structlog.get_logger("live")


def set_clock(client: Any) -> None:
    """Let a ccxt client stamp its requests with the exchange's time, if that tells it.

    Asked once a request was refused for its stamp (Binance: −1021, more than a second ahead or
    ``recvWindow`` behind). Nothing would close otherwise until somebody has set this machine's
    clock. A made market that goes at another speed than the wall is left alone: it takes stamps of
    the wall.
    """
    try:
        told = market_time(client, client.milliseconds)
    except (ccxt.BaseError, DataRefused, TypeError, ValueError, LookupError) as error:
        log.warning("clock_not_told", why=type(error).__name__)
        return
    if told.speed in (None, 1.0):
        client.options["timeDifference"] = told.wall - told.at
        log.error("clock_differs", ahead_ms=told.wall - told.at, hint="Set it (NTP).")
