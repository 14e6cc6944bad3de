"""All timeframes of some symbols, live: kept, compared, measured, and held against what must hold.

One line of a market carries all of its symbols and timeframes: bars that close together come in one
order, those of a minute before the longer ones made of them, a loss is one loss and one return, and
an exchange sees one more connection instead of six. It is beside the line of the bars that are
decided on, so that whatever happens here holds up no decision.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from data.ingest import described
from data.reception import Reception
from data.sources.book_messages import Print
from data.sources.line import LineHealth, Patience
from data.sources.live import LiveBars
from data.sources.order_book import Diff
from data.sources.overdue import Overdue
from data.sources.servers import Servers
from data.sources.waiting import backoff
from data.start_criteria import (
    SPREADS,
    Criterion,
    Rules,
    bars_criterion,
    connection_criteria,
    mean_spread,
    spread_criterion,
    unmet,
)
from data.timeframes import TIMEFRAMES, Timeframes
from domain.errors import ConclaveError
from domain.market import Bar, BarFrame, BookSnapshot, Trade
from domain.ports import Clock
from domain.times import iso, timeframe_ms

log = structlog.get_logger("ingest")

Ask = Callable[[str, str, int], Awaitable[BarFrame]]
"""(symbol, timeframe, first open in ms) → closed bars from there to now, asked for once."""
Time = Callable[[], Awaitable[int]]
"""Asks the exchange for its time, UTC ms."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Where the bars of a market are streamed.

    Attributes
    ----------
    urls : of a line with :func:`bar_streams` in it, the main one first.
    symbols : the exchange's name → unified symbol.
    """

    urls: Sequence[str]
    symbols: Mapping[str, str]


def bar_streams(names: Sequence[str], timeframes: Sequence[str] = TIMEFRAMES) -> str:
    """Return the streams of a :class:`Wire`, as a combined line's address ends with them.

    Parameters
    ----------
    names : the exchange's, ``BTCUSDT``.
    """
    return "/".join(f"{name.lower()}@kline_{one}" for name in names for one in timeframes)


@dataclass(slots=True)
class LiveIngest:
    """Keeps bars of every timeframe and says how the feed does.

    Attributes
    ----------
    wires : by market.
    ask : by REST. ``exchange_time`` : the same.
    clock : market time on this machine. ``speed`` : market seconds a second.
    watched : symbols whose books and trades are told to :meth:`hear` and :meth:`see`.
    keep : bars of each timeframe that are asked for at the start, and kept.
    others : health of the lines beside, counted as well: of books, of trades, of the
        desk's own bars.
    servers : whose answers are counted among the bytes.
    offset_ms : the exchange's time less this machine's.
    """

    wires: Sequence[Wire]
    ask: Ask
    exchange_time: Time
    clock: Clock
    watched: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)
    keep: int = 1_000
    patience: Patience = field(default_factory=Patience)
    speed: float = 1.0
    seed: int = 0
    others: list[LineHealth] = field(default_factory=list)
    servers: Sequence[Servers] = ()
    offset_ms: int = 0
    kept: dict[str, Timeframes] = field(init=False)
    lines: list[LiveBars] = field(init=False)
    reception: Reception = field(init=False)
    _spreads: dict[str, deque[float]] = field(init=False)
    _met: bool = field(default=False, init=False)
    _problem: str = field(default="", init=False)

    def __post_init__(self) -> None:
        symbols = [symbol for wire in self.wires for symbol in wire.symbols.values()]
        self.kept = {symbol: Timeframes(symbol, self.keep) for symbol in symbols}
        self.lines = [
            LiveBars(wire.urls, wire.symbols, TIMEFRAMES, self._missing,
                     {(symbol, one): 0 for symbol in wire.symbols.values() for one in TIMEFRAMES},
                     self.patience, self.seed + 1, overdue=self._overdue())
            for wire in self.wires
        ]  # fmt: skip
        must = frozenset((symbol, "book updates") for symbol in self.watched)
        self.reception = Reception(self.rules.listen_ms, self.rules.stamp_ms, must)
        self._spreads = {symbol: deque(maxlen=SPREADS) for symbol in sorted(self.watched)}

    async def run(self) -> None:
        """Fetch and listen for ever; cancel it to let go of the lines.

        Raises
        ------
        UsageError : if an address is none.
        """
        await self.set_clock()
        self.reception.begin(self.now())
        await self._fill()
        await asyncio.gather(*(self._listen(line) for line in self.lines))

    def now(self) -> int:
        """Return the exchange's time, UTC ms, as far as it is known here."""
        return self.clock.now() + self.offset_ms

    async def set_clock(self) -> None:
        """Ask the exchange for its time, as long as it takes."""

        async def ask() -> int:
            before = self.clock.now()
            told = await self.exchange_time()
            return told - (before + self.clock.now()) // 2

        self.offset_ms = await self._patiently("its time", ask)

    # What books and trades say

    def hear(self, said: Diff | Print) -> None:
        """Count a message."""
        if isinstance(said, Print):
            stream, first, last, at = "trades", said.number, said.number, said.trade.at
        else:
            first = said.first if said.before is None else said.before + 1
            stream, last, at = "book updates", said.last, said.at
        self.reception.hear((said.symbol, stream), first, last, at, self.now())

    def see(self, symbol: str, event: BookSnapshot | Trade) -> None:
        """Take note of a spread."""
        if isinstance(event, BookSnapshot):
            self._spreads[symbol].append(event.spread_bps)

    # How it is

    @property
    def met(self) -> bool:
        """Whether all criteria have been met at one moment; stays so."""
        self._met = self._met or not unmet(self.criteria())
        return self._met

    def criteria(self) -> list[Criterion]:
        """Return the criteria as they are now."""
        now = self.now()
        heard = self.reception.heard(now) if self.watched else None
        return [
            bars_criterion(list(self.kept.values()), now, self.rules),
            *connection_criteria(heard, self.rules),
            spread_criterion(self._spreads, self.rules, watched=bool(self.watched)),
        ]

    def spread(self, symbol: str) -> float | None:
        """Return the mean of the last hundred spreads, or of as many as there are, basis points."""
        seen = self._spreads[symbol]
        return mean_spread(seen) if seen else None

    @property
    def problem(self) -> str:
        """What is wrong with the lines of bars now; empty if nothing is."""
        return self._problem or next((h.health.problem for h in self.lines if h.health.problem), "")

    def figures(self) -> dict[str, int | float]:
        """Return what the lines of bars went through, and how the bars are."""
        health = [line.health for line in self.lines]
        every = [one for each in self.kept.values() for one in each.kept.values()]
        lines: list[LineHealth] = [*health, *self.others]
        return {
            "messages": sum(one.messages for one in lines),
            "bytes": sum(one.received for one in lines) + sum(one.received for one in self.servers),
            "garbage": sum(one.garbage for one in lines),
            "reconnects": sum(one.reconnects for one in lines),
            "longest_away_s": max((one.longest_away for one in lines), default=0.0),
            "bars": sum(len(one.frame) for one in every),
            "gaps": sum(one.gaps for one in every),
            "filled": sum(one.filled for one in health),
            "repeated": sum(one.repeated for one in health),
            "compared": sum(one.compared for one in every),
            "different": sum(one.different for one in every),
            "clock_offset_ms": self.offset_ms,
        }

    def report(self) -> dict[str, Any]:
        """Return everything, with each symbol's bars described (:func:`data.ingest.described`)."""
        return {
            "criteria": self.criteria(),
            "figures": self.figures(),
            "symbols": [described(each) for each in self.kept.values()],
            "spreads": [
                {"symbol": symbol, "mean_bps": self.spread(symbol), "n": len(seen)}
                for symbol, seen in self._spreads.items()
            ],
        }

    # Bars

    def _overdue(self) -> Overdue:
        return Overdue(self.now, self.speed, self.rules.grace_ms, self.patience, self.seed)

    async def _fill(self) -> None:
        for timeframe in TIMEFRAMES:
            for line in self.lines:
                for symbol in line.symbols.values():
                    line.last[symbol, timeframe] = await self._filled(symbol, timeframe)

    async def _filled(self, symbol: str, timeframe: str) -> int:
        """Fetch the bars of the past and return the open of the last."""
        step = timeframe_ms(timeframe)

        async def ask() -> BarFrame:
            return await self.ask(symbol, timeframe, self.now() // step * step - self.keep * step)

        bars = await self._patiently(f"{symbol} {timeframe}", ask)
        self.kept[symbol].take(bars)
        return int(bars.ts[-1]) if len(bars) else self.now() // step * step - step

    async def _patiently(self, what: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        rng, failures = random.Random(self.seed), 0  # noqa: S311 - spreads questions only
        while True:
            try:
                found = await ask()
            except (OSError, ConclaveError) as error:
                failures += 1
                self._problem = f"{what}: {error}"
                log.warning("ingest_waits", what=what, why=str(error))
                wait = backoff(failures, self.patience.first_wait, self.patience.longest_wait, rng)
                await asyncio.sleep(wait)
            else:
                self._problem = ""
                return found

    async def _missing(self, symbol: str, timeframe: str, first_ms: int) -> Sequence[Bar]:
        if self.now() < first_ms + timeframe_ms(timeframe):
            return ()  # nothing can have closed: of many series, few have to be asked about
        return list((await self.ask(symbol, timeframe, first_ms)).bars())

    async def _listen(self, line: LiveBars) -> None:
        async for bar in line.bars():
            kept = self.kept[bar.symbol]
            before = kept.different
            kept.take(BarFrame.of([bar]))
            if kept.different > before:
                log.warning(
                    "bars_differ", symbol=bar.symbol, bars=kept.different, at=iso(bar.open_ms)
                )
