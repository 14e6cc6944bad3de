"""``conclave train``: one target at a time, each into a versioned artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.errors import SettingError, UsageError
from domain.times import iso
from serving.commands.common import (
    Config,
    DataFile,
    Json,
    Profile,
    Set,
    err,
    out,
    print_json,
    settings_from,
)
from serving.commands.watching import followed
from serving.settings import Settings
from serving.system import SystemClock, git_commit
from serving.trials import TEST_YEAR

if TYPE_CHECKING:
    from serving.studies import Found
    from serving.training import Order, Trained

app = typer.Typer(
    help="Train a model on the bars before --end; it is used once promoted.", no_args_is_help=True
)

END = iso(TEST_YEAR[0])[:10]  # what is trained on later bars has no honest test year left
SEED = 7


class Model(StrEnum):
    """Kinds of models that can be trained."""

    BASELINE = "baseline"
    TFT = "tft"


ModelKind = Annotated[Model, typer.Option("--model", help="kind of model")]
Also = Annotated[
    list[Path] | None,
    typer.Option("--also", help="bars of a further symbol; may be repeated"),
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        help="a setting of the training as NAME=VALUE, e.g. schedule.rate=0.001; repeatable",
    ),
]
Recipe = Annotated[
    Path | None, typer.Option(help="settings of the training, YAML; --with goes over it")
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="optimiser steps, of a training that has them")
]
Tune = Annotated[
    int | None,
    typer.Option(
        "--tune", min=1, max=1000, metavar="N",
        help="search settings in N trials with Ray Tune, then train with the best",
    ),
]  # fmt: skip
Concurrent = Annotated[int, typer.Option(min=1, max=64, help="trials of --tune at a time")]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="forget what an earlier run of this training left")
]
End = Annotated[str, typer.Option(help="bars that open before it are seen, ISO date (UTC)")]
Seed = Annotated[int, typer.Option(min=0, help="of every random draw")]

_TARGETS = {
    "trend": "the direction: the probability that the price is higher after the horizon.",
    "return": "the range: the quantiles of the return over the horizon.",
    "risk": "the adverse move: the probability of a fall, or rise, beyond 0.5 %.",
}


def _command(target: str) -> Callable[..., None]:
    def train(
        data: DataFile, model: ModelKind = Model.BASELINE, also: Also = None,
        given: With = None, steps: Steps = None, tune: Tune = None, concurrent: Concurrent = 1,
        fresh: Fresh = False, end: End = END, seed: Seed = SEED,
        json: Json = False, config: Config = None, sets: Set = None,
    ) -> None:  # fmt: skip
        from agents.training.kinds import ModelSpec
        from serving.training import Order

        settings = settings_from(None, config, sets)
        chosen = _given(given, steps)
        if model is Model.TFT:
            chosen = {"encoder": str(settings.features.encoder_length), **chosen}
        spec = ModelSpec(f"{model.value}/{target}", settings.data.pred_horizon_steps, chosen)
        words = f"{target} --model {model.value}"
        order = Order(spec, words, [data, *(also or [])], end, seed, tune, concurrent, fresh)
        _run(order, settings, json=json)

    train.__doc__ = f"""Train {_TARGETS[target]}

    A training that was stopped goes on where it was when the same command is given again.

    Example: conclave train {target} --model tft --data BTCUSDT-binance-spot-5m-2024.parquet
    """
    return train


for _target in _TARGETS:
    app.command(_target)(_command(_target))


@app.command()
def chronos(
    data: DataFile, also: Also = None,
    size: Annotated[str, typer.Option(help="nano, micro, milli, tiny or mini")] = "micro",
    given: With = None, steps: Steps = None, tune: Tune = None, concurrent: Concurrent = 1,
    fresh: Fresh = False, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train a Chronos-Bolt of our own on returns of all symbols given, and on synthetic series.

    Example: conclave train chronos --data BTCUSDT-binance-spot-5m-2024.parquet --size nano
    """
    from agents.training.kinds import CHRONOS, ModelSpec
    from serving.training import Order

    settings = settings_from(None, config, sets)
    chosen = {"size": size, **_given(given, steps)}
    spec = ModelSpec(CHRONOS, settings.data.pred_horizon_steps, chosen)
    files = [data, *(also or [])]
    order = Order(spec, CHRONOS, files, end, seed, tune, concurrent, fresh)
    _run(order, settings, json=json)


