"""What was traded, print by print: made inside the bars of a market, so that it adds up to them.

A bar says where it opened, how high and how low it was, where it closed and how much was traded.
Between these lies a path that is made up, the same one whenever it is asked for: through open,
high, low and close at instants drawn from ``default_rng([seed, pair, bar])``, straight between
them with noise that never leaves [low, high]. Every step of it is a print; bars of any shorter or
longer timeframe that are made from the prints agree with the given ones in every price, and in
volume to the last bits of a sum; a bar as long as the given ones, or longer, is theirs once it is
over, to the bit. Prints are of whole steps, but for the last of a bar: it takes what is left, which
is on the step where the bar's volume is.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.resample import resample
from domain.market import BarFrame, symbol_on
from domain.times import timeframe_ms
from sim.worlds import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP_MS = 2_500  # between two prints; 24 a minute
_KEPT = 512  # bars whose prints are kept
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """n trades in order.

    Attributes
    ----------
    number : (n,) of each, growing. ``at`` : ms (n,).
    price : quote units (n,). ``qty`` : base units (n,).
    sold : (n,) whether the buyer was the maker.
    """

    number: Ints
    at: Ints
    price: Floats
    qty: Floats
    sold: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.at)

    def where(self, use: NDArray[np.bool_] | slice) -> Prints:
        """Return those of a mask (n,) or a slice."""
        return Prints(*(getattr(self, name)[use] for name in _COLUMNS))


class Tape(ABC):
    """The prints of one pair.

    Attributes
    ----------
    start_ms : of the first of them. ``end_ms`` : when they are over; None = never.
    """

    symbol: str
    start_ms: int
    end_ms: int | None

    @abstractmethod
    def prints(self, start_ms: int, end_ms: int) -> Prints:
        """Return what was traded in [start, end)."""

    @abstractmethod
    def last(self, now_ms: int) -> tuple[int, float]:
        """Return when and at which price was traded last before or at ``now_ms``."""

    @abstractmethod
    def numbers(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Return the first and the last number in [start, end); the last is less if none is."""

    @abstractmethod
    def when(self, number: int) -> int:
        """Return the instant (ms) of a number."""

    @abstractmethod
    def back(self, n: int, until_ms: int) -> int:
        """Return from when on (ms) there are n prints up to an instant, or all there are."""

    @abstractmethod
    def forth(self, n: int, start_ms: int) -> int:
        """Return before when (ms) there are n prints from an instant on, or all there are."""

    def first_open(self, step_ms: int) -> int:
        """Return when the first bar of a length opens (ms): the first that is whole."""
        return -(-self.start_ms // step_ms) * step_ms

    def bars(self, timeframe: str, first_open_ms: int, n: int, now_ms: int) -> BarFrame:
        """Return bars that open from ``first_open_ms`` on, the last one as far as it is by now.

        Fewer than n where the market ends: nothing of what comes after ``now_ms`` is in them.
        """
        step = timeframe_ms(timeframe)
        first = -(-first_open_ms // step) * step
        n = max(min(n, (now_ms - first) // step + 1), 0)
        return self._from_prints(timeframe, first, n, now_ms)

    def bars_of(self, timeframe: str, first: int, found: Prints) -> BarFrame:
        """Return the bars that prints make, the first of which may open at ``first`` (ms)."""
        step = timeframe_ms(timeframe)
        slot = (found.at - first) // step
        starts = np.flatnonzero(np.diff(slot, prepend=-1) != 0)
        ends = (np.append(starts[1:], len(slot)) - 1)[: len(starts)]
        high, low, volume = (
            ufunc.reduceat(column, starts) if len(starts) else np.empty(0)
            for ufunc, column in (
                (np.maximum, found.price), (np.minimum, found.price), (np.add, found.qty),
            )
        )  # fmt: skip
        volume = np.round(volume, 12)  # of what adding leaves behind the digits
        return BarFrame(
            self.symbol, timeframe, first + slot[starts] * step, found.price[starts], high,
            low, found.price[ends], volume,
        )  # fmt: skip

    def _from_prints(self, timeframe: str, first: int, n: int, now_ms: int) -> BarFrame:
        end_ms = min(first + n * timeframe_ms(timeframe), now_ms + 1)
        return self.bars_of(timeframe, first, self.prints(first, end_ms))


class MadeTape(Tape):
    """Prints that are made inside bars, one every :data:`STEP_MS`, numbered by their instant.

    Parameters
    ----------
    world : the bars.
    tick : price step, quote units. ``step`` : of quantities, base units; 0 = none.
    """

    def __init__(self, world: World, tick: float, seed: int = 0, step: float = 0.0) -> None:
        self.world, self.tick, self.seed, self.step = world, tick, seed, step
        self.symbol, self.bar_ms = world.symbol, timeframe_ms(world.timeframe)
        self.per_bar = self.bar_ms // STEP_MS
        self.start_ms = int(getattr(world, "start_ms", 0))  # 0 where the world does not say
        self.end_ms = getattr(world, "end_ms", None)
        self._end: int = self.end_ms or _NEVER
        self._pair = zlib.crc32(symbol_on(world.symbol, "spot").encode())
        self._kept: OrderedDict[int, Prints] = OrderedDict()

    def prints(self, start_ms: int, end_ms: int) -> Prints:
        """Return what was traded in [start, end)."""
        end_ms = min(end_ms, self._end)
        first, last = start_ms // self.bar_ms, -(-end_ms // self.bar_ms)
        parts = [self._bar(number) for number in range(first, max(last, first))]
        if not parts:
            return _NONE
        joined = Prints(*(np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS))
        return joined.where((joined.at >= start_ms) & (joined.at < end_ms))

    def bars(self, timeframe: str, first_open_ms: int, n: int, now_ms: int) -> BarFrame:
        """Return bars that open from ``first_open_ms`` on, the last one as far as it is by now.

        Fewer than n where the market ends: nothing of what comes after ``now_ms`` is in them.
        """
        step = timeframe_ms(timeframe)
        first = -(-first_open_ms // step) * step
        n = max(min(n, (now_ms - first) // step + 1), 0)
        if step % self.bar_ms:
            return self._from_prints(timeframe, first, n, now_ms)
        over = min(n, max((now_ms - first) // step, 0))  # the market's own bars, once they are over
        growing = self._from_prints(timeframe, first + over * step, n - over, now_ms)
        if not over:
            return growing
        done = self._from_bars(timeframe, first, over)
        return BarFrame.join(done.symbol, timeframe, [done, growing])

    def last(self, now_ms: int) -> tuple[int, float]:
        """Return when and at which price was traded last before or at ``now_ms``."""
        at = now_ms // STEP_MS * STEP_MS
        found = self._bar(at // self.bar_ms)
        place = (at % self.bar_ms) // STEP_MS
        return at, float(found.price[place])

    def numbers(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Return the first and the last number in [start, end)."""
        return -(-start_ms // STEP_MS), (end_ms - 1) // STEP_MS

    def when(self, number: int) -> int:
        """Return the instant of a number, ms."""
        return number * STEP_MS

    def back(self, n: int, until_ms: int) -> int:
        """Return from when on there are n prints up to an instant, ms."""
        return max(until_ms + 1 - n * STEP_MS, self.start_ms)

    def forth(self, n: int, start_ms: int) -> int:
        """Return before when there are n prints from an instant on, ms."""
        return start_ms + n * STEP_MS

    def _from_bars(self, timeframe: str, first: int, n: int) -> BarFrame:
        per = timeframe_ms(timeframe) // self.bar_ms
        return resample(self.world.bars(first, n * per), timeframe)

    def _bar(self, number: int) -> Prints:
        if number not in self._kept:
            self._kept[number] = self._made(number)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[number]

    def _made(self, number: int) -> Prints:
        opened, n = number * self.bar_ms, self.per_bar
        bar = self.world.bars(opened, 1).bar(0)
        rng = np.random.default_rng([self.seed, self._pair, number])
        inner = sorted(rng.choice(np.arange(1, n - 1), 2, replace=False).tolist())
        # by lot: an order that told where the bar will close could be traded on
        turns = (bar.low, bar.high) if rng.random() < 0.5 else (bar.high, bar.low)
        places, fixed = [0, *inner, n - 1], [bar.open, *turns, bar.close]
        noise = rng.normal(0.0, 0.15 * (bar.high - bar.low) / np.sqrt(n), n)
        path = np.interp(np.arange(n), places, fixed) + noise
        price = np.round(np.round(path / self.tick) * self.tick, 10)
        price = np.clip(price, bar.low, bar.high)
        price[places] = fixed
        qty = _parts(bar.volume, rng.exponential(1.0, n), self.step)
        moved = np.diff(price, prepend=price[0])
        sold = np.where(moved == 0.0, rng.random(n) < 0.5, moved < 0.0)
        at = opened + STEP_MS * np.arange(n, dtype=np.int64)
        return Prints(at // STEP_MS, at, price, qty, sold)


def _parts(volume: float, share: Floats, step: float) -> Floats:
    """Divide a volume (base units) by shares (n,), in whole steps but for the last part.

    Less than a step for each is divided as it is.
    """
    n = len(share)
    spare = np.floor(volume / step) - n if step else -1.0
    if spare < 0:
        return np.asarray(volume * share / share.sum())
    up_to = np.floor(spare * np.cumsum(share) / share.sum())
    parts: Floats = np.round((1.0 + np.diff(up_to, prepend=0.0)) * step, 10)
    last = volume - parts[:-1].sum()
    whole = np.round(np.round(last / step) * step, 10)
    parts[-1] = whole if abs(last - whole) < 1e-9 * step + 1e-13 * volume else last
    return parts


_COLUMNS = ("number", "at", "price", "qty", "sold")
_NONE = Prints(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, bool)
)
