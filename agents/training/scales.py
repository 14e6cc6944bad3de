"""Measure how wide other symbols' intervals must be (:mod:`agents.scales`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from agents.scales import pair_of
from agents.training.dataset import Dataset, Floats, build_dataset
from agents.volatility import LOOKBACK
from domain.market import BarFrame
from domain.quantiles import CANONICAL_LEVELS
from domain.times import DAY_MS

_DAYS = 365  # a symbol's last bars of as many: how markets compare changes over the years
_LOW, _HIGH = (CANONICAL_LEVELS.index(level) for level in (0.1, 0.9))


def scales_of(
    bars: Sequence[BarFrame],
    end_ms: int,
    horizon_bars: int,
    residuals: Floats,
    sigma: Callable[[Dataset], Floats],
    *,
    features: bool,
) -> dict[str, float]:
    """Return the factor on σ̂ of each symbol: its p10–p90 of y/σ̂ over the training symbol's.

    Parameters
    ----------
    bars : the training symbol's first, whose factor is 1.
    residuals : (13,) quantiles of y/σ̂ that all symbols share.
    sigma : σ̂ of every bar of a dataset, (n,). ``features`` : whether it reads them.

    Raises
    ------
    DataRefused : if a symbol has not enough valid rows.
    """
    made = {pair_of(bars[0].symbol): 1.0}
    for one in bars[1:]:
        seen, year = one.between(None, end_ms), _DAYS * DAY_MS // one.step_ms
        wide = seen.slice(max(0, len(seen) - year - 2 * LOOKBACK), len(seen))  # for whole windows
        data = build_dataset(wide, end_ms, horizon_bars, features=features)
        rows = data.known_by(int(seen.ts[-min(year, len(seen))]), end_ms)
        unit = data.labels.y[rows] / sigma(data)[rows]
        low, high = np.quantile(unit, [CANONICAL_LEVELS[at] for at in (_LOW, _HIGH)])
        made[pair_of(one.symbol)] = float((high - low) / (residuals[_HIGH] - residuals[_LOW]))
    return made
