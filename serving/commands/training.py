"""``conclave train``: one target at a time, each into a versioned artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domain.canonical import short_hash
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
from serving.commands.watching import followed
from serving.settings import Settings
from serving.system import SystemClock, git_commit

if TYPE_CHECKING:
    from agents.artifacts import Card
    from agents.training.dataset import Source
    from agents.training.watch import Watch
    from domain.market import BarFrame

app = typer.Typer(
    help="Train a model on the bars before --end; it is used once promoted.", no_args_is_help=True
)

END = "2025-01-01"  # what is trained on later bars has no honest test year left
SEED = 7


class Model(StrEnum):
    """Kinds of models that can be trained."""

    BASELINE = "baseline"
    TFT = "tft"


ModelKind = Annotated[Model, typer.Option("--model", help="kind of model")]
Also = Annotated[
    list[Path] | None,
    typer.Option("--also", help="bars of a further symbol to learn from; may be repeated"),
]
End = Annotated[str, typer.Option(help="bars that open before it are seen, ISO date (UTC)")]
Seed = Annotated[int, typer.Option(min=0, help="of every random draw")]
Steps = Annotated[int | None, typer.Option(min=1, help="optimiser steps; default: the kind's own")]


@app.command()
def trend(
    data: DataFile, model: ModelKind = Model.BASELINE, also: Also = None, steps: Steps = None,
    end: End = END, seed: Seed = SEED, json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train the direction: the probability that the price is higher after the horizon.

    A training in steps that was stopped goes on where it was when it is started again.

    Example: conclave train trend --model baseline --data BTCUSDT-binance-spot-5m-2024.parquet
    """
    order = _Order([data, *(also or [])], end, seed, json, settings_from(None, config, sets))
    _target("trend", model, steps, order)


@app.command("return")
def return_(
    data: DataFile, model: ModelKind = Model.BASELINE, also: Also = None, steps: Steps = None,
    end: End = END, seed: Seed = SEED, json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train the range: the quantiles of the return over the horizon."""
    order = _Order([data, *(also or [])], end, seed, json, settings_from(None, config, sets))
    _target("return", model, steps, order)


@app.command()
def risk(
    data: DataFile, model: ModelKind = Model.BASELINE, also: Also = None, steps: Steps = None,
    end: End = END, seed: Seed = SEED, json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train the adverse move: the probability of a fall, or rise, beyond 0.5 %."""
    order = _Order([data, *(also or [])], end, seed, json, settings_from(None, config, sets))
    _target("risk", model, steps, order)


@app.command()
def volatility(
    data: DataFile, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Fit the risk agent: its volatility model, residual quantiles and adverse-move curves."""
    from agents.training import risk as trainer

    settings = settings_from(None, config, sets)

    def fit(bars: Sequence[BarFrame], source: Source, watch: Watch) -> Card:
        horizon = settings.data.pred_horizon_steps
        root = settings.data.models_dir
        return trainer.train(bars[0], root, source, horizon, progress=watch.say)

    _train("risk", "volatility", fit, _Order([data], end, seed, json, settings))


@app.command()
def chronos(
    data: DataFile, also: Also = None,
    size: Annotated[str, typer.Option(help="nano, micro, milli, tiny or mini")] = "micro",
    steps: Steps = None, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train a Chronos-Bolt of our own on returns of all symbols given, and on synthetic series.

    Example: conclave train chronos --data BTCUSDT-binance-spot-5m-2024.parquet --size nano
    """
    from agents.training import chronos as trainer

    settings = settings_from(None, config, sets)
    wanted = trainer.ChronosConfig(size=size)
    if steps is not None:
        wanted = replace(wanted, schedule=replace(wanted.schedule, steps=steps))

    def fit(bars: Sequence[BarFrame], source: Source, watch: Watch) -> Card:
        horizon, root = settings.data.pred_horizon_steps, settings.data.models_dir
        return trainer.train(bars, root, source, horizon, wanted, watch)

    words = f"chronos --size {size}" + (f" --steps {steps}" if steps else "")
    _train("chronos", words, fit, _Order([data, *(also or [])], end, seed, json, settings))


@dataclass(frozen=True, slots=True)
class _Order:
    """What is common to all trainings. ``files`` : bars, the forecast symbol's first."""

    files: Sequence[Path]
    end: str
    seed: int
    json: bool
    settings: Settings


def _target(target: str, model: Model, steps: int | None, order: _Order) -> None:
    from agents.training.kinds import model_of

    def fit(bars: Sequence[BarFrame], source: Source, watch: Watch) -> Card:
        horizon = order.settings.data.pred_horizon_steps
        chosen = model_of(model.value, target, horizon, steps)
        chosen.train(bars, source, watch)
        return chosen.save(order.settings.data.models_dir)

    words = f"{target} --model {model.value}" + (f" --steps {steps}" if steps else "")
    _train(f"{model.value}/{target}", words, fit, order)


def _train(
    name: str,
    words: str,
    fit: Callable[[Sequence[BarFrame], Source, Watch], Card],
    order: _Order,
) -> None:
    from agents.training.dataset import Source
    from serving.market_files import load_bars
    from serving.promotion import require_sound
    from serving.registry import after_training

    settings = order.settings
    clock, end_ms = SystemClock(), parse_iso(order.end)
    files = [load_bars(path, clock) for path in order.files]
    if end_ms > parse_iso(END):
        err.print(
            f"This model will have seen bars of {END[:4]} and later: that year is no test of it.",
            style="yellow",
        )
    also = "".join(f" --also {path.name}" for path in order.files[1:])
    command = (
        f"conclave train {words} --data {order.files[0].name}{also} --end {order.end} "
        f"--seed {order.seed}"
    )
    told = files[0].sha256 if len(files) == 1 else short_hash([one.sha256 for one in files], 64)
    source = Source(end_ms, order.seed, clock.now(), git_commit(), told, command=command)
    checkpoint = settings.data.models_dir / name / "checkpoints" / f"seed-{order.seed}.pt"
    with followed(name, checkpoint, quiet=order.json) as watch:
        card = fit([one.frame.between(None, end_ms) for one in files], source, watch)
    checkpoint.unlink(missing_ok=True)  # what it was for is done
    outcome = after_training(
        settings.data.models_dir, name, card, promote_better=settings.models.auto_promote,
        sound=partial(require_sound, settings),
    )  # fmt: skip
    if order.json:
        print_json({"name": name, "version": card.version, **outcome.as_json(), "card": card})
        return
    out.print(f"[bold]{name}[/] {card.version}, trained on {card.symbol} {card.timeframe}")
    out.print(f"bars that open from {iso(card.start_ms)} to {iso(card.end_ms)}")
    for metric, value in outcome.scores.items():
        out.print(f"  {metric:<24} {value:.5g}   (walk-forward, quarters before the end)")
    out.print(outcome.why, style="green" if outcome.promoted else "", markup=False)
    if not outcome.promoted:
        out.print(f"Use it: conclave models promote {name} {card.version}", markup=False)
