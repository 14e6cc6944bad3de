"""Closed bars from an exchange as they close: none lost, none twice, in order for every symbol.

The stream tells of bars as they close; whatever it has not told (before it was there, while it was
away, a hole in what it said) is asked for by REST before anything later is handed on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidURI, WebSocketException

from data.sources.klines import closed_bar
from data.sources.waiting import backoff
from domain.errors import ConclaveError, DataRefused, UsageError
from domain.market import Bar
from domain.times import iso, timeframe_ms

log = structlog.get_logger("feed")

Backfill = Callable[[str, int], Awaitable[Sequence[Bar]]]
"""(unified symbol, first open in ms) → closed bars from there to now, in order."""

_AGAIN = (0.5, 1.0, 2.0)  # seconds until a hole is asked about again
_FARTHEST = 1_000  # bars of a hole that nobody knows of, beyond which it is no bar
_GARBAGE = 20  # unreadable messages in a row after which the line is given up


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a line is waited for, seconds.

    Attributes
    ----------
    connect : until it stands. ``ping``, ``pong`` : between two pings, and for the answer.
    silence : without any message, until it is taken for dead.
    first_wait, longest_wait : before it is tried again: doubled each time, with jitter.
    """

    connect: float = 10.0
    ping: float = 20.0
    pong: float = 10.0
    silence: float = 30.0
    first_wait: float = 1.0
    longest_wait: float = 60.0


@dataclass(slots=True)
class Health:
    """What the feed went through.

    Attributes
    ----------
    messages, received : of the stream, count and bytes.
    connects : lines that stood. ``silences`` : that were given up for saying nothing.
    garbage : messages that could not be read. ``repeated`` : bars that were known already.
    filled : bars that came by REST. ``holes`` : bars that nobody had.
    problem : what is wrong now; empty if nothing is.
    """

    messages: int = 0
    received: int = 0
    connects: int = 0
    silences: int = 0
    garbage: int = 0
    repeated: int = 0
    filled: int = 0
    holes: int = 0
    problem: str = ""

    @property
    def reconnects(self) -> int:
        """Lines after the first."""
        return max(self.connects - 1, 0)


@dataclass(slots=True)
class LiveBars:
    """Bars of some symbols from one exchange, for one reader.

    Attributes
    ----------
    urls : of the stream with all subscriptions in it, the main one first; the next is tried when
        one fails.
    symbols : the exchange's name → unified symbol.
    backfill : asks by REST.
    last : unified symbol → open of the last bar known, ms; bars after it are handed on.
    """

    urls: Sequence[str]
    symbols: Mapping[str, str]
    timeframe: str
    backfill: Backfill
    last: dict[str, int]
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        missing = set(self.symbols.values()) - set(self.last)
        if not self.urls or missing:
            raise UsageError("feed", "needs an address, and the last bar of every symbol",
                             sorted(missing))  # fmt: skip

    async def bars(self) -> AsyncIterator[Bar]:
        """Iterate over closed bars for ever; leave it to let go of the line."""
        rng, attempt = random.Random(self.seed), 0  # noqa: S311 - spreads reconnects only
        while True:
            url = self.urls[attempt % len(self.urls)]
            heard = self.health.messages - self.health.garbage
            try:
                async with self._connected(url) as socket:
                    async for bar in self._of_line(socket):
                        yield bar
            except (OSError, TimeoutError, WebSocketException, ConclaveError) as error:
                self._trouble(url, error)
            sense = self.health.messages - self.health.garbage > heard
            attempt = 0 if sense else attempt + 1  # a line of nonsense is no better than none
            patience = self.patience
            wait = backoff(attempt, patience.first_wait, patience.longest_wait, rng)
            await asyncio.sleep(wait)

    def _connected(self, url: str) -> connect:
        patience = self.patience
        return connect(
            url, open_timeout=patience.connect, ping_interval=patience.ping,
            ping_timeout=patience.pong, close_timeout=1.0, max_queue=1_024,
        )  # fmt: skip

    async def _of_line(self, socket: ClientConnection) -> AsyncIterator[Bar]:
        self.health.connects += 1
        for symbol in self.symbols.values():  # what closed while nobody listened
            async for bar in self._missing(symbol, None):
                yield bar
        self.health.problem = ""
        in_a_row = 0
        while True:
            try:
                text = await asyncio.wait_for(socket.recv(), self.patience.silence)
            except TimeoutError:
                self.health.silences += 1
                raise
            self.health.messages += 1
            self.health.received += len(text)
            try:
                closed = closed_bar(text, self.symbols, self.timeframe)
            except DataRefused as error:
                self.health.garbage += 1
                in_a_row += 1
                log.warning("feed_garbage", why=error.message)
                if in_a_row >= _GARBAGE:
                    raise
                continue
            in_a_row = 0
            if closed is not None:
                async for one in self._in_order(closed):
                    yield one

    async def _in_order(self, bar: Bar) -> AsyncIterator[Bar]:
        step = timeframe_ms(self.timeframe)
        if bar.open_ms <= self.last[bar.symbol]:
            self.health.repeated += 1
            return
        for wait in (*_AGAIN, None):  # REST may be a moment behind the stream
            if bar.open_ms <= self.last[bar.symbol] + step:
                break
            async for one in self._missing(bar.symbol, bar.open_ms):
                yield one
            if wait is not None and bar.open_ms > self.last[bar.symbol] + step:
                await asyncio.sleep(wait)
        hole = (bar.open_ms - self.last[bar.symbol]) // step - 1
        if hole > _FARTHEST:
            raise DataRefused(
                f"kline of {bar.symbol}", "must follow on what is known", iso(bar.open_ms)
            )
        if hole > 0:
            self.health.holes += hole
            log.warning("feed_hole", symbol=bar.symbol, bars=hole, before=iso(bar.open_ms))
        self.last[bar.symbol] = bar.open_ms
        yield bar

    async def _missing(self, symbol: str, before_ms: int | None) -> AsyncIterator[Bar]:
        step = timeframe_ms(self.timeframe)
        for bar in await self.backfill(symbol, self.last[symbol] + step):
            if bar.open_ms > self.last[symbol] and (before_ms is None or bar.open_ms < before_ms):
                self.last[symbol] = bar.open_ms
                self.health.filled += 1
                yield bar

    def _trouble(self, url: str, error: Exception) -> None:
        if isinstance(error, InvalidURI):
            raise UsageError("feed", "needs an address of a WebSocket", url) from error
        why = str(error) or type(error).__name__
        self.health.problem = f"{url.split('?', maxsplit=1)[0]}: {why}"
        log.warning("feed_lost", url=url, why=why)
