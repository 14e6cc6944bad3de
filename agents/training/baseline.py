"""Train the baseline's three targets with boosted trees of scikit-learn or LightGBM.

Settings were chosen on quarterly walk-forward inside 2023-04 … 2024-12; nothing later was read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agents.artifacts import Artifact, Card, columns_hash
from agents.baseline import NAME, head_of, risk_inputs
from agents.contract import HORIZON_BARS
from agents.heads import Head
from agents.risk import sigmoid
from agents.training.dataset import (
    SKLEARN,
    VOLUME_FROM,
    Boosting,
    Dataset,
    Flags,
    Floats,
    Source,
    boost,
    build_dataset,
    first_row_ms,
    fit_volatility,
    learner,
    require_library,
    walk_forward,
)
from agents.training.folds import FoldLog
from agents.training.model import Model
from agents.training.onnx_trees import export_trees
from agents.training.reports import (
    climatology_scores,
    mean_scores,
    quantile_scores,
    risk_scores,
    trend_scores,
)
from agents.training.scales import scales_of
from agents.training.volatility import all_regressors, fit_logistic
from agents.training.watch import Watch
from data.features import REFERENCE_54
from domain.canonical import canonical_json, plain
from domain.market import BarFrame
from domain.quantiles import CANONICAL_LEVELS

_LEVELS = np.array(CANONICAL_LEVELS)
_SMALLEST_RATIO = 1e-6  # gamma deviance needs a positive RV/σ̂²


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """Settings of the three targets.

    Attributes
    ----------
    trend_leaves : one classifier for each, raw scores averaged.
    shrink : factor on the averaged raw score; below 1 pulls p towards ½.
    drift : expected return = drift·(2p − 1)·σ.
    mix : weight of the trees in the risk probability, the rest is the logistic curve.
    library : that boosts the trees, ``sklearn`` or ``lightgbm``; serving needs neither.

    Raises
    ------
    SettingError : if there is no such library, or it is not installed.
    """

    trend: Boosting = field(default_factory=lambda: Boosting(learning_rate=0.02, rows_a_leaf=2000))
    trend_leaves: tuple[int, ...] = (7, 15, 31)
    shrink: float = 0.8
    width: Boosting = field(default_factory=Boosting)
    drift: float = 0.3
    risk: Boosting = field(default_factory=Boosting)
    mix: float = 0.5
    library: str = SKLEARN

    def __post_init__(self) -> None:
        require_library(self.library)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted target.

    Attributes
    ----------
    score : scores it on given rows. ``files`` : makes the files of the artifact, told the bars of
        all symbols.
    """

    files: Callable[[Sequence[BarFrame]], dict[str, bytes]]
    score: Callable[[Flags], dict[str, float]]


class BaselineModel(Model):
    """One boosted target of the first symbol; the others say how wide their intervals are."""

    kind = NAME

    def __init__(
        self, target: str, horizon_bars: int = HORIZON_BARS, config: BaselineConfig | None = None
    ) -> None:
        super().__init__(target, horizon_bars)
        self.config = config or BaselineConfig()

    def head(self, artifact: Artifact) -> Head:
        """Return the head that an artifact holds."""
        return head_of(artifact)

    def fit(
        self, bars: Sequence[BarFrame], source: Source, watch: Watch
    ) -> tuple[Card, dict[str, bytes]]:
        """Validate on walk-forward quarters before the end, then fit on all rows."""
        first = bars[0]
        data = build_dataset(first, source.end_ms, self.horizon_bars, features=True)
        fit = functools.partial(_FITS[self.target], data, seed=source.seed, config=self.config)
        question = [self.name, source.data_sha256, source.end_ms, source.seed, self.config]
        log = FoldLog.open(watch.checkpoint, [*question, self.horizon_bars])
        if log.folds:
            watch.say(f"{self.target}: resumed after fold {len(log.folds)}")
        for start, end in list(walk_forward(data, source))[len(log.folds) :]:
            watch.say(f"{self.target}: walk-forward fold {len(log.folds) + 1} of {source.folds}")
            rows = data.between(start, end)
            usual = climatology_scores(self.target, data, start, rows)
            log.add({**fit(start).score(rows), **usual})
            watch.checked(len(log.folds), _means(log.folds))
        watch.scored(_means(log.folds))
        watch.say(f"{self.target}: fit on all rows")
        final = fit(source.end_ms)
        card = Card(
            NAME, self.target, source.created_at, source.commit, source.data_sha256,
            first.symbol, first.timeframe, self.horizon_bars,
            first_row_ms(data.bars, VOLUME_FROM, source.end_ms), source.end_ms, source.seed,
            columns=REFERENCE_54, feature_schema=columns_hash(REFERENCE_54),
            metrics={"walk_forward": mean_scores(log.folds)},
            settings={**plain(self.config), "symbols": [one.symbol for one in bars]},
            command=source.command,
        )  # fmt: skip
        return card, final.files(bars)


