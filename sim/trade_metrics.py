"""What closed trades earned, in money and net of every cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from domain.market import Floats
from domain.times import HOUR_MS
from domain.trading import ClosedTrade


def pnl_of(trades: Sequence[ClosedTrade]) -> Floats:
    """Return the profit of each trade, (n,) quote units, net of every cost."""
    return np.array([float(trade.pnl) for trade in trades], dtype=np.float64)


def notional_of(trades: Sequence[ClosedTrade]) -> Floats:
    """Return the size of each trade at its entry price, (n,) quote units."""
    return np.array([float(trade.qty * trade.entry) for trade in trades], dtype=np.float64)


def profit_factor(pnl: Floats) -> Floats:
    """Return Σ profits / Σ losses along the last axis; NaN without a loss."""
    won, lost = np.maximum(pnl, 0.0).sum(-1), -np.minimum(pnl, 0.0).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(lost > 0, won / lost, np.nan))


def kelly(pnl: Floats) -> float | None:
    """Return f* = p − (1 − p) / b, b = mean win / mean loss; None unless both happened."""
    won, lost = pnl[pnl > 0], pnl[pnl < 0]
    if not len(won) or not len(lost):
        return None
    p, b = len(won) / len(pnl), float(won.mean() / -lost.mean())
    return p - (1.0 - p) / b


def sqn(pnl: Floats) -> float | None:
    """Return √n · mean / std (ddof 1), the system quality number; None without variation."""
    if len(pnl) < 2 or not (deviation := float(pnl.std(ddof=1))) > 0.0:
        return None
    return float(np.sqrt(len(pnl)) * pnl.mean() / deviation)


def trade_metrics(trades: Sequence[ClosedTrade]) -> dict[str, float | None]:
    """Return best, worst and average trade in percent of its size, durations, SQN and Kelly."""
    names = ("best_trade_pct", "worst_trade_pct", "avg_trade_pct", "max_trade_hours",
             "avg_trade_hours", "sqn", "kelly")  # fmt: skip
    if not trades:
        return dict.fromkeys(names)
    pnl = pnl_of(trades)
    share = 100.0 * pnl / notional_of(trades)
    hours = np.array([t.closed_at - t.opened_at for t in trades], dtype=np.float64) / HOUR_MS
    values = (share.max(), share.min(), share.mean(), hours.max(), hours.mean())
    return dict(
        zip(names, (*(float(value) for value in values), sqn(pnl), kelly(pnl)), strict=True)
    )


def grouped(
    trades: Sequence[ClosedTrade], label: Callable[[ClosedTrade], str]
) -> list[dict[str, Any]]:
    """Return the trades of each label summed up, the most frequent first.

    Each row has ``name``, ``trades``, ``win_rate``, ``pnl``, ``expectancy``, ``costs`` (fees,
    spread, slippage and funding) in quote units, and ``avg_hours``.
    """
    groups: dict[str, list[ClosedTrade]] = {}
    for trade in trades:
        groups.setdefault(label(trade), []).append(trade)
    rows = [_summed(name, members) for name, members in groups.items()]
    return sorted(rows, key=lambda row: (-row["trades"], row["name"]))


def _summed(name: str, trades: Sequence[ClosedTrade]) -> dict[str, Any]:
    pnl = pnl_of(trades)
    return {
        "name": name,
        "trades": len(trades),
        "win_rate": float((pnl > 0).mean()),
        "pnl": float(pnl.sum()),
        "expectancy": float(pnl.mean()),
        "costs": float(sum(t.fee + t.spread + t.slippage + t.funding for t in trades)),
        "avg_hours": sum(t.closed_at - t.opened_at for t in trades) / len(trades) / HOUR_MS,
    }
