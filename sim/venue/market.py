"""What the venue's markets look like now: prices, books, bars, funding, at the venue's own time."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.instruments import instrument_for
from domain.errors import DataRefused, NotFound
from domain.market import BarFrame, BookSnapshot, Instrument, Market, market_of, symbol_on
from domain.times import DAY_MS, iso, timeframe_ms
from execution.funding import stamps_between, usual_rate
from sim.venue import recorded
from sim.venue.books import Levels, Shape
from sim.venue.depth import Depth, MadeDepth
from sim.venue.halts import Halts
from sim.venue.moments import LAG_MS
from sim.venue.recorded import Recording
from sim.venue.tape import STEP_MS, MadeTape, Prints, Tape
from sim.worlds import World

_WORTH = 40_000.0  # median worth of a level, quote units
_KEPT_BOOKS = 256  # of moments that are asked for more than once
_GAP_BPS = 0.2  # between two orders
_BOTH: tuple[Market, Market] = ("spot", "perp")


class VenueClock:
    """The venue's time, which may run faster than the wall's.

    Parameters
    ----------
    start_ms : market time at ``began_ms``.
    wall : ms, of whoever looks.
    began_ms : the wall's; None = the first look.
    """

    def __init__(
        self, start_ms: int, wall: Callable[[], int], speed: float = 1.0,
        began_ms: int | None = None,
    ) -> None:  # fmt: skip
        self.start_ms, self.speed, self._wall = start_ms, speed, wall
        self._began = wall() if began_ms is None else began_ms

    def now(self) -> int:
        """Return market time, ms."""
        return self.start_ms + int((self._wall() - self._began) * self.speed) - LAG_MS.get()


class Stored:
    """Stored bars as a :class:`sim.worlds.World`: over when they are.

    Parameters
    ----------
    frame : bars without a gap that matters: a hole is filled with the close before it, untraded.
    """

    def __init__(self, frame: BarFrame) -> None:
        self.symbol, self.timeframe = frame.symbol, frame.timeframe
        self.start_ms, self._step = int(frame.ts[0]), frame.step_ms
        self._frame, self._last = frame, int(frame.ts[-1])

    @property
    def end_ms(self) -> int:
        """The close of the last bar."""
        return self._last + self._step

    def bars(self, first_open_ms: int, n: int) -> BarFrame:
        """Return n bars, the first of which opens at ``first_open_ms``.

        Raises
        ------
        DataRefused : beyond the first or the last stored bar.
        """
        ts = first_open_ms + self._step * np.arange(n, dtype=np.int64)
        if n and (ts[0] < self.start_ms or ts[-1] > self._last):
            raise DataRefused(
                f"{self.symbol} (stored)",
                f"has bars from {iso(self.start_ms)} to {iso(self._last)}",
                f"{iso(int(ts[0]))} to {iso(int(ts[-1]))}",
            )  # fmt: skip
        frame = self._frame
        rows = np.searchsorted(frame.ts, ts, side="right") - 1
        there = frame.ts[rows] == ts
        close = frame.close[rows]
        start, high, low = (
            np.where(there, column[rows], close) for column in (frame.open, frame.high, frame.low)
        )
        volume = np.where(there, frame.volume[rows], 0.0)
        return BarFrame(self.symbol, self.timeframe, ts, start, high, low, close, volume)


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol as the venue lists it.

    Attributes
    ----------
    name : the venue's own, ``BTCUSDT``.
    """

    name: str
    symbol: str
    market: Market
    base: str
    quote: str
    instrument: Instrument

    @property
    def key(self) -> tuple[Market, str]:
        """Market and name, by which it is found."""
        return self.market, self.name


