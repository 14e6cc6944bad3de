"""``conclave gate``: what a gate is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

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
from serving.commands.training import Recipe, With, gate_settings, requires_rl
from serving.system import SystemClock, git_commit

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(help="What a gate is worth.", no_args_is_help=True)

FOLDS, SEEDS = 4, 5


@app.command()
def evaluate(
    data: DataFile,
    strategy: Annotated[
        str | None, typer.Option(help="council, ema_cross or mean_reversion; else the profile's")
    ] = None,
    timerange: TimeRange = None,
    folds: Annotated[int, typer.Option(min=1, max=52, help="stretches, each trained anew")] = FOLDS,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="policies of each stretch")] = SEEDS,
    recipe: Recipe = None, given: With = None,
    html: Annotated[
        Path | None, typer.Option(help="write the page there as well", metavar="FILE")
    ] = None,
    json: Json = False, profile: Profile = None, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train gates on the bars before each part of the range, and compare them on it.

    Beside the strategy without a gate, one that vetoes as often by lot, nobody, and buy and hold.
    Writes latest.json and latest.html under VAR_DIR/reports/rl_eval, and rl_eval.json beside it.

    Example: conclave gate evaluate --data BTCUSDT-binance-spot-5m.parquet --profile exercise
    --timerange 20240101-20250101
    """
    from serving import trials
    from serving.market_files import load_bars, span_of
    from serving.report_files import prepare, write_report

    name = profile or "strict"
    chosen = [*(sets or ()), *([] if strategy is None else [f"execution.strategy={strategy}"])]
    settings = settings_from(name, config, chosen)
    folder = prepare(settings.data.var_dir / "reports" / "rl_eval", html)
    clock, commit = SystemClock(), git_commit()
    bars = load_bars(data, clock)
    with requires_rl("gate evaluate"):
        from rl.report import render
        from serving.gate_report import GateRequest, gate_look, gate_report

        request = GateRequest(
            span_of(timerange), range(1, seeds + 1), folds, gate_settings(recipe, given), name,
            commit,
        )  # fmt: skip
        look = gate_look(settings, bars, request)
    trials.prepare(settings.models.trials_log, look)
    with progress_steps(quiet=json) as steps:
        report = gate_report(settings, bars, request, steps)
    gate = report["contestants"]["gate"]
    told = f"gate {gate['net_bps']:+.0f} bp, {gate['over_no_gate_bps']:+.0f} over no gate"
    sharpe = gate["sharpe"]
    told += "" if sharpe is None else f", Sharpe {sharpe:.2f}"
    trial = trials.record(settings.models.trials_log, look, told, clock.now())
    page = render(report)
    path = write_report(folder, {**report, "trial": trial}, clock.now(), page)
    (folder.parent / "rl_eval.json").write_bytes((folder / "latest.json").read_bytes())
    if html is not None:
        html.write_text(page, encoding="utf-8")
    err.print(f"report: {path.with_suffix('.html')}\ntrial: {trial}", style="dim", markup=False,
              soft_wrap=True)  # fmt: skip
    if json:
        print_json(report)
    else:
        out.print(_table(report["contestants"]))


def _table(rows: Mapping[str, Any]) -> Any:
    table = Table(
        "who", "net, bp", "over no gate", "95 %", "trades", "turnover", "vetoed", box=None
    )
    for name, row in rows.items():
        ends, veto = row["over_no_gate_interval"], row.get("veto")
        table.add_row(
            name, f"{row['net_bps']:+,.0f}", f"{row['over_no_gate_bps']:+,.0f}",
            "–" if ends is None else f"[{ends[0]:+,.0f}, {ends[1]:+,.0f}]",
            f"{row['trades']:,.0f}", f"{row['turnover']:,.0f}",
            "–" if veto is None else f"{veto:.0%}",
        )  # fmt: skip
    return table
