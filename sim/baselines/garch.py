"""GARCH(1,1) with Student-t innovations (Bollerslev 1987), fitted by the ``arch`` package.

h_{t+1} = ω + α·r_t² + β·h_t. The filter runs over the observed returns; the variance of the
horizon is the sum of its H forecasts, each φ = α + β times the one before, plus ω. Estimates of φ
lie at 1 on five-minute returns, so nothing here divides by 1 − φ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.canonical import plain
from domain.errors import DataRefused
from domain.market import BarFrame
from sim.baselines.contract import Asked, Known
from sim.baselines.volatility import Head
from sim.scoring import Floats, Forecasts, Mask

RETURNS = 105_000  # newest returns of the training period that are fitted on
_SCALE = 1e3  # arch wants returns of about 1
_MIN_RETURNS = 1_000


@dataclass(frozen=True, slots=True)
class Garch:
    """Parameters of the variance of one bar's log return.

    Attributes
    ----------
    omega, start : variance; ``start`` is the mean square of the training returns.
    alpha, beta : ≥ 0. ``nu`` : degrees of freedom, > 2.
    """

    omega: float
    alpha: float
    beta: float
    nu: float
    start: float


@dataclass(frozen=True, slots=True, eq=False)
class GarchFit:
    """The model and its head.

    Residual quantiles, not those of t(ν), make the distribution: a sum of H innovations is no
    t(ν), and ν only describes the likelihood that ω, α and β were estimated with.
    """

    model: Garch
    head: Head


def observed_returns(bars: BarFrame) -> tuple[Floats, Mask]:
    """Return ln(c_i/c_{i−1}) of every bar, (n,), and whether it was observed: none across a gap."""
    returns, seen = np.zeros(len(bars)), np.zeros(len(bars), dtype=np.bool_)
    returns[1:] = np.diff(np.log(bars.close))
    seen[1:] = np.diff(bars.ts) == bars.step_ms
    return returns, seen


def fit_garch(returns: Floats) -> Garch:
    """Estimate the parameters from observed returns (n,) by maximum likelihood, mean zero.

    Raises
    ------
    DataRefused : if there are fewer than 1 000.
    """
    from arch import arch_model

    if len(returns) < _MIN_RETURNS:
        raise DataRefused("garch", f"needs {_MIN_RETURNS} observed returns", len(returns))
    model = arch_model(
        returns * _SCALE, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False
    )
    found = model.fit(disp="off", show_warning=False).params
    return Garch(
        float(found["omega"]) / _SCALE**2, float(found["alpha[1]"]), float(found["beta[1]"]),
        float(found["nu"]), float(np.mean(returns**2)),
    )  # fmt: skip


def next_variance(model: Garch, returns: Floats) -> Floats:
    """Return h_{t+1} after each observed return, (n,), one step ahead; O(n)."""
    from scipy.signal import lfilter

    shocks = model.omega + model.alpha * returns**2
    state = np.array([model.beta * model.start])
    out, _ = lfilter([1.0], [1.0, -model.beta], shocks, zi=state)
    return np.asarray(out)


def horizon_variance(model: Garch, following: Floats, horizon_bars: int) -> Floats:
    """Return the sum of the next H variances, given the first of them, (n,)."""
    total, h = np.zeros_like(following), following
    for _ in range(horizon_bars):
        total = total + h
        h = model.omega + (model.alpha + model.beta) * h
    return total


def garch_sigma(model: Garch, bars: BarFrame, horizon_bars: int) -> Floats:
    """Return σ̂ of the horizon's log return at every bar, (n,); bars after a gap keep the last h."""
    returns, seen = observed_returns(bars)
    filtered = np.concatenate(([model.start], next_variance(model, returns[seen])))
    following = filtered[np.cumsum(seen)]
    return np.asarray(np.sqrt(horizon_variance(model, following, horizon_bars)))


class GarchT:
    """GARCH(1,1)-t, refitted on the last 105 000 training returns."""

    name, learns = "garch", True
    parts: tuple[str, ...] = ()

    def fit(self, known: Known) -> GarchFit:
        """Fit on returns that were observed by the fit's instant, the head on all its rows."""
        bars = known.data.bars
        returns, seen = observed_returns(bars)
        closed = bars.ts + bars.step_ms <= known.end_ms
        model = fit_garch(returns[seen & closed][-RETURNS:])
        return GarchFit(model, Head.of(known, garch_sigma(model, bars, known.inputs.horizon_bars)))

    def forecast(self, fit: GarchFit, asked: Asked) -> Forecasts:
        """Return the distribution and the risks."""
        inputs = asked.inputs
        sigma = garch_sigma(fit.model, inputs.bars, inputs.horizon_bars)
        return fit.head.forecast(sigma[asked.rows], inputs.day[asked.rows])

    def to_json(self, fit: GarchFit) -> dict[str, Any]:
        """Return lists and numbers."""
        body: dict[str, Any] = plain(fit)
        return body

    def from_json(self, body: Mapping[str, Any]) -> GarchFit:
        """Read them."""
        return GarchFit(Garch(**body["model"]), Head.from_json(body["head"]))
