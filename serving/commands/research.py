"""``evaluate``, ``backtest``, ``lookahead``: what forecasts are worth, and can it be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from domain.canonical import plain
from domain.errors import CheckFailed
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
    progress_bar,
    settings_from,
)
from serving.settings import Settings
from serving.system import SystemClock, git_commit

DEFAULT_PROFILE = "strict"
DEFAULT_ROWS = 200
Agents = Annotated[
    str | None, typer.Option("--agents", help="comma-separated, instead of the settings' agents")
]


class Breakdown(StrEnum):
    """Length of a row in the breakdown."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(backtest)
    app.command()(lookahead)


def evaluate(
    data: DataFile,
    symbol: Annotated[str | None, typer.Option(help="if the file name does not say")] = None,
    timeframe: Annotated[str | None, typer.Option(help="if the file name does not say")] = None,
    timerange: TimeRange = None,
    agents: Agents = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="add the gain that shuffled outcomes leave")
    ] = False,
    json: Json = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Score every agent, the council and the baselines on every bar of a file.

    Rows a model was trained on are left out. Example: conclave evaluate
    --data BTCUSDT-binance-spot-5m-2025.parquet --timerange 20250101-20260101
    """
    from serving import trials
    from serving.commands.research_tables import board_view
    from serving.evaluating import evaluation_look, make_board, panel_for
    from serving.market_files import load_bars, span_of

    settings = settings_from(profile, config, _asking(agents, sets))
    clock, commit, span = SystemClock(), git_commit(), span_of(timerange)
    bars = load_bars(data, clock, symbol, timeframe)
    panel = panel_for(settings, bars.frame, commit)
    look = evaluation_look(settings, panel, bars, span, commit)
    trials.prepare(settings.models.trials_log, look)
    with progress_bar("bars forecast", quiet=json) as tick:
        board = make_board(settings, panel, bars, span, commit, controls=controls, progress=tick)
    trial = trials.record(settings.models.trials_log, look, _figures(board), clock.now())
    _keep(settings, "evaluate", board, trial)
    if json:
        print_json(board)
        return
    out.print(board_view(board))
    for name, left in board.get("controls", {}).get("shuffled_labels", {}).items():
        out.print(
            f"• Control: with outcomes shuffled by days, {name} gains {left['gain_mean']:+.1f} "
            f"({left['gain_min']:+.1f} to {left['gain_max']:+.1f}); it must not gain."
        )


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
        str | None, typer.Option(help="council or ema_cross; else the profile's")
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
    from serving.commands.research_tables import backtest_view
    from serving.market_files import span_of

    chosen = [*(sets or ()), *([] if strategy is None else [f"execution.strategy={strategy}"])]
    name = profile or DEFAULT_PROFILE
    settings = settings_from(name, config, chosen)
    clock, commit = SystemClock(), git_commit()
    request = backtesting.Request(data, exec_data, funding, span_of(timerange), name, commit)
    setup = backtesting.set_up(settings, request, clock)
    trials.prepare(settings.models.trials_log, setup.look)
    with progress_bar("bars traded", quiet=json) as tick:
        result = backtesting.run(setup, tick)
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


def lookahead(
    data: DataFile,
    symbol: Annotated[str | None, typer.Option(help="if the file name does not say")] = None,
    timeframe: Annotated[str | None, typer.Option(help="if the file name does not say")] = None,
    timerange: TimeRange = None,
    agents: Agents = None,
    rows: Annotated[int, typer.Option(min=1, help="random bars to decide")] = DEFAULT_ROWS,
    seed: Annotated[int, typer.Option(help="which bars, and which garbage", min=0)] = 7,
    json: Json = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Show that no decision knows its future; exits 1 and names the first field that does.

    Each bar is decided three times: with the bars that followed, with garbage in their place, and
    with nothing. Example: conclave lookahead --data BTCUSDT-binance-spot-5m-2024.parquet
    """
    from serving.evaluating import check_lookahead
    from serving.market_files import load_bars, require_bars, span_of

    settings = settings_from(profile, config, _asking(agents, sets))
    bars = load_bars(data, SystemClock(), symbol, timeframe)
    part = require_bars(bars, *span_of(timerange))
    with progress_bar("futures tried", quiet=json) as tick:
        found = check_lookahead(settings, part, rows, seed, progress=tick)
    body = {
        "data": {"symbol": part.symbol, "timeframe": part.timeframe, "sha256": bars.sha256},
        "agents": list(settings.models.agents),
        "rows": rows,
        "seed": seed,
        "ok": not found,
        "differences": found,
    }
    if json:
        print_json(body)
    elif not found:
        out.print(
            f"[green]clean[/]: {rows} decisions of {', '.join(settings.models.agents)} and the "
            "council, each with three futures, are the same to the last bit"
        )
    require_same(found)


def require_same(found: Sequence[object]) -> None:
    """Raise if a decision differed with its future.

    Raises
    ------
    CheckFailed : naming the first difference.
    """
    if found:
        raise CheckFailed(
            "lookahead", f"{len(found)} decisions know their future; the first: {found[0]}",
            hint="Whatever made that field reads bars that were not closed yet.",
        )  # fmt: skip


def _asking(agents: str | None, sets: Sequence[str] | None) -> list[str]:
    return [*(sets or ()), *([] if agents is None else [f"models.agents={agents}"])]


def _figures(board: Mapping[str, Any]) -> str:
    everybody = {"council": board["consensus"], **board["agents"]}
    parts = []
    for name, row in everybody.items():
        told = [
            f"{word} {row[key]:{form}}"
            for word, key, form in (
                ("gain", "brier_skill_1e4", ".2f"), ("AUC", "auc", ".4f"),
                ("pinball", "pinball_bps", ".3f"), ("risk Brier", "risk_brier", ".5f"),
            )
            if row[key] is not None
        ]  # fmt: skip
        if told:
            parts.append(f"{name} {', '.join(told)}")
    return "; ".join(parts)


def _keep(settings: Settings, kind: str, body: Mapping[str, Any], trial: str) -> None:
    from serving.report_files import write_report

    folder = settings.data.var_dir / "reports" / kind
    path = write_report(folder, {**body, "trial": trial}, SystemClock().now())
    err.print(f"report: {path}\ntrial: {trial}", style="dim", markup=False, soft_wrap=True)
