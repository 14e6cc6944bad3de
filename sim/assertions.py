"""What must hold of a ledger: numbers in, a verdict out.

Each assertion compares one value with one limit. What cannot be measured is not passed and not
failed, and says why. The intervals of shares are Wilson's; two shares are compared by Newcombe's
hybrid of them (Newcombe, *Interval estimation for the difference between independent proportions*,
1998, method 10).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from domain.market import Floats
from domain.trading import Fill
from sim.drift import TARGET, Coverage
from sim.metrics import MIN_DAYS, sharpe

ASSERTION = "assertion"  # kind of risk event and of proposal
TRAILING = 50  # trades whose win rate is compared with that of all before
_LEAST_FILLS = 20

Rule = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One assertion at one moment.

    Attributes
    ----------
    value, limit : in ``unit``; None where they were not measured.
    n : observations behind the value.
    passed : None where it was not measured; ``why`` then says why, else it tells the finding.
    evidence : the figures that the value is made of, JSON's types.
    """

    name: str
    value: float | None
    limit: float | None
    n: int
    passed: bool | None
    unit: str
    why: str
    rule: Rule = "at most"
    evidence: Mapping[str, Any] = field(default_factory=dict)


def not_measured(name: str, unit: str, why: str, n: int = 0) -> Verdict:
    """Return the verdict on what cannot be measured."""
    return Verdict(name, None, None, n, None, unit, why)


def sharpe_gap(paper: Floats, backtest: Floats, limit: float) -> Verdict:
    """Compare the Sharpe ratios of paper and backtest over the same days.

    Parameters
    ----------
    paper, backtest : (n,) simple returns of the same UTC days.
    """
    name, unit, n = "sharpe_gap", "Sharpe", len(paper)
    if len(backtest) != n:
        return not_measured(name, unit, f"{n} days of paper, {len(backtest)} of backtest", n)
    if n < MIN_DAYS:
        return not_measured(name, unit, f"{n} of {MIN_DAYS} whole days", n)
    ours, theirs = float(sharpe(paper)), float(sharpe(backtest))
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return not_measured(name, unit, "the equity never moved", n)
    gap = abs(theirs - ours)
    return Verdict(
        name, gap, limit, n, gap <= limit, unit,
        f"Sharpe {ours:.2f} on paper, {theirs:.2f} in the backtest of the same {n} days",
        evidence={"paper": ours, "backtest": theirs},
    )  # fmt: skip


def slippage_gap(fills: Iterable[Fill], modelled_bps: float, limit: float) -> Verdict:
    """Compare what takers paid in spread and slippage with the model, by notional.

    Parameters
    ----------
    modelled_bps : half the spread and the slippage of a side, basis points. Impact is not in it.
    limit : of the excess, basis points.
    """
    name, unit = "slippage_gap", "bp a side"
    taken = [fill for fill in fills if not fill.maker and fill.intent != "liquidation"]
    if len(taken) < _LEAST_FILLS:
        why = f"{len(taken)} of {_LEAST_FILLS} fills at the market"
        return not_measured(name, unit, why, len(taken))
    paid = sum(float(fill.spread + fill.slippage) for fill in taken)
    notional = sum(float(fill.reference * fill.qty) for fill in taken)
    realised = 1e4 * paid / notional
    gap = realised - modelled_bps
    return Verdict(
        name, gap, limit, len(taken), gap <= limit, unit,
        f"{realised:.2f} bp a side paid in spread and slippage, {modelled_bps:.2f} modelled",
        evidence={"realised_bps": realised, "modelled_bps": modelled_bps, "notional": notional},
    )  # fmt: skip


