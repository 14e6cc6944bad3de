"""The order book of one symbol, kept by a snapshot and the numbered changes after it.

The rules are the exchange's own: "How to manage a local order book correctly" of Binance's
documentation, for spot and for USDT-M perpetuals. Wherever they say that something is missing the
book is lost, and nothing is told of it until it was begun anew.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from domain.errors import DataRefused
from domain.market import BookSnapshot, Market, market_of

Level = tuple[float, float]  # (price in quote units, quantity in base units)

_ROOM = 4  # of the view's levels: fewer known ones a side make a book narrow


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A book as it was after an update.

    Attributes
    ----------
    update : number of the update.
    bids, asks : best first.
    asked : levels a side that were asked for: a side that has fewer is whole, of one that has as
        many nothing is known beyond the last.

    Raises
    ------
    DataRefused : if a level is none, they are not in order, or the sides cross.
    """

    symbol: str
    update: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    asked: int

    def __post_init__(self) -> None:
        what = f"book of {self.symbol}"
        for side, sign in ((self.bids, -1.0), (self.asks, 1.0)):
            if not all(0.0 < price < inf and 0.0 < qty < inf for price, qty in side):
                raise DataRefused(what, "prices and quantities must be finite and > 0", side[:3])
            if any((after[0] - before[0]) * sign <= 0.0 for before, after in pairwise(side)):
                raise DataRefused(what, "levels must run from the best price outwards", side[:3])
        if self.bids and self.asks and self.bids[0][0] >= self.asks[0][0]:
            best = self.bids[0][0], self.asks[0][0]
            raise DataRefused(what, "the best bid must lie below the best ask", best)


@dataclass(frozen=True, slots=True)
class Diff:
    """What some updates changed of a book.

    Attributes
    ----------
    at : time of the event, UTC ms.
    first, last : numbers of the updates in it.
    before : number of the last update of the diff before it; None where the exchange does not tell.
    bids, asks : new quantities; 0 = the level is gone.
    """

    symbol: str
    at: int
    first: int
    last: int
    before: int | None
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class OrderBook:
    """A book from a snapshot and diffs; told only while nothing is missing in it.

    Levels beyond the last of a snapshot that was cut there are left out: nobody has told of all of
    them. So a book whose price has moved far becomes ``narrow``, and at last is lost as "thin".

    Parameters
    ----------
    levels : a side, of the view.
    """

    def __init__(self, symbol: str, levels: int = 20) -> None:
        self.symbol, self.levels = symbol, levels
        self.market: Market = market_of(symbol)
        self.lost = "no snapshot"  # why a snapshot is needed; empty if none is
        self.joined = False  # whether a diff has followed on the snapshot
        self.update, self.at = -1, 0  # of what was applied last
        self._bids, self._asks = _Side((), inf, -1), _Side((), inf, 1)

    def start(self, snapshot: Snapshot) -> None:
        """Begin anew; nothing is told of the book before a diff has followed on the snapshot."""
        self._bids = _Side(snapshot.bids, snapshot.asked, -1)
        self._asks = _Side(snapshot.asks, snapshot.asked, 1)
        self.update, self.joined, self.lost = snapshot.update, False, ""

    def apply(self, diff: Diff) -> bool:
        """Take in the next diff; return whether the book has moved on and is whole.

        What is older than the book is left out. Where something is missing between the two, or the
        sides then cross or are too thin for the view, the book is lost.
        """
        if self.lost or self._known(diff):
            return False
        if not self._follows(diff):
            self.lost = "gap"
            return False
        self._bids.put(diff.bids)
        self._asks.put(diff.asks)
        self.update, self.at, self.joined = diff.last, diff.at, True
        bids, asks = self._bids.prices, self._asks.prices
        if bids and asks and bids[-1] >= asks[0]:
            self.lost = "crossed"
        elif self._room() < self.levels:
            self.lost = "thin"
        return not self.lost

    def lose(self, why: str) -> None:
        """Tell nothing of the book until it was begun anew."""
        self.lost = why

    @property
    def narrow(self) -> bool:
        """Whether the book is about to be lost as thin: time for another snapshot."""
        return not self.lost and self._room() < _ROOM * self.levels

    def view(self) -> BookSnapshot | None:
        """Return the best levels at the time of the last diff; None if not sure, or one-sided."""
        if self.lost or not self.joined or not (self._bids.prices and self._asks.prices):
            return None
        bids, asks = self.sides(self.levels)
        return BookSnapshot(self.symbol, self.at, bids, asks)

    def sides(self, n: int | None = None) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return (bids, asks), the n best levels of each or all that are known, best first."""
        bids, asks = self._bids, self._asks
        best = bids.prices[::-1] if n is None else bids.prices[: -n - 1 : -1]
        return bids.levels(best), asks.levels(asks.prices[:n])

    def _known(self, diff: Diff) -> bool:
        if self.market == "perp" and not self.joined:
            return diff.last < self.update
        return diff.last <= self.update

    def _follows(self, diff: Diff) -> bool:
        if self.market == "perp":
            begins = not self.joined and diff.first <= self.update
            return begins or diff.before == self.update
        if self.joined:
            return diff.first == self.update + 1
        return diff.first <= self.update + 1

    def _room(self) -> float:
        return min(self._bids.room(), self._asks.room())


class _Side:
    """Levels of one side, by price.

    Parameters
    ----------
    levels : best first. ``asked`` : as in :class:`Snapshot`.
    sign : −1 for bids, +1 for asks.
    """

    __slots__ = ("_cut", "_first", "_last", "_qty", "prices")  # all from _first to _last is known

    def __init__(self, levels: Sequence[Level], asked: float, sign: int) -> None:
        self._qty = dict(levels)
        self.prices = sorted(self._qty)
        self._cut = len(levels) >= asked
        known = levels[-1][0] if self._cut else inf * sign
        self._first, self._last = (known, inf) if sign < 0 else (-inf, known)

    def put(self, changes: Iterable[Level]) -> None:
        for price, qty in changes:
            if not self._first <= price <= self._last:
                continue
            if qty > 0.0:
                if price not in self._qty:
                    insort(self.prices, price)
                self._qty[price] = qty
            elif self._qty.pop(price, None) is not None:
                del self.prices[bisect_left(self.prices, price)]

    def levels(self, prices: Iterable[float]) -> tuple[Level, ...]:
        return tuple((price, self._qty[price]) for price in prices)

    def room(self) -> float:
        """Levels that are known for sure; ∞ where all are."""
        return len(self.prices) if self._cut else inf
