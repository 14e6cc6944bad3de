"""The feed of an exchange: its own, another server of its protocol, or the local one of a run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any, TypeVar

import structlog

from data.book_history import BookHistory
from data.files import Funding
from data.sources.exchange import FIRST_WAIT_S, LONGEST_WAIT_S, TRIES, Caller, connect
from data.sources.history import History
from data.sources.line import Patience
from data.sources.listing import instrument_of
from data.sources.live import LiveBars
from data.sources.live_books import LiveBooks, book_streams, trade_streams
from data.sources.live_funding import LiveFunding
from data.sources.live_ingest import LiveIngest, Wire, bar_streams
from data.sources.live_market import LiveMarket
from data.sources.market_time import MarketTime
from data.sources.order_book import Snapshot
from data.sources.overdue import Overdue
from data.sources.servers import Servers
from data.sources.waiting import backoff
from data.start_criteria import Rules
from domain.errors import DataRefused, ServiceUnreachable, UsageError
from domain.market import (
    Bar,
    BarFrame,
    BookSnapshot,
    Instrument,
    Market,
    Trade,
    market_of,
    symbol_on,
)
from domain.ports import Clock
from domain.times import DAY_MS, iso, timeframe_ms
from execution.funding import base_rate
from serving.exchange_servers import Route, backup_of, http_at, streams_at
from serving.feeds import Feed
from serving.local_exchange import exchange_time
from serving.plan import RunPlan
from serving.settings import Settings
from serving.system import SystemClock
from serving.venue_time import told_clock, venue_clock
from sim.worlds import DemoSource

log = structlog.get_logger("feed")
T = TypeVar("T")

_BESIDE_S = 0.01  # between two looks whether somebody else asks
_APART_MS = 300_000  # of an exchange's clock from ours, at most
FINAL_MS = 1_000  # after its close a bar may still lack its last trades where it is asked for
_TOLD_TRIES = 4  # of its time, at the start
_AHEAD_MS = 300_000  # a stamp so far in the future is none


class Place:
    """One market of an exchange, asked by REST in a thread of its own.

    Parameters
    ----------
    url : of another server of its protocol; None = the exchange's own.
    clock : market time, else the wall's: a bar is over when the exchange and this say so.
    backup : where streams are heard when their own server fails, a WebSocket's address up to its
        path; None = where the exchange says, and for another server nowhere. Beside another server
        it is asked by HTTP as well.
    """

    def __init__(
        self, exchange: str, market: Market, url: str | None, clock: Clock | None = None,
        backup: str | None = None,
    ) -> None:  # fmt: skip
        self.market, self.url, self._clock = market, url, clock or SystemClock()
        self._backup = backup
        self._exchange = connect(exchange, market, url)
        self.servers = Servers(self._exchange, http_at(exchange, market, url, backup))
        self.history = self._asking(TRIES)
        self._now = self._asking(1)  # a line has a patience of its own
        self._asked = 0  # questions of those who do not wait for others
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"rest-{market}")
        self._left = Event()

    def let_go(self) -> None:
        """Ask nothing any more: a process that ends waits for its threads, and they for a ban."""
        self._left.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def listed(self, symbol: str) -> Instrument:
        """Return the filters and fees of a symbol."""
        self.history.require(symbol, "1m")
        try:
            return instrument_of(self._exchange.markets[symbol])
        except DataRefused as error:  # a halt ends, and a desk that waits for it must not end first
            raise ServiceUnreachable(symbol, "is not traded now", error.message) from error

    def last_close(self, symbol: str, timeframe: str, first_ms: int) -> float:
        """Return the close of the newest bar since an open (ms), quote units."""
        bars = self._closed(self.history, symbol, timeframe, first_ms)
        if not len(bars):
            raise ServiceUnreachable(symbol, "has not been traded lately")
        return float(bars.close[-1])

    async def past(self, symbol: str, timeframe: str, first_ms: int) -> BarFrame:
        """Return the closed bars from an open (ms) to now, however long the exchange takes."""
        return await self._aside(self._closed, self.history, symbol, timeframe, first_ms)

    async def missing(self, symbol: str, timeframe: str, first_ms: int) -> list[Bar]:
        """Return the same, asked for once."""
        bars = await self._aside(self._closed, self._now, symbol, timeframe, first_ms)
        return list(bars.bars())

    async def beside(self, symbol: str, timeframe: str, first_ms: int) -> BarFrame:
        """Return the same, asked for once when nobody else asks."""
        while self._asked:
            await asyncio.sleep(_BESIDE_S)
        ask = asyncio.get_running_loop().run_in_executor
        return await ask(self._thread, self._closed, self._now, symbol, timeframe, first_ms)

    async def settled(self, symbol: str, first_ms: int) -> Funding:
        """Return a perpetual's settlements from a stamp (ms) to now, asked for once."""
        return await self._aside(self._settled, symbol, first_ms)

    async def time(self) -> int:
        """Return the exchange's time, UTC ms, asked for once."""
        return await self._aside(self._now.now)

    async def book(self, symbol: str) -> Snapshot:
        """Return the order book as it is now, asked for once."""
        return await self._aside(self._now.book, symbol)

    def streams(self, names: str, route: Route) -> list[str]:
        """Return the addresses of a line that carries streams, the main one first."""
        return streams_at(self.market, self.url, self._backup, names, route)

    def _asking(self, tries: int) -> History:
        def say(text: str) -> None:
            log.warning("exchange_waits", why=text)

        return History(Caller(self._exchange, self._wait, say, tries=tries, servers=self.servers))

    def _wait(self, seconds: float) -> None:
        if self._left.wait(seconds):
            raise ServiceUnreachable(str(self._exchange.id), "is not asked any more", self.market)

    def _closed(self, history: History, symbol: str, timeframe: str, first_ms: int) -> BarFrame:
        now = min(history.now(), self._clock.now()) - FINAL_MS
        pages = list(history.pages(symbol, timeframe, first_ms, now, sure=True))
        return BarFrame.join(symbol, timeframe, pages)

    def _settled(self, symbol: str, first_ms: int) -> Funding:
        return self._now.funding(symbol, first_ms, self._clock.now())

    async def _aside(self, ask: Callable[..., T], *words: Any) -> T:
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, ask, *words)
        finally:
            self._asked -= 1


