"""Validation scores for model cards.

A card's ``metrics["walk_forward"]`` holds the means over the folds of

* a trend: ``brier_skill_1e4`` (gain over ½ × 10⁴, more is better), ``auc``, ``accuracy``;
* a range: ``pinball_bps`` (less is better), ``coverage_80``;
* a risk: ``down_brier``, ``up_brier`` (less is better), ``down_auc``, ``up_auc``;

and, for each of these that climatology was scored on over the same rows, ``climatology_<key>``. A
model that is not better than that is refused when it is to be promoted (:mod:`agents.inspection`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.risk import sigmoid
from agents.training.dataset import Dataset
from agents.training.volatility import newton
from domain import scores
from domain.quantiles import CANONICAL_LEVELS

Floats = NDArray[np.float64]

CLIMATOLOGY = "climatology_"  # before a score's key: what climatology scored on the same rows

_AT = {level: CANONICAL_LEVELS.index(level) for level in (0.1, 0.5, 0.9)}


def trend_scores(p: Floats, up: NDArray[np.bool_]) -> dict[str, float]:
    """Return Brier gain × 10⁴ over ½, AUC and accuracy of p (n,)."""
    return {
        "brier_skill_1e4": float((0.25 - scores.brier(p, up).mean()) * 1e4),
        "auc": scores.auc(p, up),
        "accuracy": scores.accuracy(p, up),
    }


def logit_slope(logits: Floats, up: NDArray[np.bool_]) -> float:
    """Return the factor on logits (n,) of P(up) that their outcomes ask for; 1 is calibrated.

    Logistic regression through the origin; 1 where no logit says anything.

    Raises
    ------
    DataRefused : if it ends nowhere.
    """

    def derivatives(beta: Floats) -> tuple[float, Floats, Floats]:
        eta = logits * beta[0]
        p = sigmoid(eta)
        value = float(np.mean(np.logaddexp(0.0, eta) - up * eta))
        slope, weight = np.mean(logits * (p - up)), np.mean(logits**2 * p * (1.0 - p))
        return value, np.array([slope]), np.array([[weight]])

    return float(newton(np.ones(1), derivatives, ridge=1e-9)[0])


def quantile_scores(q: Floats, y: Floats) -> dict[str, float]:
    """Return mean pinball over .1 .5 .9 (bp) and the coverage of p10–p90; q is (n, 13)."""
    losses = [scores.pinball(q[:, at], y, level).mean() for level, at in _AT.items()]
    inside = scores.covered(q[:, _AT[0.1]], q[:, _AT[0.9]], y)
    return {"pinball_bps": float(np.mean(losses)) * 1e4, "coverage_80": float(inside.mean())}


def risk_scores(name: str, p: Floats, event: NDArray[np.bool_]) -> dict[str, float]:
    """Return Brier score and AUC of an adverse event's probability (n,)."""
    return {
        f"{name}_brier": float(scores.brier(p, event).mean()),
        f"{name}_auc": scores.auc(p, event),
    }


def climatology_scores(
    target: str, data: Dataset, start_ms: int, rows: NDArray[np.bool_]
) -> dict[str, float]:
    """Return what the frequencies of the time before ``start_ms`` score on ``rows``.

    A model must beat them to be used: keys are those of the target's scores after
    ``climatology_``.
    """
    known = data.known_by(0, start_ms)
    if target == "trend":
        p = np.full(int(rows.sum()), float(data.labels.up[known].mean()))
        gain = (0.25 - scores.brier(p, data.labels.up[rows]).mean()) * 1e4
        return {"climatology_brier_skill_1e4": float(gain)}
    if target == "return":
        q = np.tile(np.quantile(data.labels.y[known], CANONICAL_LEVELS), (int(rows.sum()), 1))
        told = quantile_scores(q, data.labels.y[rows])
        return {"climatology_pinball_bps": told["pinball_bps"]}
    made = {}
    for side, event in (("down", data.down), ("up", data.up)):
        p = np.full(int(rows.sum()), float(event[known].mean()))
        made[f"climatology_{side}_brier"] = float(scores.brier(p, event[rows]).mean())
    return made


def mean_scores(folds: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """Return each score's mean over the folds, and the folds themselves."""
    if not folds:
        return {"folds": []}
    means = {key: float(np.mean([fold[key] for fold in folds])) for key in folds[0]}
    return {**means, "folds": [dict(fold) for fold in folds]}
