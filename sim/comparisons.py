"""Is the council better than the others, by how much, and how sure is that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain import scores as proper
from domain.opinion import ADVERSE_MOVE
from domain.quantiles import REQUIRED_LEVELS
from sim.scoring import (
    MOST_EVIDENCE,
    SCORED,
    UNIT,
    Floats,
    Forecasts,
    Mask,
    Truth,
    pinball_losses,
)
from sim.statistics.comparing import block_bars, block_bootstrap, diebold_mariano, hac_lag
from sim.statistics.sequential import (
    brier_bound,
    confidence_sequence,
    e_process,
    p_value,
    pinball_bound,
)

TYPICAL_SIGMA = 0.002  # log return over the horizon; fixed beforehand, whatever the bars
_LEAST_SIGMA = 1e-5  # of a row, a tenth of a bp: a price that stood still has none
_ROUNDING = 1e-15  # of a loss

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Losses of two forecasters on m rows, and what is known of them at each decision."""

    score: str
    a: Floats
    b: Floats
    bound: Floats  # (m,) ≥ |b − a|
    unit: Floats | float  # (m,) the size of a gain on that row; evidence is counted in it
    usual: float  # the same for all rows, fixed beforehand


def compare(
    name: str,
    mine: Forecasts,
    others: Mapping[str, Forecasts],
    truth: Truth,
    valid: Mask,
    horizon: int,
    *,
    step_ms: int = 300_000,
) -> list[Row]:
    """Compare one forecaster with others, score by score, each pair on the rows both forecast.

    Parameters
    ----------
    horizon, step_ms : bars that a label spans, and the length of a bar.

    Returns
    -------
    One row a pair and score (``brier``, ``pinball``, ``risk_brier``): ``difference`` is b minus a
    in 10⁻⁴ (bp for pinball), positive where ``a`` is better; ``se`` and ``dm_t`` after Newey and
    West (lag max(60, 2·H)), ``lo`` and ``hi`` of a block bootstrap (a day, or 2·H if longer),
    ``e_value`` and ``p_any_time`` against "never better", ``cs_lo`` and ``cs_hi`` of the
    confidence sequence. Evidence about pinball losses is counted in units of each row's own
    trailing volatility, known at its decision; their confidence sequence is that of the mean
    difference in bp, with stakes that suit a volatility of 20 bp.
    """
    out = []
    for other, theirs in others.items():
        both = valid & mine.awake & theirs.awake
        for pair in _pairs(mine, theirs, truth, both):
            if np.array_equal(pair.a, pair.b):
                continue  # the same forecasts: nothing to compare
            out.append({"a": name, "b": other, "score": pair.score, **_row(pair, horizon, step_ms)})
    return out


def _pairs(mine: Forecasts, theirs: Forecasts, truth: Truth, both: Mask) -> Iterator[_Pair]:
    rows = both & np.isfinite(mine.p_up) & np.isfinite(theirs.p_up)
    if rows.any():
        yield _brier("brier", mine.p_up[rows], theirs.p_up[rows], truth.up[rows])
    rows = both & np.isfinite(mine.quantiles).all(1) & np.isfinite(theirs.quantiles).all(1)
    if rows.any():
        yield _pinball(mine.quantiles[rows], theirs.quantiles[rows], truth, rows)
    rows = both & np.isfinite(mine.risk_down) & np.isfinite(theirs.risk_down)
    if rows.any():
        event = truth.drop[rows] > ADVERSE_MOVE
        yield _brier("risk_brier", mine.risk_down[rows], theirs.risk_down[rows], event)


def _brier(score: str, a: Floats, b: Floats, event: Mask) -> _Pair:
    losses = proper.brier(a, event), proper.brier(b, event)
    return _Pair(score, *losses, brier_bound(a, b), 1.0, 1.0)


def _pinball(a: Floats, b: Floats, truth: Truth, rows: Mask) -> _Pair:
    losses = [pinball_losses(q, truth.log_return[rows]) for q in (a, b)]
    sigma = truth.volatility[rows]
    sigma = np.where(np.isfinite(sigma), np.maximum(sigma, _LEAST_SIGMA), TYPICAL_SIGMA)
    # where forecasts agree, rounding is larger than the bound
    bound = pinball_bound(a[:, SCORED], b[:, SCORED], REQUIRED_LEVELS) + _ROUNDING
    return _Pair("pinball", losses[0], losses[1], bound, sigma, TYPICAL_SIGMA)


def _row(pair: _Pair, horizon: int, step_ms: int) -> Row:
    gain = pair.b - pair.a
    tested = diebold_mariano(pair.a, pair.b, hac_lag(horizon))
    spread = block_bootstrap(gain, block_bars(horizon, step_ms))
    log_e = e_process(gain / pair.unit, pair.bound / pair.unit, horizon)
    seen = confidence_sequence(gain, pair.bound, horizon, scale=pair.usual, points=1)
    return {
        "n": tested.n,
        "difference": tested.difference * UNIT,
        "se": None if tested.se is None else tested.se * UNIT,
        "dm_t": tested.t,
        "lo": None if spread is None else float(spread.lo) * UNIT,
        "hi": None if spread is None else float(spread.hi) * UNIT,
        "e_value": math.exp(min(float(log_e[-1]), MOST_EVIDENCE)),
        "p_any_time": p_value(log_e),
        "cs_lo": float(seen.lo[-1]) * UNIT,
        "cs_hi": float(seen.hi[-1]) * UNIT,
    }
