"""Is the best of the table the best, or was it chosen among many: overfitting of the choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domain import scores as proper
from domain.times import DAY_MS
from sim.pools import BEST_AGENT
from sim.scoring import Forecasts, Mask, Truth
from sim.statistics.overfitting import pbo

BLOCKS = 16
_MIN_DAYS = 4 * BLOCKS  # four days a block, or the ranks of a block mean nothing
_APART = ("half", BEST_AGENT)  # no choice: one never varies, one is chosen afterwards


def choice(everybody: Mapping[str, Forecasts], truth: Truth, valid: Mask) -> dict[str, Any]:
    """Return the probability that whoever has the best Brier score was picked by luck.

    Combinatorially symmetric cross-validation on the daily Brier gains of all forecasters, over
    the rows on which each of them spoke (:func:`sim.statistics.overfitting.pbo`).

    Returns
    -------
    ``pbo`` in [0, 1], None with fewer than two forecasters or 64 days; ``candidates``; ``blocks``.
    """
    spoke = {
        name: valid & columns.awake & np.isfinite(columns.p_up)
        for name, columns in everybody.items()
        if name not in _APART
    }
    spoke = {name: rows for name, rows in spoke.items() if rows.any()}
    rows = np.logical_and.reduce(list(spoke.values())) if spoke else np.zeros(0, np.bool_)
    told: dict[str, Any] = {"pbo": None, "candidates": list(spoke), "blocks": BLOCKS}
    if len(spoke) < 2 or not rows.any():
        return told
    days, which = np.unique(truth.ts[rows] // DAY_MS, return_inverse=True)
    if len(days) < _MIN_DAYS:
        return told
    gains = [0.25 - proper.brier(everybody[name].p_up[rows], truth.up[rows]) for name in spoke]
    size = np.bincount(which)
    daily = np.column_stack([np.bincount(which, weights=gain) / size for gain in gains])
    found = pbo(daily, BLOCKS)
    return {**told, "pbo": found.probability, "loss": found.loss, "days": len(days)}
