"""The baseline: boosted trees for direction, width and adverse events, one opinion from three.

* trend: mean raw score of three classifiers, shrunk towards ½;
* return: σ² = HAR-with-ranges variance × boosted correction, quantiles = σ × training residuals ×
  the symbol's scale, moved by a small expected return made from p;
* risk: mean of a boosted and a logistic probability for each side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.artifacts import Artifact, FolderStore
from agents.contract import Floats
from agents.heads import TARGETS, Head, Prediction, ThreeHeads
from agents.risk import Logistic, residual_quantiles, sigmoid
from agents.scales import Scales
from agents.trees import Trees
from agents.volatility import HarModel, day_sigma
from agents.windows import Run
from domain.market import MarketState

NAME = "baseline"


class Baseline(ThreeHeads):
    """Three boosted heads behind one voice."""

    def __init__(self, trend: Artifact, ret: Artifact, risk: Artifact) -> None:
        artifacts = (trend, ret, risk)
        super().__init__(NAME, {t: head_of(a) for t, a in zip(TARGETS, artifacts, strict=True)},
                         artifacts)  # fmt: skip

    @classmethod
    def from_store(cls, store: FolderStore) -> Baseline:
        """Load the three targets in use: promoted, else shipped."""
        return cls(*(store.open(f"{NAME}/{target}") for target in TARGETS))

    def words(self, p: float, sigma: float, evidence: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Say in one sentence what was seen."""
        return f"The trees see {p:.1%} for up and a width of {sigma * 1e4:.1f} bp."


def head_of(artifact: Artifact) -> Head:
    """Return the head that an artifact holds."""
    return _HEADS[artifact.card.target](artifact)


def risk_inputs(rows: Floats, sigma: Floats, day: Floats) -> Floats:
    """Append ln σ̂ and ln(σ̂/σ25) to the feature rows, (n, k) → (n, k + 2)."""
    logs = np.log(sigma)
    return np.column_stack((rows, logs, logs - np.log(day)))


class _Rows:
    """The newest feature row of each state, and which are complete."""

    feature_rows = 1

    def __init__(self, artifact: Artifact) -> None:
        self._columns = artifact.card.columns
        self._horizon = artifact.card.horizon_bars

    def _rows(self, states: Sequence[MarketState]) -> tuple[Floats, NDArray[np.bool_]]:
        names = states[0].features.names
        columns = [names.index(name) for name in self._columns]
        rows = np.stack([state.features.values[-1] for state in states])[:, columns]
        known = np.isfinite(rows).all(axis=1)
        return np.where(known[:, None], rows, 0.0), known


class _Trend(_Rows):
    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._shrink = float(artifact.params()["shrink"])
        self._trees = Trees(artifact, len(self._columns), 1)

    def predict(self, run: Run, states: Sequence[MarketState]) -> Prediction:  # noqa: ARG002
        rows, known = self._rows(states)
        return Prediction(known, p_up=sigmoid(self._shrink * self._trees.scores(rows)[:, 0]))


class _Width(_Rows):
    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        params = artifact.params()
        self._har = HarModel.from_json(params["har"])
        self._residuals = residual_quantiles(params["residuals"])
        self._drift = float(params["drift"])
        self._scales = Scales.from_json(params.get("scales"))
        self._trees = Trees(artifact, len(self._columns), 1)

    def predict(self, run: Run, states: Sequence[MarketState]) -> Prediction:
        rows, known = self._rows(states)
        har = self._har.sigma(run) * self._scales.of(run.bars.symbol)
        sigma = np.asarray(har * np.exp(0.5 * self._trees.scores(rows)[:, 0]))
        quantiles = sigma[:, None] * self._residuals
        return Prediction(known, sigma=sigma, quantiles=quantiles, drift=self._drift)


class _Risk(_Rows):
    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        params: Mapping[str, Any] = artifact.params()
        self._har = HarModel.from_json(params["har"])
        self._curves = Logistic(**params["down"]), Logistic(**params["up"])
        self._mix = float(params["mix"])
        self._trees = Trees(artifact, len(self._columns) + 2, 2)

    def predict(self, run: Run, states: Sequence[MarketState]) -> Prediction:
        rows, known = self._rows(states)
        har = self._har.sigma(run)
        scores = self._trees.scores(risk_inputs(rows, har, day_sigma(run, self._horizon)))
        down, up = (
            self._mix * sigmoid(scores[:, side]) + (1.0 - self._mix) * curve.chance(har)
            for side, curve in enumerate(self._curves)
        )
        return Prediction(known, risk_down=down, risk_up=up)


_HEADS: dict[str, type[_Trend] | type[_Width] | type[_Risk]] = {
    "trend": _Trend,
    "return": _Width,
    "risk": _Risk,
}
