"""The mean of the best directions, distributions and risks, and a width that adapts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agents.risk import sigmoid
from agents.training.dataset import Boosting
from agents.training.onnx_trees import export_trees
from sim.baselines.boosting import DIRECTION, VOLATILITY, Ensemble, grown
from sim.baselines.contract import Asked, Inputs, Known, Rows
from sim.baselines.naive import Free
from sim.baselines.shape import OUTER, rescaled
from sim.scoring import Floats, Forecasts

SHRINK = 0.8  # of p's distance from ½
LEAVES = (7, 31)  # of the two classifiers beside the one of ``boosting``
WIDTHS = 25_920  # rows, 90 days of five-minute bars
_WIDTHS_MIN = 2_016
_REACH = 0.9  # share of the outcomes that a side should hold


class Blend:
    """Mean of logistic and three boosted classifiers, shrunk; means of quantiles and of risks.

    Quantiles are averaged level by level (Vincent 1912) over HAR with ranges, boosted quantiles
    and boosted variance.
    """

    name, learns = "blend", True
    parts: tuple[str, ...] = ("logistic_54", VOLATILITY, "boosting", "boosting_quantile")

    def __init__(self, config: Boosting = DIRECTION) -> None:
        self._config = config

    def fit(self, known: Known) -> Ensemble:
        """Fit the two further classifiers on the rows from 2023-04 on."""
        from sklearn.ensemble import HistGradientBoostingClassifier as Classifier

        x, up = known.inputs.features, known.data.labels.up
        trees = {
            f"leaves_{leaves}": [
                grown(
                    Classifier, x, up, known, replace(self._config, leaves=leaves),
                    seed=known.seed + 1 + k,
                )
            ]
            for k, leaves in enumerate(LEAVES)
        }  # fmt: skip
        return Ensemble(export_trees(trees, x.shape[1]), len(LEAVES))

    def forecast(self, fit: Ensemble, asked: Asked) -> Forecasts:
        """Return p, the distribution and the risks."""
        own = sigmoid(fit.scores(asked.inputs.features[asked.rows]))
        logistic, har, boosting, quantile = (asked.said[part] for part in self.parts)
        p = (logistic.p_up + boosting.p_up + own.sum(axis=1)) / (2 + len(LEAVES))
        out = Forecasts.silent(len(asked.rows))
        out.p_up[:] = 0.5 + SHRINK * (p - 0.5)
        out.quantiles[:] = (har.quantiles + boosting.quantiles + quantile.quantiles) / 3.0
        out.risk_down[:] = (har.risk_down + boosting.risk_down) / 2.0
        out.risk_sigma[:] = (har.risk_sigma + boosting.risk_sigma) / 2.0
        out.sigma[:] = (har.sigma + boosting.sigma) / 2.0
        return out

    def to_json(self, fit: Ensemble) -> dict[str, Any]:
        """Return the trees."""
        return {"trees": fit.trees}

    def from_json(self, body: Mapping[str, Any]) -> Ensemble:
        """Read them."""
        return Ensemble(body["trees"], len(LEAVES))


class BlendRescaled(Free):
    """The blend with the distances from the median × what 90 days of outcomes asked for.

    Forecasts that are marked in sample are not among them: they fit too well.
    """

    name = "blend_rescaled"
    parts: tuple[str, ...] = ("blend",)

    def forecast(self, _: None, asked: Asked) -> Forecasts:
        """Return the blend's forecasts with new quantiles."""
        blend, rows = asked.said["blend"], asked.rows
        told = np.where(blend.in_sample[:, None], np.nan, blend.quantiles)
        lower, upper = online_factors(told, asked.inputs, rows)
        return replace(blend, quantiles=rescaled(blend.quantiles, lower, upper))


@dataclass(frozen=True, slots=True)
class _Side:
    """The outer quantile of one side among the canonical levels, and which way it lies."""

    at: int
    sign: float


_LOWER, _UPPER = _Side(OUTER[0], -1.0), _Side(OUTER[2], 1.0)


def remembered(inputs: Inputs, rows: Rows, since_ms: int, widths: int = WIDTHS) -> Rows:
    """Return the rows and every bar that their factors remember, (m,), in time order.

    Factors over all of them depend on the bars alone, not on which rows are asked about.

    Parameters
    ----------
    rows : (n,) indices of bars, rising.
    since_ms : bars that open earlier (UTC ms) are not remembered.
    widths : rows that a factor looks back.
    """
    if not len(rows):
        return rows
    reach = widths + inputs.horizon_bars
    near = np.arange(max(0, int(rows[0]) - reach), int(rows[-1]) + 1)
    return np.union1d(rows, near[inputs.bars.ts[near] >= since_ms])


def online_factors(
    quantiles: Floats, inputs: Inputs, rows: Rows, widths: int = WIDTHS
) -> tuple[Floats, Floats]:
    """Return what each side's distance from the median should be multiplied with, (n,) each.

    The factor is the .9 quantile of (y − median)/(outer quantile − median) over the last ``widths``
    rows that could have an outcome when the row decided; 1 where fewer than 2 016 of them have
    one, and a forecast.

    Parameters
    ----------
    quantiles : (n, 13) forecasts of the bars ``rows`` (n,), in time order.
    """
    bars, horizon = inputs.bars, inputs.horizon_bars
    y = _outcomes(inputs)[rows]
    # a row's outcome is known when the bar H later closes
    known = bars.ts[rows] + horizon * bars.step_ms
    newest = np.searchsorted(known, bars.ts[rows], side="right")
    lower, upper = (_factors(quantiles, y, side, widths)[newest] for side in (_LOWER, _UPPER))
    return lower, upper


def _factors(quantiles: Floats, y: Floats, side: _Side, widths: int) -> Floats:
    """The factor after 0, 1, … n rows, (n + 1,); those with a NaN are passed over."""
    import pandas as pd

    middle, outer = quantiles[:, OUTER[1]], quantiles[:, side.at]
    reach = np.maximum(side.sign * (outer - middle), 1e-12)
    seen = np.isfinite(quantiles).all(axis=1)
    beyond = pd.Series(np.where(seen, side.sign * (y - middle) / reach, np.nan))
    found = beyond.rolling(widths, min_periods=_WIDTHS_MIN).quantile(_REACH).to_numpy()
    return np.concatenate(([1.0], np.maximum(np.nan_to_num(found, nan=1.0), 0.0)))


def _outcomes(inputs: Inputs) -> Floats:
    """ln(c_{i+H}/c_i) of every bar, (n,); NaN where the bars are not contiguous."""
    bars, horizon = inputs.bars, inputs.horizon_bars
    out = np.full(len(bars), np.nan)
    if len(bars) > horizon:
        whole = bars.ts[horizon:] - bars.ts[:-horizon] == horizon * bars.step_ms
        move = np.log(bars.close[horizon:] / bars.close[:-horizon])
        out[:-horizon] = np.where(whole, move, np.nan)
    return out
