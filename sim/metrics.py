"""What a run earned. The convention of each number stands in :mod:`sim.measures`.

Mark-to-market equity is resampled to UTC days: a mark at 00:00 closes the day before, days without
one keep the last. Nothing annualised is given for less than 30 days. The deflated Sharpe ratio is a
confidence in [0, 1]; only who knows the trial log can give it (:mod:`sim.intervals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.market import Floats
from domain.times import DAY_MS
from domain.trading import ClosedTrade, Fill, Position
from sim.trade_metrics import pnl_of, profit_factor, trade_metrics

MIN_DAYS = 30
YEAR_DAYS = 365.0
SESSION_DAYS = 252.0  # of a stock exchange's year; one requirement counts in them

Metric = float | int | None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What is measured.

    Attributes
    ----------
    start : open of the first bar, ms.
    at : (n,) int64, ms, increasing: closes of the bars.
    equity : (n,) quote units, marked to market at ``at``.
    price : (n,) closes of the traded market, quote units, for buy and hold.
    initial : opening capital, quote units.
    """

    start: int
    at: NDArray[np.int64]
    equity: Floats
    price: Floats
    initial: float
    fills: Sequence[Fill]
    trades: Sequence[ClosedTrade]
    still_open: Sequence[Position]

    @property
    def years(self) -> float:
        """Length in years of 365 days."""
        return float(self.at[-1] - self.start) / (YEAR_DAYS * DAY_MS)


def day_ends(run: Run) -> NDArray[np.int64]:
    """Return where in ``run.at`` each UTC day has its last mark, (n_days,)."""
    day = (run.at - 1) // DAY_MS
    days = np.arange(day[0], day[-1] + 1)
    return np.asarray(np.searchsorted(day, days, side="right") - 1)


def daily_equity(run: Run) -> Floats:
    """Return the opening capital, then the equity at the end of each UTC day, (n_days + 1,)."""
    return np.concatenate(([run.initial], run.equity[day_ends(run)]))


def daily_returns(run: Run) -> Floats:
    """Return the simple return of each UTC day, (n_days,)."""
    closes = daily_equity(run)
    return np.asarray(closes[1:] / closes[:-1] - 1.0)


def underwater(equity: Floats) -> Floats:
    """Return the fall from the running maximum, as fractions in [0, 1], (n,)."""
    return np.asarray(1.0 - equity / np.maximum.accumulate(equity))


def max_drawdown(equity: Floats) -> float:
    """Return the largest fall from a running maximum, as a fraction in [0, 1]."""
    return float(underwater(equity).max())


def drawdown_spells(equity: Floats) -> tuple[Floats, Floats]:
    """Return depth (fraction) and length (steps) of each spell below a peak, in order.

    A spell lasts from its peak to the first step that is not below it, or to the end.
    """
    fall = underwater(equity)
    below = np.concatenate(([False], fall > 0.0, [False]))
    edges = np.flatnonzero(np.diff(below.astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    depth = [float(fall[a:b].max()) for a, b in zip(starts, ends, strict=True)]
    # the peak is one step before the spell; one that never ended stops at the last step
    length = np.minimum(ends, len(equity) - 1) - (starts - 1)
    return np.array(depth, dtype=np.float64), length.astype(np.float64)


def sharpe(daily: Floats) -> Floats:
    """Return mean / std (ddof 1) · √365 along the last axis; NaN without variation."""
    return _ratio(daily.mean(-1), daily.std(-1, ddof=1))


def sortino(daily: Floats) -> Floats:
    """Return mean / downside deviation at 0 · √365 along the last axis; NaN without a loss."""
    return _ratio(daily.mean(-1), np.sqrt((np.minimum(daily, 0.0) ** 2).mean(-1)))


def _ratio(mean: Floats, deviation: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(deviation > 1e-15, mean / deviation, np.nan)
    return np.asarray(value * np.sqrt(YEAR_DAYS))


def exposure(run: Run) -> float:
    """Return the share of the run's time with a position."""
    end = int(run.at[-1])
    held = sum(trade.closed_at - trade.opened_at for trade in run.trades)
    held += sum(end - position.opened_at for position in run.still_open)
    return held / (end - run.start)


def measure(run: Run) -> dict[str, Metric]:
    """Return the metrics of ``backtest --json``; None where a number would mean nothing.

    ``deflated_sharpe`` stays None: see :func:`sim.intervals.deflated_sharpe`.
    """
    pnl = pnl_of(run.trades)
    final = float(run.equity[-1])
    traded = sum(float(fill.price * fill.qty) for fill in run.fills)
    known: dict[str, Metric] = {
        "duration_days": float(run.at[-1] - run.start) / DAY_MS,
        "equity_final": final,
        "equity_peak": max(run.initial, float(run.equity.max())),
        "return_pct": 100.0 * (final / run.initial - 1.0),
        "buy_hold_return_pct": 100.0 * float(run.price[-1] / run.price[0] - 1.0),
        **_risk(run, final),
        "exposure": exposure(run),
        "turnover": traded / float(run.equity.mean()),
        "trades": len(run.trades),
        "win_rate": float((pnl > 0).mean()) if len(pnl) else None,
        "profit_factor": float(profit_factor(pnl)) if len(pnl) else None,
        "expectancy": float(pnl.mean()) if len(pnl) else None,
        **trade_metrics(run.trades),
        "deflated_sharpe": None,
    }
    return {name: finite(value) for name, value in known.items()}


def _risk(run: Run, final: float) -> dict[str, Metric]:
    daily, marks = daily_returns(run), np.concatenate(([run.initial], run.equity))
    drawdown = max_drawdown(marks)
    depth, length = drawdown_spells(daily_equity(run))
    some = len(depth) > 0
    found: dict[str, Metric] = {
        "max_drawdown": drawdown,
        "avg_drawdown": float(depth.mean()) if some else 0.0,
        "max_drawdown_days": float(length.max()) if some else 0.0,
        "avg_drawdown_days": float(length.mean()) if some else 0.0,
        "drawdowns": len(depth),
    }
    names = ("cagr", "return_ann", "volatility", "sharpe", "sharpe_252", "sortino", "calmar")
    if len(daily) < MIN_DAYS:
        return {**dict.fromkeys(names), **found}
    cagr, ratio = _growth(final / run.initial, run.years), float(sharpe(daily))
    deviation = float(daily.std(ddof=1) * np.sqrt(YEAR_DAYS))
    mean = float(daily.mean()) * YEAR_DAYS
    stricter = ratio * float(np.sqrt(SESSION_DAYS / YEAR_DAYS))
    calmar = cagr / drawdown if drawdown > 0 else None
    values = (cagr, mean, deviation, ratio, stricter, float(sortino(daily)), calmar)
    return {**dict(zip(names, values, strict=True)), **found}


def _growth(ratio: float, years: float) -> float:
    return ratio ** (1.0 / years) - 1.0 if ratio > 0 else -1.0


def finite(value: Metric) -> Metric:
    """Return the number, None for NaN and infinity."""
    return value if value is None or np.isfinite(value) else None
