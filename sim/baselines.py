"""The rows that stand beside the agents in every table: what one gets without a council.

half          p = ½
base_rate     how often the training period went up; how often it fell by more than 0.5 %
trailing      quantiles of the last 8 640 observed five-bar returns (30 days)
ewma          EWMA volatility (λ = .94) × residual quantiles; risk is logistic in ln σ̂
har           HAR with intraday season × residual quantiles
har_ranges    the same with Parkinson ranges; risk is logistic in ln σ̂

Definitions as in the project's reference table. The fitted ones need parameters: those that ship
are of BTC/USDT spot, 5-minute bars, up to 2024-12-31, and hold for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.artifacts import Artifact
from agents.risk import RiskModel
from agents.volatility import LOOKBACK, ewma_sigma
from agents.windows import Run, run_of, segments
from domain.market import BarFrame
from domain.quantiles import CANONICAL_LEVELS, REQUIRED_LEVELS, QuantileTable
from sim.scoring import Floats, Forecasts

NAMES = ("half", "base_rate", "trailing", "ewma", "har", "har_ranges")
TRAILING = 8_640  # observed returns, 30 days of five-minute bars
_TRAILING_MIN = 288


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What the fitted baselines learned, and from what.

    Attributes
    ----------
    symbol, timeframe, horizon_bars : what it holds for.
    end_ms : nothing from this instant on was seen (UTC ms).
    up_rate, drop_rate : share of training rows that went up, that fell by more than 0.5 %.
    risk : the volatility models; None leaves ewma, har and har_ranges silent.
    """

    symbol: str
    timeframe: str
    horizon_bars: int
    end_ms: int
    up_rate: float
    drop_rate: float
    risk: RiskModel | None = None

    def suits(self, frame: BarFrame, horizon_bars: int) -> bool:
        """Whether the parameters hold for these bars and this horizon."""
        told = (self.symbol, self.timeframe, self.horizon_bars)
        return told == (frame.symbol, frame.timeframe, horizon_bars)


# base rates of 2022-09-01 … 2024-12-31 (BTC/USDT spot, labels known by the end)
SHIPPED = Fitted("BTC/USDT", "5m", 5, 1_735_689_600_000, up_rate=0.504337924, drop_rate=0.093828597)


def shipped(artifact: Artifact | None) -> Fitted:
    """Return what ships: base rates, and the volatility models inside the risk agent's artifact.

    An artifact trained for another market is passed over.
    """
    if artifact is None:
        return SHIPPED
    card = artifact.card
    told = (SHIPPED.symbol, SHIPPED.timeframe, SHIPPED.horizon_bars)
    if (card.symbol, card.timeframe, card.horizon_bars) != told:
        return SHIPPED
    end_ms = max(card.end_ms, SHIPPED.end_ms)
    return replace(SHIPPED, end_ms=end_ms, risk=RiskModel.from_json(artifact.params()))


def baselines(
    frame: BarFrame, rows: NDArray[np.int64], horizon_bars: int, fitted: Fitted | None
) -> dict[str, Forecasts]:
    """Forecast ``rows`` by every baseline.

    Parameters
    ----------
    frame : all bars there are, also those before the rows.
    rows : (n,) indices of the deciding bars in ``frame``.
    fitted : parameters, used only if they suit the bars; rows that open before their end are
        marked ``in_sample``.

    Returns
    -------
    name → n forecasts, in the order of :data:`NAMES`.
    """
    n = len(rows)
    out = {name: Forecasts.silent(n) for name in NAMES}
    out["half"].p_up[:] = 0.5
    q = trailing_quantiles(frame, horizon_bars)[rows]
    out["trailing"].quantiles[:] = completed(REQUIRED_LEVELS, q)
    out["trailing"].p_up[:] = chance_up(REQUIRED_LEVELS, q)
    if fitted is None or not fitted.suits(frame, horizon_bars):
        return out
    seen = frame.ts[rows] < fitted.end_ms
    for name in ("base_rate", "ewma", "har", "har_ranges"):
        out[name].in_sample[:] = seen
    out["base_rate"].p_up[:] = fitted.up_rate
    out["base_rate"].risk_down[:] = fitted.drop_rate
    if fitted.risk is not None:
        _volatility(out, frame, rows, fitted.risk)
    return out


def trailing_quantiles(frame: BarFrame, horizon_bars: int) -> Floats:
    """Return .1, .5 and .9 of the last 8 640 observed horizon returns at each bar, (n, 3).

    NaN until 288 have been observed. Returns across a gap are not observed.
    """
    logs = np.log(frame.close)
    step = frame.step_ms * horizon_bars
    whole = frame.ts[horizon_bars:] - frame.ts[:-horizon_bars] == step
    moves = (logs[horizon_bars:] - logs[:-horizon_bars])[whole]
    window = pd.Series(moves).rolling(TRAILING, min_periods=_TRAILING_MIN)
    table = np.column_stack([window.quantile(level).to_numpy() for level in REQUIRED_LEVELS])
    newest = np.concatenate((np.full(min(horizon_bars, len(frame)), -1), np.cumsum(whole) - 1))
    padded = np.vstack([table, np.full((1, len(REQUIRED_LEVELS)), np.nan)])
    return np.asarray(padded[newest])


def chance_up(levels: tuple[float, ...], values: Floats) -> Floats:
    """Return 1 − F(0) for quantiles (n, k); NaN where a row is not finite."""
    out = np.full(len(values), np.nan)
    known = np.isfinite(values).all(axis=1)
    if known.any():
        out[known] = 1.0 - QuantileTable.of(levels, values[known]).cdf(0.0)
    return out


def completed(levels: tuple[float, ...], values: Floats) -> Floats:
    """Return quantiles (n, k) on the canonical levels, (n, 13); NaN where a row is not finite."""
    out = np.full((len(values), len(CANONICAL_LEVELS)), np.nan)
    known = np.isfinite(values).all(axis=1)
    if known.any():
        out[known] = QuantileTable.of(levels, values[known]).ppf(CANONICAL_LEVELS)
    return out


def _volatility(
    out: dict[str, Forecasts], frame: BarFrame, rows: NDArray[np.int64], risk: RiskModel
) -> None:
    horizon = risk.har.horizon_bars
    sigmas: dict[str, Callable[[Run], Floats]] = {
        "ewma": lambda run: ewma_sigma(run, horizon),
        "har": risk.plain.sigma,
        "har_ranges": risk.har.sigma,
    }
    residuals = {
        "ewma": risk.ewma_residuals,
        "har": risk.plain_residuals,
        "har_ranges": risk.residuals,
    }
    sigma = _each_bar(frame, list(sigmas.values()), rows)
    for k, name in enumerate(sigmas):
        values = sigma[:, k, None] * residuals[name]
        out[name].quantiles[:] = values
        out[name].sigma[:] = sigma[:, k]
        out[name].p_up[:] = chance_up(CANONICAL_LEVELS, values)
    out["ewma"].risk_down[:] = risk.ewma_down.chance(sigma[:, 0])
    out["har_ranges"].risk_down[:] = risk.down.chance(sigma[:, 2])


def _each_bar(
    frame: BarFrame, makers: list[Callable[[Run], Floats]], rows: NDArray[np.int64]
) -> Floats:
    sigma = np.full((len(frame), len(makers)), np.nan)
    first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
    for start, stop in segments(frame):
        begin, end = max(start, first - LOOKBACK), min(stop, last + 1)
        if begin < end:
            run = run_of(frame.slice(begin, end), LOOKBACK)
            sigma[begin:end] = np.column_stack([make(run) for make in makers])
    return sigma[rows]
