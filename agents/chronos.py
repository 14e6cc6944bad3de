"""Chronos over several timeframes: a pretrained time-series model that reads prices alone.

Ansari et al., *Chronos: Learning the Language of Time Series* (2024). All timeframes of all
symbols of a batch go through the model together; each timeframe's forecast is brought onto the
decision's horizon (:mod:`agents.chronos_views`) and fused (:mod:`agents.chronos_fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from agents.chronos_fusion import FixedFusion, Fused, LearnedFusion
from agents.chronos_models import NAME, Chosen
from agents.chronos_views import TIMEFRAMES, needed_bars, usable, views_of
from agents.contract import HORIZON_BARS, asleep, canonical, speak, too_young
from agents.windows import Run, runs
from domain.canonical import short_hash
from domain.errors import ModelError
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Needs

FUSION = "fusion"  # key of params.json
SHORT_HISTORY = "short_history"  # why it is silent where no timeframe has a whole window


@dataclass(frozen=True, slots=True)
class ChronosConfig:
    """Settings.

    Attributes
    ----------
    timeframe : of the states' bars.
    timeframes : that are asked about, as far as they can be made of the bars.
    fusion : ``learned`` needs a model that it was learned for; others get ``fixed``.
    min_confidence : see :class:`FixedFusion`.
    """

    timeframe: str = "5m"
    horizon_bars: int = HORIZON_BARS
    timeframes: tuple[str, ...] = TIMEFRAMES
    fusion: Literal["learned", "fixed"] = "learned"
    min_confidence: float = 0.0
    definition: int = 1


class Chronos:
    """One opinion from all timeframes; asleep until the shortest has 201 closes."""

    name = NAME

    def __init__(self, chosen: Chosen, config: ChronosConfig | None = None) -> None:
        self.config = config = config or ChronosConfig()
        self.model = chosen
        self.timeframes = usable(config.timeframe, config.timeframes)
        if not self.timeframes:
            raise ModelError(NAME, f"has no timeframe that bars of {config.timeframe} make")
        self.fusion = _fusion(chosen, config)
        self.horizon_bars = config.horizon_bars
        self.needs = Needs(bars=needed_bars(config.timeframe, self.timeframes))
        self.version = short_hash([NAME, chosen.identity, config, type(self.fusion).__name__], 12)
        if chosen.artifact is not None:
            self.trained_until = chosen.artifact.card.end_ms
            self.trained_on = (chosen.artifact.card.symbol, chosen.artifact.card.timeframe)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state; asleep in the first 288 bars after a gap."""
        states = list(states)
        out: list[Opinion] = []
        for run in runs(states, self.needs.bars):
            out.extend(self._run(run, [states[i] for i in run.index]))
        return out

    def _run(self, run: Run, states: list[MarketState]) -> list[Opinion]:
        rows = run.first + np.arange(len(states))
        views = views_of(
            run.bars, rows, run.lengths(), self.model.network, self.timeframes, self.horizon_bars
        )
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
    return learned if learned.timeframes[0] == config.timeframe else fixed