def _means(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: mean for key, mean in mean_scores(folds).items() if isinstance(mean, float)}


def _fit_trend(data: Dataset, end_ms: int, seed: int, config: BaselineConfig) -> Fit:
    rows, target = _training(data, end_ms), data.labels.up.astype(np.float64)
    models = [
        boost(
            learner(config.library, "log_loss"), data.features, target, rows, seed + k,
            replace(config.trend, leaves=leaves), data.horizon_bars,
        )
        for k, leaves in enumerate(config.trend_leaves)
    ]  # fmt: skip

    def score(at: Flags) -> dict[str, float]:
        raw = np.mean([model.decision_function(data.features[at]) for model in models], axis=0)
        return trend_scores(sigmoid(config.shrink * raw), data.labels.up[at])

    params = {"shrink": config.shrink}
    return Fit(lambda _: _files({"trend": models}, data.features, params), score)


def _fit_return(data: Dataset, end_ms: int, seed: int, config: BaselineConfig) -> Fit:
    har, x = fit_volatility(data, end_ms)
    sigma = har.sigma_of(x)
    inputs = data.features
    rows, y = _training(data, end_ms), data.labels.y
    ratio = np.maximum(data.realised / sigma**2, _SMALLEST_RATIO)
    gamma = learner(config.library, "gamma")
    model = boost(gamma, inputs, ratio, rows, seed, config.width, data.horizon_bars)

    def width(at: Flags) -> Floats:
        return np.asarray(sigma[at] * np.sqrt(model.predict(inputs[at])))

    residuals = np.quantile(y[rows] / width(rows), _LEVELS)

    def score(at: Flags) -> dict[str, float]:
        return quantile_scores(width(at)[:, None] * residuals, y[at])

    def elsewhere(other: Dataset) -> Floats:
        own = har.sigma_of(all_regressors(other.bars, har.season, other.horizon_bars))
        return np.asarray(own * np.sqrt(model.predict(other.features)))

    def files(bars: Sequence[BarFrame]) -> dict[str, bytes]:
        scales = scales_of(bars, end_ms, data.horizon_bars, residuals, elsewhere, features=True)
        params = {
            "har": har.to_json(), "residuals": residuals.tolist(), "drift": config.drift,
            "scales": scales,
        }  # fmt: skip
        return _files({"log_ratio": [model]}, inputs, params)

    return Fit(files, score)


def _fit_risk(data: Dataset, end_ms: int, seed: int, config: BaselineConfig) -> Fit:
    har, x = fit_volatility(data, end_ms)
    sigma = har.sigma_of(x)
    inputs = risk_inputs(data.features, sigma, data.day)
    rows = _training(data, end_ms)
    events = {"down": data.down, "up": data.up}
    models = {
        side: boost(
            learner(config.library, "log_loss"), inputs, event.astype(np.float64), rows, seed + k,
            config.risk, data.horizon_bars,
        )
        for k, (side, event) in enumerate(events.items())
    }  # fmt: skip
    curves = {side: fit_logistic(sigma, event, rows) for side, event in events.items()}

    def score(at: Flags) -> dict[str, float]:
        out: dict[str, float] = {}
        for side, event in events.items():
            trees = sigmoid(models[side].decision_function(inputs[at]))
            p = config.mix * trees + (1.0 - config.mix) * curves[side].chance(sigma[at])
            out |= risk_scores(side, p, event[at])
        return out

    params = {"har": har.to_json(), "mix": config.mix, **plain(curves)}
    trees = {side: [model] for side, model in models.items()}
    return Fit(lambda _: _files(trees, inputs, params), score)


def _training(data: Dataset, end_ms: int) -> Flags:
    return data.known_by(first_row_ms(data.bars, VOLUME_FROM, end_ms), end_ms)


def _files(
    outputs: dict[str, list[Any]], inputs: Floats, params: dict[str, Any]
) -> dict[str, bytes]:
    return {
        "model.onnx": export_trees(outputs, inputs.shape[1]),
        "params.json": canonical_json(params).encode(),
    }


_FITS: dict[str, Callable[..., Fit]] = {
    "trend": _fit_trend,
    "return": _fit_return,
    "risk": _fit_risk,
}
