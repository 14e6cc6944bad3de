"""The numeric targets of the requirement documents, each beside what a run measured.

A target is met by its measured value alone, and only from the number of observations on that its
document, or the convention of its metric, asks for. What a backtest cannot measure is listed too,
with what does.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from domain.market import Floats
from domain.trading import ClosedTrade
from sim.metrics import MIN_DAYS, Metric, Run
from sim.trade_metrics import pnl_of

CORE, PIPELINE, ROADMAP = (
    "chronos-bolt-core.md", "forecasting-pipeline-k3s-telegram.md", "trading-skill-roadmap.md"
)  # fmt: skip
Sign = Literal[">", "≥", "≤"]
_HOLDS = {">": operator.gt, "≥": operator.ge, "≤": operator.le}
_ROUNDING = 1e-9  # a money amount that was a float once


@dataclass(frozen=True, slots=True)
class Value:
    """What was measured of one metric, from n observations."""

    value: Metric
    n: int


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes
    ----------
    metric : what is compared, a key of ``metrics`` or of :func:`extremes`.
    needs : observations below which nothing is claimed.
    of : what the observations are.
    form : of value and threshold.
    how : what is compared, where the metric's own convention does not say it.
    """

    told: str
    source: str
    metric: str
    sign: Sign
    threshold: float
    needs: int
    of: str
    form: str = ".2f"
    how: str = ""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A target that no backtest can measure, and what does."""

    told: str
    source: str
    metric: str
    threshold: float
    by: str


MEASURED: tuple[Target, ...] = (
    Target("Sharpe ratio above 1.0 (252 days)", CORE, "sharpe_252", ">", 1.0, MIN_DAYS, "days",
           how="annualised by √252, as the document asks; crypto trades on 365 days"),
    Target("Sharpe ratio of 1.5, the aim (252 days)", CORE, "sharpe_252", "≥", 1.5, MIN_DAYS,
           "days"),
    Target("Win rate above 60 %", CORE, "win_rate", ">", 0.60, 50, "trades", ".1%"),
    Target("Win rate of 65 %, the aim", CORE, "win_rate", "≥", 0.65, 50, "trades", ".1%"),
    Target("Drawdown at most 8 %, the total stop", CORE, "max_drawdown", "≤", 0.08, 1, "bars",
           ".2%", "a gap may carry equity past the stop"),
    Target("At most 1.5 % of equity lost in a trade", CORE, "worst_loss", "≤", 0.015, 1, "trades",
           ".2%", "largest realised loss over the equity before its entry"),
    Target("Orders of at least 10 USD", CORE, "smallest_order", "≥", 10.0, 1, "trades", ",.2f",
           "size at the close it was decided on"),
    Target("Orders of at most 1,000 USD", CORE, "largest_order", "≤", 1000.0, 1, "trades", ",.2f",
           "size at the close it was decided on"),
    Target("Spread of at most 10 bp at entry", CORE, "entry_spread_bps", "≤", 10.0, 1, "fills",
           ".2f", "the modelled spread, as bars have no book"),
    Target("At least 10 simulated orders filled", CORE, "orders_filled", "≥", 10.0, 1, "orders",
           ",.0f"),
    Target("Trade only at a probability of 0.60 for the side", PIPELINE, "weakest_prob", "≥", 0.60,
           1, "LONG or SHORT with a probability", ".3f", "the weakest of them"),
    Target("Trade only for an expected return of 0.2 %", PIPELINE, "weakest_return", "≥", 0.002, 1,
           "LONG or SHORT with an expected return", ".2%", "the weakest of them"),
    Target("Trade only at a risk score of at most 0.30", PIPELINE, "largest_risk", "≤", 0.30, 1,
           "LONG or SHORT with a risk score", ".3f", "the largest of them"),
)  # fmt: skip

ELSEWHERE: tuple[Elsewhere, ...] = (
    Elsewhere("Top five levels hold at least 50,000 USD", CORE, "liquidity", 50_000.0,
              "the risk check of a desk with an order book; a file of bars has none"),
    Elsewhere("At most 0.5 % at risk in recovery", CORE, "recovery_risk", 0.005,
              "the margin recorded with each decision: conclave why"),
    Elsewhere("24 hours without intervention", CORE, "hours_alone", 24.0,
              "a day of the running system"),
    Elsewhere("Down for less than 1 % of the time", CORE, "downtime", 0.01,
              "a day of the running system"),
    Elsewhere("Less than 4 GB of memory at the peak", CORE, "memory_gb", 4.0,
              "a day of the running system"),
    Elsewhere("Less than 70 % of the CPU on average", CORE, "cpu", 0.70,
              "a day of the running system"),
    Elsewhere("Less than 100 MB an hour over the network", CORE, "network_mb_hour", 100.0,
              "a day of the running system"),
    Elsewhere("Less than 500 ms from signal to order", CORE, "signal_to_order_ms", 500.0,
              "the running system, from a signal's stamp to its order's"),
    Elsewhere("Less than 100 ms for a decision on average", CORE, "decision_ms", 100.0,
              "make bench"),
    Elsewhere("More than 1,000 signals an hour", CORE, "signals_hour", 1000.0, "make bench"),
    Elsewhere("Reconnected within 30 s", CORE, "reconnect_s", 30.0,
              "a desk whose network is cut"),
    Elsewhere("Recovered within 60 s", CORE, "recovery_s", 60.0,
              "killing the running system (make test)"),
    Elsewhere("Seven days on paper, reconciled, a reflection for each trade", ROADMAP,
              "paper_days", 7.0, "the paper ledger and its journal"),
)  # fmt: skip


def success(
    metrics: Mapping[str, Metric],
    n: Mapping[str, int],
    found: Mapping[str, Value],
    intervals: Mapping[str, list[float | None]],
) -> list[dict[str, Any]]:
    """Return the ``success`` block of ``backtest --json``.

    Each row has ``target``, ``source``, ``metric``, ``threshold``, ``value``, ``n``,
    ``n_required``, ``met`` (None where nothing can be claimed) and ``why``.

    Parameters
    ----------
    metrics, n : of the run, with the observations behind each metric.
    found : of :func:`extremes` and of the decisions.
    intervals : 95 % intervals of metrics.
    """
    idle = not found["orders_filled"].n
    rows = []
    for target in MEASURED:
        key = target.metric
        seen = found[key] if key in found else Value(metrics[key], n[key])
        # an account that never traded keeps every limit, and that says nothing
        row = _row(target, Value(None, 0) if idle else seen, intervals.get(key))
        rows.append({**row, "why": "not measured: nothing was traded"} if idle else row)
    return [*rows, *(_elsewhere(target) for target in ELSEWHERE)]


def _row(target: Target, seen: Value, interval: list[float | None] | None) -> dict[str, Any]:
    met = None
    if seen.value is not None and seen.n >= target.needs:
        slack = _ROUNDING * (1 if target.sign == "≥" else -1 if target.sign == "≤" else 0)
        met = bool(_HOLDS[target.sign](seen.value + slack, target.threshold))
    return {
        "target": target.told, "source": target.source, "metric": target.metric,
        "threshold": target.threshold, "value": seen.value, "n": seen.n,
        "n_required": target.needs, "met": met, "why": _why(target, seen, met, interval),
    }  # fmt: skip


def _why(target: Target, seen: Value, met: bool | None, interval: list[float | None] | None) -> str:
    if met is None:
        if seen.n < target.needs:
            many = f"{seen.n:,} {target.of}, and {target.needs:,} are needed"
            return f"not claimed: {many}" if seen.n else f"not measured: no {target.of}"
        return "not measured: the run gives no such number"
    assert seen.value is not None
    says = f"{_write(target, seen.value)} {'is' if met else 'is not'} {target.sign} "
    says += f"{_write(target, target.threshold)}, {seen.n:,} {target.of}"
    if interval is not None and None not in interval:
        low, high = (_write(target, end) for end in interval if end is not None)
        says += f"; 95 % interval {low} to {high}"
        says += _luck(target, met, interval)
    return f"{says}; {target.how}" if target.how else says


def _luck(target: Target, met: bool, interval: list[float | None]) -> str:
    low, high = interval
    assert low is not None
    assert high is not None
    if not low <= target.threshold <= high:
        return ""
    return ", so it may be luck" if met else ", so it may be bad luck"


def _write(target: Target, value: float) -> str:
    return format(value, target.form).replace("%", " %").replace("-", "−")


def _elsewhere(target: Elsewhere) -> dict[str, Any]:
    return {
        "target": target.told, "source": target.source, "metric": target.metric,
        "threshold": target.threshold, "value": None, "n": 0, "n_required": None, "met": None,
        "why": f"no backtest can tell; measured by {target.by}",
    }  # fmt: skip


def extremes(run: Run) -> dict[str, Value]:
    """Return the largest loss and the sizes of trades, the widest entry spread, orders filled."""
    trades = run.trades
    sizes = _decided_sizes(run)
    entries = [fill for fill in run.fills if fill.intent == "entry"]
    spreads = [2e4 * float(f.spread / (f.reference * f.qty)) for f in entries]
    orders = len({fill.order_id for fill in run.fills})
    lost = -pnl_of(trades) / _equity_before(run, trades) if trades else np.empty(0)
    return {
        "worst_loss": Value(max(0.0, float(lost.max())) if trades else None, len(trades)),
        "smallest_order": Value(float(sizes.min()) if len(sizes) else None, len(sizes)),
        "largest_order": Value(float(sizes.max()) if len(sizes) else None, len(sizes)),
        "entry_spread_bps": Value(max(spreads) if spreads else None, len(spreads)),
        "orders_filled": Value(orders, orders),
    }


def _before(run: Run, at: int) -> int:
    """The bar whose close was the last before an instant; −1 for none."""
    return int(np.searchsorted(run.at, at, side="right")) - 1


def _equity_before(run: Run, trades: Any) -> Floats:
    rows = [_before(run, trade.opened_at) for trade in trades]
    return np.array([run.equity[row] if row >= 0 else run.initial for row in rows])


def _decided_sizes(run: Run) -> Floats:
    def size(trade: ClosedTrade) -> float:
        row = _before(run, trade.opened_at)
        return float(trade.qty) * float(run.price[row] if row >= 0 else trade.entry)

    return np.array([size(trade) for trade in run.trades], dtype=np.float64)
