"""Bernstein aggregation of all sixteen numbers (:mod:`consensus.boa`), compiled."""

from __future__ import annotations

import math

import numpy as np

from consensus.boa import TINY
from consensus.conformal import LEVELS
from consensus.kernel.state import FIRST, QUANTILES, Flags, Floats
from consensus.rounds import DOWN, UP, WIDTH, P
from data.jit import jit


@jit
def rate(variance: float, reach: float, breadth: float) -> float:
    """Return η of one expert on one problem."""
    return min(0.5 / max(reach, TINY), math.sqrt(breadth / max(variance, TINY)))


@jit
def aggregate(rows: Floats, awake: Flags, boa: Floats, breadth: float, into: Floats) -> None:
    """Write the pool of every column, NaN where nobody speaks."""
    for c in range(WIDTH):
        into[c] = column(rows[:, c], awake, boa[:, :, c], breadth)


@jit
def column(said: Floats, awake: Flags, boa: Floats, breadth: float) -> float:
    """Return the pool of one number, of those (K,) that are awake and say it."""
    speakers, known, top, low, high = 0, 0, -np.inf, np.inf, -np.inf
    for k in range(len(said)):
        if awake[k] and not math.isnan(said[k]):
            speakers += 1
            low, high = min(low, said[k]), max(high, said[k])
            if boa[2, k] > 0.0:
                known += 1
                top = max(top, rate(boa[1, k], boa[2, k], breadth) * boa[0, k])
    if speakers == 0:
        return math.nan
    mass, scored, unscored = 0.0, 0.0, 0.0
    for k in range(len(said)):
        if awake[k] and not math.isnan(said[k]):
            if boa[2, k] > 0.0:
                raw = math.exp(rate(boa[1, k], boa[2, k], breadth) * boa[0, k] - top)
                mass += raw
                scored += raw * said[k]
            else:
                unscored += said[k]
    total = unscored / speakers + scored * (known / speakers / max(mass, TINY))
    return min(max(total, low), high)


@jit
def learn(
    rows: Floats, pooled: Floats, happened: tuple[float, float, float, float], sigma: float,
    boa: Floats, keep: float, breadth: float,
) -> None:  # fmt: skip
    """Fold one outcome; ``happened`` is y, the log return, and whether it fell and rose too far."""
    y, r, fell, rose = happened
    slope = np.empty(WIDTH)
    slope[P] = 2.0 * (pooled[P] - y)
    for i in range(QUANTILES):
        slope[FIRST + i] = ((1.0 if r <= pooled[FIRST + i] else 0.0) - LEVELS[i]) / sigma
    slope[DOWN], slope[UP] = 2.0 * (pooled[DOWN] - fell), 2.0 * (pooled[UP] - rose)
    for k in range(len(rows)):
        for c in range(WIDTH):
            saved = slope[c] * (pooled[c] - rows[k, c])
            if not math.isnan(saved):
                update(boa[:, k, c], saved, keep, breadth)


@jit
def update(state: Floats, saved: float, keep: float, breadth: float) -> None:
    """Move R, V, E of one expert on one problem."""
    variance = keep * state[1] + saved * saved
    reach = max(keep * state[2], abs(saved))
    scaled = rate(variance, reach, breadth) * saved
    late = reach if -2.0 * scaled > 1.0 else 0.0
    state[0] = keep * state[0] + 0.5 * (saved * (1.0 - scaled) + late)
    state[1], state[2] = variance, reach
