"""From one forecast per timeframe to one: with fixed weights, or as it was learned.

Fixed: weights by timeframe renormalised over those there are, direction as the mean over the
steps with a decay, width scaled by how the last 20 returns compare. Learned: σ̂ log-linear in the
widths, quantiles from residuals, P(up) logistic in the timeframes' logits, risks logistic in ln σ̂.
Which scores better is in docs/models.md; the better one is the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from agents.chronos_network import LEVELS
from agents.chronos_views import STEPS, View, by_state
from agents.risk import Logistic, residual_quantiles, sigmoid
from domain.errors import ModelError
from domain.quantiles import CANONICAL_LEVELS, QuantileTable

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

WEIGHTS = {"1m": 0.10, "3m": 0.15, "5m": 0.20, "15m": 0.25, "30m": 0.15, "1h": 0.15}
DECAY = 0.95  # a step
_Z80 = 2.0 * 1.2815515655446004  # width of the central 80 % of a standard normal
_LOGIT = 4.0  # largest logit a timeframe is heard with
_FLOOR = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Forecasts of n states.

    Attributes
    ----------
    p_up : (n,). ``quantiles`` : (n, 13) on the canonical levels. ``sigma`` : (n,).
    risk_down, risk_up : (n,), or None where the fusion has no model of them.
    heard : (n, timeframes) which timeframes had a say, in the order of ``timeframes``.
    """

    p_up: Floats
    quantiles: Floats
    sigma: Floats
    risk_down: Floats | None
    risk_up: Floats | None
    timeframes: tuple[str, ...]
    heard: Flags