def live_feed(plan: RunPlan, settings: Settings) -> Feed:
    """Ask the exchange what it lists and return the feed.

    Raises
    ------
    UsageError : for an exchange whose streams are not understood, or a symbol that it lacks.
    ServiceUnreachable : if it does not answer.
    """
    data = settings.data
    if not data.exchange.startswith("binance"):
        raise UsageError(
            "EXCHANGE", "must be binance for a live feed: its streams are what is understood",
            data.exchange, "Bars of others: conclave data fetch, then conclave run-inference.",
        )  # fmt: skip
    symbols = list(data.symbols)
    routes = {symbol: symbol_on(symbol, settings.execution.market) for symbol in symbols}
    wanted = sorted({*routes, *routes.values()})
    clock = clock_of(plan, settings)
    own = plan.venue is not None  # the local exchange of this run, and nobody else has its market
    places = {
        market: Place(data.exchange, market, plan.exchange_url, clock,
                      None if own else backup_of(settings, market))
        for market in sorted({market_of(symbol) for symbol in wanted})
    }  # fmt: skip
    for place in places.values():
        place.history.open()
        if plan.at_wall_time:
            _require_time(place.history.now(), clock.now(), data.exchange_url)
    listed = {name: places[market_of(name)].listed(name) for name in wanted}
    if settings.execution.funding and "perp" in places:
        listed |= _settled(listed, places["perp"].history)
    step = timeframe_ms(data.timeframe)
    first = clock.now() - 3 * step
    price = {
        symbol: places[market_of(symbol)].last_close(symbol, data.timeframe, first)
        for symbol in symbols
    }
    books = {symbol: BookHistory(symbol, step) for symbol in wanted if settings.feed.books}
    ingest = live_ingest(places, symbols, list(books), settings, clock, plan.speed or 1.0,
                         simulated=plan.simulated)  # fmt: skip
    feeds = [_bars(place, wanted, settings, plan, clock.now) for place in places.values()]
    ingest.others += [feed.health for feed in feeds]
    source = LiveMarket(
        label="demo" if plan.source == "demo" else data.exchange,
        timeframe=data.timeframe,
        begins_ms=_begins(plan, settings, clock),
        routes=routes,
        feeds=feeds,
        watchers=[
            *(
                watch
                for place in places.values()
                if books
                for watch in watchers(place, books, ingest, settings, plan.seed)
            ),
            ingest.run,
        ],
        books=books,
        ask=lambda symbol, first: places[market_of(symbol)].past(symbol, data.timeframe, first),
        funding=_funding(
            places, [listed[route] for route in sorted(set(routes.values()))], settings, plan, clock
        ),
        patience_s=min(settings.feed.close_patience_s, step / 1_000.0 / (plan.speed or 1.0)),
    )
    return Feed(
        source, symbols, [], price, base_rate, keep_market=False, wall=clock, listed=listed,
        ingest=ingest, let_go=lambda: _let_go(places.values()),
    )  # fmt: skip