@app.command()
def volatility(
    data: DataFile, also: Also = None, end: End = END, seed: Seed = SEED,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Fit the risk agent: its volatility model, residual quantiles and adverse-move curves.

    Symbols of --also only say how wide their own intervals must be.

    Example: conclave train volatility --data BTCUSDT-binance-spot-5m-2024.parquet
    """
    from agents.training.kinds import RISK, ModelSpec
    from serving.training import Order

    settings = settings_from(None, config, sets)
    spec = ModelSpec(RISK, settings.data.pred_horizon_steps)
    _run(Order(spec, "volatility", [data, *(also or [])], end, seed), settings, json=json)


@app.command()
def gate(
    data: DataFile,
    strategy: Annotated[
        str | None, typer.Option(help="council, ema_cross or mean_reversion; else the profile's")
    ] = None,
    recipe: Recipe = None, given: With = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="of the environment, all copies together")
    ] = None,
    tune: Tune = None, concurrent: Concurrent = 1,
    board: Annotated[
        Path | None, typer.Option(help="write TensorBoard's events into this folder")
    ] = None,
    fresh: Fresh = False, end: End = END, seed: Seed = SEED,
    json: Json = False, profile: Profile = None, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Train the gate by PPO: which sides of a strategy to let pass, shrink or veto.

    It plays on the bars with the costs of EXECUTION_MARKET, by the rules of the paper broker.
    Needs the extra: pip install -e ".[rl]"

    Example: conclave train gate --data BTCUSDT-binance-spot-5m-2024.parquet --profile exercise
    """
    from serving.training import Order

    overrides = [*(sets or []), *([] if strategy is None else [f"execution.strategy={strategy}"])]
    settings = settings_from(profile, config, overrides)
    with requires_rl("train gate"):
        from serving.gating import gate_spec

        spec = gate_spec(
            settings, git_commit(), _given(given, steps), board and board.resolve(),
            read_recipe(recipe),
        )  # fmt: skip
    words = f"gate --strategy {settings.execution.strategy}"
    words += "" if profile is None else f" --profile {profile}"
    _run(Order(spec, words, [data], end, seed, tune, concurrent, fresh), settings, json=json)


@contextmanager
def requires_rl(command: str) -> Iterator[None]:
    """Say what to install where a package of the extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingError(
            command, f"needs the package {error.name}", None,
            'Install it: pip install -c constraints.txt -e ".[rl]"',
        ) from error  # fmt: skip


def gate_settings(recipe: Path | None, given: list[str] | None) -> dict[str, str]:
    """Return the settings of a gate's training by dotted name; ``--with`` goes over the recipe."""
    return {**read_recipe(recipe), **_given(given, None)}


def read_recipe(path: Path | None) -> dict[str, str]:
    """Read nested settings from YAML and return them by dotted name.

    Raises
    ------
    UsageError : if it cannot be read.
    """
    if path is None:
        return {}
    import yaml

    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError("--recipe", f"must be readable YAML: {error}", path.as_posix()) from error
    if not isinstance(body, dict):
        raise UsageError("--recipe", "must hold settings by name", path.as_posix())
    return dict(_flat(body))


def _flat(body: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in body.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + str(name), ",".join(map(str, value))
        else:
            yield prefix + str(name), str(value)


def _given(texts: list[str] | None, steps: int | None) -> dict[str, str]:
    chosen = {} if steps is None else {"schedule.steps": str(steps)}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError("--with", "must be NAME=VALUE", text, "Try --with schedule.rate=0.001")
        chosen[name.strip()] = value.strip()
    return chosen


def _run(order: Order, settings: Settings, *, json: bool) -> None:
    from serving.job_notes import noted
    from serving.training import train

    def warn(text: str) -> None:
        err.print(text, style="yellow", markup=False)

    try:
        with (
            noted(settings, f"train {order.words}", {"data": order.files[0].name}) as figures,
            followed(order.spec.name, quiet=json) as watch,
        ):
            trained = train(order, settings, SystemClock(), git_commit(), watch, warn)
            figures |= {"version": trained.card.version, **trained.outcome.scores}
            figures |= {"promoted": trained.outcome.promoted}
    except KeyboardInterrupt:
        warn("Interrupted. The same command goes on from the last checkpoint.")
        raise
    if json:
        print_json(trained.as_json())
    else:
        _show(trained)


def _show(trained: Trained) -> None:
    card, outcome = trained.card, trained.outcome
    if trained.found is not None:
        _show_trials(trained.found)
        out.print(f"trial log: {trained.trial_log}", style="dim", markup=False)
    out.print(f"[bold]{trained.name}[/] {card.version}, trained on {card.symbol} {card.timeframe}")
    out.print(f"bars that open from {iso(card.start_ms)} to {iso(card.end_ms)}")
    for metric, value in outcome.scores.items():
        out.print(f"  {metric:<24} {value:.5g}   (validation before the end)")
    out.print(outcome.why, style="green" if outcome.promoted else "", markup=False)
    if not outcome.promoted:
        out.print(f"Use it: conclave models promote {trained.name} {card.version}", markup=False)


def _show_trials(found: Found) -> None:
    from serving.studies import words

    out.print(f"study {found.study}, {found.metric} of each trial:", markup=False)
    for one in found.trials:
        best = one.number == found.best.number
        score = "" if one.score is None else f"{one.score:.5g}"
        out.print(
            f"{one.number:>4}  {score:<10} {'best' if best else one.state:<8} "
            f"{one.seconds:>7.1f} s  {words(one.settings)}",
            style="bold" if best else "", markup=False,
        )  # fmt: skip