def wilson(hits: int, n: int, error: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share; ``error`` is the chance that it misses."""
    from scipy.stats import norm

    z = float(norm.ppf(1 - error / 2))
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def win_rate_drift(pnl: Sequence[float], error: float) -> Verdict:
    """Compare the win rate of the last 50 trades with that of all before.

    Parameters
    ----------
    pnl : of closed trades in closing order, quote units.
    error : chance of a false alarm. The limit is how far the shares may lie apart (Newcombe).
    """
    name, unit, n = "win_rate_drift", "fraction", len(pnl)
    if n < 2 * TRAILING:
        return not_measured(name, unit, f"{n} of {2 * TRAILING} closed trades", n)
    won = [value > 0 for value in pnl]
    late, early = won[-TRAILING:], won[:-TRAILING]
    p, q = sum(late) / TRAILING, sum(early) / len(early)
    (p_lo, p_hi), (q_lo, q_hi) = (
        wilson(sum(late), TRAILING, error), wilson(sum(early), len(early), error)
    )  # fmt: skip
    falls = math.hypot(p_hi - p, q - q_lo)  # apart by more than this, 0 is outside the interval
    rises = math.hypot(p - p_lo, q_hi - q)
    gap, limit = abs(p - q), falls if p < q else rises
    return Verdict(
        name, gap, limit, n, gap <= limit, unit,
        f"{p:.0%} of the last {TRAILING} trades won, {q:.0%} of the {len(early)} before",
        evidence={"last": p, "last_interval": [p_lo, p_hi], "before": q,
                  "before_interval": [q_lo, q_hi], "error": error},
    )  # fmt: skip


def reconciliation(apart: Mapping[str, Any], unbalanced: Mapping[str, str], n: int) -> Verdict:
    """Demand that broker and ledger agree, and that the books sum to zero.

    Parameters
    ----------
    apart : what broker and ledger last disagreed about; empty when they agree.
    unbalanced : asset → sum of all its postings, where that is not zero.
    n : sums looked at.
    """
    found = len(apart) + len(unbalanced)
    told = [f"broker and ledger differ about {name}" for name in sorted(apart)]
    told += [f"the books of {asset} sum to {total}" for asset, total in sorted(unbalanced.items())]
    return Verdict(
        "reconciliation", float(found), 0.0, n, found == 0, "differences",
        "; ".join(told) or "broker and ledger agree, and the books sum to zero",
        evidence={"apart": dict(apart), "unbalanced": dict(unbalanced)},
    )  # fmt: skip


def coverage_80(found: Mapping[str, Coverage], n: int) -> Verdict:
    """Demand that p10–p90 covers 80 % of the outcomes; the worst symbol counts.

    Parameters
    ----------
    found : by symbol, of :func:`sim.drift.coverage`; empty where there are too few days.
    n : days looked at.
    """
    name, unit = "coverage_80", "fraction"
    if not found:
        return not_measured(name, unit, "fewer than 20 days with intervals and outcomes", n)
    symbol = max(found, key=lambda one: abs(found[one].value - TARGET) - found[one].threshold)
    worst = found[symbol]
    gap = abs(worst.value - TARGET)
    return Verdict(
        name, gap, worst.threshold, n, gap <= worst.threshold, unit,
        f"p10–p90 of {symbol} covered {worst.value:.1%} of the outcomes",
        evidence={one: {"coverage": c.value, "se": c.se, "threshold": c.threshold}
                  for one, c in sorted(found.items())},
    )  # fmt: skip


def data_age(ages_ms: Mapping[str, int], step_ms: int, limit: int) -> Verdict:
    """Demand that the newest bar of every symbol is young.

    Parameters
    ----------
    ages_ms : symbol → time since its newest bar closed. ``step_ms`` : length of a bar.
    limit : bars.
    """
    name, unit = "data_age", "bars"
    if not ages_ms:
        return not_measured(name, unit, "no bar has come yet")
    symbol = max(ages_ms, key=lambda one: ages_ms[one])
    age = max(0.0, ages_ms[symbol] / step_ms)
    return Verdict(
        name, age, float(limit), len(ages_ms), age <= limit, unit,
        f"the newest bar of {symbol} closed {age:.1f} bars ago",
        evidence={one: ms / step_ms for one, ms in sorted(ages_ms.items())},
    )  # fmt: skip


def adherence(reflected: Sequence[bool], least: float) -> Verdict:
    """Demand that people write about their trades.

    Parameters
    ----------
    reflected : for every trade that is old enough to count, whether a person wrote about it.
    """
    name, unit, n = "adherence", "fraction", len(reflected)
    if not n:
        return not_measured(name, unit, "no closed trade is old enough to count")
    share = sum(reflected) / n
    return Verdict(
        name, share, least, n, share >= least, unit,
        f"{sum(reflected)} of {n} trades have a person’s reflection", "at least",
        {"reflected": sum(reflected), "trades": n},
    )  # fmt: skip


def drawdown(equity: Floats, high_water: Floats, limit: float) -> Verdict:
    """Demand that equity stays near its high-water mark.

    Parameters
    ----------
    equity, high_water : (n,) marks in time order, quote units.
    """
    name, unit, n = "drawdown", "fraction", len(equity)
    if not n:
        return not_measured(name, unit, "no mark of the equity yet")
    falls = 1.0 - equity / high_water
    deepest = int(np.argmax(falls))
    value = max(0.0, float(falls[deepest]))
    return Verdict(
        name, value, limit, n, value <= limit, unit,
        f"equity was {value:.2%} below its high-water mark at the deepest",
        evidence={"equity": float(equity[deepest]), "high_water": float(high_water[deepest]),
                  "now": max(0.0, float(falls[-1]))},
    )  # fmt: skip
