"""What came in of a live market, as a report: volatility, how timeframes go together, gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.timeframes import Timeframes
from domain.market import BarFrame
from domain.times import DAY_MS, iso

Floats = NDArray[np.float64]
_LEAST = 3  # pairs of returns below which no correlation is told


def returns(bars: BarFrame) -> tuple[NDArray[np.int64], Floats]:
    """Return (closes in UTC ms, log returns), both (n,), of bars that follow on the one before."""
    follows = np.diff(bars.ts) == bars.step_ms
    moves = np.diff(np.log(bars.close))
    return bars.ts[1:][follows] + bars.step_ms, moves[follows]


def volatility(bars: BarFrame) -> float | None:
    """Return the volatility of a day, fraction: std (ddof 1) of log returns × √(bars a day).

    Returns across gaps are left out; None below two returns.
    """
    _, moves = returns(bars)
    if len(moves) < 2:
        return None
    return float(np.std(moves, ddof=1)) * math.sqrt(DAY_MS / bars.step_ms)


def correlations(
    frames: Mapping[str, BarFrame],
) -> tuple[list[list[float | None]], list[list[int]]]:
    """Return Pearson's correlation of each pair of timeframes, (k, k), and its number of pairs.

    Returns of different length have no common index. Each pair is therefore looked at where the
    longer of the two closes: the log return of the longer bar, and that of the last shorter bar in
    it, which closes at the same instant; every instant counts at which both are known. So the last
    3 minutes of an hour are held against the hour, not an average of them: for returns that are
    independent the figure is √(shorter / longer), 0.22 for 3m and 1h, and more of it is momentum
    within the longer bar. As each pair has instants of its own, the matrix need not be positive
    semi-definite. None where fewer than three pairs are there, or a return never changes.
    """
    known = [(*returns(frame), frame.step_ms) for frame in frames.values()]
    matrix: list[list[float | None]] = []
    counts: list[list[int]] = []
    for one, moves, _ in known:
        row: list[float | None] = []
        counts.append([])
        for other, others, _ in known:
            # closes of the longer bars are closes of the shorter ones
            _, left, right = np.intersect1d(one, other, assume_unique=True, return_indices=True)
            row.append(_pearson(moves[left], others[right]))
            counts[-1].append(len(left))
        matrix.append(row)
    return matrix, counts


def described(kept: Timeframes) -> dict[str, Any]:
    """Return what is known of one symbol's bars, JSON's types."""
    frames = {name: one.frame for name, one in kept.kept.items()}
    matrix, counts = correlations(frames)
    return {
        "symbol": kept.symbol,
        "timeframes": [
            {
                "timeframe": name, "bars": len(one.frame), "whole": one.whole, "gaps": one.gaps,
                "invalid": one.invalid, "compared": one.compared, "different": one.different,
                "first_different": None if one.first is None else iso(one.first),
                "start": iso(int(one.frame.ts[0])) if len(one.frame) else None,
                "end": iso(one.close_ms) if len(one.frame) else None,
                "volatility_day": volatility(one.frame),
            }
            for name, one in kept.kept.items()
        ],
        "correlation": {"timeframes": list(frames), "pearson": matrix, "n": counts},
    }  # fmt: skip


def _pearson(left: Floats, right: Floats) -> float | None:
    if len(left) < _LEAST:
        return None
    left, right = left - left.mean(), right - right.mean()
    size = math.sqrt(float(left @ left) * float(right @ right))
    return float(np.clip(float(left @ right) / size, -1.0, 1.0)) if size > 0.0 else None
