"""The tables of the tear sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.measures import GROUPS, Measure
from sim.reports.parts import Card, Cell, Column, Line, Sentence, Strip, Table
from sim.reports.reading import Board, dig, number, numbers, part, price, rows, show, title, word

_LISTED = 5  # best and worst trades
_RULES = ("forecast", "execution", "fees", "fills", "funding", "start", "before", "trials")
_MONEY = "USDT, after all costs"


def measures(board: Board) -> tuple[Card, ...]:
    """Return the metrics, each with its interval, its n and its convention."""
    return tuple(
        Card(name, strips=tuple(_measured(board, one) for one in group)) for name, group in GROUPS
    )


def _measured(board: Board, one: Measure) -> Strip:
    value = number(board, "metrics", one.key)
    ends = numbers(dict(zip("ab", rows(board, "intervals", one.key), strict=False)), "a", "b")
    told = [] if ends is None else [f"95 % {one.bare(ends[0])} to {one.bare(ends[1])}"]
    n = number(board, "n", one.key)
    told += [] if n is None else [f"n\u00a0{n:,.0f}\u00a0{one.counted(n)}"]
    written = one.write(None if value is None else int(value) if one.form == ",d" else value)
    return Strip(one.title, written, more=" · ".join([one.how, *told]))


def targets(board: Board) -> tuple[Sentence, ...]:
    """Return the documents' targets that a backtest can measure."""
    return tuple(
        Sentence(
            "open" if met is None else "met" if met else "missed",
            f"{word(row, 'target')}: {word(row, 'why')}.", word(row, "source"),
        )
        for row in rows(board, "success")
        if isinstance(met := dig(row, "met"), bool) or dig(row, "n_required") is not None
    )  # fmt: skip


def elsewhere(board: Board) -> list[str]:
    """Return the targets that no backtest can measure, and what does."""
    return [
        f"{word(row, 'target')} ({word(row, 'source')}): {word(row, 'why')}."
        for row in rows(board, "success")
        if dig(row, "n_required") is None
    ]


def conventions(board: Board) -> Card:
    """Return by what rules it was traded."""
    told = part(board, "conventions")
    head = "How it was traded"
    if not told:
        return Card(head, missing="Not kept in this report.")
    rest = sorted(set(told) - set(_RULES))
    names = [name for name in (*_RULES, *rest) if name in told]
    return Card(head, strips=tuple(Strip(str(name), word(told, name)) for name in names))


def grouped(found: Sequence[Any], caption: str, head: str) -> Table | None:
    """Return the trades summed up by side or by reason; None where there are none."""
    columns = (
        Column("trades", "closed round trips"),
        Column("won", "share above 0 after all costs"),
        Column("P&L", f"sum, {_MONEY}"),
        Column("a trade", f"mean, {_MONEY}"),
        Column("costs", "fees, spread, slippage and funding, USDT"),
        Column("lasts, h", "mean hours from entry to exit"),
    )
    forms = {"trades": ",.0f", "win_rate": ".1%", "pnl": "+,.2f", "expectancy": "+,.3f",
             "costs": ",.2f", "avg_hours": ",.1f"}  # fmt: skip
    lines = tuple(Line(title(word(row, "name")), _cells(row, forms)) for row in found)
    return Table(caption, head, columns, lines) if lines else None


def extreme_trades(board: Board) -> list[Table]:
    """Return the best and the worst trades."""
    found = (("Best trades", "best"), ("Worst trades", "worst"))
    made = [_trades(rows(board, "curves", key)[:_LISTED], caption) for caption, key in found]
    return [table for table in made if table is not None]


def _trades(found: Sequence[Any], caption: str) -> Table | None:
    columns = (
        Column("side", "LONG or SHORT"), Column("P&L", _MONEY), Column("%", "of its size"),
        Column("entry", "average fill, USDT"), Column("exit", "average fill, USDT"),
        Column("costs", "fees, spread, slippage and funding, USDT"),
        Column("closed at", "UTC"), Column("by", "why it was closed"),
    )  # fmt: skip
    money = {"pnl": "+,.2f", "return_pct": "+.2f"}
    lines = tuple(
        Line(
            _minute(row, "opened_at"),
            (Cell(word(row, "side")), *_cells(row, money), Cell(price(number(row, "entry"))),
             Cell(price(number(row, "exit"))), *_cells(row, {"costs": ",.2f"}),
             Cell(_minute(row, "closed_at")), Cell(title(word(row, "reason")))),
        )
        for row in found
    )  # fmt: skip
    return Table(caption, "opened at, UTC", columns, lines) if lines else None


def _cells(row: Any, forms: Mapping[str, str]) -> tuple[Cell, ...]:
    return tuple(
        Cell(show(number(row, key), form).replace("%", " %")) for key, form in forms.items()
    )


def _minute(row: Any, key: str) -> str:
    return word(row, key)[:16].replace("T", " ")


def periods(board: Board) -> Table | None:
    """Return the breakdown that was asked for, by month otherwise."""
    found = rows(board, "breakdown") or rows(board, "curves", "months")
    columns = (
        Column("equity", "at its end, USDT, marked to market"), Column("return", "%"),
        Column("trades", "closed in it"), Column("won", "share above 0 after all costs"),
        Column("P&L", f"of the closed trades, {_MONEY}"),
    )  # fmt: skip
    forms = {"equity": ",.2f", "return_pct": "+.2f", "trades": ",.0f", "win_rate": ".1%",
             "pnl": "+,.2f"}  # fmt: skip
    lines = tuple(Line(word(row, "period"), _cells(row, forms)) for row in found)
    if not lines:
        return None
    name = _length(lines[0].name)
    return Table(f"By {name}: {len(lines):,} rows", f"UTC {name}", columns, lines, folded=True)


def _length(period: str) -> str:
    return "week" if "W" in period else "day" if len(period) == 10 else "month"
