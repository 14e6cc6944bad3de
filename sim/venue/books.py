"""Order books around a price: invented, stable from moment to moment, the same when asked again.

Which prices carry an order is a hash of the price, how much a hash of the price and of the time,
which for every price moves on at another moment. So a book that is looked at twice differs in a few
levels, as a real one does, and its changes can be told as a stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.uint64]
Floats = NDArray[np.float64]

LEVELS = 1_000  # a side, at most
_LASTS = 24  # updates until a level's quantity is drawn anew
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


def side(shape: Shape, price: float, update: int, n: int, sign: int) -> list[tuple[float, float]]:
    """Return n levels of one side, best first: (price, quantity).

    Parameters
    ----------
    price : around which they lie. ``update`` : number of the moment.
    sign : −1 for bids, +1 for asks.
    """
    ticks = price / shape.tick + sign * shape.half
    best = int(np.floor(ticks) if sign < 0 else np.ceil(ticks))
    found: list[NDArray[np.int64]] = []
    have, first, reach = 0, 0, max(4 * shape.gap, 2 * n * shape.gap)
    while have < n:
        window = best + sign * np.arange(first, first + reach, dtype=np.int64)
        window = window[window > 0]
        if not len(window):
            break
        kept = window[_mixed(window.astype(np.uint64), shape.key) % np.uint64(shape.gap) == 0]
        found.append(kept)
        have, first = have + len(kept), first + reach
    levels = np.concatenate(found)[:n] if found else np.empty(0, np.int64)
    prices = np.round(levels * shape.tick, 10)
    return list(zip(prices.tolist(), _quantities(shape, levels, update).tolist(), strict=True))


def _quantities(shape: Shape, levels: NDArray[np.int64], update: int) -> Floats:
    own = levels.astype(np.uint64)
    shift = _mixed(own, shape.key ^ 1) % np.uint64(_LASTS)
    epoch = (np.uint64(update) + shift) // np.uint64(_LASTS)
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
