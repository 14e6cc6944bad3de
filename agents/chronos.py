"""Chronos over several timeframes: a pretrained time-series model that reads prices alone.

Ansari et al., *Chronos: Learning the Language of Time Series* (2024). All timeframes of all
symbols of a batch go through the model together; each timeframe's forecast is brought onto the
decision's horizon (:mod:`agents.chronos_views`) and fused (:mod:`agents.chronos_fusion`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from agents.artifacts import FolderStore
from agents.chronos_exam import Examined, examine
from agents.chronos_fusion import FixedFusion, Fused, LearnedFusion
from agents.chronos_models import NAME, SHIPPED, Chosen, choose
from agents.chronos_views import (
    TIMEFRAMES,
    Stretch,
    View,
    needed_bars,
    usable,
    views_of,
)
from agents.contract import HORIZON_BARS, asleep, canonical, speak, too_young
from agents.windows import runs
from domain.canonical import short_hash
from domain.cards import AgentCard
from domain.errors import ModelError
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Needs

FUSION = "fusion"  # key of params.json
SHORT_HISTORY = "short_history"  # why it is silent where no timeframe has a whole window


@dataclass(frozen=True, slots=True)
class ChronosConfig:
    """Settings.

    Attributes
    ----------
    model : ``shipped`` (what was promoted here, else what ships), a folder, or a hub id.
    int8 : dynamic quantisation; half the size, other numbers, see docs/models.md.
    timeframe : of the states' bars.
    timeframes : that are asked about, as far as they can be made of the bars.
    fusion : ``learned`` needs a model that it was learned for; others get ``fixed``.
    min_confidence : see :class:`FixedFusion`.
    """

    model: str = SHIPPED
    int8: bool = False
    timeframe: str = "5m"
    horizon_bars: int = HORIZON_BARS
    timeframes: tuple[str, ...] = TIMEFRAMES
    fusion: Literal["learned", "fixed"] = "learned"
    min_confidence: float = 0.0
    definition: int = 1


class Chronos:
    """One opinion from all timeframes; asleep until the shortest has 201 closes."""

    name = NAME

    def __init__(
        self, chosen: Chosen, config: ChronosConfig | None = None, exam: Iterable[Examined] = ()
    ) -> None:
        self.config = config = config or ChronosConfig()
        self.exam = tuple(exam)
        self.model = chosen
        unknown = sorted(set(config.timeframes) - set(TIMEFRAMES))
        if unknown:
            raise ModelError(NAME, f"can be asked about {', '.join(TIMEFRAMES)}", unknown)
        self.timeframes = usable(config.timeframe, config.timeframes)
        if not self.timeframes:
            raise ModelError(NAME, f"has no timeframe that bars of {config.timeframe} make")
        self.fusion = _fusion(chosen, config)
        self.horizon_bars = config.horizon_bars
        self.needs = Needs(bars=needed_bars(config.timeframe, self.timeframes))
        asked = [config.timeframe, config.horizon_bars, config.timeframes]
        told = [config.fusion, config.min_confidence, config.definition]
        self.version = short_hash([NAME, chosen.identity, *asked, *told], 12)
        if chosen.artifact is not None:
            self.trained_until = chosen.artifact.card.end_ms
            self.trained_on = (chosen.artifact.card.symbol, chosen.artifact.card.timeframe)

    @classmethod
    def from_store(cls, store: FolderStore, config: ChronosConfig | None = None) -> Chronos:
        """Load the model that the config names, or the one that ships where it cannot be had.

        Raises
        ------
        UsageError : for a hub id that does not exist.
        ModelError : if what ships cannot be loaded either.
        """
        config = config or ChronosConfig()
        return cls(choose(store, config.model, int8=config.int8), config)

    @property
    def card(self) -> AgentCard:
        """What it says of itself: which model was wanted and why it is another, and its exam."""
        chosen = self.model
        problem = f"{chosen.problem}; what ships is used" if chosen.problem else ""
        kind = chosen.network.described
        own = f"model {chosen.used}: {kind.kind}, {kind.parameters / 1e6:.2f} M parameters"
        return AgentCard(
            NAME, self.version, self.needs, getattr(self, "trained_until", None), problem=problem,
            notes=(own, *(one.sentence for one in self.exam)),
        )  # fmt: skip

    def examined(self, frames: Sequence[BarFrame]) -> Chronos:
        """Return the agent without the timeframes whose forecasts of a symbol's bars are no good.

        What it was fitted for stays; a timeframe that is left out is as one without a window. A
        named model that cannot be loaded, or fails in every timeframe, gives way to what ships.

        Raises
        ------
        ModelError : if what ships fails too.
        """
        try:
            return self._examined(frames)
        except ModelError as error:
            if self.model.instead is None:
                raise
            return Chronos(self.model.instead(error.message), self.config).examined(frames)

    def _examined(self, frames: Sequence[BarFrame]) -> Chronos:
        network = self.model.network
        network.warm_up()
        exam = [one for bars in frames for one in examine(network, bars, self.timeframes)]
        failed = {one.timeframe for one in exam if one.ready is False}
        kept = tuple(name for name in self.timeframes if name not in failed)
        if not kept:
            raise ModelError(
                NAME, "must pass its examination in one timeframe at least",
                "; ".join(one.sentence for one in exam),
            )  # fmt: skip
        return Chronos(self.model, replace(self.config, timeframes=kept), exam)

    def warm_up(self) -> None:
        """Load the model now rather than with the first question."""
        self.model.network.warm_up()

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state; asleep in the first 288 bars after a gap."""
        states = list(states)
        found = list(runs(states, self.needs.bars))
        views = views_of(
            [Stretch(run.bars, run.first + np.arange(len(run.index)), run.lengths())
             for run in found],
            self.model.network, self.timeframes, self.horizon_bars,
        )  # fmt: skip
        return [
            opinion
            for run, seen in zip(found, views, strict=True)
            for opinion in self._speak([states[i] for i in run.index], seen)
        ]

    def _speak(self, states: list[MarketState], views: Mapping[str, View]) -> list[Opinion]:
        fused = self.fusion.fuse(views, len(states)) if views else None
        return [
            self._opinion(state, fused, k)
            if fused is not None
            and np.isfinite(fused.quantiles[k]).all()
            and not too_young(state, self.needs)
            else asleep(NAME, self.version, state, self.horizon_bars, SHORT_HISTORY)
            for k, state in enumerate(states)
        ]

    def _opinion(self, state: MarketState, fused: Fused, k: int) -> Opinion:
        heard = [n for n, there in zip(fused.timeframes, fused.heard[k], strict=True) if there]
        risks: dict[str, Any] = {}
        if fused.risk_down is not None and fused.risk_up is not None:
            risks = {"risk_down": float(fused.risk_down[k]), "risk_up": float(fused.risk_up[k])}
        p, quantiles = float(fused.p_up[k]), canonical(fused.quantiles[k])
        width = (quantiles.at(0.9) - quantiles.at(0.1)) * 1e4
        return speak(
            NAME, self.version, state, self.horizon_bars, p_up=p, quantiles=quantiles,
            expected_return=float(quantiles.table().mean()[0]), **risks,
            rationale=f"{', '.join(heard)} together see {p:.1%} for up, 80% within {width:.1f} bp.",
            evidence={
                "sigma": float(fused.sigma[k]), "timeframes": heard, "model": self.model.used,
            },
        )  # fmt: skip


def _fusion(chosen: Chosen, config: ChronosConfig) -> FixedFusion | LearnedFusion:
    fixed = FixedFusion(config.min_confidence)
    if config.fusion == "fixed" or chosen.artifact is None:
        return fixed
    body = chosen.artifact.params()
    if FUSION not in body or body["horizon_bars"] != config.horizon_bars:
        return fixed
    learned = LearnedFusion.from_json(body[FUSION])
    base = config.timeframe
    return learned if learned.timeframes[0] == base and base in config.timeframes else fixed
