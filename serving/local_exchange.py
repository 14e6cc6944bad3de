"""The local exchange beside a run: when it is wanted, and where its market begins."""

from __future__ import annotations

from dataclasses import replace

import ccxt

from data.sources.answers import time_of
from data.sources.exchange import GARBLED, connect
from domain.errors import DataRefused, ServiceUnreachable
from domain.ports import Clock
from domain.times import timeframe_ms
from serving.plan import RunPlan, VenueRun
from serving.processes import choose_port
from serving.settings import Settings
from serving.venue_faults import read_schedule
from sim.worlds import DemoSource
from storage.queries import Reader

PATIENCE_MS = 3_000  # for an exchange to say whether it is there


def answers(settings: Settings) -> bool:
    """Return whether the exchange that settings name tells its time now."""
    try:
        exchange_time(settings)
    except ServiceUnreachable:
        return False
    return True


def exchange_time(settings: Settings) -> int | None:
    """Return the time (UTC ms) of the exchange that settings name; None if it has no clock.

    Raises
    ------
    ServiceUnreachable : if it does not answer within three seconds, or not with a time.
    """
    data = settings.data
    exchange = connect(data.exchange, "spot", data.exchange_url, PATIENCE_MS)
    try:
        return time_of(exchange.fetch_time())
    except ccxt.NotSupported:
        return None  # which nobody needs
    except (ccxt.BaseError, DataRefused, *GARBLED) as error:
        why = type(error).__name__
        raise ServiceUnreachable(data.exchange, "must tell its time", why) from error


def at_local_exchange(plan: RunPlan, settings: Settings, reader: Reader, clock: Clock) -> RunPlan:
    """Return the plan with an exchange of its own, on any free port.

    Its market goes on where the ledger ends, else begins behind the history that is learned from.

    Raises
    ------
    UsageError : for a file of faults that makes no sense.
    """
    if settings.feed.faults is not None:  # refused now, not by a process in its log
        read_schedule(settings.feed.faults)
    data = settings.data
    begins = DemoSource(
        data.symbols, data.timeframe, plan.seed, warm_up_days=plan.warm_up_days
    ).live_ms
    known = (reader.last_bar_open(symbol, data.timeframe) for symbol in data.symbols)
    ends = (last + timeframe_ms(data.timeframe) for last in known if last is not None)
    begins = max([begins, *ends])
    port = choose_port("127.0.0.1", 0, "port of the local exchange")
    return replace(
        plan, venue=VenueRun(port, begins, clock.now()), exchange_url=f"http://127.0.0.1:{port}"
    )
