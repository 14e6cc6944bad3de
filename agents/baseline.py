"""The baseline: boosted trees for direction, width and adverse events, one opinion from three.

* trend: mean raw score of three classifiers, shrunk towards ½;
* return: σ² = HAR-with-ranges variance × boosted correction, quantiles = σ × training residuals,
  moved by a small expected return made from p;
* risk: mean of a boosted and a logistic probability for each side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.artifacts import Artifact, FolderStore
from agents.contract import Floats, asleep, canonical, speak
from agents.risk import Logistic, residual_quantiles, sigmoid
from agents.trees import Trees
from agents.volatility import LOOKBACK, HarModel, day_sigma
from agents.windows import Run, runs
from domain.canonical import short_hash
from domain.errors import ModelError
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Needs

NAME = "baseline"
TARGETS = ("trend", "return", "risk")


@dataclass(frozen=True, slots=True, eq=False)
class _Forecast:
    """Forecasts of n states: p, quantiles (n, 13), expected return and both risks, (n,)."""

    p_up: Floats
    quantiles: Floats
    expected: Floats
    down: Floats
    up: Floats
    sigma: Floats


class Baseline:
    """Three boosted heads behind one voice."""

    name = NAME

    def __init__(self, trend: Artifact, ret: Artifact, risk: Artifact) -> None:
        parts = (trend, ret, risk)
        self.version = short_hash([part.card.identity for part in parts], 12)
        self.horizon_bars = _common_horizon(parts)
        self.needs = Needs(bars=LOOKBACK, feature_rows=1)
        self._columns = tuple(part.card.columns for part in parts)
        if len(set(self._columns)) > 1:
            raise ModelError(NAME, "its three targets must read the same feature columns")
        k = len(trend.card.columns)
        self._trend = _Trend(trend, k)
        self._width = _Width(ret, k)
        self._risk = _Risk(risk, k)
        self._one_har = self._risk.har.to_json() == self._width.har.to_json()
        self.trained_until = max(part.card.end_ms for part in parts)
        self.trained_on = (trend.card.symbol, trend.card.timeframe)

    @classmethod
    def from_store(cls, store: FolderStore) -> Baseline:
        """Load the three targets in use: promoted, else shipped."""
        return cls(*(store.open(f"{NAME}/{target}") for target in TARGETS))

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state; asleep where a feature is missing."""
        states = list(states)
        out: list[Opinion] = []
        for run in runs(states, LOOKBACK):
            here = [states[i] for i in run.index]
            out.extend(self._run(run, here))
        return out

    def _run(self, run: Run, states: list[MarketState]) -> list[Opinion]:
        names = states[0].features.names
        columns = [names.index(name) for name in self._columns[0]]
        rows = np.stack([state.features.values[-1] for state in states])[:, columns]
        known = np.isfinite(rows).all(axis=1)
        forecast = self._forecast(run, np.where(known[:, None], rows, 0.0))
        return [
            self._opinion(state, forecast, k)
            if known[k]
            else asleep(NAME, self.version, state, self.horizon_bars)
            for k, state in enumerate(states)
        ]

    def _forecast(self, run: Run, rows: Floats) -> _Forecast:
        p = self._trend.chance(rows)
        har = self._width.har.sigma(run)
        sigma = self._width.sigma(rows, har)
        expected = self._width.drift * (2.0 * p - 1.0) * sigma
        quantiles = sigma[:, None] * self._width.residuals + expected[:, None]
        if not self._one_har:
            har = self._risk.har.sigma(run)
        inputs = risk_inputs(rows, har, day_sigma(run, self.horizon_bars))
        down, up = self._risk.chances(inputs, har)
        return _Forecast(p, quantiles, expected, down, up, sigma)

    def _opinion(self, state: MarketState, f: _Forecast, k: int) -> Opinion:
        p, sigma = float(f.p_up[k]), float(f.sigma[k])
        return speak(
            NAME, self.version, state, self.horizon_bars, p_up=p,
            quantiles=canonical(f.quantiles[k]), expected_return=float(f.expected[k]),
            risk_down=float(f.down[k]), risk_up=float(f.up[k]),
            rationale=f"The trees see {p:.1%} for up and a width of {sigma * 1e4:.1f} bp.",
            evidence={"sigma": sigma},
        )  # fmt: skip


def risk_inputs(rows: Floats, sigma: Floats, day: Floats) -> Floats:
    """Append ln σ̂ and ln(σ̂/σ25) to the feature rows, (n, k) → (n, k + 2)."""
    logs = np.log(sigma)
    return np.column_stack((rows, logs, logs - np.log(day)))


class _Trend:
    def __init__(self, artifact: Artifact, k: int) -> None:
        self._shrink = float(artifact.params()["shrink"])
        self._trees = Trees(artifact, k, 1)

    def chance(self, rows: Floats) -> Floats:
        return sigmoid(self._shrink * self._trees.scores(rows)[:, 0])


class _Width:
    def __init__(self, artifact: Artifact, k: int) -> None:
        params = artifact.params()
        self.har = HarModel.from_json(params["har"])
        self.residuals = residual_quantiles(params["residuals"])
        self.drift = float(params["drift"])
        self._trees = Trees(artifact, k, 1)

    def sigma(self, rows: Floats, har: Floats) -> Floats:
        return np.asarray(har * np.exp(0.5 * self._trees.scores(rows)[:, 0]))


class _Risk:
    def __init__(self, artifact: Artifact, k: int) -> None:
        params: Mapping[str, Any] = artifact.params()
        self.har = HarModel.from_json(params["har"])
        self._curves = Logistic(**params["down"]), Logistic(**params["up"])
        self._mix = float(params["mix"])
        self._trees = Trees(artifact, k + 2, 2)

    def chances(self, inputs: Floats, har: Floats) -> tuple[Floats, Floats]:
        scores = self._trees.scores(inputs)
        down, up = (
            self._mix * sigmoid(scores[:, side]) + (1.0 - self._mix) * curve.chance(har)
            for side, curve in enumerate(self._curves)
        )
        return down, up


def _common_horizon(parts: Sequence[Artifact]) -> int:
    horizons = {part.card.horizon_bars for part in parts}
    if len(horizons) > 1:
        raise ModelError(NAME, "its three targets must have one horizon", sorted(horizons))
    return horizons.pop()
