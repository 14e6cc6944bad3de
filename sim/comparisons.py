"""Is the council better than the others, by how much, and how sure is that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from domain import scores as proper
from domain.opinion import ADVERSE_MOVE
from domain.quantiles import REQUIRED_LEVELS
from sim.scoring import SCORED, Floats, Forecasts, Mask, Truth
from sim.statistics.comparing import block_bootstrap, diebold_mariano
from sim.statistics.sequential import (
    brier_bound,
    confidence_sequence,
    e_process,
    p_value,
    pinball_bound,
)

UNIT = 1e4
_MOST_EVIDENCE = 690.0
_LEVELS = np.array(REQUIRED_LEVELS)

Row = dict[str, Any]


def compare(
    name: str,
    mine: Forecasts,
    others: Mapping[str, Forecasts],
    truth: Truth,
    valid: Mask,
    horizon: int,
) -> list[Row]:
    """Compare one forecaster with others, score by score, each pair on the rows both forecast.

    Returns
    -------
    One row a pair and score (``brier``, ``pinball``, ``risk_brier``): ``difference`` is b minus a
    in 10⁻⁴ (bp for pinball), positive where ``a`` is better; ``se`` and ``dm_t`` after Newey and
    West, ``lo`` and ``hi`` of a one-day block bootstrap, ``e_value`` and ``p_any_time`` against
    "never better", ``cs_lo`` and ``cs_hi`` of the confidence sequence.
    """
    out = []
    for other, theirs in others.items():
        both = valid & mine.awake & theirs.awake
        for score, loss_a, loss_b, bound, scale in _losses(mine, theirs, truth, both):
            if np.array_equal(loss_a, loss_b):
                continue  # the same forecasts: nothing to compare
            row = _row(loss_a, loss_b, bound, scale, horizon)
            out.append({"a": name, "b": other, "score": score, **row})
    return out


def _losses(
    mine: Forecasts, theirs: Forecasts, truth: Truth, both: Mask
) -> Iterator[tuple[str, Floats, Floats, Floats, float]]:
    """Score, loss of a, loss of b, what bounds their difference, and its usual size."""
    rows = both & np.isfinite(mine.p_up) & np.isfinite(theirs.p_up)
    if rows.any():
        a, b, y = mine.p_up[rows], theirs.p_up[rows], truth.up[rows]
        yield "brier", proper.brier(a, y), proper.brier(b, y), brier_bound(a, b), 1.0
    rows = both & np.isfinite(mine.quantiles).all(1) & np.isfinite(theirs.quantiles).all(1)
    if rows.any():
        qa, qb = mine.quantiles[rows][:, SCORED], theirs.quantiles[rows][:, SCORED]
        r = truth.log_return[rows]
        losses = [proper.pinball(q, r[:, None], _LEVELS).mean(axis=1) for q in (qa, qb)]
        size = max(float(np.median(truth.volatility[rows])), 1e-9)
        yield "pinball", losses[0], losses[1], pinball_bound(qa, qb, REQUIRED_LEVELS), size
    rows = both & np.isfinite(mine.risk_down) & np.isfinite(theirs.risk_down)
    if rows.any():
        a, b, y = mine.risk_down[rows], theirs.risk_down[rows], truth.drop[rows] > ADVERSE_MOVE
        yield "risk_brier", proper.brier(a, y), proper.brier(b, y), brier_bound(a, b), 1.0


def _row(loss_a: Floats, loss_b: Floats, bound: Floats, scale: float, horizon: int) -> Row:
    gain = loss_b - loss_a
    tested = diebold_mariano(loss_a, loss_b)
    spread = block_bootstrap(gain)
    log_e = e_process(gain, bound, horizon, scale=scale)
    seen = confidence_sequence(gain, bound, horizon, scale=scale, points=1)
    return {
        "n": tested.n,
        "difference": tested.difference * UNIT,
        "se": None if tested.se is None else tested.se * UNIT,
        "dm_t": tested.t,
        "lo": None if spread is None else float(spread.lo) * UNIT,
        "hi": None if spread is None else float(spread.hi) * UNIT,
        "e_value": math.exp(min(float(log_e[-1]), _MOST_EVIDENCE)),
        "p_any_time": p_value(log_e),
        "cs_lo": float(seen.lo[-1]) * UNIT,
        "cs_hi": float(seen.hi[-1]) * UNIT,
    }
