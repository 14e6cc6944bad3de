"""σ̂ × quantiles of y/σ̂ over the training rows, for every way to make σ̂."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from agents.risk import Logistic, residual_quantiles
from agents.training.dataset import fit_volatility
from agents.training.volatility import fit_logistic
from agents.volatility import HarModel
from domain.canonical import plain
from domain.errors import ModelError
from domain.opinion import ADVERSE_MOVE
from sim.baselines.contract import Asked, Inputs, Known, one_sigma_event
from sim.baselines.shape import LEVELS, chance_up
from sim.scoring import Floats, Forecasts


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """From σ̂ to a distribution and to the chances of adverse events.

    Attributes
    ----------
    residuals : (13,) quantiles of y/σ̂ over the training rows.
    down, up : logistic in ln(σ̂/0.5 %), the chance of a move beyond 0.5 % within the horizon.
    one_sigma : logistic in ln(σ̂/σ25), the chance of a fall beyond σ25.
    """

    residuals: Floats
    down: Logistic
    up: Logistic
    one_sigma: Logistic

    @classmethod
    def of(cls, known: Known, sigma: Floats) -> Self:
        """Fit to σ̂ of every bar, (n,)."""
        data, rows = known.data, known.volatility_rows
        ratio = ADVERSE_MOVE * sigma / data.day
        curve = fit_logistic(ratio, one_sigma_event(data), rows)
        return cls(
            np.quantile(data.labels.y[rows] / sigma[rows], LEVELS),
            fit_logistic(sigma, data.down, rows), fit_logistic(sigma, data.up, rows),
            Logistic(curve.intercept, curve.slope, 1.0),
        )  # fmt: skip

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read plain lists and numbers; ModelError if they are something else."""
        try:
            curves = (Logistic(**body[name]) for name in ("down", "up", "one_sigma"))
            return cls(residual_quantiles(body["residuals"]), *curves)
        except (KeyError, TypeError) as error:
            raise ModelError("volatility head", f"lacks a field: {error}") from error

    def forecast(self, sigma: Floats, day: Floats) -> Forecasts:
        """Return n forecasts from σ̂ and σ25, (n,) each."""
        out = Forecasts.silent(len(sigma))
        out.sigma[:] = sigma
        out.quantiles[:] = sigma[:, None] * self.residuals
        # 1 − F(0) does not depend on σ̂; rows must not differ by rounding, or ranks would
        out.p_up[:] = chance_up(tuple(LEVELS), self.residuals[None, :])
        out.risk_down[:], out.risk_up[:] = self.down.chance(sigma), self.up.chance(sigma)
        out.risk_sigma[:] = self.one_sigma.chance(sigma / day)
        return out


class Ewma:
    """Exponentially weighted moving average of squared returns, λ = .94 (RiskMetrics 1996)."""

    name, learns = "ewma", True
    parts: tuple[str, ...] = ()

    def fit(self, known: Known) -> Head:
        """Fit the head."""
        return Head.of(known, known.inputs.ewma)

    def forecast(self, fit: Head, asked: Asked) -> Forecasts:
        """Return the distribution and the risks."""
        return fit.forecast(asked.inputs.ewma[asked.rows], asked.inputs.day[asked.rows])

    def to_json(self, fit: Head) -> dict[str, Any]:
        """Return lists and numbers."""
        body: dict[str, Any] = plain(fit)
        return body

    def from_json(self, body: Mapping[str, Any]) -> Head:
        """Read them."""
        return Head.from_json(body)


@dataclass(frozen=True, slots=True, eq=False)
class HarFit:
    """A HAR model and its head."""

    model: HarModel
    head: Head

    def sigma(self, inputs: Inputs) -> Floats:
        """Return σ̂ of every bar, (n,)."""
        return self.model.sigma_of(inputs.regressors(self.model.season))


class Har:
    """Heterogeneous autoregression with intraday season (Corsi 2009), with or without ranges.

    Parameters
    ----------
    ranges : whether Parkinson (1980) variances are regressors too.
    """

    learns = True
    parts: tuple[str, ...] = ()

    def __init__(self, name: str, ranges: bool) -> None:
        self.name, self._ranges = name, ranges

    def fit(self, known: Known) -> HarFit:
        """Fit season, regression and head on the rows from 2022-09 on."""
        model, x = fit_volatility(known.data, known.end_ms, self._ranges)
        return HarFit(model, Head.of(known, model.sigma_of(x)))

    def forecast(self, fit: HarFit, asked: Asked) -> Forecasts:
        """Return the distribution and the risks."""
        return fit.head.forecast(fit.sigma(asked.inputs)[asked.rows], asked.inputs.day[asked.rows])

    def to_json(self, fit: HarFit) -> dict[str, Any]:
        """Return lists and numbers."""
        return {"model": fit.model.to_json(), "head": plain(fit.head)}

    def from_json(self, body: Mapping[str, Any]) -> HarFit:
        """Read them."""
        return HarFit(HarModel.from_json(body["model"]), Head.from_json(body["head"]))
