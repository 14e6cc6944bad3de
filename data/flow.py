"""From events to what a market state holds of them: newest book, recent trades, order flow, bars.

Time runs as it does for bars: what is known at t happened before t.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path

from data.books import read_books, read_trades, recording_of
from data.memory import MarketMemory
from domain.errors import DataRefused
from domain.market import Bar, BarFrame, BookSnapshot, BookView, OrderFlow, Trade, market_of
from domain.times import timeframe_ms

WINDOW_MS = 10_000  # of recent trades and order flow: older ones say nothing about what comes


def flow_event(before: BookSnapshot, after: BookSnapshot) -> float:
    """Return what changed between two snapshots as flow e at the best quotes, base units.

    e = q_b·1[p_b ≥ p_b'] − q_b'·1[p_b ≤ p_b'] − q_a·1[p_a ≤ p_a'] + q_a'·1[p_a ≥ p_a'], primes
    for the one before: a bid that grows or an ask that shrinks is positive (Cont, Kukanov & Stoikov
    2014, The price impact of order book events, Journal of Financial Econometrics 12(1)).
    """
    (bid0, bid_qty0), (ask0, ask_qty0) = before.bids[0], before.asks[0]
    (bid, bid_qty), (ask, ask_qty) = after.bids[0], after.asks[0]
    flow = (bid_qty if bid >= bid0 else 0.0) - (bid_qty0 if bid <= bid0 else 0.0)
    return flow - (ask_qty if ask <= ask0 else 0.0) + (ask_qty0 if ask >= ask0 else 0.0)


class BookWatch:
    """Watches the events of one symbol and remembers the last seconds of them.

    Parameters
    ----------
    window_ms : how far trades and order flow reach back.
    """

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        self._window = window_ms
        self._book: BookSnapshot | None = None
        self._began = 0
        self._flow: deque[tuple[int, float]] = deque()
        self._trades: deque[Trade] = deque()

    def see(self, event: BookSnapshot | Trade) -> None:
        """Take in the next event; books have two sides, and time does not run backwards."""
        if isinstance(event, Trade):
            self._trades.append(event)
        else:
            if self._book is None:
                self._began = event.at
            else:
                self._flow.append((event.at, flow_event(self._book, event)))
            self._book = event
        self._forget(event.at - self._window)

    def view(self, as_of: int) -> BookView:
        """Return what was to be seen at ``as_of`` (ms), which is after every event so far."""
        start = as_of - self._window
        self._forget(start)
        flow = None
        if self._book is not None:
            sizes = [size for _, size in self._flow]
            flow = OrderFlow(
                max(start, self._began), as_of, math.fsum(sizes), math.fsum(map(abs, sizes)),
                len(sizes),
            )  # fmt: skip
        return BookView(self._book, tuple(self._trades), flow)

    def _forget(self, before: int) -> None:
        while self._flow and self._flow[0][0] < before:
            self._flow.popleft()
        while self._trades and self._trades[0].at < before:
            self._trades.popleft()


def views(
    books: Iterable[BookSnapshot], trades: Iterable[Trade], step_ms: int, window_ms: int = WINDOW_MS
) -> Iterator[tuple[int, BookView]]:
    """Iterate over (instant, view) at the multiples of ``step_ms``, in one pass over the events.

    An instant before which nothing happened for a whole step is left out; so is the time after
    the last event.

    Parameters
    ----------
    books, trades : of one symbol, each in order of time, stamped by one clock.
    """
    watch, due = BookWatch(window_ms), 0
    streams: tuple[Iterable[BookSnapshot | Trade], ...] = (books, trades)
    for event in heapq.merge(*streams, key=lambda event: event.at):
        if 0 < due <= event.at:
            yield due, watch.view(due)
        due = event.at - event.at % step_ms + step_ms
        watch.see(event)


def bars_of(trades: Iterable[Trade], symbol: str, timeframe: str) -> Iterator[Bar]:
    """Iterate over the bars that trades make; volume in base units.

    The first is left out, as it may have begun before the recording did, and the last, as it may
    still grow. A bar without trades is a hole.
    """
    step = timeframe_ms(timeframe)
    groups = groupby(trades, key=lambda trade: trade.at - trade.at % step)
    bars = (_bar(symbol, timeframe, open_ms, list(group)) for open_ms, group in groups)
    next(bars, None)
    for bar, _ in pairwise(bars):
        yield bar


class RecordedBooks:
    """What was seen of one symbol, by instant: a :class:`domain.ports.BookSource`."""

    def __init__(self, symbol: str, seen: Mapping[int, BookView]) -> None:
        self.symbol, self._seen = symbol, seen

    def look(self, symbol: str, as_of: int) -> BookView:
        """Return the view recorded for exactly this instant, or an empty one."""
        known = self._seen if symbol == self.symbol else {}
        return known.get(as_of, BookView())


def recorded_market(books: Path, trades: Path, timeframe: str = "1m") -> MarketMemory:
    """Make a market of two recordings: bars from the trades, states with the books at their closes.

    Raises
    ------
    DataRefused : if a file is refused, they are of different symbols, or too short for a bar.
    """
    (symbol, kind), (traded, _) = recording_of(books), recording_of(trades)
    if symbol != traded:
        raise DataRefused(trades.name, f"must be trades of {symbol}", traded)
    if kind == "bookticker" and market_of(symbol) == "spot":
        rule = "is stamped on receipt, by another clock than the trades"
        raise DataRefused(books.name, rule, hint="Use the l2top recording.")
    bars = list(bars_of(read_trades(trades), symbol, timeframe))
    seen = dict(views(read_books(books), read_trades(trades), timeframe_ms(timeframe)))
    memory = MarketMemory(symbol, timeframe, keep=None, books=RecordedBooks(symbol, seen))
    memory.append(BarFrame.of(bars))
    return memory


def _bar(symbol: str, timeframe: str, open_ms: int, trades: list[Trade]) -> Bar:
    prices = [trade.price for trade in trades]
    volume = math.fsum(trade.qty for trade in trades)
    return Bar(
        symbol, timeframe, open_ms, prices[0], max(prices), min(prices), prices[-1], volume
    )  # fmt: skip
