"""What command line, search and jobs need of a training, whatever it is that learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from agents.artifacts import Card
from agents.training.dataset import Source
from agents.training.settings import Setting, Settings
from agents.training.spaces import Space
from agents.training.watch import Watch
from domain.market import BarFrame


class Trainable(Protocol):
    """A model that can be trained; :class:`agents.training.kinds.ModelSpec` says what each is."""

    @property
    def name(self) -> str: ...
    @property
    def horizon_bars(self) -> int: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def several(self) -> bool: ...
    @property
    def mixed(self) -> bool: ...
    @property
    def network(self) -> bool: ...
    @property
    def question(self) -> Sequence[Any]: ...
    @property
    def space(self) -> Space: ...
    @property
    def usual(self) -> dict[str, Setting]: ...
    @property
    def differing(self) -> dict[str, Setting]: ...

    def having(self, settings: Mapping[str, Setting]) -> Self:
        """Return the same training with more settings given."""
        ...

    def prepared(self, bars: Sequence[BarFrame], watch: Watch) -> Self:
        """Return the same training on these bars, with what is the same for all settings done."""
        ...

    def length(self, folds: int) -> int:
        """Return how far it counts."""
        ...

    def train(
        self, bars: Sequence[BarFrame], root: Path, source: Source, watch: Watch | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Card:  # fmt: skip
        """Train and save a version."""
        ...
