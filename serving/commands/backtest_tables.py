"""What backtest shows to people: tables, and a few plain words about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from sim.measures import GROUPS, Measure


def backtest_view(body: Mapping[str, Any], conventions: Mapping[str, str]) -> RenderableType:
    """Return a backtest's report for a terminal of 80 columns."""
    data = body["data"]
    head = (
        f"[bold]{body['strategy']}[/] (profile {body['profile']}) on {data['symbol']} "
        f"{data['timeframe']}, {data['start']} to {data['end']}: {data['bars']:,} bars in "
        f"{body['seconds']:.1f} s"
    )
    parts: list[RenderableType] = [head, "", _conventions(conventions)]
    for title, group in GROUPS:
        parts += ["", f"[bold]{title}[/]", _metrics(body, group)]
    if body.get("breakdown"):
        parts += ["", _breakdown(body["breakdown"])]
    parts += ["", "[bold]Targets of the requirement documents[/]", _targets(body["success"]), ""]
    parts += [
        _paid(body["costs"]),
        _decided(body["decisions"]),
        *_against_chance(body["benchmarks"]["random_turnover"]),
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


def _metrics(body: Mapping[str, Any], group: Sequence[Measure]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column("name", no_wrap=True, min_width=21)
    table.add_column("value", justify="right", no_wrap=True, min_width=14)
    table.add_column("how")
    for one in group:
        interval, n = body["intervals"].get(one.key), body["n"][one.key]
        told = [one.how, *_between(interval, one), f"n {n:,} {one.counted(n)}"]
        table.add_row(one.title, one.write(body["metrics"][one.key]), " · ".join(told))
    return table


def _between(interval: Sequence[float | None] | None, one: Measure) -> list[str]:
    if interval is None:
        return []
    ends = [one.bare(end) for end in interval if end is not None]
    return [f"95 % {' to '.join(ends)}"] if len(ends) == 2 else []


def _targets(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column("met", no_wrap=True)
    table.add_column("target")
    table.add_column("why")
    measured = [row for row in rows if row["n_required"] is not None]
    for row in measured:
        word = {True: "[green]met[/]", False: "[red]not met[/]", None: "[dim]open[/]"}[row["met"]]
        table.add_row(word, row["target"], row["why"])
    table.add_row("[dim]open[/]", f"{len(rows) - len(measured)} more",
                  "no backtest can tell; the report says what measures them")  # fmt: skip
    return table


def _against_chance(found: Mapping[str, Any]) -> list[str]:
    if found["percentile"] is None:
        return []
    return [
        f"• At random: of {found['draws']} traders who trade as often, as long and as large at "
        f"random instants it beats {found['percentile']:.1%}. Before funding its trades brought "
        f"{found['trades_pct']:+.2f} %, theirs {found['lo_pct']:+.2f} to {found['hi_pct']:+.2f} % "
        "(95 %)."
    ]


def _breakdown(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("period", box=None, padding=(0, 1))
    table.add_column("equity", justify="right")
    for name in ("return %", "trades", "won", "P&L, USDT"):
        table.add_column(name, justify="right")
    for row in rows:
        won = "–" if row["win_rate"] is None else f"{row['win_rate']:.1%}"
        table.add_row(row["period"], f"{row['equity']:,.2f}", f"{row['return_pct']:+.2f}",
                      f"{row['trades']:,}", won, f"{row['pnl']:+,.2f}")  # fmt: skip
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
