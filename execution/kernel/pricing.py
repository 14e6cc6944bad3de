"""Prices of :mod:`execution.fills` and levels of :mod:`execution.margin`, compiled."""

from __future__ import annotations

import math

import numpy as np

from data.jit import jit
from execution.fills import BEYOND
from execution.kernel.state import Floats, Rules

_A, _B, _C = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_11, _27, _30, _31 = (np.uint64(x) for x in (11, 27, 30, 31))
UP_TO, RATE, DEDUCTED = range(3)  # rows of the tiers
_NEAR, _UNIT = 5e-7, 2.0**-53


@jit
def mixed(bits: np.uint64) -> np.uint64:
    """Return SplitMix64's output (:func:`execution.draws.mixed`)."""
    z = bits + _A
    z = (z ^ (z >> _30)) * _B
    z = (z ^ (z >> _27)) * _C
    return z ^ (z >> _31)


@jit
def uniform(seeded: np.uint64, as_of: int, index: int) -> float:
    """Return :func:`execution.draws.uniform`; ``seeded`` is mixed(seed) ^ key."""
    bits = mixed(seeded) ^ np.uint64(as_of)
    bits = mixed(bits) ^ np.uint64(index)
    return (np.float64(mixed(bits) >> _11) + 0.5) * _UNIT


@jit
def on_tick(ticks: float, side: float) -> float:
    """Round against ``side``; what is within half a millionth of a tick of one is there."""
    near = math.floor(ticks + 0.5)
    if abs(ticks - near) <= _NEAR:
        return near
    return math.ceil(ticks) if side > 0 else math.floor(ticks)


@jit
def impact(rules: Rules, lots: float, reach: float, volume: float) -> float:
    """Return how far a market order moves the price, fraction."""
    if rules.impact == 0.0 or volume <= 0.0:
        return 0.0
    return rules.impact * reach * math.sqrt(min(lots * rules.step / volume, BEYOND))


@jit
def most(rules: Rules, lots: float, volume: float) -> float:
    """Return how many lots of an order a bar can fill."""
    if rules.participation == math.inf:
        return lots
    return min(lots, math.floor(rules.participation * volume / rules.step + _NEAR))


@jit
def taken_at(rules: Rules, side: float, reference: float, moved: float) -> float:
    """Return the taker's price in ticks around a reference in ticks; ``moved`` is the impact."""
    worse = rules.half_spread + rules.slippage + moved
    return max(on_tick(reference * (1.0 + side * worse), side), 1.0)


@jit
def liquidation_level(rules: Rules, tiers: Floats, lots: float, entry: float) -> float:
    """Return where a position is liquidated, in ticks nearer to its entry; NaN for nowhere.

    Parameters
    ----------
    lots : signed. ``entry`` : average price, quote units.
    """
    n = tiers.shape[1]
    if n == 0:
        return math.nan
    qty = lots * rules.step
    size = abs(qty)
    wallet = size * entry / rules.leverage
    price = 0.0
    for k in range(n):
        price = (wallet + tiers[DEDUCTED, k] - qty * entry) / (size * tiers[RATE, k] - qty)
        if size * price <= tiers[UP_TO, k]:
            break
    return math.nan if price <= 1e-12 * entry else on_tick(price / rules.tick, lots)


@jit
def maintenance(tiers: Floats, notional: float) -> float:
    """Return the margin below which a position of this notional is liquidated, quote units."""
    k = 0
    while k < tiers.shape[1] - 1 and notional > tiers[UP_TO, k]:
        k += 1
    return float(notional * tiers[RATE, k] - tiers[DEDUCTED, k])
