"""Is the best of the table the best, or was it chosen among many: overfitting of the choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domain import scores as proper
from domain.times import DAY_MS
from sim.pools import BEST_AGENT
from sim.scoring import Floats, Forecasts, Mask, Truth, directional
from sim.statistics.overfitting import pbo

BLOCKS = 16
BINS = 20  # of the logits, as many below 0 as above
_MIN_DAYS = 4 * BLOCKS  # four days a block, or the ranks of a block mean nothing


def choice(everybody: Mapping[str, Forecasts], truth: Truth, valid: Mask) -> dict[str, Any]:
    """Say whether the best direction of the table was picked by luck.

    The probability that the best in one half of the days ranks below the median in the other:
    combinatorially symmetric cross-validation on the daily Brier gains of the candidates, over
    the rows on which each of them spoke (:func:`sim.statistics.overfitting.pbo`).

    Candidates are those who say which way the price goes (:func:`sim.scoring.directional`). A
    constant, a base rate and the sign of a range that is only scaled rank alike in both halves
    and would make the choice among the others look safe. A second forecaster with the same p is no
    further candidate, nor is the best agent, who is chosen afterwards.

    Returns
    -------
    ``pbo`` in [0, 1] and ``logits``, None with fewer than two candidates or 64 days;
    ``candidates``; ``blocks``. ``logits`` is a histogram of the logit of the winner's rank out of
    sample: ``counts`` (20) between ``edges`` (21), the middle one 0.
    """
    candidates = _candidates(everybody, valid)
    told: dict[str, Any] = {
        "pbo": None, "candidates": list(candidates), "blocks": BLOCKS, "logits": None,
    }  # fmt: skip
    if len(candidates) < 2:
        return told
    rows = np.logical_and.reduce([np.isfinite(p) for p in candidates.values()])
    days, which = np.unique(truth.ts[rows] // DAY_MS, return_inverse=True)
    if len(days) < _MIN_DAYS:
        return told
    gains = [0.25 - proper.brier(p[rows], truth.up[rows]) for p in candidates.values()]
    size = np.bincount(which)
    daily = np.column_stack([np.bincount(which, weights=gain) / size for gain in gains])
    found = pbo(daily, BLOCKS)
    return {
        **told, "pbo": found.probability, "loss": found.loss, "days": len(days),
        "logits": _histogram(found.logits),
    }  # fmt: skip


def _candidates(everybody: Mapping[str, Forecasts], valid: Mask) -> dict[str, Floats]:
    """Name → p (n,), NaN where it did not speak or cannot be scored."""
    out: dict[str, Floats] = {}
    for name, columns in everybody.items():
        p = np.where(valid & columns.awake, columns.p_up, np.nan)
        again = any(np.array_equal(p, other, equal_nan=True) for other in out.values())
        if name != BEST_AGENT and not again and directional(p):
            out[name] = p
    return out


def _histogram(logits: Floats) -> dict[str, list[float]]:
    edge = 1.001 * max(1.0, float(np.abs(logits).max()))
    half = BINS // 2
    edges = edge * np.arange(-half, half + 1) / half  # 0 is one of them, whatever is rounded
    counts, _ = np.histogram(logits, edges)
    return {"counts": counts.tolist(), "edges": edges.tolist()}
