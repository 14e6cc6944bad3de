"""How far the published probabilities can be taken at their word, from decisions and outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np

from domain.scores import brier
from domain.times import timeframe_ms
from sim.statistics.calibration import OverlapDraws, reliability
from storage.queries import Reader

MOST = 8_640  # newest scored decisions that are looked at: 30 days of 5-minute bars
LEAST = 100  # below which ten bins say nothing
_DRAWS, _SEED = 100, 7


def calibration_of(
    reader: Reader, symbol: str, timeframe: str, horizon_bars: int
) -> dict[str, Any]:
    """Return n, Brier score, skill and the reliability diagram of the newest scored decisions.

    ``bins`` is empty, and ``why`` says so, with fewer than 100 of them.
    """
    rows = reader.scored(symbol, timeframe, horizon_bars, limit=MOST)
    body: dict[str, Any] = {"symbol": symbol, "timeframe": timeframe, "n": len(rows), "bins": []}
    if len(rows) < LEAST:
        return {**body, "why": f"{len(rows)} scored decisions, {LEAST} are needed",
                "brier": None, "skill_1e4": None}  # fmt: skip
    at, p, moved = (np.array(column) for column in zip(*rows, strict=True))
    up = (moved > 0.0).astype(np.float64)
    places = (at - at[0]) // timeframe_ms(timeframe)
    draws = OverlapDraws.of(int(places[-1]) + 1, horizon_bars, _DRAWS, _SEED).at(places)
    score = float(brier(p, up).mean())
    bins = [[b.forecast, b.observed, b.band_lo, b.band_hi, b.n] for b in reliability(p, up, draws)]
    return {**body, "why": None, "brier": score, "skill_1e4": (0.25 - score) * 1e4, "bins": bins}
