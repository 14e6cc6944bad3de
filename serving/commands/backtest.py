"""``backtest``: what decisions would have earned."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from domain.canonical import plain
from serving.commands.common import (
    Config,
    DataFile,
    Json,
    Profile,
    Set,
    TimeRange,
    err,
    out,
    print_json,
    progress_steps,
    settings_from,
)
from serving.system import SystemClock, git_commit

DEFAULT_PROFILE = "strict"


class Breakdown(StrEnum):
    """Length of a row in the breakdown."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backtest)


def backtest(
    data: DataFile,
    exec_data: Annotated[
        Path | None,
        typer.Option(
            "--exec-data", help="bars of the other market, to trade there", metavar="FILE"
        ),
    ] = None,
    funding: Annotated[
        Path | None,
        typer.Option(help="funding rates; else the file beside the bars", metavar="FILE"),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="council, ema_cross or mean_reversion; else the profile's")
    ] = None,
    timerange: TimeRange = None,
    breakdown: Annotated[
        Breakdown | None, typer.Option(help="equity and trades by day, week or month as well")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="write the tear sheet there as well, one HTML file", metavar="FILE"),
    ] = None,
    json: Json = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Trade a file's bars through the loop that paper trading uses.

    With one file forecast and execution both use it, and its name sets market, fees and filters.
    Writes latest.json and latest.html, the tear sheet, under VAR_DIR/reports/backtest.
    Example: conclave backtest --data BTCUSDT-binance-perp-5m-2025.parquet --profile exercise
    """
    from serving import backtesting, trials
    from serving.commands.backtest_tables import backtest_view
    from serving.market_files import span_of
    from serving.report_files import prepare, write_page, write_report
    from sim.curves import curves
    from sim.reports.backtest import render

    chosen = [*(sets or ()), *([] if strategy is None else [f"execution.strategy={strategy}"])]
    name = profile or DEFAULT_PROFILE
    settings = settings_from(name, config, chosen)
    folder = prepare(settings.data.var_dir / "reports" / "backtest", html)
    clock, commit = SystemClock(), git_commit()
    request = backtesting.Request(data, exec_data, funding, span_of(timerange), name, commit)
    setup = backtesting.set_up(settings, request, clock)
    trials.prepare(settings.models.trials_log, setup.look)
    with progress_steps(quiet=json) as steps:
        result = backtesting.run(setup, steps)
    judged = backtesting.judge(result, setup.look, settings.models.trials_log, clock.now())
    conventions = {**setup.conventions, "trials": judged.trials}
    body: dict[str, Any] = plain(judged.result.as_json())
    if breakdown is not None:
        body["breakdown"] = plain(result.breakdown(breakdown.value))
    report = {**body, "conventions": conventions, "trial": judged.trial,
              "curves": plain(curves(result.run, result.decided))}  # fmt: skip
    page = render(report)
    path = write_report(folder, report, clock.now(), page)
    if html is not None:
        write_page(html, page)
    err.print(
        f"report: {path.with_suffix('.html')}\ntrial: {judged.trial}", style="dim", markup=False,
        soft_wrap=True,
    )  # fmt: skip
    if json:
        err.print(f"trials: {judged.trials}", style="dim", markup=False, soft_wrap=True)
        if exec_data is None:
            err.print(f"execution: {conventions['execution']}", style="dim", markup=False)
        print_json(body)
        return
    out.print(backtest_view(body, conventions))
