"""One pass over stored bars without a running system: for cron and for ``signal --local``."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from data.origin import SIMULATED, origin_of
from data.store import BarStore
from domain.errors import DataRefused
from domain.market import parse_symbol
from serving.bar_folders import bar_store
from serving.bootstrap.desk import build_desk_on
from serving.feeds import Feed
from serving.logs import start_logging
from serving.plan import RunPlan, server_name, told_world, world_named
from serving.schema import signal_of
from serving.settings import Settings
from serving.system import SystemClock


def infer(settings: Settings, profile: str, symbols: list[str]) -> list[dict[str, Any]]:
    """Take in what is new in the bar store, decide on each symbol's newest bar, return the signals.

    The first pass opines on and scores ``warm_up_days`` of history, so that the weights are
    earned. The desk's lease is taken for the time; late bars are scored and never traded.

    Raises
    ------
    DataRefused : if no bars of a symbol are stored.
    ServiceUnreachable : if a desk is running.
    """
    start_logging(settings, "inference")
    wanted = [parse_symbol(symbol) for symbol in symbols]
    store = bar_store(settings)
    origin = origin_of(store)
    server = origin.server or SIMULATED if origin.simulated else None
    market = world_named(server_name(settings.data.exchange, server), wanted, settings)
    plan = RunPlan(
        source="live",
        world=told_world(market, origin.market),
        exchange_url=server,
        profile=profile,
        speed=None,
        local=True,
        warm_up_days=settings.data.warm_up_days,
        pid=os.getpid(),
    )
    desk = build_desk_on(plan, settings, _stored(store, settings, wanted))
    asyncio.run(desk.run())
    signals = []
    for symbol in wanted:
        decision = desk.loop.last_decision(symbol)
        if decision is None:
            raise DataRefused("bars", "are too few to decide on", symbol)
        signals.append(signal_of(decision).model_dump() | {"simulated": plan.simulated})
    return signals


def _stored(store: BarStore, settings: Settings, symbols: list[str]) -> Feed:
    from data.sources.replay import ReplaySource
    from execution.funding import base_rate

    frames = [store.load(symbol, settings.data.timeframe) for symbol in symbols]
    keep = settings.data.warm_up_days * 86_400_000 // frames[0].step_ms + 1
    recent = [frame.slice(max(0, len(frame) - keep), len(frame)) for frame in frames]
    return Feed(
        source=ReplaySource([frame.slice(len(frame) - 1, len(frame)) for frame in recent]),
        symbols=symbols,
        history=[frame.slice(0, len(frame) - 1) for frame in recent],
        price={frame.symbol: float(frame.close[-1]) for frame in recent},
        funding=base_rate,
        keep_market=True,  # the stored bars are all there is: nothing is invented
        wall=SystemClock(),
    )