def _require_time(there: int, here: int, url: str | None) -> None:
    # bars that are to come, or long over, would be taken for those of now
    if abs(there - here) > _APART_MS:
        raise ServiceUnreachable(
            url or "the exchange", f"must keep this machine's time, {iso(here)}", iso(there),
            "Set the clock. A market of another time is traded by conclave up alone, and where it "
            "tells how fast it goes, as that of conclave venue does.",
        )  # fmt: skip


def _settled(listed: Mapping[str, Instrument], history: History) -> dict[str, Instrument]:
    """Return perpetuals with the hours at which the exchange settles them."""
    told, found = history.funding_hours(), {}
    for symbol, each in listed.items():
        if each.market != "perp" or symbol not in told:
            continue  # what it does not name is settled every eight hours
        hours = told[symbol]
        if hours is None:
            log.warning("funding_hours_unknown", symbol=symbol, assumed=each.funding_hours)
        found[symbol] = replace(each, funding_hours=hours or each.funding_hours)
    return found


def _funding(
    places: Mapping[Market, Place], listed: Sequence[Instrument], settings: Settings,
    plan: RunPlan, clock: Clock,
) -> LiveFunding | None:  # fmt: skip
    if settings.execution.market != "perp" or not settings.execution.funding:
        return None
    every_ms = {each.symbol: each.funding_ms for each in listed}
    return LiveFunding(every_ms, places["perp"].settled, clock.now, plan.speed or 1.0, plan.seed)


def _let_go(places: Iterable[Place]) -> None:
    for place in places:
        place.let_go()


def live_ingest(
    places: Mapping[Market, Place],
    symbols: Sequence[str],
    watched: Sequence[str],
    settings: Settings,
    clock: Clock,
    speed: float,
    *,
    simulated: bool,
) -> LiveIngest:
    """Return what keeps all timeframes of some symbols and says how the feed does.

    Parameters
    ----------
    watched : symbols whose books are told to it.
    clock : market time. ``speed`` : market seconds a second.
    simulated : whether the market may have begun only lately.
    """
    feed, wires, markets = settings.feed, [], {market_of(symbol) for symbol in symbols}
    for place in (places[market] for market in sorted(markets)):
        names = _names(place, symbols)
        wires.append(Wire(place.streams(bar_streams(list(names)), "market"), names))

    async def ask(symbol: str, timeframe: str, first_ms: int) -> BarFrame:
        return await places[market_of(symbol)].beside(symbol, timeframe, first_ms)

    rules = Rules(
        feed.start_bars, round(feed.start_listen_s * 1e3), feed.start_share,
        round(feed.start_stamp_s * 1e3 * speed), feed.start_spread_bps,
        _grace_ms(settings, speed), young=simulated,
    )  # fmt: skip
    return LiveIngest(
        wires, ask, places[sorted(markets)[0]].time, clock, frozenset(watched), rules,
        feed.ingest_bars, patience(settings), speed,
        servers=[place.servers for place in places.values()],
    )  # fmt: skip


