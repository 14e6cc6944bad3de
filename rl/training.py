"""A training of the gate, as command line, search and jobs see every training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.artifacts import Card, save
from agents.training.dataset import Source
from agents.training.settings import Setting, Settings, configured, differing, named, values_of
from agents.training.spaces import Between, OneOf, Space, left_open
from agents.training.watch import Watch
from domain.canonical import canonical_json
from domain.errors import DataRefused
from domain.market import BarFrame
from rl.course import Course
from rl.gate import NAME
from rl.learning import GateConfig, Learned, learn
from rl.policy import WEIGHTS

SPACE: Space = {
    "schedule.rate": Between(1e-4, 2e-3, log=True),
    "schedule.entropy": Between(1e-4, 2e-2, log=True),
    "schedule.gamma": Between(0.8, 0.99),
    "schedule.epochs": OneOf((3, 5, 10)),
    "penalty": Between(0.0, 1.0),
    "hidden": OneOf(("32", "64,64", "128,64")),
}

CourseMaker = Callable[[BarFrame, Watch], Course]


@dataclass(frozen=True, slots=True)
class GateSpec:
    """What is trained, and with which settings.

    Attributes
    ----------
    strategy : whose decisions it guards.
    asked : hash of what shapes the course beside the bars: rules, costs, agents.
    make : puts the strategy's decisions beside bars.
    settings : those that are given, by dotted name.
    board : folder for TensorBoard; None = nothing is written.
    recipe : settings that stand where none is given, and where a search begins.

    Raises
    ------
    UsageError : for a setting that does not exist.
    """

    strategy: str
    horizon_bars: int
    asked: str
    make: CourseMaker = field(compare=False, repr=False)
    settings: Settings = field(default_factory=dict)
    board: Path | None = field(default=None, compare=False)
    recipe: Settings = field(default_factory=dict)

    several = False  # one market's bars at a time
    mixed = False
    network = False  # too small for an accelerator to help

    def __post_init__(self) -> None:
        _ = self.config.style

    @property
    def name(self) -> str:
        """Of the model: ``gate/<strategy>``."""
        return f"{NAME}/{self.strategy}"

    @property
    def question(self) -> list[Any]:
        """Everything that makes it another training, JSON's types and dataclasses."""
        return [self.name, self.horizon_bars, self.asked, self.config]

    @property
    def config(self) -> GateConfig:
        """The config with the settings in it."""
        return configured(configured(GateConfig(), self.recipe), self.settings)

    @property
    def space(self) -> Space:
        """What a search chooses: not what is given, nor what the recipe has beyond the space.

        Raises
        ------
        UsageError : if nothing is left to choose.
        """
        own = values_of(self.config, SPACE)
        beyond = {name: own[name] for name, part in SPACE.items() if own[name] not in part}
        return left_open(self.name, SPACE, {**beyond, **self.settings})

    @property
    def usual(self) -> dict[str, Setting]:
        """The training's own values of what a search chooses."""
        return values_of(self.config, self.space)

    @property
    def differing(self) -> dict[str, Setting]:
        """The settings that are not the usual ones."""
        return differing(self.config, GateConfig(), {**self.recipe, **self.settings})

    def having(self, settings: Mapping[str, Setting]) -> GateSpec:
        """Return the same training with more settings given; on the board it is another run."""
        told = " ".join(f"{name}={value}" for name, value in sorted(settings.items()))
        board = None if self.board is None else self.board / told
        return replace(self, settings={**self.settings, **settings}, board=board)

    def prepared(self, bars: Sequence[BarFrame], watch: Watch) -> GateSpec:
        """Return the same training on these bars, the strategy's decisions on them made.

        Raises
        ------
        DataRefused : if there are too few bars.
        """
        return replace(self, make=_Made(self.make(bars[0], watch)))

    def length(self, folds: int) -> int:
        """Return how far :meth:`Watch.checked` counts: steps of the environment."""
        del folds
        return self.config.schedule.steps

    def train(
        self, bars: Sequence[BarFrame], root: Path, source: Source, watch: Watch | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Card:  # fmt: skip
        """Train on the bars before ``source.end_ms`` and save a version under ``root``.

        Raises
        ------
        DataRefused : if the strategy wants too little, or there are too few bars.
        ModelError : if the checkpoint cannot be read, or what is learned is no longer finite.
        """
        watch, config = watch or Watch(), self.config
        frame = bars[0].between(None, source.end_ms)
        course = self.make(frame, watch)
        fit, valid = divided(course, config.valid)
        watch.say(f"{_wanted(fit):.1%} of {len(fit):,} closes with a side to judge")
        learned = learn(
            fit, config, source.seed, valid=valid, watch=watch, identity=[*self.question,
            source.data_sha256, source.end_ms], board=self.board,
        )  # fmt: skip
        contents = {
            WEIGHTS: learned.policy.to_bytes(),
            "params.json": (canonical_json(self._params(course)) + "\n").encode(),
        }
        return save(root, self.name, self._card(course, source, learned).noting(notes), contents)

    def _params(self, course: Course) -> dict[str, Any]:
        terms = course.terms
        return {
            "schema": course.schema.as_dict(), "strategy": self.strategy,
            "cost": terms.round_trip, "stake": terms.stake, "mode": self.config.mode,
        }  # fmt: skip

    def _card(self, course: Course, source: Source, learned: Learned) -> Card:
        bars, seen = course.bars.open_ms, course.schema.features
        return Card(
            NAME, self.strategy, source.created_at, source.commit, source.data_sha256,
            course.symbol, course.timeframe, self.horizon_bars, int(bars[0]),
            int(bars[-1]) + course.rules.bar_ms, source.seed,
            metrics={
                "walk_forward": learned.scores, "history": learned.history,
                "steps": learned.steps, "features": list(seen),
            },
            settings=dict(named(self.config)), command=source.command,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Made:
    course: Course

    def __call__(self, bars: BarFrame, watch: Watch) -> Course:
        del bars, watch
        return self.course


def divided(course: Course, valid: float) -> tuple[Course, Course]:
    """Return the course to learn on and the one to compare on; H bars between are left out.

    Parameters
    ----------
    valid : share of the bars, the newest.

    Raises
    ------
    DataRefused : if the strategy wants nothing, or either part has no run of bars.
    """
    at = course.bars.open_ms
    cut = int(at[min(int(len(at) * (1.0 - valid)), len(at) - 1)])
    gap, end = course.rules.horizon_ms, int(at[-1]) + 1
    parts = course.between(int(at[0]), cut - gap), course.between(cut, end)
    if not all(len(part.runs) for part in parts):
        raise DataRefused("bars", "must leave something to learn on and to compare on", len(at))
    if not _wanted(parts[0]):
        raise DataRefused(
            f"the decisions on {course.symbol}", "must hold a side to judge", "none",
            "Choose another strategy or profile, or give more bars.",
        )  # fmt: skip
    return parts


def _wanted(course: Course) -> float:
    return float((course.intent != 0).mean())
