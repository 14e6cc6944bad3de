"""``conclave scenario``: bad days through loop and risk, and stored moments decided otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from domain.errors import DataRefused, UsageError
from serving.commands import what_if
from serving.commands.common import (
    Config,
    Json,
    Profile,
    Set,
    TimeRange,
    err,
    out,
    print_json,
    progress_bar,
    settings_from,
)
from serving.system import SystemClock, git_commit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from domain.market import BarFrame
    from serving.scenarios import Material
    from serving.settings import Settings

_NOT_HELD = 1  # exit code


app = typer.Typer(help="What would be if things were otherwise.", no_args_is_help=True)


@app.command("list")
def list_them(json: Json = False) -> None:
    """List the scenarios that come with Conclave.

    Example: conclave scenario list
    """
    from serving.scenarios import scenario_for, shipped

    found = [scenario_for([name]) for name in shipped()]
    if json:
        print_json([{"name": each.name, "about": each.about} for each in found])
        return
    table = Table("name", "what happens", box=None)
    for each in found:
        table.add_row(each.name, each.about)
    out.print(table, soft_wrap=False)


@app.command("run")
def run_them(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="scenarios, or .yml files; several happen in the same market"),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="run all that come with Conclave, one by one")
    ] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="bars to draw the market from, one file a symbol; repeatable", metavar="FILE"
        ),
    ] = None,
    timerange: TimeRange = None,
    block: Annotated[str, typer.Option(help="length of the blocks drawn, 1h to 1d")] = "6h",
    seed: Annotated[int | None, typer.Option(min=0, help="else the scenario's")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="council, ema_cross or mean_reversion")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="write the page there as well", metavar="FILE")
    ] = None,
    json: Json = False, profile: Profile = None, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Put a market through something, and see whether the desk's limits hold.

    Bars, books, funding and feeds go through the trading loop and its limits; what must hold is
    worked out again from the ledger's rows. Exit code 1 where something did not. Writes latest.json
    and latest.html under VAR_DIR/reports/scenarios/NAME.

    Example: conclave scenario run flash-crash kill-in-crash --seed 3
    """
    from serving.scenarios import shipped

    wanted = [[name] for name in shipped()] if every else [names] if names else []
    if not wanted or (every and names):
        raise UsageError("scenario run", "needs names, or --all", names,
                         "conclave scenario list shows what there is.")  # fmt: skip
    if html is not None and every:
        raise UsageError("--html", "writes one page: name a scenario", str(html))
    chosen = [*(sets or ()), *([] if strategy is None else [f"execution.strategy={strategy}"])]
    material = _material(data, timerange, block)
    reports: list[dict[str, Any]] = []
    for each in wanted:
        try:
            reports.append(_one(each, seed, material, profile, config, chosen, html, json=json))
        except (UsageError, DataRefused) as error:
            if not every:
                raise
            reports.append({"name": each[0], "error": error.message})  # the others go on
    if json:
        print_json(reports if every else reports[0])
    elif every:
        out.print(_summary(reports), soft_wrap=False)
    else:
        _show(reports[0])
    if not all(each.get("held") and each.get("shown") for each in reports):
        raise typer.Exit(_NOT_HELD)


what_if.register(app)


def _one(
    names: Sequence[str], seed: int | None, material: Material | None, profile: str | None,
    config: Config, sets: Sequence[str], html: Path | None, *, json: bool,
) -> dict[str, Any]:  # fmt: skip
    from dataclasses import replace

    from serving.report_files import prepare, write_page, write_report
    from serving.scenarios import STRICT, run, scenario_for, with_its_settings
    from sim.scenarios.page import render

    scenario = scenario_for(names)
    if seed is not None:
        scenario = replace(scenario, seed=seed)
    settings: Settings = with_its_settings(
        scenario, settings_from, profile or STRICT, config or (), sets
    )
    folder = prepare(settings.data.var_dir / "reports" / "scenarios" / scenario.name, html)
    with progress_bar(scenario.name, quiet=json) as tick:
        found = run(scenario, settings, git_commit(), material, tick)
    page = render(found)
    path = write_report(folder, found, SystemClock().now(), page)
    if html is not None:
        write_page(html, page)
    if not json:
        err.print(f"report: {path.with_suffix('.html')}", style="dim", markup=False, soft_wrap=True)
    return found


def _material(files: Sequence[Path] | None, timerange: str | None, block: str) -> Material | None:
    from serving.market_files import load_bars, require_bars, span_of
    from serving.scenarios import Material

    if not files:
        if timerange is not None:
            raise UsageError("--timerange", "cuts bars that are given with --data", timerange)
        return None
    clock, span = SystemClock(), span_of(timerange)
    frames: dict[str, BarFrame] = {}
    for path in files:
        frame = require_bars(load_bars(path, clock), *span)
        if frame.symbol in frames:
            raise UsageError("--data", "must be given once for each symbol", frame.symbol)
        frames[frame.symbol] = frame
    return Material(frames, block)


def _show(report: Mapping[str, Any]) -> None:
    told = f"{report['about']}\n{', '.join(report['symbols'])}: {report['bars_from']}"
    out.print(told, markup=False, soft_wrap=False)
    laws = Table("law", "checked", "", box=None)
    for law in report["laws"]:
        laws.add_row(law["law"], f"{law['checked']:,}", _law(law))
    out.print(laws, soft_wrap=False)
    seen = Table("expected", "wanted", "seen", "", box=None)
    for each in report["expected"]:
        value = each["seen"]
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        seen.add_row(each["what"], str(each["wanted"]), shown, "yes" if each["met"] else "NO")
    out.print(seen, soft_wrap=False)
    for law in report["laws"]:
        for where in law["first"]:
            out.print(f"{law['law']}: {where}", markup=False)
    fall = f"equity fell by {report['worst_fall']:.2%} at worst"
    held = f"highest exposure {report['highest_exposure']:.0%}"
    out.print(f"{report['entries']} entries, {fall}, {held}, mode {report['ends']}", markup=False)
    for refused in report["acts_refused"]:
        out.print(f"refused: {refused}", markup=False)
    out.print(_verdict(report), style="bold")


def _verdict(report: Mapping[str, Any]) -> str:
    if not report["held"]:
        return "BROKEN: a law did not hold"
    return "HELD" if report["shown"] else "HELD, but not everything expected was seen"


def _law(law: Mapping[str, Any]) -> str:
    if law["broken"]:
        return f"BROKEN {law['broken']:,} times"
    return "held" if law["checked"] else "not tested"


def _summary(reports: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("scenario", "held", "shown", "entries", "most refused", "fall", "ends", box=None)
    for each in reports:
        if "error" in each:
            table.add_row(each["name"], "–", "–", "", str(each["error"]))
            continue
        refused = next(iter(each["refused"]), "–")
        table.add_row(
            each["name"], _yes(each["held"]), _yes(each["shown"]), f"{each['entries']:,}", refused,
            f"{each['worst_fall']:.1%}", each["ends"],
        )  # fmt: skip
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
