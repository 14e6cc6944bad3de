"""The exchange of a run that is no real one: the local one beside it, or another that runs."""

from __future__ import annotations

from dataclasses import replace

import ccxt
from sqlalchemy import Engine

from data.sources.exchange import GARBLED, connect
from data.sources.market_time import MarketTime, market_time
from data.sources.servers import Servers
from domain.errors import DataRefused, ServiceUnreachable
from domain.ports import Clock
from domain.times import iso, timeframe_ms
from serving.exchange_servers import backup_of, http_at
from serving.plan import RunPlan, VenueRun, told_world
from serving.processes import choose_port
from serving.settings import Settings
from serving.system import SystemClock
from serving.venue_faults import read_schedule
from sim.worlds import DemoSource
from storage.queries import Reader

PATIENCE_MS = 3_000  # for an exchange to say whether it is there


def answers(settings: Settings) -> bool:
    """Return whether the exchange that settings name tells its time now."""
    try:
        exchange_time(settings, SystemClock())
    except ServiceUnreachable:
        return False
    return True


def exchange_time(settings: Settings, clock: Clock) -> MarketTime | None:
    """Return the time of the exchange that settings name; None if it has no clock.

    Parameters
    ----------
    clock : this machine's.

    Raises
    ------
    ServiceUnreachable : if no server of it answers within three seconds, or not with a time.
    """
    data = settings.data
    exchange = connect(data.exchange, "spot", data.exchange_url, PATIENCE_MS)
    exchange.enableRateLimit = False  # three questions, and what is waited for is not its answer
    backup = backup_of(settings, "spot")
    addresses = http_at(data.exchange, "spot", data.exchange_url, backup)
    servers = Servers(exchange, addresses)
    for left in reversed(range(max(len(addresses), 1))):
        try:
            return market_time(exchange, clock.now)
        except ccxt.NotSupported:
            return None  # which nobody needs
        except (ccxt.BaseError, DataRefused, *GARBLED) as error:
            if not left:
                why = type(error).__name__
                raise ServiceUnreachable(data.exchange, "must tell its time", why) from error
        servers.next()
    raise AssertionError  # the last one tells or fails


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
    begins = max(begins, _known_until(reader, settings))
    port = choose_port("127.0.0.1", 0, "port of the local exchange")
    return replace(
        plan, venue=VenueRun(port, begins, clock.now()), exchange_url=f"http://127.0.0.1:{port}"
    )


def at_told_exchange(plan: RunPlan, settings: Settings, engine: Engine, clock: Clock) -> RunPlan:
    """Return the plan with the speed and the name of a market that says them, such as a venue's.

    Any other server is taken for a real exchange, at the wall's time.

    Raises
    ------
    ServiceUnreachable : if it does not answer, or its market has not come as far as the ledger.
    """
    told = exchange_time(settings, clock)
    if told is None or told.speed is None:
        return plan
    world = told_world(plan.world, told.market)
    known = _known_until(Reader(engine, world), settings)
    if known > told.at:  # what is known already would come again, and be passed over in silence
        raise ServiceUnreachable(
            settings.data.exchange_url or settings.data.exchange,
            f"must have come as far as the ledger, {iso(known)}", iso(told.at),
            "Start it with the --state that it was started with before, or wait until it has; or "
            "start this with --fresh.",
        )  # fmt: skip
    return replace(plan, world=world, speed=told.speed, market=told.market)


def _known_until(reader: Reader, settings: Settings) -> int:
    data = settings.data
    known = (reader.last_bar_open(symbol, data.timeframe) for symbol in data.symbols)
    return max((at + timeframe_ms(data.timeframe) for at in known if at is not None), default=0)
