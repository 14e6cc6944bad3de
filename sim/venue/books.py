"""Order books around a price: invented, stable from moment to moment, the same when asked again.

Which prices carry an order is a hash of the price, how much a hash of the price and of the time,
which for every price moves on at another moment. So a book that is looked at twice differs in a few
levels, as a real one does, and its changes can be told as a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.uint64]
Ticks = NDArray[np.int64]
Floats = NDArray[np.float64]
Levels = list[tuple[float, float]]  # (price, quantity), best first

LEVELS = 1_000  # a side, at most
_LASTS = 24  # updates until a level's quantity is drawn anew
_BLOCK = 256  # orders that are looked for at once, on average
_KEPT_BLOCKS, _KEPT_RUNS = 4_096, 256  # 2 KB and 8 KB each
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """What books of a symbol are like.

    Attributes
    ----------
    tick, step : of price and quantity, quote and base units.
    gap : ticks between two orders, on average.
    half : of the least spread, ticks.
    worth : median worth of a level, quote units.
    key : of all draws.
    """

    tick: float
    step: float
    gap: int
    half: float
    worth: float
    key: int


def side(shape: Shape, price: float, update: int, n: int, sign: int) -> Levels:
    """Return n levels of one side, best first: (price, quantity).

    Parameters
    ----------
    price : around which they lie. ``update`` : number of the moment.
    sign : −1 for bids, +1 for asks.
    """
    levels = _levels(shape, price, n, sign)
    return _told(shape, levels, _quantities(shape, levels, update))


def changes(
    shape: Shape, before: tuple[float, int], now: tuple[float, int], n: int, sign: int
) -> Levels:
    """Return what turns :func:`side` of one moment into that of another.

    Parameters
    ----------
    before, now : (price, update) of the moments.

    Returns
    -------
    Levels that are gone, with quantity 0; after them those that are new or other than before.
    """
    old, new = (_levels(shape, price, n, sign) for price, _ in (before, now))
    gone, stays = old[~_among(old, new)], _among(new, old)
    shifts = _shifts(shape, new)
    drawn = (_epochs(shifts, before[1]) != _epochs(shifts, now[1])) | ~stays
    levels, stays = new[drawn], stays[drawn]
    quantities = _quantities(shape, levels, now[1])
    told = ~stays | (quantities != _quantities(shape, levels, before[1]))
    return _told(shape, gone, np.zeros(len(gone))) + _told(shape, levels[told], quantities[told])


def _told(shape: Shape, levels: Ticks, quantities: Floats) -> Levels:
    prices = np.round(levels * shape.tick, 10)
    return list(zip(prices.tolist(), quantities.tolist(), strict=True))


@lru_cache(_KEPT_RUNS)
def _levels(shape: Shape, price: float, n: int, sign: int) -> Ticks:
    """Return the first n ticks with an order from a price on, outwards, (n,)."""
    ticks = price / shape.tick + sign * shape.half
    best = int(np.floor(ticks) if sign < 0 else np.ceil(ticks))
    block = best // (_BLOCK * shape.gap)
    found: list[Ticks] = []
    have = 0
    while have < n and block >= 0:
        levels = _block(shape, block)[::sign]
        if not found:
            levels = levels[levels * sign >= best * sign]
        found.append(levels)
        have, block = have + len(levels), block + sign
    return np.concatenate(found)[:n] if found else np.empty(0, np.int64)


def _among(levels: Ticks, others: Ticks) -> NDArray[np.bool_]:
    """Return which levels are in another run; a run leaves out no order between its ends."""
    if not len(others):
        return np.zeros(len(levels), bool)
    low, high = sorted((others[0], others[-1]))
    return np.asarray((levels >= low) & (levels <= high))


@lru_cache(_KEPT_BLOCKS)
def _block(shape: Shape, number: int) -> Ticks:
    """Return the ticks with an order in a stretch of prices: they hold for ever."""
    n = _BLOCK * shape.gap
    window = np.arange(max(number * n, 1), (number + 1) * n, dtype=np.int64)
    carries = _mixed(window.astype(np.uint64), shape.key) % np.uint64(shape.gap) == 0
    return np.asarray(window[carries])


def _shifts(shape: Shape, levels: Ticks) -> Ints:
    return np.asarray(_mixed(levels.astype(np.uint64), shape.key ^ 1) % np.uint64(_LASTS))


def _epochs(shifts: Ints, update: int) -> Ints:
    return np.asarray((np.uint64(update) + shifts) // np.uint64(_LASTS))


def _quantities(shape: Shape, levels: Ticks, update: int) -> Floats:
    own, epoch = levels.astype(np.uint64), _epochs(_shifts(shape, levels), update)
    one = _unit(_mixed(own ^ (epoch << np.uint64(40)), shape.key ^ 2))
    other = _unit(_mixed(own ^ (epoch << np.uint64(40)), shape.key ^ 3))
    normal = np.sqrt(-2.0 * np.log(one)) * np.cos(2.0 * np.pi * other)  # Box and Muller
    prices = np.maximum(levels * shape.tick, shape.tick)
    lots = np.maximum(np.round(shape.worth * np.exp(0.6 * normal) / prices / shape.step), 1.0)
    return np.asarray(np.round(lots * shape.step, 10))


def _unit(bits: Ints) -> Floats:
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mixed(values: Ints, key: int) -> Ints:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014) of values and a key."""
    with np.errstate(over="ignore"):
        z = values + np.uint64((key * _GOLDEN + _GOLDEN) & _MASK)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        return np.asarray(z ^ (z >> np.uint64(31)))
