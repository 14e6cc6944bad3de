"""A run by day, week or month."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from domain.trading import ClosedTrade
from sim.metrics import Run
from sim.trade_metrics import grouped

Period = Literal["day", "week", "month"]


def breakdown(run: Run, period: Period) -> list[dict[str, Any]]:
    """Return each UTC day, ISO week or month: equity, return (percent) and trades closed in it.

    ``pnl`` is that of the closed trades, quote units; ``win_rate`` is None where none closed.
    """
    labels = [_label(int(at) - 1, period) for at in run.at]
    closed = {row["name"]: row for row in grouped(run.trades, lambda t: _closed_in(t, period))}
    rows: list[dict[str, Any]] = []
    before = run.initial
    for i, label in enumerate(labels):
        if i + 1 == len(labels) or labels[i + 1] != label:
            equity, row = float(run.equity[i]), closed.get(label, {})
            rows.append({
                "period": label, "equity": equity,
                "return_pct": 100.0 * (equity / before - 1.0), "trades": row.get("trades", 0),
                "win_rate": row.get("win_rate"), "pnl": row.get("pnl", 0.0),
            })  # fmt: skip
            before = equity
    return rows


def _closed_in(trade: ClosedTrade, period: Period) -> str:
    return _label(trade.closed_at - 1, period)


def _label(at: int, period: Period) -> str:
    moment = datetime.fromtimestamp(at // 1000, tz=UTC)
    return moment.strftime({"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}[period])
