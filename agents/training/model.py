"""The model contract: train, predict, save, load. Which kind it is, is a setting.

A model is one target of one kind. Training makes an artifact in memory; predicting asks the head
that this artifact holds, so what is tested is what would be served; saving writes it as a version;
loading brings a version back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

from agents import artifacts
from agents.artifacts import Artifact, Card
from agents.contract import HORIZON_BARS
from agents.heads import TARGETS, Head, Prediction
from agents.training.dataset import Source
from agents.training.watch import Watch
from agents.volatility import LOOKBACK
from agents.windows import runs
from domain.errors import ModelError, UsageError
from domain.market import BarFrame, MarketState


class Model(ABC):
    """One target of one kind of model.

    Parameters
    ----------
    target : ``trend``, ``return`` or ``risk``.
    horizon_bars : bars ahead.

    Raises
    ------
    UsageError : for an unknown target.
    """

    kind: ClassVar[str]

    def __init__(self, target: str, horizon_bars: int = HORIZON_BARS) -> None:
        if target not in TARGETS:
            raise UsageError("target", f"must be one of {', '.join(TARGETS)}", target)
        self.target, self.horizon_bars = target, horizon_bars
        self._artifact: Artifact | None = None

    @property
    def name(self) -> str:
        """Kind and target: where its versions lie, e.g. ``baseline/trend``."""
        return f"{self.kind}/{self.target}"

    @abstractmethod
    def fit(
        self, bars: Sequence[BarFrame], source: Source, watch: Watch
    ) -> tuple[Card, Mapping[str, bytes]]:
        """Fit on the bars before ``source.end_ms``: a card, and the files of the artifact."""

    @abstractmethod
    def head(self, artifact: Artifact) -> Head:
        """Return the head that an artifact of this model holds."""

    def train(self, bars: Sequence[BarFrame], source: Source, watch: Watch | None = None) -> Card:
        """Learn from the bars before ``source.end_ms`` and validate on the last of them.

        Parameters
        ----------
        bars : one frame per symbol; the first is the one that is forecast, the others help where
            the kind can use them.

        Returns
        -------
        The card; its metrics are scores on rows that the scored fit had not seen.

        Raises
        ------
        DataRefused : if there are too few valid rows.
        UsageError : if the bars are not of several symbols and one timeframe.
        """
        require_distinct(bars)
        if len({one.timeframe for one in bars}) > 1:
            raise UsageError(
                f"bars of {self.name}", "must all be of one timeframe",
                [f"{one.symbol} {one.timeframe}" for one in bars],
            )  # fmt: skip
        card, contents = self.fit(bars, source, watch or Watch())
        hashes = {file: sha256(body).hexdigest() for file, body in contents.items()}
        card = replace(card, files=hashes)
        self._artifact = Artifact(Path(self.name), card, dict(contents))
        return card

    def predict(self, states: Sequence[MarketState]) -> list[Prediction]:
        """Forecast for states: one prediction per run of consecutive ones, in order.

        Raises
        ------
        ModelError : before it was trained or loaded.
        """
        head = self.head(self._trained())
        states, rows = list(states), 0
        if head.feature_rows > 1:
            rows = head.feature_rows
        return [
            head.predict(
                replace(run, index=tuple(range(len(run.index)))), [states[i] for i in run.index]
            )
            for run in runs(states, LOOKBACK, rows)
        ]

    def save(self, root: Path, notes: Mapping[str, Any] | None = None) -> Card:
        """Write it as a version under ``root`` and return the card as written.

        Parameters
        ----------
        notes : added to the card's metrics.

        Raises
        ------
        ModelError : before it was trained, or if that version exists with other bytes.
        """
        artifact = self._trained()
        card = artifact.card.noting(notes)
        return artifacts.save(root, self.name, card, artifact.contents)

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Return the model an artifact holds.

        Raises
        ------
        ModelError : if it is of another kind, or damaged.
        """
        card = artifact.card
        if card.agent != cls.kind:
            raise ModelError(str(artifact.folder), f"must be of kind {cls.kind}", card.agent)
        model = cls(card.target, card.horizon_bars)
        model.head(artifact)  # refuses what does not fit
        model._artifact = artifact
        return model

    def _trained(self) -> Artifact:
        if self._artifact is None:
            raise ModelError(self.name, "must be trained or loaded first")
        return self._artifact


def require_distinct(bars: Sequence[BarFrame]) -> None:
    """Refuse bars of a symbol and timeframe that are given twice.

    Raises
    ------
    UsageError : naming the first.
    """
    told = [f"{one.symbol} {one.timeframe}" for one in bars]
    for one in told:
        if told.count(one) > 1:
            raise UsageError("bars", "must be of another symbol or timeframe in each file", one)
