"""Technical: a ridge regression on indicators, fitted anew at every bar, as loud as its evidence.

The last week of feature rows explains the volatility-normalised return over the horizon. The
coefficients are shrunk by max(0, 1 − 1.5/F) (a doubting positive-part James–Stein), where F
counts only every H-th row because labels overlap: on noise the agent says ½, where there is an
edge it says so.
Rows whose label is not yet known at ``as_of`` are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.contract import HORIZON_BARS, Floats, asleep, canonical, speak
from agents.windows import Run, joined_rows, runs
from domain.canonical import short_hash
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Needs
from domain.quantiles import CANONICAL_LEVELS

NAME = "technical"
_LEVELS = np.array(CANONICAL_LEVELS)
_VARIANCE = "ewma94_var"  # EWMA of r², per bar
_VARIANCE_FLOOR = 1e-14


@dataclass(frozen=True, slots=True)
class TechnicalConfig:
    """Settings of the regression."""

    horizon_bars: int = HORIZON_BARS
    rows: int = 2016  # feature rows, one week of five-minute bars
    min_rows: int = 288  # labelled rows, else it sleeps
    indicators: tuple[str, ...] = (
        "ret_0", "cum_3", "cum_12", "rsi_14", "macd_hist", "ema_gap_48",
    )  # fmt: skip
    ridge: float = 0.01  # × rows × the indicator's variance
    clip: float = 6.0  # |y/σ| beyond it counts as this
    doubt: float = 1.5  # F below which it says nothing; 1 is James–Stein
    definition: int = 1


@dataclass(frozen=True, slots=True)
class _Fit:
    """One state's regression: shrunk prediction and residual quantiles, in units of σ."""

    mean: float
    residuals: Floats
    share: float  # 0 = no evidence, → 1 = a strong edge
    rows: int


class Technical:
    """Reads the chart, and knows how much it has been worth lately."""

    name = NAME

    def __init__(self, config: TechnicalConfig | None = None) -> None:
        self.config = config or TechnicalConfig()
        self.horizon_bars = self.config.horizon_bars
        self.needs = Needs(bars=self.config.rows, feature_rows=self.config.rows)
        self.version = short_hash([NAME, self.config], 12)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state; asleep with fewer than 288 labelled rows since a gap."""
        states = list(states)
        out: list[Opinion] = []
        for run in runs(states, self.config.rows, self.config.rows):
            out.extend(self._run(run, states))
        return out

    def _run(self, run: Run, states: list[MarketState]) -> list[Opinion]:
        config, n = self.config, len(run.index)
        names = states[run.index[0]].features.names
        columns = [names.index(name) for name in (*config.indicators, _VARIANCE)]
        table = joined_rows(states, run, config.rows, columns)
        closes = run.bars.close[len(run.bars) - len(table) :]
        known = np.asarray(np.isfinite(table).all(axis=1))
        born = len(table) if not known[-1] else len(table) - _trailing_true(known)
        variance = np.where(known, table[:, -1], 1.0)
        sigma = np.sqrt(config.horizon_bars * np.maximum(variance, _VARIANCE_FLOOR))
        z = np.zeros(len(table))
        logs = np.log(closes)
        h = config.horizon_bars
        z[:-h] = np.clip((logs[h:] - logs[:-h]) / sigma[:-h], -config.clip, config.clip)
        x = np.ascontiguousarray(table[:, :-1])
        opinions = []
        for k, i in enumerate(run.index):
            last = len(table) - n + k
            start, stop = max(last + 1 - config.rows, born), last + 1 - h
            if stop - start < config.min_rows:
                opinions.append(asleep(NAME, self.version, states[i], h))
                continue
            fit = self._fit(x[start:stop], z[start:stop], x[last])
            opinions.append(self._opinion(states[i], fit, float(sigma[last])))
        return opinions

    def _fit(self, x: Floats, z: Floats, now: Floats) -> _Fit:
        n, k = x.shape
        centre = np.add.reduce(x, axis=0) / n
        design = x - centre
        target = z - np.add.reduce(z) / n
        gram = design.T @ design
        spread = np.diag(gram) + 1e-12 * n
        beta = np.linalg.solve(gram + np.diag(self.config.ridge * spread), design.T @ target)
        fitted = design @ beta
        residual = target - fitted
        unexplained, total = float(residual @ residual), float(target @ target)
        independent = n / self.config.horizon_bars
        share = _evidence(unexplained, total, independent, k, self.config.doubt)
        left = np.sort(target - share * fitted)
        at = _LEVELS * (n - 1)
        low = at.astype(np.int64)
        values = left[low] + (at - low) * (left[low + 1] - left[low])
        # the week's median says nothing about the next minutes: an agent without edge says ½
        values = values - values[len(_LEVELS) // 2]
        return _Fit(share * float((now - centre) @ beta), values, share, n)

    def _opinion(self, state: MarketState, fit: _Fit, sigma: float) -> Opinion:
        quantiles = canonical(sigma * (fit.mean + fit.residuals))
        p = _chance_up(fit.residuals, fit.mean)
        return speak(
            NAME, self.version, state, self.horizon_bars, p_up=p, quantiles=quantiles,
            expected_return=sigma * fit.mean,
            rationale=f"Indicators point {'up' if p > 0.5 else 'down'}, "
            f"evidence {fit.share:.2f} over {fit.rows} bars."
            if fit.share > 0 else f"No indicator has earned trust over {fit.rows} bars.",
            evidence={"evidence": fit.share, "drift_sigma": fit.mean, "sigma": sigma},
        )  # fmt: skip


def _evidence(unexplained: float, total: float, independent: float, k: int, doubt: float) -> float:
    """max(0, 1 − doubt/F): the share of the signal beyond what k free parameters buy."""
    explained = total - unexplained
    if explained <= 0.0 or unexplained <= 0.0 or independent <= k + 1:
        return 0.0
    f = explained / k / (unexplained / (independent - k - 1))
    return max(0.0, 1.0 - doubt / f)


def _chance_up(residuals: Floats, mean: float) -> float:
    """1 − F(0) of mean + residual, linear between the levels, the outermost level beyond them.

    No further from ½ than |mean|: a density above 1 per σ comes from ties on a coarse tick.
    """
    p = 1.0 - float(np.interp(-mean, residuals, _LEVELS))
    return 0.5 + min(max(p - 0.5, -abs(mean)), abs(mean))


def _trailing_true(flags: NDArray[np.bool_]) -> int:
    wrong = np.flatnonzero(~flags)
    return len(flags) - 1 - int(wrong[-1]) if len(wrong) else len(flags)