class Markets:
    """Every pair on spot and as a perpetual, both on the same tape; or what was recorded.

    Parameters
    ----------
    worlds : the bars of every pair.
    recordings : of symbols of one market each, instead of ``worlds``.
    clock : the venue's time.
    spread_bps : of the books.
    funding_hours : between two stamps of every perpetual.
    name : of the whole market, which it tells its clients.

    Attributes
    ----------
    step_ms : between two instants at which the venue tells of anything.
    ends_ms : when the first of the worlds is over and all trading with it, ms; None = never.
    """

    def __init__(
        self, worlds: Mapping[str, World], clock: VenueClock, *, seed: int = 0,
        spread_bps: float = 1.0, funding_hours: int = 8, name: str = "simulated",
        recordings: Sequence[Recording] = (),
    ) -> None:  # fmt: skip
        self.clock, self.name, self._seed, self._spread = clock, name, seed, spread_bps
        self.step_ms = recorded.STEP_MS if recordings else STEP_MS
        ends = [end for end in map(_end, worlds.values()) if end is not None]
        self.ends_ms = min((*ends, *(each.end_ms for each in recordings)), default=None)
        self.halts = Halts(self.ends_ms, self.step_ms)
        self.listings: dict[tuple[Market, str], Listing] = {}
        self._tapes: dict[str, Tape] = {}
        self._depths: dict[str, Depth] = {}
        self._books: dict[tuple[str, int, int], BookSnapshot] = {}
        for pair, world in worlds.items():
            self._add(symbol_on(pair, "spot"), world, funding_hours)
        for each in recordings:
            spot, market = symbol_on(each.symbol, "spot"), market_of(each.symbol)
            price = each.tape.last(each.start_ms)[1]
            self._list(_listed(spot, market, price, funding_hours), each.tape, each.depth)

    def _add(self, spot: str, world: World, funding_hours: int) -> None:
        price = float(world.bars(_opened(world, self.within(self.clock.now())), 1).open[0])
        listed = [_listed(spot, market, price, funding_hours) for market in _BOTH]
        tick = float(instrument_for(spot, price).tick)
        # one tape for both: its steps are the larger ones
        step = max(listing.instrument.step for listing in listed)
        tape = MadeTape(world, tick, self._seed, float(step))
        for listing in listed:
            self._list(listing, tape, MadeDepth(self._shape(listing, price), tape))

    def _list(self, listing: Listing, tape: Tape, depth: Depth) -> None:
        self.listings[listing.key] = listing
        self._tapes[listing.symbol], self._depths[listing.symbol] = tape, depth

    def listing(self, market: Market, name: str) -> Listing:
        """Return a listing.

        Raises
        ------
        NotFound : if there is none.
        """
        found = self.listings.get((market, name.upper()))
        if found is None:
            raise NotFound("symbol", "must be one the venue lists", name)
        return found

    def tape(self, listing: Listing) -> Tape:
        """Return what is traded there."""
        return self._tapes[listing.symbol]

    def bars(
        self, listing: Listing, timeframe: str, first_ms: int, n: int, at_ms: int | None = None
    ) -> BarFrame:
        """Return bars up to an instant, None = now, the newest unfinished."""
        at, tape = self.clock.now() if at_ms is None else at_ms, self.tape(listing)
        at = at if self.ends_ms is None else min(at, self.ends_ms)
        return self.halts.traded(listing.key, tape.bars(timeframe, first_ms, n, at), tape, at)

    def price(self, listing: Listing) -> float:
        """Return the last price, quote units."""
        return self.tape(listing).last(self.moment(listing))[1]

    def mark(self, listing: Listing, at_ms: int) -> float:
        """Return the price by which positions are valued at an instant, quote units."""
        return self.tape(listing).last(self.within(at_ms))[1]

    def within(self, at_ms: int) -> int:
        """Return an instant, or the market's last if it is over by then, ms."""
        return at_ms if self.ends_ms is None else min(at_ms, self.ends_ms - 1)

    def prints(self, listing: Listing, start_ms: int, end_ms: int) -> Prints:
        """Return what was traded in [start, end)."""
        return self.halts.without(listing.key, self.tape(listing).prints(start_ms, end_ms))

    def trades(self, listing: Listing, n: int, until_ms: int | None = None) -> Prints:
        """Return the last n prints up to an instant, None = now; fewer where it was halted."""
        until = self.moment(listing, until_ms)
        found = self.prints(listing, self.tape(listing).back(n, until), until + 1)
        return found.where(np.s_[-n:])

    def printed(self, listing: Listing, at_ms: int) -> Prints:
        """Return what is told of at an instant: what was traded since the one before."""
        start = max(at_ms - self.step_ms + 1, self.tape(listing).start_ms)
        return self.prints(listing, start, at_ms + 1)

    def moment(self, listing: Listing, at_ms: int | None = None) -> int:
        """Return the newest instant that was told of at or before another, None = now, ms."""
        return self.halts.newest(listing.key, self.clock.now() if at_ms is None else at_ms)

    def book(self, listing: Listing, levels: int, at_ms: int | None = None) -> BookSnapshot:
        """Return the book around the last price; the same whenever it is asked for an instant."""
        at = self.moment(listing, at_ms)
        key = (listing.symbol, levels, at)
        book = self._books.get(key)
        if book is None:
            bids, asks = self._depths[listing.symbol].book(at, levels)
            book = self._books[key] = BookSnapshot(listing.symbol, at, tuple(bids), tuple(asks))
            if len(self._books) > _KEPT_BOOKS:
                del self._books[next(iter(self._books))]
        return book

    def changes(self, listing: Listing, levels: int, at_ms: int) -> tuple[Levels, Levels]:
        """Return what an instant changes of bids and asks; quantity 0 = gone."""
        before = self.before(listing, at_ms)
        return self._depths[listing.symbol].changes(before, at_ms, levels)

    def before(self, listing: Listing, at_ms: int) -> int:
        """Return the instant that was told of before another, ms."""
        return self.moment(listing, at_ms - self.step_ms)

    def _shape(self, listing: Listing, first: float) -> Shape:
        # of the price at which it was listed, so that levels stay where they are
        tick = float(listing.instrument.tick)
        key = zlib.crc32(listing.symbol.encode()) ^ (self._seed << 32)
        gap = max(round(first * _GAP_BPS / 1e4 / tick), 1)
        half = max(first * self._spread / 2e4 / tick, 0.5)
        return Shape(tick, float(listing.instrument.step), gap, half, _WORTH, key)

    def update_id(self, listing: Listing, at_ms: int) -> int:
        """Return the number of the book's newest change by an instant."""
        return self._depths[listing.symbol].update(at_ms)

    def moved(self, listing: Listing, at_ms: int) -> bool:
        """Return whether an instant has another book than the one before."""
        before = self.update_id(listing, self.before(listing, at_ms))
        return self.update_id(listing, at_ms) > before

    def traded(self, listing: Listing, at_ms: int) -> bool:
        """Return whether anything was traded between the instant before and this one."""
        first, last = self.tape(listing).numbers(at_ms - self.step_ms + 1, at_ms + 1)
        return first <= last

    def funding_rate(self, listing: Listing, stamp_ms: int) -> float:
        """Return what a stamp pays, fraction: the base rate, more where the day rose."""
        day = max(stamp_ms - DAY_MS, self.tape(listing).start_ms)
        now, before = self.mark(listing, stamp_ms), self.mark(listing, day)
        usual = usual_rate(listing.instrument.funding_ms)
        return round(usual + 0.002 * float(np.clip(now / before - 1.0, -0.1, 0.1)), 8)


def next_funding(listing: Listing, now_ms: int) -> int:
    """Return the next stamp of a perpetual after an instant, ms."""
    return next(stamps_between(now_ms, now_ms + DAY_MS, listing.instrument.funding_ms))


def _end(world: World) -> int | None:
    found: int | None = getattr(world, "end_ms", None)
    return found


def _opened(world: World, now_ms: int) -> int:
    step = timeframe_ms(world.timeframe)
    return now_ms // step * step


def _listed(spot: str, market: Market, price: float, funding_hours: int) -> Listing:
    symbol = symbol_on(spot, market)
    base, quote = spot.split("/")
    instrument = replace(instrument_for(symbol, price), funding_hours=funding_hours)
    return Listing(_name(spot), symbol, market, base, quote, instrument)


def _name(spot: str) -> str:
    return spot.replace("/", "")
