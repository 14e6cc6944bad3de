"""A live exchange as the desk's market: bars of all symbols by their close, books beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.book_history import BookHistory
from data.sources.live import LiveBars
from domain.market import Bar, BarFrame, Instant, SeenBook

_QUEUE = 4_096  # bars that the reader may be behind
Ask = Callable[[str, int], Awaitable[BarFrame]]
"""(symbol, first open in ms) → closed bars from there to now."""


class Together:
    """Puts bars of several symbols together by their close.

    Parameters
    ----------
    symbols : that are waited for. A close goes out when every one of them has told of it or of a
        later one, else when :meth:`due` is told not to wait.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._told = dict.fromkeys(symbols, 0)
        self._waiting: dict[int, dict[str, Bar]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, bar: Bar) -> None:
        """Take in the next bar of its symbol."""
        self._told[bar.symbol] = bar.close_ms
        self._waiting.setdefault(bar.close_ms, {})[bar.symbol] = bar

    def due(self, *, waited: bool = False) -> Iterator[dict[str, Bar]]:
        """Iterate over what is complete, oldest first; ``waited``: over the oldest in any case."""
        complete = min(self._told.values(), default=0)
        for close in sorted(self._waiting):
            if close > complete and not waited:
                return
            waited = False
            yield self._waiting.pop(close)


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

    async def closed_since(self, symbol: str, first_ms: int) -> BarFrame:
        """Return the closed bars that open from ``first_ms`` on; see the port."""
        return await self.ask(symbol, first_ms)

    def after_close(self, symbol: str, close_ms: int) -> list[SeenBook]:
        """Return the books of an execution symbol in the moments after a close."""
        history = self.books.get(symbol)
        return [] if history is None else history.after_close(close_ms)

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
        tasks = [asyncio.ensure_future(self._hear(feed, queue)) for feed in self.feeds]
        tasks += [asyncio.ensure_future(watcher()) for watcher in self.watchers]
        together = Together(sorted({*self.routes, *self.routes.values()}))
        try:
            while True:
                bar = await self._next(queue, tasks, self.patience_s if len(together) else None)
                if bar is not None:
                    together.take(bar)
                for bars in together.due(waited=bar is None):
                    yield self._instant(bars)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _hear(self, feed: LiveBars, queue: asyncio.Queue[Bar]) -> None:
        async for bar in feed.bars():
            await queue.put(bar)

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

    def _instant(self, bars: Mapping[str, Bar]) -> Instant:
        mine = [symbol for symbol in sorted(self.routes) if symbol in bars]
        executed = {
            symbol: bars[self.routes[symbol]]
            for symbol in mine
            if self.routes[symbol] != symbol and self.routes[symbol] in bars
        }
        return Instant(
            tuple(bars[symbol] for symbol in mine), executed, tuple(self._seen(mine, bars))
        )

    def _seen(self, symbols: Sequence[str], bars: Mapping[str, Bar]) -> Iterator[SeenBook]:
        for symbol in symbols:
            history = self.books.get(symbol)
            found = None if history is None else history.at_close(bars[symbol].close_ms)
            if found is not None:
                yield found
