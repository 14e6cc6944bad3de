"""Which long work may be asked for, and the command line that each kind becomes.

Whoever asks chooses among these fields and nothing else: values are bounded, files are names inside
DATA_DIR_RAW, and no shell ever sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from domain.errors import NotFound, UsageError
from serving.replies import Strict

FileName = Annotated[
    str,
    Field(
        max_length=160, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.(parquet|csv)$",
        examples=["BTCUSDT-binance-spot-5m-2024.parquet"],
        description="a file in DATA_DIR_RAW, with or without the hash before its name",
    ),
]  # fmt: skip
Range = Annotated[
    str,
    Field(
        max_length=40, pattern=r"^[0-9TZ]*-[0-9TZ]*$", examples=["20240101-20240201"],
        description="half-open, of bar opens, UTC",
    ),
]  # fmt: skip
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", examples=["2025-01-01"])]
Agent = Literal["climatology", "technical", "baseline", "chronos", "tft", "microstructure", "risk"]
Profile = Literal["strict", "balanced", "demo", "exercise", "oracle", "chronos-only"]
Seed = Annotated[int, Field(ge=0, le=2**31)]
Place = Callable[[str], str]
"""Turns the name of a file into what stands for it on the command line."""


class TrainArgs(Strict):
    """Train one model, as ``conclave train`` does."""

    target: Literal["trend", "return", "risk", "volatility", "chronos", "gate"]
    data: FileName
    model: Literal["baseline", "tft"] = Field("baseline", description="of trend, return and risk")
    strategy: Literal["council", "ema_cross", "mean_reversion"] | None = Field(
        None, description="that the gate guards; null: the settings'"
    )
    size: Literal["nano", "micro", "milli", "tiny", "mini"] = Field("micro", description="Chronos")
    also: list[FileName] = Field(default=[], max_length=10, description="of further symbols")
    end: Day | None = Field(None, description="bars that open before it are seen")
    steps: int | None = Field(
        None, ge=1, le=100_000_000, description="of the optimiser; of the gate's environment"
    )
    seed: Seed = 7

    @model_validator(mode="after")
    def _only_what_it_has(self) -> TrainArgs:
        if self.steps is not None and self.target == "volatility":
            raise ValueError("volatility has no optimiser steps")
        if self.also and self.target == "gate":
            raise ValueError("gate learns from one symbol")
        return self

    def words(self, place: Place) -> Iterator[str]:
        """Iterate over the command line."""
        yield from ("train", self.target, "--data", place(self.data), "--seed", str(self.seed))
        if self.target in ("trend", "return", "risk"):
            yield from ("--model", self.model)
        if self.target == "chronos":
            yield from ("--size", self.size)
        if self.target == "gate":
            yield from _given("--strategy", self.strategy)
        for name in self.also:
            yield from ("--also", place(name))
        yield from _given("--end", self.end)
        yield from _given("--steps", self.steps)


class _Judged(Strict):
    data: FileName
    timerange: Range | None = None
    agents: list[Agent] = Field(default=[], max_length=7, description="empty: the settings'")

    def _words(self, command: str, place: Place) -> Iterator[str]:
        yield from (command, "--data", place(self.data))
        yield from _given("--timerange", self.timerange)
        yield from _given("--agents", ",".join(self.agents) or None)


class EvaluateArgs(_Judged):
    """Score agents, council and baselines, as ``conclave evaluate`` does."""

    refit: bool = Field(False, description="train models anew every quarter")
    controls: bool = Field(False, description="add the negative controls")

    def words(self, place: Place) -> Iterator[str]:
        """Iterate over the command line."""
        yield from self._words("evaluate", place)
        yield from (f"--{flag}" for flag in ("refit", "controls") if getattr(self, flag))


class LookaheadArgs(_Judged):
    """Show that nothing sees its future, as ``conclave lookahead`` does."""

    rows: int = Field(200, ge=1, le=5000)
    seed: Seed = 7

    def words(self, place: Place) -> Iterator[str]:
        """Iterate over the command line."""
        yield from self._words("lookahead", place)
        yield from ("--rows", str(self.rows), "--seed", str(self.seed))


class BacktestArgs(Strict):
    """Trade a file, as ``conclave backtest`` does."""

    data: FileName
    exec_data: FileName | None = None
    funding: FileName | None = None
    strategy: Literal["council", "ema_cross", "mean_reversion"] | None = None
    profile: Profile | None = None
    timerange: Range | None = None
    breakdown: Literal["day", "week", "month"] | None = None

    def words(self, place: Place) -> Iterator[str]:
        """Iterate over the command line."""
        yield from ("backtest", "--data", place(self.data))
        for flag, name in (("--exec-data", self.exec_data), ("--funding", self.funding)):
            yield from _given(flag, None if name is None else place(name))
        for flag in ("strategy", "profile", "timerange", "breakdown"):
            yield from _given(f"--{flag}", getattr(self, flag))


def _given(flag: str, value: object | None) -> Iterator[str]:
    if value is not None:
        yield f"{flag}={value}"


class TrainJob(Strict):
    """A training."""

    kind: Literal["train"]
    args: TrainArgs


class EvaluateJob(Strict):
    """An evaluation."""

    kind: Literal["evaluate"]
    args: EvaluateArgs


class BacktestJob(Strict):
    """A backtest."""

    kind: Literal["backtest"]
    args: BacktestArgs


class LookaheadJob(Strict):
    """A look-ahead check."""

    kind: Literal["lookahead"]
    args: LookaheadArgs


JobRequest = Annotated[
    TrainJob | EvaluateJob | BacktestJob | LookaheadJob, Field(discriminator="kind")
]
ARGS: dict[str, type[TrainArgs | EvaluateArgs | BacktestArgs | LookaheadArgs]] = {
    "train": TrainArgs, "evaluate": EvaluateArgs, "backtest": BacktestArgs,
    "lookahead": LookaheadArgs,
}  # fmt: skip


def command_of(kind: str, args: dict[str, Any], place: Place = lambda name: name) -> list[str]:
    """Return what comes after ``conclave``, with ``--json``.

    Parameters
    ----------
    place : where a named file lies; by default its name stands for it.

    Raises
    ------
    UsageError : for a kind that is not on the list.
    pydantic.ValidationError : for arguments that are none.
    """
    if kind not in ARGS:
        raise UsageError("job", f"must be one of {', '.join(ARGS)}", kind)
    return [*ARGS[kind].model_validate(args).words(place), "--json"]


def file_in(folder: Path, name: str) -> Path:
    """Return the file of that name in a folder, hash before its name or not.

    Raises
    ------
    NotFound : if there is none, or more than one.
    """
    found = [folder / name, *folder.glob(f"{'[0-9a-f]' * 12}-{name}")]
    files = [path for path in found if path.is_file() and path.resolve().parent == folder.resolve()]
    if len(files) != 1:
        what = "is not in DATA_DIR_RAW" if not files else "is there more than once"
        hint = "conclave data import FILE brings one there." if not files else "Add its hash."
        raise NotFound("file", what, name, hint)
    return files[0]
