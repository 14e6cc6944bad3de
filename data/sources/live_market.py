"""A live exchange as the desk's market: bars of all symbols by their close, books beside them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from data.book_history import BookHistory
from data.sources.live import LiveBars
from data.sources.live_funding import LiveFunding
from data.sources.waiting import backoff
from domain.errors import UsageError
from domain.market import Bar, BarFrame, Instant, SeenBook
from domain.times import iso, timeframe_ms

log = structlog.get_logger("feed")

_LONGEST_S = 60.0  # until a listener that broke is begun anew
_WELL_S = 300.0  # after which a break is the first again
_QUEUE = 4_096  # bars that the reader may be behind
Ask = Callable[[str, int], Awaitable[BarFrame]]
"""(symbol, first open in ms) → closed bars from there to now."""


class Together:
    """Puts bars of several symbols together by their close.

    Parameters
    ----------
    symbols : that are waited for. A close goes out when every one of them has told of it or of a
        later one, else when it has waited long enough.
    patience_s : how long it waits after the first of them has told of it.
    """

    def __init__(self, symbols: Sequence[str], patience_s: float) -> None:
        self._told = dict.fromkeys(symbols, 0)
        self._patience = patience_s
        self._waiting: dict[int, dict[str, Bar]] = {}
        self._until: dict[int, float] = {}

    def take(self, bar: Bar, now: float) -> None:
        """Take in the next bar of its symbol; ``now`` in seconds of any steady clock."""
        self._told[bar.symbol] = bar.close_ms
        self._waiting.setdefault(bar.close_ms, {})[bar.symbol] = bar
        self._until.setdefault(bar.close_ms, now + self._patience)

    def due(self, now: float) -> Iterator[dict[str, Bar]]:
        """Iterate over what is complete or has waited long enough, oldest first."""
        complete = min(self._told.values(), default=0)
        for close in sorted(self._waiting):
            if close > complete and self._until[close] > now:
                return
            del self._until[close]
            yield self._waiting.pop(close)

    def wait(self, now: float) -> float | None:
        """Return for how many seconds nothing more is due by itself; None where nothing waits."""
        return max(min(self._until.values()) - now, 0.0) if self._until else None


@dataclass(slots=True)
class LiveMarket:
    """One exchange, for one reader: a :class:`domain.ports.LiveSource`.

    Attributes
    ----------
    begins_ms : open of the first bar that a desk without a past learns from.
    routes : forecast symbol → execution symbol.
    feeds : of bars; together they bring every symbol of ``routes``.
    watchers : coroutines that feed ``books`` for as long as they run.
    books : by symbol.
    ask : for bars of the past.
    patience_s : how long a close waits for the symbols that have not told of it.
    funding : of the perpetuals among the execution symbols.
    late : bars of execution markets that came after their close had gone out.
    broken : listeners that broke, and were begun anew.
    """

    label: str
    timeframe: str
    begins_ms: int
    routes: Mapping[str, str]
    feeds: Sequence[LiveBars]
    watchers: Sequence[Callable[[], Awaitable[None]]]
    books: Mapping[str, BookHistory]
    ask: Ask
    patience_s: float = 10.0
    funding: LiveFunding | None = None
    late: int = 0
    broken: int = 0
    _gone: dict[str, int] = field(default_factory=dict, init=False)  # closes, by forecast symbol
    _held: dict[str, deque[Bar]] = field(default_factory=dict, init=False)  # not due yet

    def figures(self) -> dict[str, int]:
        """Return what went wrong since it began."""
        return {"executed_late": self.late, "listeners_broken": self.broken}

    async def closed_since(self, symbol: str, first_ms: int) -> BarFrame:
        """Return the closed bars that open from ``first_ms`` on; see the port."""
        return await self.ask(symbol, first_ms)

    def after_close(self, symbol: str, close_ms: int) -> list[SeenBook]:
        """Return the books of an execution symbol in the moments after a close."""
        history = self.books.get(symbol)
        return [] if history is None else history.after_close(close_ms)

    def published(self, symbol: str, stamp: int) -> float | None:
        """Return what a funding stamp (ms) of an execution symbol pays, if the venue has said."""
        return None if self.funding is None else self.funding.published(symbol, stamp)

    async def instants(self, after_ms: Mapping[str, int]) -> AsyncGenerator[Instant]:
        """Iterate over closes for ever; leave it to let go of the exchange."""
        known = dict(after_ms)
        for symbol, route in self.routes.items():
            known.setdefault(route, after_ms[symbol])
        queue: asyncio.Queue[Bar] = asyncio.Queue(_QUEUE)
        for feed in self.feeds:
            feed.last.update(
                {(name, self.timeframe): known[name] for name in feed.symbols.values()}
            )
        listeners: list[Callable[[], Awaitable[None]]] = [
            partial(self._hear, feed, queue) for feed in self.feeds
        ]
        kept = [*listeners, *self.watchers, *([] if self.funding is None else [self.funding.run])]
        tasks = [asyncio.ensure_future(self._kept(each)) for each in kept]
        self._gone = {symbol: after_ms[symbol] + timeframe_ms(self.timeframe)
                      for symbol in self.routes}  # fmt: skip
        self._held = {symbol: deque() for symbol in self.routes}
        together = Together(sorted({*self.routes, *self.routes.values()}), self.patience_s)
        try:
            if self.funding is not None:  # beside the listeners, which may begin meanwhile
                await self.funding.catch_up(known)
            while True:
                bar = await self._next(queue, tasks, together.wait(time.monotonic()))
                if bar is not None:
                    together.take(bar, time.monotonic())
                for bars in together.due(time.monotonic()):
                    for instant in self._instants(bars):
                        yield instant
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _hear(self, feed: LiveBars, queue: asyncio.Queue[Bar]) -> None:
        async with contextlib.aclosing(feed.bars()) as bars:
            async for bar in bars:
                await queue.put(bar)

    async def _kept(self, listen: Callable[[], Awaitable[None]]) -> None:
        """Listen for ever: what breaks one listener takes down no other, and no desk."""
        rng, broken = random.Random(0), 0  # noqa: S311 - spreads attempts only
        while True:
            began = time.monotonic()
            try:
                await listen()
            except UsageError:  # an address that is none: trying again would not help
                raise
            except Exception:
                broken = 1 if time.monotonic() - began > _WELL_S else broken + 1
                self.broken += 1
                log.exception("listener_broke", times=broken)
            await asyncio.sleep(backoff(broken, 1.0, _LONGEST_S, rng))

    async def _next(
        self, queue: asyncio.Queue[Bar], tasks: Sequence[asyncio.Future[None]], wait: float | None
    ) -> Bar | None:
        getting = asyncio.ensure_future(queue.get())
        both: set[asyncio.Future[Any]] = {getting, *tasks}
        done, _ = await asyncio.wait(both, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        if getting in done:
            return getting.result()
        getting.cancel()
        for task in tasks:
            if task in done:  # a feed never ends by itself: this is its error
                task.result()
        return None

    def _instants(self, bars: Mapping[str, Bar]) -> Iterator[Instant]:
        """Iterate over what to hand on of one close; what it is executed in never comes before."""
        executed = {}
        for symbol, route in self.routes.items():
            if route == symbol:
                continue
            held, bar = self._held[symbol], bars.get(symbol)
            if route in bars:
                held.append(bars[route])
            # late, or of a close of which the forecast symbol has a hole
            while held and (held[0].close_ms <= self._gone[symbol]
                            or (bar is not None and held[0].close_ms < bar.close_ms)):  # fmt: skip
                self.late += 1
                log.info("executed_late", symbol=symbol, close=iso(held[0].close_ms))
                yield Instant((), {symbol: held.popleft()})
            if bar is not None and held and held[0].close_ms == bar.close_ms:
                executed[symbol] = held.popleft()
        mine = [symbol for symbol in sorted(self.routes) if symbol in bars]
        for symbol in mine:
            self._gone[symbol] = bars[symbol].close_ms
        if mine:
            told = tuple(bars[symbol] for symbol in mine)
            yield Instant(told, executed, tuple(self._seen(mine, bars)))

    def _seen(self, symbols: Sequence[str], bars: Mapping[str, Bar]) -> Iterator[SeenBook]:
        for symbol in symbols:
            history = self.books.get(symbol)
            found = None if history is None else history.at_close(bars[symbol].close_ms)
            if found is not None:
                yield found
