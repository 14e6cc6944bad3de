"""What backtest shows to people: tables, and a few plain words about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

_METRICS: tuple[tuple[str, str, str, str], ...] = (
    ("equity at the end", "equity_final", ",.2f", "USDT, open position marked to the last close"),
    ("return", "return_pct", "+.2f", "%"),
    ("buy and hold", "buy_hold_return_pct", "+.2f", "%, first to last close, no costs"),
    ("growth a year", "cagr", "+.2%", "compound, 365 days"),
    ("volatility", "volatility", ".2%", "daily returns × √365"),
    ("Sharpe", "sharpe", "+.2f", "daily, UTC, × √365, no interest"),
    ("deflated Sharpe", "deflated_sharpe", ".1%", "confidence that it is no luck"),
    ("Sortino", "sortino", "+.2f", "downside deviation below 0"),
    ("Calmar", "calmar", "+.2f", "growth a year / drawdown"),
    ("largest drawdown", "max_drawdown", ".2%", "from the highest mark, every bar"),
    ("closed trades", "trades", ",d", ""),
    ("won", "win_rate", ".1%", "after all costs"),
    ("profit factor", "profit_factor", ".2f", "won / lost money"),
    ("a trade brings", "expectancy", "+.3f", "USDT, after all costs"),
    ("time in the market", "exposure", ".1%", ""),
    ("turnover", "turnover", ",.1f", "traded / mean equity"),
)


def backtest_view(body: Mapping[str, Any], conventions: Mapping[str, str]) -> RenderableType:
    """Return a backtest's report for a terminal of 80 columns."""
    data = body["data"]
    head = (
        f"[bold]{body['strategy']}[/] (profile {body['profile']}) on {data['symbol']} "
        f"{data['timeframe']}, {data['start']} to {data['end']}: {data['bars']:,} bars in "
        f"{body['seconds']:.1f} s"
    )
    parts: list[RenderableType] = [head, "", _conventions(conventions), "", _metrics(body)]
    if body.get("breakdown"):
        parts += ["", _breakdown(body["breakdown"])]
    parts += [
        "",
        _paid(body["costs"]),
        _decided(body["decisions"]),
        *_why_no_trades(body, conventions),
    ]
    parts += _deflated_words(body["metrics"]["deflated_sharpe"])
    parts.append(
        "• A backtest promises nothing: it is one past, filled at modelled prices, and the best of "
        "many tries looks good by luck."
    )
    return Group(*parts)


def _deflated_words(confidence: float | None) -> list[str]:
    if confidence is None:
        return []
    return [
        f"• Deflated Sharpe: with {confidence:.1%} confidence the true Sharpe is above what the "
        "luckiest of so many worthless trials would show; below 95 % it may well be luck."
    ]


def _conventions(conventions: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, words in conventions.items():
        table.add_row(name, words, style="dim")
    return table


def _metrics(body: Mapping[str, Any]) -> Table:
    table = Table("", box=None, padding=(0, 1))
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("how it is measured")
    for title, key, form, how in _METRICS:
        interval = body["intervals"].get(key)
        table.add_row(title, _cell(body["metrics"][key], form), _between(interval, form), how)
    return table


def _between(interval: Sequence[float | None] | None, form: str) -> str:
    if interval is None or None in interval:
        return ""
    return " … ".join(_cell(bound, form) for bound in interval)


def _breakdown(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("period", box=None, padding=(0, 1))
    table.add_column("equity", justify="right")
    table.add_column("return %", justify="right")
    for row in rows:
        table.add_row(row["period"], f"{row['equity']:,.2f}", f"{row['return_pct']:+.2f}")
    return table


def _paid(costs: Mapping[str, float]) -> str:
    parts = ", ".join(f"{name} {amount:,.2f}" for name, amount in costs.items() if amount)
    return f"costs: {parts or 'none'} USDT (positive is paid)"


def _decided(decisions: Mapping[str, Any]) -> str:
    sides = ", ".join(f"{side} {decisions[side]:,}" for side in ("LONG", "SHORT", "NO_TRADE"))
    reasons = sorted(decisions["reasons"].items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{code} {n:,}" for code, n in reasons)
    return f"decisions: {sides}" + (f"\nreasons: {told}" if told else "")


def _why_no_trades(body: Mapping[str, Any], conventions: Mapping[str, str]) -> list[str]:
    if body["decisions"]["LONG"] or body["decisions"]["SHORT"]:
        return []
    if "in sample" in conventions:
        return [
            "• Not one trade, and no wonder: agents were silent about bars that their models were "
            "trained on. Trade later bars to learn anything."
        ]
    return [
        "• Not one trade, for the reasons above. On real bars NO_TRADE is nearly always the honest "
        "answer."
    ]


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
