"""``parity``: was the paper session what the backtest says it should have been?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from domain.canonical import canonical_json
from domain.errors import CheckFailed
from serving.commands.common import (
    Config,
    Json,
    Set,
    out,
    print_json,
    progress_bar,
    settings_from,
)
from serving.system import SystemClock

_INPUTS = {
    "opinions": "opinions",
    "mode_changes": "kills and armings",
    "on_demand": "questions on demand",
    "closed_by_hand": "positions closed by hand",
    "notes": "reports and notes",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(parity)


def parity(
    session: Annotated[
        str | None,
        typer.Argument(
            help="a world in this ledger; or another VAR_DIR or ledger file, with @WORLD if it "
            "holds several; default: the only one there is",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data", help="bars to take instead of the session's own; repeatable", metavar="FILE"
        ),
    ] = None,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Run a finished paper session through the backtester and compare, record by record.

    Bars, opinions and what people did come from the ledger, the settings are those it ran under.
    Exits 1 and names the first difference, 3 if the session cannot be read.
    Example: conclave parity · conclave parity replay-6d0f3c2b9a --json
    """
    from serving.parity import open_session, parity_of

    found = open_session(settings_from(None, config, sets), session)
    with progress_bar("rows run again", quiet=json) as tick:
        answer = parity_of(found, data or (), SystemClock(), tick)
    body = answer.as_json()
    if json:
        print_json(body)
    else:
        out.print(parity_view(body))
    if not body["same"]:
        raise CheckFailed("parity", f"paper and backtest differ; the first: {body['first']}")


def parity_view(body: Mapping[str, Any]) -> RenderableType:
    """Return the comparison for a terminal of 80 columns."""
    inputs = body["inputs"]
    more = ", ".join(f"{inputs[key]:,} {words}" for key, words in _INPUTS.items() if key in inputs)
    head = (
        f"[bold]{body['session']}[/] ({body['strategy']}, profile {body['profile']}, "
        f"{body['source']}), {body['start']} to {body['end']}\n"
        f"run again: {inputs['bars']:,} bars from the {inputs['from']}"
        + (f", {more}" if more else "")
    )
    table = Table("", box=None, padding=(0, 1))
    for title in ("session", "backtest", "different"):
        table.add_column(title, justify="right")
    for kind, row in body["compared"].items():
        counts = (row["session"], row["replayed"], row["different"])
        style = "red" if row["different"] else None
        table.add_row(kind.replace("_", " "), *(f"{n:,}" for n in counts), style=style)
    parts: list[RenderableType] = [head, "", table, "", _money(body)]
    for kind, row in body["compared"].items():
        if row["first"] is not None:
            parts += ["", _sides(kind, row["first"])]
    return Group(*parts, "", _verdict(body))


def _money(body: Mapping[str, Any]) -> str:
    equity, slippage = body["equity"], body["slippage"]
    told = (
        f"equity {equity['session']} and {equity['replayed']}: {equity['apart_satoshi']} satoshi "
        f"apart, {equity['largest_apart_satoshi']} at the worst"
    )
    if slippage["apart_bps"] is None:
        return told
    return (
        f"{told}\nspread and slippage: realised {slippage['realised_bps']:.3f} bp of what was "
        f"traded, modelled {slippage['modelled_bps']:.3f}, apart {slippage['apart_bps']:+.3f}"
    )


def _sides(kind: str, first: Mapping[str, Any]) -> Table:
    table = Table(f"first of {kind.replace('_', ' ')}", "session", "backtest", box=None)
    session, replayed = first["session"] or {}, first["replayed"] or {}
    for name in session or replayed:
        differs = not first["fields"] or name in first["fields"]
        cells = [
            canonical_json(side[name]) if name in side else "–" for side in (session, replayed)
        ]
        table.add_row(name, *cells, style="red" if differs else "dim")
    return table


def _verdict(body: Mapping[str, Any]) -> str:
    if not body["same"]:
        return f"[red]different[/]: {body['first']}"
    bound = "to the last digit" if body["exact"] else f"floats within {body['tolerance']:g}"
    return f"[green]equal[/]: paper did what the backtest does, {bound}"
