"""Closed bars from an exchange as they close: none lost, none twice, each series in order.

The stream tells of bars as they close; whatever it has not told (before it was there, while it was
away, a hole in what it said) is asked for by REST before anything later is handed on. A close that
is overdue by the clock is asked for as well, while the line is heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from data.sources.klines import closed_bar
from data.sources.line import Line, LineHealth, Patience
from data.sources.overdue import Overdue, Series
from data.sources.waiting import ticking
from domain.errors import ConclaveError, DataRefused, UsageError
from domain.market import Bar
from domain.times import iso, timeframe_ms

__all__ = ["Backfill", "Health", "LiveBars", "Patience", "Series"]

log = structlog.get_logger("feed")

Backfill = Callable[[str, str, int], Awaitable[Sequence[Bar]]]
"""(unified symbol, timeframe, first open in ms) → closed bars from there to now, in order."""

_AGAIN = (0.5, 1.0, 2.0)  # seconds until a hole is asked about again
_LOOK_S = 0.1  # between two looks at the clock, each of which asks about one series at most
_FARTHEST = 1_000  # bars of a hole that nobody knows of, beyond which it is no bar


@dataclass(slots=True)
class Health(LineHealth):
    """What the feed went through.

    Attributes
    ----------
    repeated : bars that were known already. ``filled`` : bars that came by REST.
    holes : bars that nobody had.
    """

    repeated: int = 0
    filled: int = 0
    holes: int = 0


@dataclass(slots=True)
class LiveBars:
    """Bars of some symbols from one exchange, for one reader.

    Attributes
    ----------
    urls : of the stream with all subscriptions in it, the main one first; the next is tried when
        one fails.
    symbols : the exchange's name → unified symbol. ``timeframes`` : of each of them.
    backfill : asks by REST.
    now : market time, ms: a bar that has not begun by then cannot be over; None = not looked at.
    last : of every series the open of the last bar known, ms; bars after it are handed on.
    overdue : says which close to ask for though nobody told of it; None = each waits for the next.
    """

    urls: Sequence[str]
    symbols: Mapping[str, str]
    timeframes: Sequence[str]
    backfill: Backfill
    last: dict[Series, int]
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
    now: Callable[[], int] | None = None
    overdue: Overdue | None = None
    health: Health = field(default_factory=Health)
    _question: tuple[Series, asyncio.Future[Sequence[Bar]]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        missing = set(self._series()) - set(self.last)
        if not self.urls or missing:
            raise UsageError("feed", "needs an address, and the last bar of every series",
                             sorted(missing))  # fmt: skip

    async def bars(self) -> AsyncGenerator[Bar]:
        """Iterate over closed bars for ever; leave it to let go of the line."""
        line = Line(self.urls, self._read, self.patience, self.seed, self.health)
        async with aclosing(line.through(self._of_line)) as bars:
            async for bar in bars:
                yield bar

    def _read(self, text: str | bytes) -> Bar | None:
        bar = closed_bar(text, self.symbols, self.timeframes)
        if bar is not None and self.now is not None and bar.open_ms > self.now():
            raise DataRefused(f"kline of {bar.symbol}", "must have begun", iso(bar.open_ms))
        return bar

    def _series(self) -> list[Series]:
        return [(symbol, one) for symbol in self.symbols.values() for one in self.timeframes]

    async def _of_line(self, said: AsyncGenerator[Bar, None]) -> AsyncGenerator[Bar, None]:
        for series in self._series():  # what closed while nobody listened
            async for bar in self._missing(series, None):
                yield bar
        self.health.problem = ""
        async with aclosing(ticking(said, _LOOK_S)) as told:
            try:
                async for closed in told:
                    coming = self._late() if closed is None else self._in_order(closed)
                    async for bar in coming:
                        yield bar
            finally:
                await self._give_up()

    async def _late(self) -> AsyncIterator[Bar]:
        """Look after closes that are overdue: what is told meanwhile waits for no answer."""
        if self._question is None:
            series = None if self.overdue is None else self.overdue.first(self.last)
            if series is not None:
                log.info("close_overdue", series=" ".join(series), after=iso(self.last[series]))
                first = self.last[series] + timeframe_ms(series[1])
                self._question = series, asyncio.ensure_future(self.backfill(*series, first))
        elif self._question[1].done():
            (series, answer), self._question = self._question, None
            try:
                bars = answer.result()
            except (OSError, ConclaveError) as error:  # it is no trouble of the line's
                bars = ()
                log.warning("close_not_told", series=" ".join(series), why=str(error))
            for bar in self._unknown(series, bars):
                yield bar
            self._asked(series)

    async def _give_up(self) -> None:
        if self._question is not None:
            answer, self._question = self._question[1], None
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _in_order(self, bar: Bar) -> AsyncIterator[Bar]:
        series, step = (bar.symbol, bar.timeframe), timeframe_ms(bar.timeframe)
        if bar.open_ms <= self.last[series]:
            self.health.repeated += 1
            return
        for wait in (*_AGAIN, None):  # REST may be a moment behind the stream
            if bar.open_ms <= self.last[series] + step:
                break
            async for one in self._missing(series, bar.open_ms):
                yield one
            if wait is not None and bar.open_ms > self.last[series] + step:
                await asyncio.sleep(wait)
        hole = (bar.open_ms - self.last[series]) // step - 1
        if hole > _FARTHEST:
            raise DataRefused(
                f"kline of {bar.symbol}", "must follow on what is known", iso(bar.open_ms)
            )
        if hole > 0:
            self.health.holes += hole
            log.warning("feed_hole", series=" ".join(series), bars=hole, before=iso(bar.open_ms))
        self.last[series] = bar.open_ms
        yield bar

    async def _missing(self, series: Series, before_ms: int | None) -> AsyncIterator[Bar]:
        bars = await self.backfill(*series, self.last[series] + timeframe_ms(series[1]))
        for bar in self._unknown(series, bars, before_ms):
            yield bar
        if before_ms is None:
            self._asked(series)

    def _unknown(
        self, series: Series, bars: Sequence[Bar], before_ms: int | None = None
    ) -> Iterator[Bar]:
        for bar in bars:
            if bar.open_ms > self.last[series] and (before_ms is None or bar.open_ms < before_ms):
                self.last[series] = bar.open_ms
                self.health.filled += 1
                yield bar

    def _asked(self, series: Series) -> None:
        if self.overdue is not None:
            self.overdue.asked(series, self.last[series])
