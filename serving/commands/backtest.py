"""``backtest``: what decisions would have earned."""

from __future__ import annotations

from collections.abc import Mapping
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
from serving.settings import Settings
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
        Breakdown | None, typer.Option(help="equity by day, week or month as well")
    ] = None,
    json: Json = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Trade a file's bars through the loop that paper trading uses.

    With one file forecast and execution both use it, and its name sets market, fees and filters.
    Example: conclave backtest --data BTCUSDT-binance-perp-5m-2025.parquet --profile exercise
    """
    from serving import backtesting, trials
    from serving.commands.backtest_tables import backtest_view
    from serving.market_files import span_of

    chosen = [*(sets or ()), *([] if strategy is None else [f"execution.strategy={strategy}"])]
    name = profile or DEFAULT_PROFILE
    settings = settings_from(name, config, chosen)
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
    _keep(settings, "backtest", {**body, "conventions": conventions}, judged.trial)
    if json:
        err.print(f"trials: {judged.trials}", style="dim", markup=False, soft_wrap=True)
        if exec_data is None:
            err.print(f"execution: {conventions['execution']}", style="dim", markup=False)
        print_json(body)
        return
    out.print(backtest_view(body, conventions))


def _keep(settings: Settings, kind: str, body: Mapping[str, Any], trial: str) -> None:
    from serving.report_files import write_report

    folder = settings.data.var_dir / "reports" / kind
    path = write_report(folder, {**body, "trial": trial}, SystemClock().now())
    err.print(f"report: {path}\ntrial: {trial}", style="dim", markup=False, soft_wrap=True)
