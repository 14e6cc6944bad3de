"""What ``scenario what-if`` shows in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

_COLORS = {"LONG": "green", "SHORT": "red", "NO_TRADE": "yellow"}


def what_if_view(body: Row) -> RenderableType:
    """Return both sides of a changed decision, or what each change alone would do."""
    title = f"{body['symbol']} {body['timeframe']} as of {body['as_of']}   id {body['id']}"
    table = _both(body) if body["changed"] else _each(body)
    return Group(Text(title, style="bold"), table, *(Text(x, style="dim") for x in _notes(body)))


def _both(body: Row) -> Table:
    table = Table("", "stored", "changed", box=None, pad_edge=False)
    for change in body["changes"]:
        said = change["input"] in ("says", "without")
        what = f"P(up) of {change['name']}" if said else _name(change)
        table.add_row(Text(what), *_values(change))
    stored, changed = _told(body["stored"]), _told(body["changed"])
    for name, was in stored.items():
        will = changed[name]
        table.add_row(name, was, will, style="" if was.plain == will.plain else "bold")
    return table


def _each(body: Row) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("what is otherwise")
    for name in ("P(up)", "return", "break-even", "risk"):
        table.add_column(name, justify="right")
    table.add_column("wanted")
    table.add_row("nothing", *_numbers(body["stored"]), _side(body["stored"]))
    for row in body["sensitivities"]:
        style = "bold" if row["flips"] else ""
        table.add_row(Text(_what(row["change"])), *_numbers(row), _side(row), style=style)
    return table


def _notes(body: Row) -> Iterator[str]:
    each = body["sensitivities"]
    if each:
        flips = sum(row["flips"] for row in each)
        yield f"{flips} of {len(each)} changes would by themselves make another decision."
    yield "This is what the council wants; gate and risk are not asked again."
    after = body["not_asked_again"]
    told = [f"gate {after['gate']['action']}"] if after["gate"]["action"] != "off" else []
    if told := [*told, *after["reasons"]]:
        yield f"What they and the loop added, as stored: {', '.join(told)}."
        yield f"What remained: {after['decision']}."
    else:
        yield "They added nothing to the stored decision."


def _told(row: Row) -> dict[str, Text]:
    names = ("P(up)", "expected return", "break-even", "risk of the side")
    return {
        **{name: Text(told) for name, told in zip(names, _numbers(row), strict=True)},
        "the council wants": _side(row),
        "because": Text(", ".join(row["reasons"]) or "every check passed"),
    }


def _numbers(row: Row) -> tuple[str, str, str, str]:
    gain = row["expected_return"]
    return (
        _chance(row["prob_up"]), "–" if gain is None else f"{1e4 * gain:+.1f} bp",
        _chance(row["break_even_prob"]), _chance(row["risk_score"]),
    )  # fmt: skip


def _what(change: Row) -> str:
    if change["input"] == "without":
        return f"without {change['name']}"
    of = " P" if change["input"] == "says" else ""
    was, will = _values(change)
    return f"{_name(change)}{of} {was.removesuffix(' bp')}→{will}"


def _name(change: Row) -> str:
    return str(change["name"] or change["input"])


def _values(change: Row) -> tuple[str, str]:
    unit = " bp" if change["input"] == "cost" else ""
    was, will = (f"{_short(change[side])}{unit}" for side in ("stored", "changed"))
    return was, "absent" if change["input"] == "without" else will


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "–" if value is None else str(value).lower()
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _side(row: Row) -> Text:
    return Text(row["intent"], style=_COLORS[row["intent"]])


def _chance(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
