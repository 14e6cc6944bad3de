"""The risk agent: how far the price may move, and how likely a move beyond the limit is.

It knows no direction: quantiles are σ̂ (HAR with intraday season and ranges) times the symbol's
scale times the quantiles of y/σ̂ over the training period; risk_down and risk_up are logistic in
ln(σ̂ / adverse move), without the scale, which is one of the middle and not of the tails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from agents.artifacts import Artifact
from agents.contract import Floats, asleep, canonical, speak, too_young
from agents.scales import Scales
from agents.volatility import LOOKBACK, HarModel
from agents.windows import runs
from domain.errors import ModelError
from domain.market import MarketState
from domain.opinion import ADVERSE_MOVE, Opinion
from domain.ports import Needs
from domain.quantiles import CANONICAL_LEVELS

NAME = "risk"


@dataclass(frozen=True, slots=True)
class Logistic:
    """P(event) = 1/(1 + exp(−(intercept + slope·ln(σ̂/move))))."""

    intercept: float
    slope: float
    move: float = ADVERSE_MOVE

    def chance(self, sigma: Floats) -> Floats:
        """Return the probability for each σ̂ (n,), fraction of log return over the horizon."""
        return sigmoid(self.intercept + self.slope * np.log(sigma / self.move))


def sigmoid(x: Floats) -> Floats:
    """Return 1/(1 + e^(−x)), x clipped to ±30."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


@dataclass(frozen=True, slots=True, eq=False)
class RiskModel:
    """Everything fitted. ``residuals`` are quantiles of y/σ̂ on the canonical levels, (13,).

    ``ewma_residuals`` and ``plain`` (HAR without ranges, with its residuals) are the baselines
    that the scoreboard shows beside the agent.
    """

    har: HarModel
    residuals: Floats
    down: Logistic
    up: Logistic
    ewma_residuals: Floats
    ewma_down: Logistic
    plain: HarModel
    plain_residuals: Floats
    scales: Scales = field(default_factory=Scales)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote; ModelError if it is something else."""
        try:
            return cls(
                HarModel.from_json(body["har"]), residual_quantiles(body["residuals"]),
                Logistic(**body["down"]), Logistic(**body["up"]),
                residual_quantiles(body["ewma_residuals"]), Logistic(**body["ewma_down"]),
                HarModel.from_json(body["plain"]), residual_quantiles(body["plain_residuals"]),
                Scales.from_json(body.get("scales")),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ModelError(
                "risk params", f"lack a field or have one too many: {error}"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "har": self.har.to_json(),
            "residuals": self.residuals.tolist(),
            "down": _fields(self.down),
            "up": _fields(self.up),
            "ewma_residuals": self.ewma_residuals.tolist(),
            "ewma_down": _fields(self.ewma_down),
            "plain": self.plain.to_json(),
            "plain_residuals": self.plain_residuals.tolist(),
            "scales": dict(self.scales.factors),
        }


class RiskAgent:
    """Forecasts quantiles and adverse events, no direction (p_up is None)."""

    name = NAME

    def __init__(self, artifact: Artifact) -> None:
        self.version = artifact.card.identity
        self.needs = Needs(bars=LOOKBACK, feature_rows=1)
        self.model = RiskModel.from_json(artifact.params())
        self.horizon_bars = self.model.har.horizon_bars
        self.trained_until = artifact.card.end_ms
        self.trained_on = (artifact.card.symbol, artifact.card.timeframe)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state; asleep in the first 288 bars after a gap."""
        states = list(states)
        out: list[Opinion] = []
        for run in runs(states, LOOKBACK):
            sigma = self.model.har.sigma(run)
            down, up = self.model.down.chance(sigma), self.model.up.chance(sigma)
            wide = sigma * self.model.scales.of(run.bars.symbol)
            for k, i in enumerate(run.index):
                row = float(wide[k]), float(down[k]), float(up[k])
                out.append(self._opinion(states[i], *row))
        return out

    def _opinion(self, state: MarketState, sigma: float, down: float, up: float) -> Opinion:
        if too_young(state, self.needs):
            return asleep(self.name, self.version, state, self.horizon_bars)
        return speak(
            self.name, self.version, state, self.horizon_bars,
            quantiles=canonical(sigma * self.model.residuals),
            risk_down=down, risk_up=up,
            rationale=f"Volatility over the horizon is {sigma * 1e4:.1f} bp; a fall beyond "
            f"{self.model.down.move:.2%} has a chance of {down:.1%}, a rise {up:.1%}.",
            evidence={"sigma": sigma},
        )  # fmt: skip


def residual_quantiles(values: Sequence[float]) -> Floats:
    """Return quantiles of y/σ̂ on the canonical levels, (13,); ModelError if they are not that."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.shape != (len(CANONICAL_LEVELS),) or not (np.diff(rows) > 0).all():
        raise ModelError(
            "residual quantiles", f"must be {len(CANONICAL_LEVELS)} increasing numbers", rows.shape
        )
    return rows


def _fields(curve: Logistic) -> dict[str, float]:
    return {"intercept": curve.intercept, "slope": curve.slope, "move": curve.move}
