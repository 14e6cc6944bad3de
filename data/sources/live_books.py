"""Order books and trades of some symbols from an exchange, as they happen.

Books are kept by diffs (:mod:`data.sources.order_book`). One that is not known or has been lost is
asked for by REST, while the diffs that follow wait for the answer; the others go on meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import structlog

from data.sources.book_messages import Print, said_of
from data.sources.line import Line, LineHealth, Patience
from data.sources.order_book import Diff, OrderBook, Snapshot
from data.sources.waiting import backoff
from domain.errors import ConclaveError, DataRefused, UsageError
from domain.market import BookSnapshot, Market, Trade

log = structlog.get_logger("feed")

Event = BookSnapshot | Trade
Told = tuple[str, Event]
"""(unified symbol, event)."""
Ask = Callable[[str], Awaitable[Snapshot]]
"""unified symbol → its book now, a thousand levels a side or all there are."""

_WAITING = 4_096  # diffs that are kept until the answer to a question for a book is there
_BEFORE = 64  # of those from before it was asked: an answer may be a little older than its question
_STEADY = 100  # diffs in a row after which a loss is the first again
_QUIET_S = 300.0  # for which a market may be without a trade: pings tell that its line stands
_FAR = 10_000  # trades: numbers that fall by more are those of an exchange that began anew


def book_streams(names: Iterable[str], market: Market) -> str:
    """Return what the line of books listens to, as a combined line's address ends with it.

    Parameters
    ----------
    names : the exchange's, ``BTCUSDT``.
    """
    return _streams(names, "depth@100ms", *(["trade"] if market == "spot" else []))


def trade_streams(names: Iterable[str]) -> str:
    """Return the same of perpetuals' trades, which are told at another address than their books."""
    return _streams(names, "aggTrade")


def _streams(names: Iterable[str], *kinds: str) -> str:
    return "/".join(f"{name.lower()}@{kind}" for name in names for kind in kinds)


@dataclass(slots=True)
class BooksHealth(LineHealth):
    """What the feed went through.

    Attributes
    ----------
    asked, refused : snapshots that were asked for, and that did not come or could not be.
    gaps, crossed, thin : books that were lost, by reason; not those that a line took with it.
    resyncs : books that were there again.
    repeated : diffs and trades that were known already. ``missed`` : trades that nobody told of.
    """

    asked: int = 0
    refused: int = 0
    gaps: int = 0
    crossed: int = 0
    thin: int = 0
    resyncs: int = 0
    repeated: int = 0
    missed: int = 0


def _nobody(said: Diff | Print) -> None:
    del said


@dataclass(slots=True)
class _Kept:
    book: OrderBook
    waiting: deque[Diff] = field(default_factory=lambda: deque(maxlen=_WAITING))
    asking: asyncio.Task[Snapshot] | None = None
    asked: bool = False  # whether the question has left; until then it waits for its time
    steady: int = 0
    problem: str = "no book yet"


