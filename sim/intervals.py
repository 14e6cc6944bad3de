"""How sure the metrics of a run are: block-bootstrap intervals, and the luck of many trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from domain.market import Floats
from sim.metrics import (
    MIN_DAYS,
    SESSION_DAYS,
    YEAR_DAYS,
    Run,
    daily_returns,
    sharpe,
    sortino,
)
from sim.statistics import overfitting
from sim.trade_metrics import pnl_of, profit_factor

_RESAMPLES = 1_000
_CHUNK = 100


def deflated_sharpe(run: Run, trials: int, sharpes: Sequence[float] = ()) -> float | None:
    """Return the confidence that skill is left once the luck of all trials is taken off.

    See :func:`sim.statistics.overfitting.deflated_sharpe` (Bailey & López de Prado 2014).

    Parameters
    ----------
    trials : how many were ever made, this run included.
    sharpes : those known of them, annualised by √365.

    Returns
    -------
    In [0, 1]; None for less than 30 days, or where the equity never moved.

    Raises
    ------
    UsageError : if there is no trial.
    """
    daily = daily_returns(run)
    if len(daily) < MIN_DAYS:
        return None
    per_day = [value / float(np.sqrt(YEAR_DAYS)) for value in sharpes]
    value = overfitting.deflated_sharpe(daily, trials, per_day)
    return value if np.isfinite(value) else None


def intervals(run: Run, rng: np.random.Generator) -> dict[str, list[float | None]]:
    """Return 95 % block-bootstrap intervals of the main metrics; empty for less than 30 days.

    Blocks have n^⅓ days (or trades), so that runs of good and bad days stay together.
    """
    daily = daily_returns(run)
    if len(daily) < MIN_DAYS:
        return {}
    years = run.years

    def grown(sample: Floats) -> Floats:
        return np.asarray(np.prod(1.0 + sample, axis=-1))

    by_day: dict[str, Callable[[Floats], Floats]] = {
        "return_pct": lambda s: 100.0 * (grown(s) - 1.0),
        "cagr": lambda s: np.maximum(grown(s), 0.0) ** (1.0 / years) - 1.0,
        "volatility": lambda s: s.std(-1, ddof=1) * np.sqrt(YEAR_DAYS),
        "sharpe": sharpe,
        "sharpe_252": lambda s: sharpe(s) * np.sqrt(SESSION_DAYS / YEAR_DAYS),
        "return_ann": lambda s: s.mean(-1) * YEAR_DAYS,
        "sortino": sortino,
    }
    by_trade: dict[str, Callable[[Floats], Floats]] = {
        "win_rate": lambda s: (s > 0).mean(-1),
        "expectancy": lambda s: s.mean(-1),
        "profit_factor": profit_factor,
    }
    found = _bootstrap(daily, by_day, rng)
    if len(run.trades) > 1:
        found |= _bootstrap(pnl_of(run.trades), by_trade, rng)
    return found


def _bootstrap(
    values: Floats, statistics: dict[str, Callable[[Floats], Floats]], rng: np.random.Generator
) -> dict[str, list[float | None]]:
    n = len(values)
    block = max(1, round(n ** (1 / 3)))
    count = -(-n // block)
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
    for _ in range(_RESAMPLES // _CHUNK):
        starts = rng.integers(0, n, size=(_CHUNK, count, 1))
        index = ((starts + np.arange(block)) % n).reshape(_CHUNK, -1)[:, :n]
        for name, statistic in statistics.items():
            drawn[name].append(statistic(values[index]))
    return {name: _middle(np.concatenate(parts)) for name, parts in drawn.items()}


def _middle(sample: Floats) -> list[float | None]:
    known = sample[np.isfinite(sample)]
    if len(known) < len(sample) // 2:
        return [None, None]
    low, high = np.quantile(known, [0.025, 0.975])
    return [float(low), float(high)]