def clock_of(plan: RunPlan, settings: Settings) -> Clock:
    """Return the market's time: the wall's, that of the run's own exchange, or as it is told.

    Raises
    ------
    ServiceUnreachable : if it has to be asked for and is not told.
    DataRefused : if it is another market by now, or goes at another speed.
    """
    if plan.venue is not None:
        return venue_clock(plan.venue, plan.speed)
    if plan.market is None:
        return SystemClock()
    told = _told_patiently(settings)
    if told is None or (told.market, told.speed) != (plan.market, plan.speed):
        found = "one that does not tell"
        if told is not None and told.speed is not None:
            found = f"{told.market} at ×{told.speed}"
        raise DataRefused(
            plan.exchange_url or settings.data.exchange,
            f"must have the market that this run began with, {plan.market} at ×{plan.speed}",
            found, "Start this run anew.",
        )  # fmt: skip
    return told_clock(told)


def _told_patiently(settings: Settings) -> MarketTime | None:
    rng = random.Random(0)  # noqa: S311 - spreads requests, guards nothing
    for failures in range(1, _TOLD_TRIES):
        try:
            return exchange_time(settings, SystemClock())
        except ServiceUnreachable as error:
            log.warning("exchange_waits", why=str(error))
            time.sleep(backoff(failures, FIRST_WAIT_S, LONGEST_WAIT_S, rng))
    return exchange_time(settings, SystemClock())


def patience(settings: Settings) -> Patience:
    """Translate settings into how long a line is waited for."""
    feed = settings.feed
    return Patience(
        feed.connect_s, feed.ping_s, feed.pong_s, feed.silence_s, longest_wait=feed.reconnect_s
    )


def _grace_ms(settings: Settings, speed: float) -> int:
    """Return how long a close waits for who has not told of it, market time."""
    return round(settings.feed.close_patience_s * 1e3 * speed)


def _begins(plan: RunPlan, settings: Settings, clock: Clock) -> int:
    if plan.venue is not None:  # the whole of its history, as far as it is wanted
        return DemoSource(warm_up_days=plan.warm_up_days).start_ms
    return clock.now() - settings.data.warm_up_days * DAY_MS


def _bars(
    place: Place, wanted: Sequence[str], settings: Settings, plan: RunPlan, now: Callable[[], int]
) -> LiveBars:
    timeframe, names = settings.data.timeframe, _names(place, wanted)
    urls = place.streams(bar_streams(list(names), [timeframe]), "market")
    last = dict.fromkeys(((symbol, timeframe) for symbol in names.values()), 0)
    borne, speed = patience(settings), plan.speed or 1.0
    overdue = Overdue(now, speed, _grace_ms(settings, speed), borne, plan.seed)
    return LiveBars(urls, names, [timeframe], place.missing, last, borne, plan.seed, now, overdue)


def watchers(
    place: Place,
    books: Mapping[str, BookHistory],
    ingest: LiveIngest,
    settings: Settings,
    seed: int = 0,
) -> list[Callable[[], Awaitable[None]]]:
    """Return what watches the books and trades of a place and tells those who want to know."""
    names, apart = _names(place, books), place.market == "perp"

    def see(symbol: str, event: BookSnapshot | Trade) -> None:
        if event.at > ingest.now() + _AHEAD_MS:
            return
        books[symbol].see(event)
        ingest.see(symbol, event)

    feed = LiveBooks(
        place.streams(book_streams(names, place.market), "public"), names, place.book, see,
        patience(settings), seed, heard=ingest.hear,
        trade_urls=place.streams(trade_streams(names), "market") if apart else (),
    )  # fmt: skip
    ingest.others += [feed.health, feed.trade_health]
    return [feed.run, feed.run_trades] if apart else [feed.run]


def _names(place: Place, wanted: Iterable[str]) -> dict[str, str]:
    """Return the exchange's own names of the symbols that are traded at a place."""
    return {
        symbol.split(":")[0].replace("/", ""): symbol
        for symbol in wanted if market_of(symbol) == place.market
    }  # fmt: skip
