"""What evaluate and backtest show to people: tables, and a few plain words about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

Row = Mapping[str, Any]
_Column = tuple[str, str, str]  # title, key, format

_DIRECTION: tuple[_Column, ...] = (
    ("rows", "n", ",d"), ("Brier", "brier", ".6f"), ("gain", "brier_skill_1e4", "+.2f"),
    ("DM t", "dm_t", "+.1f"), ("AUC", "auc", ".4f"), ("right", "accuracy", ".2%"),
    ("slope", "calibration_slope", ".2f"), ("weight", "weight_mean", ".1%"),
)  # fmt: skip
_RANGE: tuple[_Column, ...] = (
    ("pinball", "pinball_bps", ".3f"), ("in p10–p90", "coverage_80", ".1%"),
    ("interval", "interval_score_bps", ".2f"), ("risk Brier", "risk_brier", ".5f"),
    ("risk AUC", "risk_auc", ".4f"),
)  # fmt: skip
_SURE, _LIKELY = 3.0, 2.0  # Diebold-Mariano t
_LEAK_AUC = 0.565  # beyond it a real 5-minute market has never been forecast honestly

# Evaluate


def board_view(board: Mapping[str, Any]) -> RenderableType:
    """Return the scoreboard for a terminal of 80 columns."""
    rows = [
        *((name, row, "") for name, row in board["agents"].items()),
        ("consensus", board["consensus"], "bold"),
        *((name, row, "dim") for name, row in board["baselines"].items()),
    ]
    data = board["data"]
    head = (
        f"{data['symbol']} {data['timeframe']}, {data['start']} to {data['end']}: "
        f"{data['bars']:,} bars, {board['horizon_bars']} bars ahead"
    )
    return Group(
        head, "",
        _scores("direction", _DIRECTION, rows), "",
        _scores("range and risk", _RANGE, rows),
        "[dim]gain = (¼ − Brier) × 10⁴, DM t = gain over its standard error (Newey–West, lag 60)\n"
        "slope of the outcome on the forecast: 1 is ideal, below it too sure\n"
        "pinball (mean of p10, p50, p90) and interval score in bp; risk = a fall beyond 0.5 %\n"
        "dim rows are baselines; – = not forecast, or only rows the model was trained on[/]", "",
        *(f"• {line}" for line in plain_words(board)),
    )  # fmt: skip


def plain_words(board: Mapping[str, Any]) -> list[str]:
    """Return what is known and how sure it is, one sentence a line."""
    lines = [_direction_words(board["consensus"]), *_range_words(board)]
    for name, row in board["agents"].items():
        if row["in_sample"]:
            lines.append(
                f"{name}: {row['in_sample']:,} rows left out, its model was trained there."
            )
    lines.append(
        "A forecast is no profit: on real 5-minute bars no edge found so far pays taker fees, so "
        "NO_TRADE is nearly always the honest answer."
    )
    return lines


def _range_words(board: Mapping[str, Any]) -> list[str]:
    same = board["common"]  # a comparison needs the same rows
    council = same["consensus"]
    best = min(
        (row["pinball_bps"] for name in board["baselines"] if (row := same[name])["pinball_bps"]),
        default=None,
    )
    if council["pinball_bps"] is None or best is None:
        return []
    better = 100.0 * (1.0 - council["pinball_bps"] / best)
    return [
        f"Range: p10–p90 held {council['coverage_80']:.1%} of outcomes (80 % is the aim); the "
        f"pinball loss is {abs(better):.1f} % {'below' if better >= 0 else 'above'} the best "
        "baseline's on the same rows."
    ]


def _direction_words(row: Row) -> str:
    if not row["n"]:
        return "Direction: nobody forecast it here, so nothing is known."
    t, gain = row["dm_t"], row["brier_skill_1e4"]
    auc = "–" if row["auc"] is None else f"{row['auc']:.3f}"
    facts = f"(gain {gain:+.1f}, AUC {auc}, {row['n']:,} rows)"
    if row["auc"] is not None and row["auc"] > _LEAK_AUC:
        return (
            f"Direction: better than an honest forecast of a real market is {facts}: the market is "
            "generated, or something sees the future."
        )
    if t is None:
        return f"Direction: too few rows to say {facts}."
    if t >= _SURE:
        return f"Direction: a little better than a coin, and hardly by luck (t {t:.1f}) {facts}."
    if t >= _LIKELY:
        return f"Direction: probably a little better than a coin (t {t:.1f}) {facts}."
    if t > -_LIKELY:
        return f"Direction: not to be told from a coin (t {t:.1f}) {facts}."
    return f"Direction: worse than a coin (t {t:.1f}) {facts}."


def _scores(title: str, columns: Sequence[_Column], rows: Iterable[tuple[str, Row, str]]) -> Table:
    table = Table(title, box=None, pad_edge=False)
    for name, _, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row, style in rows:
        table.add_row(name, *(_cell(row[key], form) for _, key, form in columns), style=style)
    return table


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


# Backtest

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
    parts += ["", _paid(body["costs"]), _decided(body["decisions"]), *_why_no_trades(body)]
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


def _why_no_trades(body: Mapping[str, Any]) -> list[str]:
    if body["decisions"]["LONG"] or body["decisions"]["SHORT"]:
        return []
    return [
        "• Not one trade, for the reasons above. On real bars NO_TRADE is nearly always the honest "
        "answer."
    ]
