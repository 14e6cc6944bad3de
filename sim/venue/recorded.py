"""Recorded order books and trades of an exchange, as a market of the venue.

Prints and books are the recorded ones. Every hundredth of a second the venue tells what was traded
since the last one, and of the newest book, if another was recorded since. Bars are made of
the prints: the first and the last are of as much of their time as was recorded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.books import read_books, read_trades, recording_of
from domain.errors import DataRefused
from domain.market import BookSnapshot, Trade
from sim.venue.books import Levels
from sim.venue.tape import Prints, Tape

STEP_MS = 10  # between two instants at which the venue tells of anything
_TRADES_HINT = "It lies beside the books under the same name, with trades instead of l2top20."


class RecordedTape(Tape):
    """Recorded prints, numbered from 1 on.

    Parameters
    ----------
    trades : oldest first, at least one.
    """

    def __init__(self, symbol: str, trades: Sequence[Trade]) -> None:
        self.symbol = symbol
        self._all = Prints(
            np.arange(1, len(trades) + 1),
            np.array([trade.at for trade in trades], np.int64),
            np.array([trade.price for trade in trades]),
            np.array([trade.qty for trade in trades]),
            np.array([trade.buyer_is_maker for trade in trades]),
        )
        self.start_ms, self.end_ms = int(self._all.at[0]), int(self._all.at[-1]) + 1

    def first_open(self, step_ms: int) -> int:
        """Return when the first bar of a length opens, ms; of a few minutes no hour is whole."""
        return self.start_ms // step_ms * step_ms

    def prints(self, start_ms: int, end_ms: int) -> Prints:
        """Return what was traded in [start, end)."""
        first, last = self._rows(start_ms, end_ms)
        return self._all.where(np.s_[first : max(first, last)])

    def last(self, now_ms: int) -> tuple[int, float]:
        """Return when and at which price was traded last before or at ``now_ms``."""
        row = max(int(np.searchsorted(self._all.at, now_ms, side="right")) - 1, 0)
        return int(self._all.at[row]), float(self._all.price[row])

    def numbers(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Return the first and the last number in [start, end)."""
        first, last = self._rows(start_ms, end_ms)
        return first + 1, last

    def when(self, number: int) -> int:
        """Return the instant of a number, ms."""
        return int(self._all.at[min(max(number, 1), len(self._all)) - 1])

    def back(self, n: int, until_ms: int) -> int:
        """Return from when on there are n prints up to an instant, ms."""
        _, last = self._rows(0, until_ms + 1)
        return self.when(last - n + 1)

    def forth(self, n: int, start_ms: int) -> int:
        """Return before when there are n prints from an instant on, ms."""
        first, _ = self._rows(start_ms, start_ms)
        return max(self.when(first + n) + 1, start_ms)

    def _rows(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        first, last = np.searchsorted(self._all.at, (start_ms, end_ms))
        return int(first), int(last)


class RecordedDepth:
    """Recorded books.

    Parameters
    ----------
    books : oldest first, at least one.
    """

    def __init__(self, books: Sequence[BookSnapshot]) -> None:
        self._books, self._at = books, [book.at for book in books]

    def update(self, at_ms: int) -> int:
        """Return the number of the newest book by an instant, from 1 on."""
        return max(bisect_right(self._at, at_ms), 1)

    def book(self, at_ms: int, n: int) -> tuple[Levels, Levels]:
        """Return the newest book by an instant, as many levels as were recorded."""
        book = self._books[self.update(at_ms) - 1]
        return list(book.bids[:n]), list(book.asks[:n])

    def changes(self, before_ms: int, at_ms: int, n: int) -> tuple[Levels, Levels]:
        """Return what turns one book into another."""
        old, new = self.book(before_ms, n), self.book(at_ms, n)
        bids, asks = (_changed(dict(was), dict(now)) for was, now in zip(old, new, strict=True))
        return bids, asks


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded of one symbol of one market.

    Attributes
    ----------
    start_ms, end_ms : the venue can tell of both books and prints in [start, end).
    """

    symbol: str
    tape: RecordedTape
    depth: RecordedDepth
    start_ms: int
    end_ms: int


def recording(books: Path) -> Recording:
    """Read recorded books and the trades that lie beside them.

    Raises
    ------
    DataRefused : if a file is missing or refused, or they have no time in common.
    """
    symbol, kind = recording_of(books)
    if not kind.startswith("l2top"):
        raise DataRefused(books.name, "must hold order books of several levels", kind)
    trades = books.with_name(books.name.replace(kind, "trades"))
    if not trades.exists():
        raise DataRefused(trades.name, "must lie there", str(trades.parent), _TRADES_HINT)
    seen, traded = list(read_books(books)), list(read_trades(trades))
    start = max(seen[0].at, traded[0].at)
    start = -(-start // STEP_MS) * STEP_MS
    end = min(seen[-1].at, traded[-1].at) // STEP_MS * STEP_MS
    if start >= end:
        raise DataRefused(books.name, "must have some time in common with its trades", trades.name)
    return Recording(symbol, RecordedTape(symbol, traded), RecordedDepth(seen), start, end)


def _changed(old: dict[float, float], new: dict[float, float]) -> Levels:
    gone = [(price, 0.0) for price in old if price not in new]
    return gone + [(price, qty) for price, qty in new.items() if old.get(price) != qty]
