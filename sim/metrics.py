"""What a run earned, with the conventions stated beside each number.

Mark-to-market equity, resampled to UTC days (a mark at 00:00 closes the day before; days without
one keep the last): Sharpe = mean / std (ddof 1) · √365; Sortino divides by the full-sample
downside deviation at target 0; Calmar = CAGR / maximum drawdown. Drawdown is over every bar's
mark. Profit factor, win rate and expectancy are on closed trades, in money, net of every cost.
Exposure is the share of time with a position, turnover the notional traded over mean equity.
Nothing annualised is given for less than 30 days. Intervals: circular block bootstrap, 95 %. The
deflated Sharpe ratio is a confidence in [0, 1]; only who knows the trial log can give it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from domain.market import Floats
from domain.times import DAY_MS
from domain.trading import ClosedTrade, Fill, Position
from sim.statistics import overfitting

MIN_DAYS = 30
YEAR_DAYS = 365.0
_RESAMPLES = 1_000
_CHUNK = 100

Period = Literal["day", "week", "month"]
Metric = float | int | None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What is measured.

    Attributes
    ----------
    start : open of the first bar, ms.
    at : (n,) int64, ms, increasing: closes of the bars.
    equity : (n,) quote units, marked to market at ``at``.
    initial : opening capital, quote units.
    first_price, last_price : closes of the first and the last bar, for buy and hold.
    """

    start: int
    at: NDArray[np.int64]
    equity: Floats
    initial: float
    fills: Sequence[Fill]
    trades: Sequence[ClosedTrade]
    still_open: Sequence[Position]
    first_price: float
    last_price: float

    @property
    def years(self) -> float:
        """Length in years of 365 days."""
        return float(self.at[-1] - self.start) / (YEAR_DAYS * DAY_MS)


def daily_returns(run: Run) -> Floats:
    """Return the simple return of each UTC day, (n_days,)."""
    day = (run.at - 1) // DAY_MS
    days = np.arange(day[0], day[-1] + 1)
    last = np.searchsorted(day, days, side="right") - 1
    closes = np.concatenate(([run.initial], run.equity[last]))
    return np.asarray(closes[1:] / closes[:-1] - 1.0)


def max_drawdown(equity: Floats) -> float:
    """Return the largest fall from a running maximum, as a fraction in [0, 1]."""
    peak = np.maximum.accumulate(equity)
    return float(np.max(1.0 - equity / peak))


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


def profit_factor(pnl: Floats) -> Floats:
    """Return Σ profits / Σ losses along the last axis; NaN without a loss."""
    won, lost = np.maximum(pnl, 0.0).sum(-1), -np.minimum(pnl, 0.0).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(lost > 0, won / lost, np.nan))


def exposure(run: Run) -> float:
    """Return the share of the run's time with a position."""
    end = int(run.at[-1])
    held = sum(trade.closed_at - trade.opened_at for trade in run.trades)
    held += sum(end - position.opened_at for position in run.still_open)
    return held / (end - run.start)


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


def measure(run: Run) -> dict[str, Metric]:
    """Return the metrics of ``backtest --json``; None where a number would mean nothing.

    ``deflated_sharpe`` stays None: see :func:`deflated_sharpe`.
    """
    daily = daily_returns(run)
    pnl = _pnl(run)
    final = float(run.equity[-1])
    drawdown = max_drawdown(np.concatenate(([run.initial], run.equity)))
    traded = sum(float(fill.price * fill.qty) for fill in run.fills)
    long_enough = len(daily) >= MIN_DAYS
    cagr = _growth(final / run.initial, run.years) if long_enough else None
    known: dict[str, Metric] = {
        "equity_final": final,
        "return_pct": 100.0 * (final / run.initial - 1.0),
        "cagr": cagr,
        "volatility": float(daily.std(ddof=1) * np.sqrt(YEAR_DAYS)) if long_enough else None,
        "sharpe": float(sharpe(daily)) if long_enough else None,
        "sortino": float(sortino(daily)) if long_enough else None,
        "calmar": cagr / drawdown if cagr is not None and drawdown > 0 else None,
        "max_drawdown": drawdown,
        "profit_factor": float(profit_factor(pnl)) if len(pnl) else None,
        "win_rate": float((pnl > 0).mean()) if len(pnl) else None,
        "expectancy": float(pnl.mean()) if len(pnl) else None,
        "exposure": exposure(run),
        "turnover": traded / float(run.equity.mean()),
        "trades": len(run.trades),
        "buy_hold_return_pct": 100.0 * (run.last_price / run.first_price - 1.0),
        "deflated_sharpe": None,
    }
    return {name: _finite(value) for name, value in known.items()}


def _pnl(run: Run) -> Floats:
    return np.array([float(trade.pnl) for trade in run.trades], dtype=np.float64)


def _growth(ratio: float, years: float) -> float | None:
    return ratio ** (1.0 / years) - 1.0 if ratio > 0 else -1.0


def _finite(value: Metric) -> Metric:
    return value if value is None or np.isfinite(value) else None


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
        "sortino": sortino,
    }
    by_trade: dict[str, Callable[[Floats], Floats]] = {
        "win_rate": lambda s: (s > 0).mean(-1),
        "expectancy": lambda s: s.mean(-1),
        "profit_factor": profit_factor,
    }
    found = _bootstrap(daily, by_day, rng)
    if len(run.trades) > 1:
        found |= _bootstrap(_pnl(run), by_trade, rng)
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


def breakdown(run: Run, period: Period) -> list[dict[str, str | float]]:
    """Return equity and return (percent) of each UTC day, ISO week or month."""
    labels = [_label(int(at) - 1, period) for at in run.at]
    rows: list[dict[str, str | float]] = []
    before = run.initial
    for i, label in enumerate(labels):
        if i + 1 == len(labels) or labels[i + 1] != label:
            equity = float(run.equity[i])
            rows.append(
                {"period": label, "equity": equity, "return_pct": 100.0 * (equity / before - 1.0)}
            )
            before = equity
    return rows


def _label(at: int, period: Period) -> str:
    moment = datetime.fromtimestamp(at // 1000, tz=UTC)
    return moment.strftime({"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}[period])
