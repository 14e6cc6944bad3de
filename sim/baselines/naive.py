"""What one gets without a model: ½, the training period's rates, the last month's quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.canonical import plain
from domain.market import BarFrame
from domain.quantiles import REQUIRED_LEVELS
from sim.baselines.contract import Asked, Known, one_sigma_event
from sim.baselines.shape import chance_up, completed
from sim.scoring import Floats, Forecasts

TRAILING = 8_640  # observed returns, 30 days of five-minute bars
_TRAILING_MIN = 288


class Free:
    """What every baseline without parameters shares."""

    learns = False
    parts: tuple[str, ...] = ()

    def fit(self, _: Known) -> None:
        """Learn nothing."""

    def to_json(self, _: None) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def from_json(self, _: Mapping[str, Any]) -> None:
        """Read nothing."""


class Half(Free):
    """p = ½."""

    name = "half"

    def forecast(self, _: None, asked: Asked) -> Forecasts:
        """Return ½ for every row."""
        out = Forecasts.silent(len(asked.rows))
        out.p_up[:] = 0.5
        return out


class Trailing(Free):
    """Quantiles of the last 8 640 observed horizon returns."""

    name = "trailing"

    def forecast(self, _: None, asked: Asked) -> Forecasts:
        """Return the quantiles, and p = 1 − F(0)."""
        out = Forecasts.silent(len(asked.rows))
        q = trailing_quantiles(asked.inputs.bars, asked.inputs.horizon_bars)[asked.rows]
        out.quantiles[:] = completed(REQUIRED_LEVELS, q)
        out.p_up[:] = chance_up(REQUIRED_LEVELS, q)
        return out


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the training rows.

    Attributes
    ----------
    up : that went up.
    down, up_risk : that fell, or rose, by more than 0.5 % within the horizon.
    one_sigma : that fell by more than one trailing σ of the horizon.
    """

    up: float
    down: float
    up_risk: float
    one_sigma: float


class BaseRate:
    """The training period's shares, every time."""

    name, learns = "base_rate", True
    parts: tuple[str, ...] = ()

    def fit(self, known: Known) -> Rates:
        """Count."""
        data, rows = known.data, known.volatility_rows
        events = (data.labels.up, data.down, data.up, one_sigma_event(data))
        return Rates(*(float(event[rows].mean()) for event in events))

    def forecast(self, fit: Rates, asked: Asked) -> Forecasts:
        """Return the shares."""
        out = Forecasts.silent(len(asked.rows))
        out.p_up[:], out.risk_sigma[:] = fit.up, fit.one_sigma
        out.risk_down[:], out.risk_up[:] = fit.down, fit.up_risk
        return out

    def to_json(self, fit: Rates) -> dict[str, Any]:
        """Return the shares by name."""
        body: dict[str, Any] = plain(fit)
        return body

    def from_json(self, body: Mapping[str, Any]) -> Rates:
        """Read them."""
        return Rates(**body)


def trailing_quantiles(frame: BarFrame, horizon_bars: int) -> Floats:
    """Return .1, .5 and .9 of the last 8 640 observed horizon returns at each bar, (n, 3).

    NaN until 288 have been observed. Returns across a gap are not observed.
    """
    import pandas as pd

    logs = np.log(frame.close)
    step = frame.step_ms * horizon_bars
    whole = frame.ts[horizon_bars:] - frame.ts[:-horizon_bars] == step
    moves = (logs[horizon_bars:] - logs[:-horizon_bars])[whole]
    window = pd.Series(moves).rolling(TRAILING, min_periods=_TRAILING_MIN)
    table = np.column_stack([window.quantile(level).to_numpy() for level in REQUIRED_LEVELS])
    newest = np.concatenate((np.full(min(horizon_bars, len(frame)), -1), np.cumsum(whole) - 1))
    padded = np.vstack([table, np.full((1, len(REQUIRED_LEVELS)), np.nan)])
    return np.asarray(padded[newest])
