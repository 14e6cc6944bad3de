"""What can be trained, by name: which settings it has, what of them is searched, and how to do it.

The only list of trainings; command line, walk-forward, search and scripts all go through it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.artifacts import Card
from agents.contract import HORIZON_BARS
from agents.heads import TARGETS
from agents.training.dataset import Source
from agents.training.model import Model
from agents.training.settings import Setting, Settings, configured, differing, values_of
from agents.training.spaces import SPACES, Space, left_open
from agents.training.watch import Watch
from domain.errors import UsageError
from domain.market import BarFrame

KINDS = ("baseline", "tft")
CHRONOS, RISK = "chronos", "risk"  # are trained as a whole, not by target
TRAININGS = (RISK, *(f"{kind}/{target}" for kind in KINDS for target in TARGETS), CHRONOS)


def model_of(
    kind: str, target: str, horizon_bars: int = HORIZON_BARS, settings: Settings | None = None
) -> Model:
    """Return an untrained model.

    Parameters
    ----------
    settings : those that differ from the kind's own, by dotted name.

    Raises
    ------
    UsageError : for a kind, target or setting that does not exist.
    """
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(KINDS)}."
        raise UsageError("model", "must be a kind that exists", kind, hint)
    config = configured(_usual(kind), settings or {})
    if kind == "baseline":
        from agents.training.baseline import BaselineModel

        return BaselineModel(target, horizon_bars, config)
    from agents.training.tft import TftModel

    return TftModel(target, horizon_bars, config)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is trained, and with which settings.

    Attributes
    ----------
    name : one of :data:`TRAININGS`.
    settings : those that differ from its own, by dotted name.

    Raises
    ------
    UsageError : for a name or setting that does not exist.
    """

    name: str
    horizon_bars: int = HORIZON_BARS
    settings: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in TRAININGS:
            raise UsageError("training", f"must be one of {', '.join(TRAININGS)}", self.name)
        configured(_usual(self.kind), self.settings)

    @property
    def kind(self) -> str:
        """The part before the slash."""
        return self.name.partition("/")[0]

    @property
    def several(self) -> bool:
        """Whether the bars of further symbols are of use: to learn from, or to say how wide."""
        return self.network or self.name in (RISK, "baseline/return")

    @property
    def network(self) -> bool:
        """Whether an accelerator would help it."""
        return self.kind in ("tft", CHRONOS)

    @property
    def mixed(self) -> bool:
        """Whether their bars may be of several timeframes."""
        return self.kind == CHRONOS

    @property
    def config(self) -> Any:
        """The config with the settings in it."""
        return configured(_usual(self.kind), self.settings)

    @property
    def question(self) -> list[Any]:
        """Everything that makes it another training, beside the bars."""
        return [self.name, self.horizon_bars, self.config]

    @property
    def space(self) -> Space:
        """What a search chooses: the training's space without the settings that are given.

        Raises
        ------
        UsageError : if nothing is left to choose.
        """
        return left_open(self.name, SPACES.get(self.name, {}), self.settings)

    @property
    def usual(self) -> dict[str, Setting]:
        """The training's own values of what a search chooses."""
        return values_of(self.config, self.space)

    @property
    def differing(self) -> dict[str, Setting]:
        """The settings that are not the training's own."""
        return differing(self.config, _usual(self.kind), self.settings)

    def having(self, settings: Mapping[str, Setting]) -> ModelSpec:
        """Return the same training with more settings given."""
        return replace(self, settings={**self.settings, **settings})

    def prepared(self, bars: Sequence[BarFrame], watch: Watch) -> ModelSpec:
        """Return the training as it is: settings shape all that it does."""
        del bars, watch
        return self

    def length(self, folds: int) -> int:
        """Return how far :meth:`Watch.checked` counts: optimiser steps, or folds."""
        schedule = getattr(self.config, "schedule", None)
        return folds if schedule is None else int(schedule.steps)

    def train(
        self, bars: Sequence[BarFrame], root: Path, source: Source, watch: Watch | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Card:  # fmt: skip
        """Train on the bars before ``source.end_ms`` and save a version under ``root``.

        Parameters
        ----------
        bars : one frame per symbol; the first is the one that is forecast.
        notes : added to the card's metrics.

        Raises
        ------
        DataRefused : if there are too few valid rows.
        UsageError : if the bars do not go together.
        ModelError : if the checkpoint cannot be read, or the loss is no longer finite.
        """
        watch = watch or Watch()
        if self.kind in KINDS:
            target = self.name.partition("/")[2]
            model = model_of(self.kind, target, self.horizon_bars, self.settings)
            model.train(bars, source, watch)
            return model.save(root, notes)
        if self.kind == CHRONOS:
            from agents.training import chronos

            return chronos.train(bars, root, source, self.horizon_bars, self.config, watch, notes)
        from agents.training import risk

        return risk.train(bars, root, source, self.horizon_bars, watch.say)


def _usual(kind: str) -> Any:
    """The config that a kind is trained with unless told otherwise."""
    if kind == "baseline":
        from agents.training.baseline import BaselineConfig

        return BaselineConfig()
    if kind == "tft":
        from agents.training.tft import TftConfig

        return TftConfig()
    if kind == CHRONOS:
        from agents.training.chronos import ChronosConfig

        return ChronosConfig()
    return _NoConfig()


@dataclass(frozen=True, slots=True)
class _NoConfig:
    """Nothing to set."""
