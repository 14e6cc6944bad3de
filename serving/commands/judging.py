"""``evaluate`` and ``lookahead``: what forecasts are worth, and whether that can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

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
    progress_steps,
    settings_from,
)
from serving.system import SystemClock, git_commit

DEFAULT_ROWS = 200
Agents = Annotated[
    str | None,
    typer.Option(
        "--agents",
        help="comma-separated, instead of the settings' agents; module:factory adds one of yours",
    ),
]
Symbol = Annotated[str | None, typer.Option(help="if the file name does not say")]
Timeframe = Annotated[str | None, typer.Option(help="if the file name does not say")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(lookahead)


def evaluate(
    data: DataFile,
    symbol: Symbol = None,
    timeframe: Timeframe = None,
    timerange: TimeRange = None,
    agents: Agents = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="train models and baselines anew every quarter")
    ] = False,
    controls: Annotated[
        bool, typer.Option("--controls", help="add the negative controls (minutes)")
    ] = False,
    json: Json = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Score every agent, the council and the baselines on every bar of a file.

    Rows a model was trained on are left out, unless --refit trains it before each quarter. Writes
    latest.json and latest.html under VAR_DIR/reports/evaluate. What agents say is kept on tape
    in DATA_DIR_PROCESSED, so a second run is quicker. Example: conclave evaluate
    --data BTCUSDT-binance-spot-5m-2025.parquet --timerange 20250101-20260101
    """
    from serving import trials
    from serving.commands.judging_tables import board_view
    from serving.evaluating import evaluation_look, make_board, panel_for
    from serving.market_files import load_bars, span_of
    from serving.report_files import prepare, write_report
    from sim.reports.evaluation import render

    ours, guests = _asked(agents)
    settings = settings_from(profile, config, [*(sets or ()), *ours])
    folder = prepare(settings.data.var_dir / "reports" / "evaluate")
    clock, commit, span = SystemClock(), git_commit(), span_of(timerange)
    bars = load_bars(data, clock, symbol, timeframe)
    panel = panel_for(settings, bars.frame, commit, guests, untrained=refit)
    look = evaluation_look(settings, panel, bars, span, commit, refit=refit, controls=controls)
    log = settings.models.trials_log
    trials.prepare(log, look)
    with progress_steps(quiet=json) as steps:
        board = make_board(
            settings, panel, bars, span, commit, refit=refit, controls=controls, steps=steps
        )
    trial = trials.record(log, look, figures(board), clock.now())
    board["trial"] = trial
    board["overfitting"]["trials"] = trials.count(log).as_json()
    path = write_report(folder, board, clock.now(), page=render(board))
    err.print(
        f"report: {path.with_suffix('.html')}\ntrial: {trial}", style="dim", markup=False,
        soft_wrap=True,
    )  # fmt: skip
    if json:
        print_json(board)
    else:
        out.print(board_view(board), soft_wrap=False)


def lookahead(
    data: DataFile,
    symbol: Symbol = None,
    timeframe: Timeframe = None,
    timerange: TimeRange = None,
    agents: Agents = None,
    rows: Annotated[int, typer.Option(min=1, help="random bars to decide")] = DEFAULT_ROWS,
    seed: Annotated[int, typer.Option(help="which bars, and which garbage", min=0)] = 7,
    json: Json = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Show that nothing knows its future; exits 1 and names the first field that does.

    Each bar is decided three times: with the bars that followed, with garbage in their place, and
    with nothing. Then a stretch is decided from files that end inside it. Features, opinions and
    every field of the decision must agree to the last bit.
    Example: conclave lookahead --data BTCUSDT-binance-spot-5m-2024.parquet
    """
    from serving.evaluating import check_lookahead
    from serving.market_files import load_bars, require_bars, span_of

    ours, guests = _asked(agents)
    settings = settings_from(profile, config, [*(sets or ()), *ours])
    bars = load_bars(data, SystemClock(), symbol, timeframe)
    part = require_bars(bars, *span_of(timerange))
    with progress_bar("futures tried", quiet=json) as tick:
        found = check_lookahead(settings, part, rows, seed, guests=guests, progress=tick)
    body = {
        "data": {"symbol": part.symbol, "timeframe": part.timeframe, "sha256": bars.sha256},
        "agents": [name for name in found.awake if name != "consensus"],
        "rows": rows,
        "seed": seed,
        "ok": found.ok,
        "stretch": found.stretch,
        "prefixes": found.prefixes,
        "history": found.history,
        "history_wanted": found.history_wanted,
        "awake": dict(found.awake),
        "not_tested": list(found.not_tested),
        "differences": list(found.differences),
    }
    if json:
        print_json(body)
    else:
        _say(body)
    require_same([str(each) for each in found.differences])


def require_same(found: Sequence[str]) -> None:
    """Raise if something differed with its future.

    Raises
    ------
    CheckFailed : naming the first difference.
    """
    if found:
        raise CheckFailed(
            "lookahead", f"{len(found)} answers know their future; the first: {found[0]}",
            hint="Whatever made that field reads bars that were not closed yet.",
        )  # fmt: skip


def figures(board: Mapping[str, Any]) -> str:
    """Say what came out, short, as the trial log keeps it."""
    everybody = {"council": board["consensus"], **board["agents"]}
    parts = []
    for name, row in everybody.items():
        said = [
            f"{word} {row[key]:{form}}"
            for word, key, form in (
                ("gain", "brier_skill_1e4", ".2f"), ("AUC", "auc", ".4f"),
                ("pinball", "pinball_bps", ".3f"), ("risk Brier", "risk_brier", ".5f"),
            )
            if row[key] is not None
        ]  # fmt: skip
        if said:
            parts.append(f"{name} {', '.join(said)}")
    return "; ".join(parts)


def _say(body: Mapping[str, Any]) -> None:
    tested = [name for name in body["agents"] if name not in body["not_tested"]]
    if body["ok"]:
        out.print(
            f"[green]clean[/]: {body['rows']} decisions with three futures each, and "
            f"{body['stretch']} decided again from {body['prefixes']} shorter files, are the same "
            f"to the last bit: {', '.join(tested)} and the council"
        )
    if body["history"] < body["history_wanted"]:
        out.print(
            f"[yellow]short[/]: {body['history']:,} bars before each row; the longest window takes "
            f"{body['history_wanted']:,}"
        )
    for name in body["not_tested"]:
        out.print(f"[yellow]not tested[/]: {name} said nothing on any of these bars")


def _asked(agents: str | None) -> tuple[list[str], list[str]]:
    """Split ``--agents`` into a setting for ours and the names of guests."""
    names = [name.strip() for name in (agents or "").split(",") if name.strip()]
    guests = [name for name in names if ":" in name]
    ours = [name for name in names if ":" not in name]
    if agents is None or (guests and not ours):
        return [], guests
    return [f"models.agents={','.join(ours)}"], guests
