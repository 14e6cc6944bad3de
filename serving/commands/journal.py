"""``conclave journal``: what was traded, and what was made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from domain.errors import UsageError
from domain.market import parse_symbol
from serving.commands.common import (
    Config,
    Json,
    Set,
    api,
    call,
    current_plan,
    out,
    print_json,
    settings_from,
)

if TYPE_CHECKING:
    from serving.plan import RunPlan
    from serving.settings import Settings
    from storage.queries import Reader

app = typer.Typer(help="What was traded, and what was made of it.", no_args_is_help=True)

TradeId = Annotated[str, typer.Argument(help="id of a trade, as conclave journal list shows it")]
Text = Annotated[str, typer.Option("--text", help="why, and what you take from it")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="repeatable")]
Plan = Annotated[
    bool | None,
    typer.Option("--followed-plan/--broke-plan", help="whether it was carried out as planned"),
]
Author = Annotated[str, typer.Option("--author", help="who says so")]


@app.command("list")
def list_trades(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many, newest first")] = 20,
    missing: Annotated[
        bool, typer.Option("--missing", help="only those without a person's words")
    ] = False,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """List closed trades with the newest that was written about each.

    Example: conclave journal list --missing
    """
    from serving.journal_view import listed
    from serving.rules import ACCOUNT

    reader, _, _ = _opened(config, sets)
    items, _ = listed(reader, ACCOUNT, missing=missing, limit=limit)
    if json:
        print_json({"items": items})
        return
    fixed = (Column(name, no_wrap=True) for name in ("id", "closed", "side"))
    table = Table(*fixed, "symbol", "by", "P&L", "tags", "reflection", box=None)
    for row in items:
        shown = row["reflection"] or {"tags": [], "text": ""}
        table.add_row(
            row["id"], f"{row['closed_at'][:16]}Z", row["side"], row["symbol"], row["reason"],
            f"{float(row['pnl']):+.2f}", ", ".join(shown["tags"]), _short(row, shown["text"]),
        )  # fmt: skip
    out.print(table)


@app.command()
def show(trade_id: TradeId, json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Show a trade with everything written about it, and how far it went either way."""
    from serving.journal_view import detailed

    reader, _, _ = _opened(config, sets)
    body = detailed(reader, trade_id)
    if json:
        print_json(body)
        return
    out.print(
        f"[bold]{body['side']} {body['qty']} {body['symbol']}[/]  {body['opened_at']} at "
        f"{float(body['entry']):g} to {body['closed_at']} at {float(body['exit']):g}, closed by "
        f"{body['reason']}: {float(body['pnl']):+.2f} net"
    )
    if body["decision"]:
        told = f"decided: {body['decision']['reason']}   conclave why {body['decision']['id']}"
        out.print(told, markup=False)
    if body["excursion"]:
        best, worst = (100 * body["excursion"][k] for k in ("favourable", "adverse"))
        out.print(f"at its best {best:+.2f} %, at its worst {worst:+.2f} %")
    for one in body["reflections"]:
        who = "draft" if one["draft"] else one["author"]
        tags = f" [{', '.join(one['tags'])}]" if one["tags"] else ""
        out.print(f"{one['at']} {who}{tags}: {one['text']}", markup=False)