@dataclass(slots=True)
class LiveBooks:
    """Books and trades of some symbols of one market, for one reader.

    Attributes
    ----------
    urls : of a combined line with :func:`book_streams` in it, the main one first; the next is tried
        when one fails.
    symbols : the exchange's name → unified symbol.
    ask : by REST; asked for one symbol at a time. What it raises (ConclaveError, OSError) is told
        in ``health``, and it is asked again after a wait.
    see : told of every event (symbol, event) in the order in which the exchange told of them, each
        with the exchange's time: a trade may be some ms older than the book before it. Books have
        two sides and are told after every diff, but for those that waited for a snapshot, which
        are told once, as they are by then.
    levels : a side, of the books that are told.
    heard : told of every message as it comes, whether it is of use or not.
    trade_urls : likewise of a line with :func:`trade_streams` in it, for :meth:`run_trades`; empty
        where the line of books tells of trades as well.
    """

    urls: Sequence[str]
    symbols: Mapping[str, str]
    ask: Ask
    see: Callable[[str, Event], object]
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
    levels: int = 20
    heard: Callable[[Diff | Print], object] = _nobody
    trade_urls: Sequence[str] = ()
    health: BooksHealth = field(default_factory=BooksHealth)
    trade_health: LineHealth = field(default_factory=LineHealth)
    _kept: dict[str, _Kept] = field(default_factory=dict, init=False)
    _failures: dict[str, int] = field(default_factory=dict, init=False)  # in a row
    _prints: dict[str, int] = field(default_factory=dict, init=False)  # number of the last
    _there: set[str] = field(default_factory=set, init=False)  # of whom there has been a book
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        if not self.urls or not self.symbols:
            raise UsageError("feed", "needs an address, and a symbol", sorted(self.symbols))

    async def run(self) -> None:
        """Listen to books for ever, and to trades on the same line; cancel it to let go of it.

        Raises
        ------
        UsageError : if an address is none.
        """
        await self._run(self.urls, self.seed, self.health, self.follow, self.patience)

    async def run_trades(self) -> None:
        """Listen for ever to the line that tells of trades alone; see :meth:`run`."""
        quiet = replace(self.patience, silence=max(self.patience.silence, _QUIET_S))
        await self._run(self.trade_urls, self.seed + 1, self.trade_health, self._trades, quiet)

    async def _run(
        self, urls: Sequence[str], seed: int, health: LineHealth,
        use: Callable[[AsyncGenerator[Diff | Print, None]], AsyncGenerator[Told, None]],
        patience: Patience,
    ) -> None:  # fmt: skip
        line: Line[Diff | Print] = Line(urls, self._read, patience, seed, health)
        async with aclosing(line.through(use)) as events:
            async for symbol, event in events:
                self.see(symbol, event)

    def book(self, symbol: str) -> OrderBook:
        """Return the book of a symbol as it is kept now, which may be lost.

        Raises
        ------
        UsageError : for a symbol that is not listened to.
        """
        if symbol not in self.symbols.values():
            raise UsageError("symbol", "must be one the feed listens to", symbol)
        kept = self._kept.get(symbol)
        return OrderBook(symbol, self.levels) if kept is None else kept.book

    def _read(self, text: str | bytes) -> Diff | Print | None:
        said = said_of(text, self.symbols)
        if not isinstance(said, Diff | Print):
            return None
        self.heard(said)
        return said

    async def follow(self, said: AsyncGenerator[Diff | Print, None]) -> AsyncGenerator[Told, None]:
        """Iterate over (symbol, event) of what one line says; all books are lost at its end."""
        rng = random.Random(self.seed)  # noqa: S311 - spreads questions only
        kept = {name: _Kept(OrderBook(name, self.levels)) for name in self.symbols.values()}
        self._kept = kept
        self._tell()
        try:
            async for one in said:
                event = (
                    self._print(one) if isinstance(one, Print)
                    else self._diff(kept[one.symbol], one, rng)
                )  # fmt: skip
                if event is not None:
                    yield one.symbol, event
        finally:
            for each in kept.values():
                each.book.lose("no line")
                if each.asking is not None:
                    each.asking.cancel()

    async def _trades(self, said: AsyncGenerator[Diff | Print, None]) -> AsyncGenerator[Told, None]:
        self.trade_health.problem = ""
        async for one in said:
            event = self._print(one) if isinstance(one, Print) else None
            if event is not None:
                yield one.symbol, event

    def _print(self, said: Print) -> Trade | None:
        last = self._prints.get(said.symbol, said.number - 1)
        if last - _FAR < said.number <= last:
            self.health.repeated += 1
            return None
        self.health.missed += max(said.number - last - 1, 0)
        self._prints[said.symbol] = said.number
        return said.trade

    def _diff(self, kept: _Kept, diff: Diff, rng: random.Random) -> BookSnapshot | None:
        view = self._applied(kept, diff)
        if kept.asking is None and (kept.book.lost or kept.book.narrow):
            failures = self._failures.get(diff.symbol, 0)
            self._failures[diff.symbol] = failures + 1
            kept.asking = asyncio.create_task(self._asked(diff.symbol, kept, failures, rng))
        if kept.asking is not None:
            kept.waiting.append(diff)
            while not kept.asked and len(kept.waiting) > _BEFORE:
                kept.waiting.popleft()
            if kept.asking.done():
                view = self._started(kept) or view
        return view

    def _applied(self, kept: _Kept, diff: Diff) -> BookSnapshot | None:
        book = kept.book
        if book.lost:
            return None
        if book.apply(diff):
            kept.steady += 1
            if kept.steady == _STEADY:
                self._failures[diff.symbol] = 0
            self._is_there(kept)
            return book.view()
        if book.lost:
            kept.steady, kept.problem = 0, book.lost
            self._count(book.lost)
            log.warning("book_lost", symbol=diff.symbol, why=book.lost, at=diff.at)
            self._tell()
        elif book.joined:
            self.health.repeated += 1
        return None

    def _started(self, kept: _Kept) -> BookSnapshot | None:
        """Begin anew from the snapshot that has come, and with what waited for it."""
        assert kept.asking is not None
        snapshot, kept.asking, kept.asked = kept.asking.result(), None, False
        book, moved = OrderBook(snapshot.symbol, self.levels), False
        book.start(snapshot)
        for diff in kept.waiting:
            moved = book.apply(diff)
        kept.waiting.clear()
        if book.lost and not kept.book.lost:
            return None  # the one that is kept is better
        kept.book = book
        if book.lost:
            kept.problem = f"{book.lost} after a snapshot"
            self._tell()
            return None
        if not moved:
            return None
        self._is_there(kept)
        return book.view()

    async def _asked(
        self, symbol: str, kept: _Kept, failures: int, rng: random.Random
    ) -> Snapshot:  # fmt: skip
        patience = self.patience
        while True:
            if failures:
                wait = backoff(failures, patience.first_wait, patience.longest_wait, rng)
                await asyncio.sleep(wait)
            try:
                async with self._turn, asyncio.timeout(patience.silence):
                    self.health.asked += 1
                    kept.asked = True
                    snapshot = await self.ask(symbol)
                if snapshot.symbol != symbol:
                    raise DataRefused("snapshot", f"must be of {symbol}", snapshot.symbol)
                return snapshot
            except (OSError, ConclaveError) as error:  # a TimeoutError is an OSError
                failures += 1
                kept.asked = False
                self.health.refused += 1
                why = str(error) or type(error).__name__
                log.warning("book_refused", symbol=symbol, why=why)
                if kept.problem:
                    kept.problem = f"no snapshot: {why}"
                    self._tell()

    def _is_there(self, kept: _Kept) -> None:
        if not kept.problem:
            return
        if kept.book.symbol in self._there:
            self.health.resyncs += 1
        self._there.add(kept.book.symbol)
        kept.problem = ""
        self._tell()

    def _count(self, lost: str) -> None:
        self.health.gaps += lost == "gap"
        self.health.crossed += lost == "crossed"
        self.health.thin += lost == "thin"

    def _tell(self) -> None:
        wrong = [f"{name}: {kept.problem}" for name, kept in self._kept.items() if kept.problem]
        self.health.problem = "; ".join(wrong[:3]) + ("; …" if len(wrong) > 3 else "")
