"""Boosted trees on the 54 features, with scikit-learn's histogram gradient boosting.

Trees are kept as ONNX from the moment they are fitted, so that what was just fitted and what ships
answer alike. The reference used LightGBM with rows bagged at .7; this library does not bag.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.baseline import risk_inputs
from agents.risk import residual_quantiles, sigmoid
from agents.training.dataset import Boosting, boost
from agents.training.onnx_trees import INPUT, export_trees
from domain.quantiles import REQUIRED_LEVELS
from sim.baselines.contract import Asked, Known, one_sigma_event
from sim.baselines.shape import LEVELS, chance_up, stretched
from sim.baselines.volatility import HarFit
from sim.scoring import Floats, Forecasts, Mask

VOLATILITY = "har_ranges"  # the σ̂ that trees correct
DIRECTION = Boosting(learning_rate=0.02, rows_a_leaf=2_000)
_SMALLEST_RATIO = 1e-6  # gamma deviance needs a positive RV/σ̂²
_WEIGHT = 1e3  # row weights σ̂ in units of 10 bp, about 1


@dataclass(frozen=True, slots=True)
class BoostingSettings:
    """Settings of the heads; the defaults are the reference's."""

    direction: Boosting = DIRECTION
    width: Boosting = field(default_factory=Boosting)
    risk: Boosting = field(default_factory=Boosting)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees as ONNX: finite rows (n, k) in, raw scores (n, m) out."""

    trees: bytes
    outputs: int

    def scores(self, rows: Floats) -> Floats:
        """Return raw scores, (n, m); NaN where a row is not finite."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            self.trees, options, providers=["CPUExecutionProvider"]
        )
        out = np.full((len(rows), self.outputs), np.nan)
        known = np.isfinite(rows).all(axis=1)
        if known.any():
            (found,) = session.run(None, {INPUT: np.ascontiguousarray(rows[known])})
            out[known] = found
        return out


@dataclass(frozen=True, slots=True, eq=False)
class BoostingFit:
    """Trees and quantiles of y/σ, (13,).

    The scores are logit p, ln RV/σ̂², and the logits of a fall beyond 0.5 % and beyond σ25.
    """

    trees: Ensemble
    residuals: Floats


class Boosted:
    """One classifier for the direction, a variance correction, and two adverse events."""

    name, learns = "boosting", True
    parts: tuple[str, ...] = (VOLATILITY,)

    def __init__(self, settings: BoostingSettings | None = None) -> None:
        self._settings = settings or BoostingSettings()

    def fit(self, known: Known) -> BoostingFit:
        """Fit the four ensembles on the rows from 2023-04 on."""
        from sklearn.ensemble import HistGradientBoostingClassifier as Classifier
        from sklearn.ensemble import HistGradientBoostingRegressor as Regressor

        data, sigma, rows = known.data, volatility_of(known), known.volume_rows
        x = risk_inputs(known.inputs.features, sigma, data.day)
        ratio = np.maximum(data.realised / sigma**2, _SMALLEST_RATIO)
        grow = functools.partial(grown, known=known)
        trees = {
            "up": grow(Classifier, x[:, :-2], data.labels.up, config=self._settings.direction),
            "log_ratio": grow(
                functools.partial(Regressor, loss="gamma"), x[:, :-2], ratio,
                config=self._settings.width,
            ),
            "down": grow(Classifier, x, data.down, config=self._settings.risk),
            "one_sigma": grow(Classifier, x, one_sigma_event(data), config=self._settings.risk),
        }  # fmt: skip
        graph = export_trees({name: [model] for name, model in trees.items()}, x.shape[1])
        ensemble = Ensemble(graph, len(trees))
        width = sigma[rows] * np.exp(0.5 * ensemble.scores(x[rows])[:, 1])
        return BoostingFit(ensemble, np.quantile(data.labels.y[rows] / width, LEVELS))

    def forecast(self, fit: BoostingFit, asked: Asked) -> Forecasts:
        """Return p, the distribution and the risks."""
        har = asked.said[VOLATILITY].sigma
        features, day = asked.inputs.features[asked.rows], asked.inputs.day[asked.rows]
        raw = fit.trees.scores(risk_inputs(features, har, day))
        out = Forecasts.silent(len(asked.rows))
        out.p_up[:] = sigmoid(raw[:, 0])
        out.sigma[:] = har * np.exp(0.5 * raw[:, 1])
        out.quantiles[:] = out.sigma[:, None] * fit.residuals
        out.risk_down[:], out.risk_sigma[:] = sigmoid(raw[:, 2]), sigmoid(raw[:, 3])
        return out

    def to_json(self, fit: BoostingFit) -> dict[str, Any]:
        """Return residual quantiles and trees."""
        return {"residuals": fit.residuals.tolist(), "trees": fit.trees.trees}

    def from_json(self, body: Mapping[str, Any]) -> BoostingFit:
        """Read them."""
        return BoostingFit(Ensemble(body["trees"], 4), residual_quantiles(body["residuals"]))


@dataclass(frozen=True, slots=True, eq=False)
class QuantileFit:
    """Trees for .1, .5 and .9 of y/σ̂; the other levels lie as in ``shape`` (13,)."""

    trees: Ensemble
    shape: Floats