@app.command()
def add(
    trade_id: TradeId,
    text: Text,
    tag: Tags = None,
    followed_plan: Plan = None,
    author: Author = "operator",
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Write about a closed trade; in strict mode this lets the next of its kind in.

    Example: conclave journal add 1f0c… --text "Chased the breakout; wait for the close." --tag late
    """
    from serving.offline import desk_runs, reflect

    settings = settings_from(None, config, sets)
    plan = current_plan(settings)
    said = _said(text, tag, followed_plan, author)
    body = {**said, "action": "reflect", "trade_id": trade_id}
    if desk_runs(plan):
        with api(plan, settings, writes=True) as client:
            answer = call(client, "POST", "/v1/journal", body)
    else:
        answer = reflect(plan, body)
    if json:
        print_json(answer)
    else:
        out.print("noted" if answer["new"] else "that is in the journal already", style="green")


@app.command()
def close(
    symbol: Annotated[str, typer.Argument(help="e.g. BTC/USDT")],
    text: Text,
    tag: Tags = None,
    followed_plan: Plan = None,
    author: Author = "operator",
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Close a position at the market; what you write about it goes first, or nothing is closed.

    Example: conclave journal close BTC/USDT --text "News out; the reason for the trade is gone."
    """
    settings = settings_from(None, config, sets)
    body = {**_said(text, tag, followed_plan, author), "action": "close",
            "symbol": parse_symbol(symbol)}  # fmt: skip
    with api(current_plan(settings), settings, writes=True) as client:
        answer = call(client, "POST", "/v1/journal", body)
    if json:
        print_json(answer)
    else:
        out.print(f"{answer['symbol']} is closed at the next bar's open", style="green")


@app.command()
def review(
    week: Annotated[
        str | None, typer.Option("--week", help="ISO week, e.g. 2025-W05; default: the last traded")
    ] = None,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Sum up a week: by tag, exit and side, best and worst, how well the journal was kept.

    Writes JSON, HTML and Markdown to VAR_DIR/reports/journal.
    """
    from serving.reviewing import reviewed

    reader, settings, _ = _opened(config, sets)
    body, path = reviewed(reader, settings, week)
    if json:
        print_json(body)
    else:
        _tell_review(body)
        page = path.with_suffix(".html")
        out.print(f"written to {page}", style="dim", markup=False)


@app.command()
def plot(
    trade_id: TradeId,
    target: Annotated[Path, typer.Option("--out", help="file to write", metavar="FILE.svg")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Draw a trade: price, entry, exit, stop and target, and P(up) below; one SVG file.

    Example: conclave journal plot 1f0c… --out trade.svg
    """
    from serving.journal_view import picture_of
    from sim.reports.trade_plot import standalone

    reader, _, _ = _opened(config, sets)
    drawn = standalone(picture_of(reader, trade_id))
    try:
        target.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise UsageError("--out", f"cannot be written: {error.strerror}", str(target)) from error
    out.print(f"written to {target}", style="dim", markup=False)


def _opened(config: Config, sets: Set) -> tuple[Reader, Settings, RunPlan]:
    from serving.bootstrap.storage import open_storage
    from storage.queries import Reader

    settings = settings_from(None, config, sets)
    plan = current_plan(settings)
    return Reader(open_storage(settings), plan.world), settings, plan


def _said(
    text: str, tags: list[str] | None, followed_plan: bool | None, author: str
) -> dict[str, Any]:
    words = text.encode("utf-8", "replace").decode("utf-8")
    return {"text": words, "tags": tags or [], "followed_plan": followed_plan, "author": author}


def _short(row: dict[str, Any], text: str) -> str:
    if row["missing"]:
        return "missing (draft)" if text else "missing"
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _tell_review(body: dict[str, Any]) -> None:
    kept = body["adherence"]
    out.print(
        f"[bold]{body['week']}[/]  {body['trades']} trades, {body['won']} won, "
        f"{float(body['pnl']):+.2f} USDT"
    )
    for key, head in (("by_tag", "tag"), ("by_exit", "closed by"), ("by_side", "side")):
        table = Table(head, "trades", "won", "P&L", box=None)
        for row in body[key]:
            won, pnl = f"{100 * row['win_rate']:.0f} %", f"{float(row['pnl']):+.2f}"
            table.add_row(row["name"], str(row["trades"]), won, pnl)
        out.print(table)
    out.print(
        f"best {body['best'] or '–'}, worst {body['worst'] or '–'}; reflected "
        f"{_percent(kept['reflected'])}, followed the plan {_percent(kept['followed_plan'])}, "
        f"median time to reflect {_hours(kept['median_hours'])}",
        markup=False,
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _hours(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} h"
