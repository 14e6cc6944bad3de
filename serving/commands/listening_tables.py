"""What ``conclave data listen`` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def told(body: Mapping[str, Any]) -> Iterator[Table | Text]:
    """Iterate over tables of a report of :func:`serving.listening.listen`."""
    kind = "simulated market" if body["simulated"] else "exchange"
    yield Text(f"{kind} at {body['exchange']}, {body['at']}, after {body['seconds']:.1f} s")
    yield _criteria(body)
    spreads = {row["symbol"]: row for row in body["spreads"]}
    for one in body["symbols"]:
        yield Text()
        yield Text(_headline(one["symbol"], spreads.get(one["symbol"])))
        yield _bars(one["timeframes"])
        yield Text("correlation of returns at common closes", style="dim")
        yield _correlation(one["correlation"])
    figures = body["figures"]
    yield Text(
        f"{figures['messages']:,} messages, {figures['bytes'] / 1e6:,.2f} MB, "
        f"{figures['reconnects']} reconnects, {figures['garbage']} unreadable; "
        f"the exchange's clock is {figures['clock_offset_ms']:+,} ms off", style="dim",
    )  # fmt: skip


def _criteria(body: Mapping[str, Any]) -> Table:
    table = Table("criterion", "met", "value", "limit", "about", box=None)
    words = {True: "[green]yes[/]", False: "[red]no[/]", None: "not measured"}
    for row in body["criteria"]:
        limit = f"{row['limit']:g} {row['unit']}"
        told = (row["name"], words[row["met"]], _number(row["value"]), limit, Text(row["said"]))
        table.add_row(*told)
    return table


def _headline(symbol: str, spread: Mapping[str, Any] | None) -> str:
    if spread is None or spread["mean_bps"] is None:
        return f"{symbol}, spread not measured"
    return f"{symbol}, mean spread {spread['mean_bps']:.2f} bps of {spread['n']} books"


def _bars(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "timeframe", "bars", "without gap", "missing", "others than 1m's", "volatility a day",
        box=None,
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["timeframe"], f"{row['bars']:,}", f"{row['whole']:,}", f"{row['gaps']:,}",
            "–" if row["timeframe"] == "1m" else f"{row['different']:,} of {row['compared']:,}",
            "–" if row["volatility_day"] is None else f"{100 * row['volatility_day']:.2f} %",
        )  # fmt: skip
    return table


def _correlation(told: Mapping[str, Any]) -> Table:
    names = told["timeframes"]
    table = Table("", *names, box=None)
    for name, values in zip(names, told["pearson"], strict=True):
        table.add_row(name, *("–" if value is None else f"{value:+.2f}" for value in values))
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
