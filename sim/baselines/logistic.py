"""Logistic regressions of the direction: on RSI alone, and on the 54 features of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.contract import HORIZON_BARS
from agents.risk import sigmoid
from data.features import REFERENCE_54
from domain.canonical import plain
from domain.errors import DataRefused, ModelError
from domain.scores import log_loss
from sim.baselines.contract import Asked, Known
from sim.scoring import Floats, Forecasts, Mask

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)  # scikit-learn's C: the larger, the weaker the penalty
CLIP = 4.0  # standard deviations
_RSI = REFERENCE_54.index("rsi_14")
_TOLERANCE = 1e-8  # of the gradient: far below what a forecast shows


@dataclass(frozen=True, slots=True, eq=False)
class LogisticModel:
    """logit p = intercept + Σ coefficient·clip((x − mean)/scale, ±4).

    Attributes
    ----------
    mean, scale, coefficients : (k,), scale > 0.
    strength : the C that was used.
    """

    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: float
    strength: float

    def chance(self, x: Floats) -> Floats:
        """Return p for rows (n, k), (n,); NaN where a value is NaN."""
        z = standardised(x, self.mean, self.scale) * self.coefficients
        # a sum along rows, not a matrix product: BLAS may round by batch size
        return sigmoid(self.intercept + np.sum(z, axis=1))

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> LogisticModel:
        """Read plain lists and numbers.

        Raises
        ------
        ModelError : if the lists differ in length or a scale is not above 0.
        """
        mean, scale, coefficients = (
            np.asarray(body[name], dtype=np.float64) for name in ("mean", "scale", "coefficients")
        )
        if not (mean.shape == scale.shape == coefficients.shape and (scale > 0).all()):
            raise ModelError("logistic", "needs as many means, scales > 0 and coefficients")
        return cls(mean, scale, coefficients, float(body["intercept"]), float(body["strength"]))


def standardised(x: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return clip((x − mean)/scale, ±4), (n, k)."""
    return np.asarray(np.clip((x - mean) / scale, -CLIP, CLIP))


def fit_logistic_54(
    x: Floats,
    up: Mask,
    train: Mask,
    strength: float | Sequence[float] = STRENGTHS,
    horizon_bars: int = HORIZON_BARS,
) -> LogisticModel:
    """Fit P(up) on standardised columns with an L2 penalty.

    Parameters
    ----------
    x : (n, 54), or any other number of columns; finite where ``train`` is.
    up : (n,) outcomes. ``train`` : (n,) rows to fit on, in time order.
    strength : one C is used as it is (the fast path); several are tried on the last tenth of the
        rows, the first nine purged by ``horizon_bars``, and the one of lowest log loss is fitted
        on all rows.

    Raises
    ------
    DataRefused : if the training rows have one outcome only.
    """
    index = np.flatnonzero(train)
    if len(np.unique(up[index])) < 2:
        raise DataRefused("logistic", "needs training rows of both outcomes", len(index))
    if isinstance(strength, float):
        return _fit(x[index], up[index], strength)
    cut = int(len(index) * 0.9)
    head, tail = index[: cut - horizon_bars], index[cut:]
    losses = {
        c: float(log_loss(_fit(x[head], up[head], c).chance(x[tail]), up[tail]).mean())
        for c in strength
    }
    return _fit(x[index], up[index], min(losses, key=lambda c: losses[c]))


def _fit(x: Floats, up: Mask, strength: float) -> LogisticModel:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    mean, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 0.0, spread, 1.0)
    with threadpool_limits(1, user_api="blas"):  # sums in one order, whatever the machine
        model = LogisticRegression(C=strength, solver="newton-cholesky", tol=_TOLERANCE)
        model.fit(standardised(x, mean, scale), up)
    return LogisticModel(mean, scale, model.coef_[0], float(model.intercept_[0]), strength)


class Logistic54:
    """Logistic regression on the 54 features."""

    name, learns = "logistic_54", True
    parts: tuple[str, ...] = ()

    def fit(self, known: Known) -> LogisticModel:
        """Choose C on the last tenth and fit on all rows from 2023-04 on."""
        data = known.data
        return fit_logistic_54(
            known.inputs.features, data.labels.up, known.volume_rows,
            horizon_bars=data.horizon_bars,
        )  # fmt: skip

    def forecast(self, fit: LogisticModel, asked: Asked) -> Forecasts:
        """Return p."""
        out = Forecasts.silent(len(asked.rows))
        out.p_up[:] = fit.chance(asked.inputs.features[asked.rows])
        return out

    def to_json(self, fit: LogisticModel) -> dict[str, Any]:
        """Return lists and numbers."""
        body: dict[str, Any] = plain(fit)
        return body

    def from_json(self, body: Mapping[str, Any]) -> LogisticModel:
        """Read them."""
        return LogisticModel.from_json(body)


@dataclass(frozen=True, slots=True)
class Line:
    """Logit p = intercept + slope·(RSI/50 − 1)."""

    intercept: float
    slope: float


RSI_REFERENCE = Line(0.0231, -0.7050)  # as the project's reference table gives them


class RsiLogistic:
    """Logistic regression on RSI(14) alone."""

    name, learns = "rsi_logistic", True
    parts: tuple[str, ...] = ()

    def fit(self, known: Known) -> Line:
        """Fit by maximum likelihood, from 2023-04 on."""
        x = known.inputs.features[:, [_RSI]]
        model = fit_logistic_54(x, known.data.labels.up, known.volume_rows, strength=1e9)
        slope = float(model.coefficients[0] / model.scale[0])
        return Line(model.intercept - slope * float(model.mean[0]), slope)

    def forecast(self, fit: Line, asked: Asked) -> Forecasts:
        """Return p."""
        out = Forecasts.silent(len(asked.rows))
        out.p_up[:] = sigmoid(fit.intercept + fit.slope * asked.inputs.features[asked.rows, _RSI])
        return out

    def to_json(self, fit: Line) -> dict[str, Any]:
        """Return both numbers."""
        body: dict[str, Any] = plain(fit)
        return body

    def from_json(self, body: Mapping[str, Any]) -> Line:
        """Read them."""
        return Line(**body)
