"""Validation scores for model cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from domain import scores
from domain.quantiles import CANONICAL_LEVELS

Floats = NDArray[np.float64]

_AT = {level: CANONICAL_LEVELS.index(level) for level in (0.1, 0.5, 0.9)}


def trend_scores(p: Floats, up: NDArray[np.bool_]) -> dict[str, float]:
    """Return Brier gain × 10⁴ over ½, AUC and accuracy of p (n,)."""
    return {
        "brier_skill_1e4": float((0.25 - scores.brier(p, up).mean()) * 1e4),
        "auc": scores.auc(p, up),
        "accuracy": scores.accuracy(p, up),
    }


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


def mean_scores(folds: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """Return each score's mean over the folds, and the folds themselves."""
    if not folds:
        return {"folds": []}
    means = {key: float(np.mean([fold[key] for fold in folds])) for key in folds[0]}
    return {**means, "folds": [dict(fold) for fold in folds]}
