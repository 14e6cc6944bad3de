"""``conclave train``: one target at a time, each into a versioned artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.times import iso, parse_iso
from serving.commands.common import (
    Config,
    DataFile,
    Json,
    Set,
    err,
    out,
    print_json,
    settings_from,
)
from serving.settings import Settings
from serving.system import SystemClock, git_commit

if TYPE_CHECKING:
    from agents.artifacts import Card
    from agents.training.dataset import Source
    from domain.market import BarFrame

app = typer.Typer(
    help="Train a model on the bars before --end; it is used once promoted.", no_args_is_help=True
)

END = "2025-01-01"  # what is trained on later bars has no honest test year left
SEED = 7
Say = Callable[[str], None]


class Model(StrEnum):
    """Kinds of models that can be trained."""

    BASELINE = "baseline"


ModelKind = Annotated[Model, typer.Option("--model", help="kind of model")]
End = Annotated[str, typer.Option(help="bars that open before it are seen, ISO date (UTC)")]
Seed = Annotated[int, typer.Option(min=0, help="of every random draw")]


@app.command()
def trend(
    data: DataFile, model: ModelKind = Model.BASELINE, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train the direction: the probability that the price is higher after the horizon.

    Example: conclave train trend --model baseline --data BTCUSDT-binance-spot-5m-2024.parquet
    """
    _baseline("trend", data, model, end, seed, json, settings_from(None, config, sets))


@app.command("return")
def return_(
    data: DataFile, model: ModelKind = Model.BASELINE, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train the range: the quantiles of the return over the horizon."""
    _baseline("return", data, model, end, seed, json, settings_from(None, config, sets))


@app.command()
def risk(
    data: DataFile, model: ModelKind = Model.BASELINE, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train the adverse move: the probability of a fall, or rise, beyond 0.5 %."""
    _baseline("risk", data, model, end, seed, json, settings_from(None, config, sets))


@app.command()
def volatility(
    data: DataFile, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Fit the risk agent: its volatility model, residual quantiles and adverse-move curves."""
    from agents.training import risk as trainer

    settings = settings_from(None, config, sets)

    def fit(bars: BarFrame, source: Source, say: Say) -> Card:
        horizon = settings.data.pred_horizon_steps
        return trainer.train(bars, settings.data.models_dir, source, horizon, progress=say)

    _train("risk", "volatility", fit, data, end, seed, json, settings)


def _baseline(
    target: Any, data: Path, model: Model, end: str, seed: int, json: bool, settings: Settings
) -> None:
    from agents.training import baseline as trainer

    def fit(bars: BarFrame, source: Source, say: Say) -> Card:
        horizon = settings.data.pred_horizon_steps
        return trainer.train(target, bars, settings.data.models_dir, source, horizon, progress=say)

    words = f"{target} --model {model.value}"
    _train(f"{model.value}/{target}", words, fit, data, end, seed, json, settings)


def _train(
    name: str,
    words: str,
    fit: Callable[[BarFrame, Source, Say], Card],
    data: Path,
    end: str,
    seed: int,
    json: bool,
    settings: Settings,
) -> None:
    from agents.training.dataset import Source
    from serving.market_files import load_bars
    from serving.registry import after_training

    clock, end_ms = SystemClock(), parse_iso(end)
    bars = load_bars(data, clock)
    if end_ms > parse_iso(END):
        err.print(
            f"This model will have seen bars of {END[:4]} and later: that year is no test of it.",
            style="yellow",
        )
    command = f"conclave train {words} --data {data.name} --end {end} --seed {seed}"
    source = Source(end_ms, seed, clock.now(), git_commit(), bars.sha256, command=command)
    with _said(name, quiet=json) as say:
        card = fit(bars.frame.between(None, end_ms), source, say)
    outcome = after_training(
        settings.data.models_dir, name, card, promote_better=settings.models.auto_promote
    )
    if json:
        print_json({"name": name, "version": card.version, **outcome.as_json(), "card": card})
        return
    out.print(f"[bold]{name}[/] {card.version}, trained on {card.symbol} {card.timeframe}")
    out.print(f"bars that open from {iso(card.start_ms)} to {iso(card.end_ms)}")
    for metric, value in outcome.scores.items():
        out.print(f"  {metric:<18}{value:.5g}   (walk-forward, quarters before the end)")
    out.print(outcome.why, style="green" if outcome.promoted else "", markup=False)
    if not outcome.promoted:
        out.print(f"Use it: conclave models promote {name} {card.version}", markup=False)


@contextmanager
def _said(name: str, *, quiet: bool) -> Iterator[Say]:
    """Show what training is at, in one changing line, or line by line where that cannot be."""
    if quiet:
        yield lambda _: None
    elif err.is_terminal:
        with err.status(f"training {name} …") as status:
            yield lambda text: status.update(f"training {name}: {text}")
    else:
        yield lambda text: err.print(text, markup=False, style="dim")