class BoostedQuantiles:
    """Three quantile regressions on y/σ̂, rows weighted by σ̂ (Koenker & Bassett 1978)."""

    name, learns = "boosting_quantile", True
    parts: tuple[str, ...] = (VOLATILITY,)

    def __init__(self, config: Boosting | None = None) -> None:
        self._config = config or Boosting()

    def fit(self, known: Known) -> QuantileFit:
        """Fit one ensemble a level on the rows from 2023-04 on."""
        from sklearn.ensemble import HistGradientBoostingRegressor as Regressor

        sigma, x = volatility_of(known), known.inputs.features
        trees = {
            f"q{level}": [
                grown(
                    functools.partial(Regressor, loss="quantile", quantile=level), x,
                    known.data.labels.y / sigma, known, self._config, weight=_WEIGHT * sigma,
                )
            ]
            for level in REQUIRED_LEVELS
        }  # fmt: skip
        shape = known.fits[VOLATILITY].head.residuals
        return QuantileFit(Ensemble(export_trees(trees, x.shape[1]), len(trees)), shape)

    def forecast(self, fit: QuantileFit, asked: Asked) -> Forecasts:
        """Return the distribution, and p = 1 − F(0)."""
        raw = np.sort(fit.trees.scores(asked.inputs.features[asked.rows]), axis=1)
        out = Forecasts.silent(len(asked.rows))
        sigma = asked.said[VOLATILITY].sigma
        out.quantiles[:] = sigma[:, None] * stretched(raw, fit.shape)
        out.p_up[:] = chance_up(tuple(LEVELS), out.quantiles)
        return out

    def to_json(self, fit: QuantileFit) -> dict[str, Any]:
        """Return the shape and the trees."""
        return {"shape": fit.shape.tolist(), "trees": fit.trees.trees}

    def from_json(self, body: Mapping[str, Any]) -> QuantileFit:
        """Read them."""
        trees = Ensemble(body["trees"], len(REQUIRED_LEVELS))
        return QuantileFit(trees, residual_quantiles(body["shape"]))


def volatility_of(known: Known) -> Floats:
    """Return σ̂ of every bar by the HAR with ranges that was fitted before, (n,)."""
    har: HarFit = known.fits[VOLATILITY]
    return har.sigma(known.inputs)


def grown(
    kind: Callable[..., Any], x: Floats, target: Floats | Mask, known: Known, config: Boosting,
    weight: Floats | None = None, seed: int | None = None,
) -> Any:  # fmt: skip
    """Fit boosted trees on the rows with volume; see :func:`agents.training.dataset.boost`.

    Parameters
    ----------
    x, target : (n, k) and (n,). ``weight`` : (n,) of the rows, or all the same.
    seed : else that of ``known``.
    """
    drawn, rows = known.seed if seed is None else seed, known.volume_rows
    values = np.asarray(target, dtype=np.float64)
    if weight is None:
        return boost(kind, x, values, rows, drawn, config, known.data.horizon_bars)
    edges = bin_edges(x[rows], config.bins)
    table = np.column_stack((binned(x, edges), weight))
    maker = functools.partial(_Weighted, kind)
    model = boost(maker, table, values, rows, drawn, config, known.data.horizon_bars)
    return unbinned(model, edges)


def bin_edges(x: Floats, bins: int) -> list[Floats]:
    """Return the thresholds between at most ``bins`` bins of equal count, one array a column."""
    shares = np.linspace(0.0, 100.0, bins + 1)[1:-1]
    out = []
    for column in x.T:
        values = np.unique(column)
        if len(values) > bins:
            out.append(np.unique(np.percentile(column, shares, method="midpoint")))
        else:
            out.append((values[1:] + values[:-1]) / 2.0)
    return out


def binned(x: Floats, edges: Sequence[Floats]) -> Floats:
    """Return the number of the bin of each value, (n, k)."""
    columns = [np.searchsorted(cut, column) for cut, column in zip(edges, x.T, strict=True)]
    return np.stack(columns, axis=1).astype(np.float64)


def unbinned(model: Any, edges: Sequence[Floats]) -> Any:
    """Turn the thresholds of a model that was fitted on bin numbers into those of the values."""
    for (predictor,) in model._predictors:
        for node in predictor.nodes:
            if not node["is_leaf"]:
                cut = edges[int(node["feature_idx"])]
                node["num_threshold"] = cut[int(np.floor(node["num_threshold"]))]
    return model


class _Weighted:
    """Boosting whose last input column is the weight of the row, so that ``boost`` can fit it.

    The other columns hold bin numbers: binning raw values by weight takes scikit-learn minutes.
    """

    def __init__(self, kind: Callable[..., Any], **arguments: Any) -> None:
        self._kind, self._arguments = kind, arguments

    def fit(self, x: Floats, y: Floats, X_val: Floats | None = None, y_val: Any = None) -> Any:
        more: dict[str, Any] = {}
        if X_val is not None:
            more = {"X_val": X_val[:, :-1], "y_val": y_val, "sample_weight_val": X_val[:, -1]}
        model = self._kind(**self._arguments)
        return model.fit(x[:, :-1], y, sample_weight=x[:, -1], **more)
