"""The curves and tables behind a tear sheet, as JSON that stays small however long the run is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.market import Floats
from domain.times import DAY_MS, iso
from domain.trading import ClosedTrade
from sim.breakdowns import breakdown
from sim.decided import Decided
from sim.metrics import MIN_DAYS, Run, daily_returns, day_ends, sharpe, underwater
from sim.trade_metrics import grouped, pnl_of

WINDOWS = (30, 90)  # days of a rolling Sharpe ratio
MARKED = 15  # of the best, and of the worst trades
ZOOMED = 16  # trades in a row that are drawn one by one
_BUCKETS = 220
_BARS_OF_HISTOGRAM = 31
Rows = NDArray[np.int64]


def curves(run: Run, decided: Decided) -> dict[str, Any]:
    """Return what the tear sheet draws; series are thinned so that their extremes stay.

    Series are mappings of equally long lists; ``day`` is in days since 1970, UTC.
    """
    return {
        "initial": run.initial,
        "equity": _equity(run),
        "underwater": _underwater(run),
        "months": breakdown(run, "month"),
        "daily": _distribution(daily_returns(run)),
        "rolling": {str(days): rolling_sharpe(run, days) for days in WINDOWS},
        **_trades(run),
        "by_side": grouped(run.trades, lambda trade: trade.side),
        "by_exit": grouped(run.trades, lambda trade: trade.reason),
        "calibration": decided.calibration(),
    }


def thin(values: Floats, buckets: int = _BUCKETS) -> Rows:
    """Return at most 2·buckets + 2 positions that keep the ends and each bucket's extremes."""
    n = len(values)
    if n <= 2 * buckets:
        return np.arange(n)
    edges = np.linspace(0, n, buckets + 1).astype(np.int64)
    kept = [0, n - 1]
    for a, b in pairwise(edges):
        kept += [a + int(values[a:b].argmin()), a + int(values[a:b].argmax())]
    return np.unique(kept)


def _days(at: NDArray[np.int64]) -> list[float]:
    return [round(float(t) / DAY_MS, 5) for t in at]


def _figures(values: Floats, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


def _equity(run: Run) -> dict[str, Any]:
    rows = thin(run.equity)
    held = run.initial * run.price / run.price[0]
    return {"day": _days(run.at[rows]), "equity": _figures(run.equity[rows], 2),
            "hold": _figures(held[rows], 2)}  # fmt: skip


def _underwater(run: Run) -> dict[str, Any]:
    fall = underwater(np.concatenate(([run.initial], run.equity)))[1:]
    rows = thin(fall)
    return {"day": _days(run.at[rows]), "fall": _figures(fall[rows], 6)}


def _distribution(daily: Floats) -> dict[str, Any] | None:
    """Counts of daily returns, their mean, deviation and 5 % and 95 % quantiles."""
    if len(daily) < 2 or not float(np.ptp(daily)) > 0.0:
        return None
    low, high = np.quantile(daily, [0.05, 0.95])
    bins = int(np.clip(round(2 * len(daily) ** 0.5), 5, _BARS_OF_HISTOGRAM))
    counts, edges = np.histogram(daily, bins=bins)
    centred = (daily - daily.mean()) / daily.std()
    return {
        "n": len(daily), "counts": counts.tolist(), "edges": _figures(edges, 8),
        "mean": float(daily.mean()), "std": float(daily.std(ddof=1)),
        "q05": float(low), "q95": float(high),
        "skew": float((centred**3).mean()), "kurtosis": float((centred**4).mean()),
        "best": float(daily.max()), "worst": float(daily.min()),
    }  # fmt: skip


def rolling_sharpe(run: Run, days: int) -> dict[str, Any] | None:
    """Return the Sharpe ratio of the last ``days`` UTC days at the end of each day.

    None for fewer days than that; days on which nothing moved in the window are left out.
    """
    daily = daily_returns(run)
    if len(daily) < max(days, MIN_DAYS):
        return None
    values = sharpe(np.lib.stride_tricks.sliding_window_view(daily, days))
    at = run.at[day_ends(run)[days - 1 :]]
    known = np.isfinite(values)
    if not known.any():
        return None
    values, at = values[known], at[known]
    rows = thin(values)
    return {"day": _days(at[rows]), "sharpe": _figures(values[rows], 3)}


def _trades(run: Run) -> dict[str, Any]:
    """The price, the best and the worst trades on it, and the last ones each by itself."""
    rows = thin(run.price)
    order = np.argsort(pnl_of(run.trades), kind="stable")
    best = [run.trades[k] for k in reversed(order[-MARKED:])]
    worst = [run.trades[k] for k in order[: min(MARKED, max(0, len(order) - MARKED))]]
    return {
        "price": {"day": _days(run.at[rows]), "price": _figures(run.price[rows], 8)},
        "best": [trade_row(trade) for trade in best],
        "worst": [trade_row(trade) for trade in worst],
        "zoom": _zoom(run),
    }


def _zoom(run: Run) -> dict[str, Any] | None:
    last = sorted(run.trades, key=lambda trade: trade.opened_at)[-ZOOMED:]
    if not last:
        return None
    opened, closed = last[0].opened_at, max(trade.closed_at for trade in last)
    room = (closed - opened) // 20
    inside = np.flatnonzero((run.at >= opened - room) & (run.at <= closed + room))
    if len(inside) < 2:
        return None
    rows = inside[thin(run.price[inside])]
    return {
        "price": {"day": _days(run.at[rows]), "price": _figures(run.price[rows], 8)},
        "trades": [trade_row(trade) for trade in last],
    }


def trade_row(trade: ClosedTrade) -> dict[str, Any]:
    """Return a closed trade as a row: prices and money in quote units, return in percent."""
    size = float(trade.qty * trade.entry)
    return {
        "side": trade.side, "opened_at": iso(trade.opened_at), "closed_at": iso(trade.closed_at),
        "qty": float(trade.qty), "entry": float(trade.entry), "exit": float(trade.exit),
        "pnl": float(trade.pnl), "return_pct": 100.0 * float(trade.pnl) / size,
        "costs": float(trade.fee + trade.spread + trade.slippage + trade.funding),
        "reason": trade.reason,
    }  # fmt: skip