@dataclass(frozen=True, slots=True)
class FixedFusion:
    """Weights that nobody learned.

    Attributes
    ----------
    min_confidence : |2p − 1| below which a timeframe has no say in the direction.
    adjust : how far the width follows the last 20 returns, 0 (not) … 1 (fully).
    """

    min_confidence: float = 0.0
    adjust: float = 0.25

    def fuse(self, views: Mapping[str, View], n: int) -> Fused:
        """Return the fused forecasts; NaN where no timeframe has a window."""
        names = tuple(name for name in WEIGHTS if name in views)
        tables = by_state(views, n)
        heard = np.stack([tables[name][1] for name in names], axis=1)
        weights = np.array([WEIGHTS[name] for name in names]) * heard
        scaled, evidence = [], []
        for name in names:
            table = _expanded(tables[name][0])
            ratio = np.ones(n)
            ratio[views[name].states] = views[name].volatility ** self.adjust
            middle = table[:, [len(CANONICAL_LEVELS) // 2]]
            scaled.append(middle + (table - middle) * ratio[:, None])
            logit = np.full(n, np.nan)
            logit[views[name].states] = _decayed_logit(views[name].quantiles)
            evidence.append(logit)
        total = _weighted(np.stack(scaled, axis=1), weights)
        logits = np.stack(evidence, axis=1)
        sure = np.abs(2.0 * sigmoid(np.nan_to_num(logits)) - 1.0) >= self.min_confidence
        p = sigmoid(np.sum(np.nan_to_num(logits) * weights * sure, axis=1)
                    / np.maximum((weights * sure).sum(axis=1), _FLOOR))  # fmt: skip
        sigma = (total[:, -3] - total[:, 2]) / _Z80
        return Fused(p, total, sigma, None, None, names, heard)


@dataclass(frozen=True, slots=True, eq=False)
class LearnedFusion:
    """Fitted to opinions and outcomes of the training period; a missing timeframe says what the
    base one says.

    Attributes
    ----------
    timeframes : that it was fitted on, the base one first.
    width : (1 + k,) coefficients of ln σ̂ on 1 and the ln widths.
    direction : (1 + k,) coefficients of the logit on 1 and the logits.
    residuals : (13,) quantiles of r/σ̂.
    drift : expected return = drift·(2p − 1)·σ̂, by which the quantiles are moved.
    """

    timeframes: tuple[str, ...]
    width: Floats
    direction: Floats
    residuals: Floats
    drift: float
    down: Logistic
    up: Logistic

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote; ModelError if it is something else."""
        try:
            made = cls(
                tuple(body["timeframes"]), np.asarray(body["width"], np.float64),
                np.asarray(body["direction"], np.float64), residual_quantiles(body["residuals"]),
                float(body["drift"]), Logistic(**body["down"]), Logistic(**body["up"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError("fusion", f"lacks a field or has a bad one: {error}") from error
        k = 1 + len(made.timeframes)
        if made.width.shape != (k,) or made.direction.shape != (k,):
            raise ModelError("fusion", f"needs {k} coefficients", made.width.shape)
        if not np.isfinite([*made.width, *made.direction, made.drift]).all():
            raise ModelError("fusion", "its coefficients must be finite")
        return made

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        curves = {
            side: {n: getattr(curve, n) for n in ("intercept", "slope", "move")}
            for side, curve in (("down", self.down), ("up", self.up))
        }
        return {
            "timeframes": list(self.timeframes), "width": self.width.tolist(),
            "direction": self.direction.tolist(), "residuals": self.residuals.tolist(),
            "drift": self.drift, **curves,
        }  # fmt: skip

    def fuse(self, views: Mapping[str, View], n: int) -> Fused:
        """Return the fused forecasts; NaN where the base timeframe has no window."""
        widths, logits, heard = inputs_of(views, n, self.timeframes)
        sigma = np.exp(self.width[0] + np.sum(widths * self.width[1:], axis=1))
        p = sigmoid(self.direction[0] + np.sum(logits * self.direction[1:], axis=1))
        moved = self.drift * (2.0 * p - 1.0) * sigma
        quantiles = sigma[:, None] * self.residuals + moved[:, None]
        return Fused(
            p, quantiles, sigma, self.down.chance(sigma), self.up.chance(sigma),
            self.timeframes, heard,
        )  # fmt: skip


def inputs_of(
    views: Mapping[str, View], n: int, timeframes: Sequence[str]
) -> tuple[Floats, Floats, Flags]:
    """Return ln widths and logits of P(up), (n, k) each, and which timeframes were heard.

    A timeframe without a window has the first one's width and no direction; NaN where the first
    one itself is missing.
    """
    tables = by_state(views, n)
    none = np.full((n, len(LEVELS)), np.nan), np.zeros(n, np.bool_)
    widths, logits = np.empty((n, len(timeframes))), np.zeros((n, len(timeframes)))
    heard = np.zeros((n, len(timeframes)), np.bool_)
    for k, name in enumerate(timeframes):
        table, known = tables.get(name, none)
        spread = (table[:, -1] - table[:, 0]) / _Z80
        widths[:, k] = np.log(np.maximum(np.where(known, spread, 1.0), _FLOOR))
        logits[known, k] = _logit_up(table[known])
        heard[:, k] = known
    widths = np.where(heard, widths, widths[:, :1])
    widths[~heard[:, 0]] = np.nan
    return widths, logits, heard


def _logit_up(table: Floats) -> Floats:
    p = np.clip(1.0 - QuantileTable.of(LEVELS, table).cdf(0.0), 1e-3, 1.0 - 1e-3)
    return np.clip(np.log(p / (1.0 - p)), -_LOGIT, _LOGIT)


def _decayed_logit(quantiles: Floats) -> Floats:
    """Mean logit of P(up) over the steps, a step k bars ahead counting .95^k."""
    weights = np.array([DECAY**step for step in STEPS])
    logits = np.stack([_logit_up(quantiles[:, step - 1]) for step in STEPS], axis=1)
    return np.asarray(np.sum(logits * weights, axis=1) / weights.sum())


def _expanded(table: Floats) -> Floats:
    """The nine levels of a model completed to the thirteen canonical ones; NaN rows stay NaN."""
    out = np.full((len(table), len(CANONICAL_LEVELS)), np.nan)
    known = np.isfinite(table).all(axis=1)
    if known.any():
        out[known] = QuantileTable.of(LEVELS, table[known]).ppf(CANONICAL_LEVELS)
    return out


def _weighted(tables: Floats, weights: Floats) -> Floats:
    """Mean over timeframes of (n, k, 13) with weights (n, k) renormalised over those present."""
    total = weights.sum(axis=1, keepdims=True)
    summed = np.sum(np.nan_to_num(tables) * weights[:, :, None], axis=1)
    return np.where(total > 0, summed / np.maximum(total, _FLOOR), np.nan)
