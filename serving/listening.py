"""An exchange heard for a while, without a running system: is its feed fit to be traded on?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from data.book_history import BookHistory
from data.sources.live_ingest import LiveIngest
from data.start_criteria import unmet
from domain.canonical import plain
from domain.market import Market, market_of
from domain.ports import Clock
from domain.times import iso, timeframe_ms
from serving.exchange_servers import backup_of
from serving.live_feed import Place, live_ingest, watchers
from serving.local_exchange import exchange_time
from serving.settings import Settings
from serving.venue_time import told_clock

_LOOK_S = 0.1  # between two looks at the criteria
Say = Callable[[str], object]


def listen(settings: Settings, symbols: Sequence[str], wall: Clock, say: Say) -> dict[str, Any]:
    """Listen until every start criterion is met, or for as long as they may take.

    Parameters
    ----------
    settings : ``feed.start_listen_s`` says how long messages are counted.
    say : told of what is waited for.

    Returns
    -------
    ``at`` (the exchange's time), ``exchange``, ``simulated``, ``met``, ``seconds`` and all of
    :meth:`data.sources.live_ingest.LiveIngest.report`; JSON's types.

    Raises
    ------
    ServiceUnreachable : if the exchange does not answer.
    UsageError : for a symbol that it lacks.
    """
    data, markets = settings.data, sorted({market_of(symbol) for symbol in symbols})
    simulated = data.exchange_url is not None
    told = exchange_time(settings, wall) if simulated else None
    clock, speed = (wall, 1.0) if told is None else (told_clock(told), told.speed or 1.0)
    places: dict[Market, Place] = {
        market: Place(data.exchange, market, data.exchange_url, clock, backup_of(settings, market))
        for market in markets
    }
    for place in places.values():
        place.history.open()
    for symbol in symbols:
        places[market_of(symbol)].listed(symbol)
    step = timeframe_ms(data.timeframe)
    books = {symbol: BookHistory(symbol, step) for symbol in symbols if settings.feed.books}
    ingest = live_ingest(
        places, symbols, list(books), settings, clock, speed, simulated=simulated
    )  # fmt: skip
    runs = [
        watch
        for place in places.values() if books
        for watch in watchers(place, books, ingest, settings)
    ]  # fmt: skip
    began = time.monotonic()
    asyncio.run(_heard(ingest, [*runs, ingest.run], settings.feed.start_patience_min * 60.0, say))
    about = {
        "at": iso(ingest.now()), "exchange": data.exchange_url or data.exchange,
        "simulated": simulated, "met": ingest.met, "seconds": time.monotonic() - began,
    }  # fmt: skip
    return {**about, **{name: plain(part) for name, part in ingest.report().items()}}


async def _heard(ingest: LiveIngest, runs: Sequence[Any], patience_s: float, say: Say) -> None:
    tasks = [asyncio.ensure_future(run()) for run in runs]
    until = time.monotonic() + patience_s
    try:
        while not ingest.met and time.monotonic() < until:
            say("; ".join(one.said for one in unmet(ingest.criteria())))
            done, _ = await asyncio.wait(
                tasks, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:  # none ends by itself: this is its error
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
