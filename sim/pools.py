"""What the council must beat: the plain mean of its agents, and the best of them in hindsight."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from domain import scores as proper
from sim.scoring import Floats, Forecasts, Mask, Truth

EQUAL_WEIGHT, BEST_AGENT = "equal_weight", "best_agent"
_CLIP = 0.02  # as the council clips opinions before it pools them


def pooled(
    agents: Mapping[str, Forecasts], truth: Truth, valid: Mask, apart: str = "climatology"
) -> dict[str, Forecasts]:
    """Return ``equal_weight`` and ``best_agent``; empty without an agent.

    The mean is of logits for p, of quantile functions (Vincent 1912) for quantiles, and of
    probabilities for risks, over the agents that were awake. The best agent has the lowest Brier
    score over the rows: known only afterwards, so nobody could have followed it.

    Parameters
    ----------
    apart : the agent that stands for the base rate and is no candidate for the best.
    """
    if not agents:
        return {}
    out = {EQUAL_WEIGHT: equal_weight(agents)}
    best = best_agent(agents, truth, valid, apart)
    if best is not None:
        out[BEST_AGENT] = agents[best]
    return out


def equal_weight(agents: Mapping[str, Forecasts]) -> Forecasts:
    """Return the mean of all forecasts that count, row by row."""
    each = list(agents.values())
    out = Forecasts.silent(len(each[0].p_up))
    chance = np.stack([_heard(columns.p_up, columns) for columns in each])
    chance = np.clip(chance, _CLIP, 1.0 - _CLIP)
    with np.errstate(invalid="ignore"):
        out.p_up[:] = 1.0 / (1.0 + np.exp(-_mean(np.log(chance) - np.log1p(-chance))))
    out.quantiles[:] = _mean(np.stack([_heard(columns.quantiles, columns) for columns in each]))
    for name in ("risk_down", "risk_up"):
        stacked = np.stack([_heard(getattr(columns, name), columns) for columns in each])
        getattr(out, name)[:] = _mean(stacked)
    return out


def best_agent(
    agents: Mapping[str, Forecasts], truth: Truth, valid: Mask, apart: str
) -> str | None:
    """Return the agent with the lowest Brier score over its own rows; None if nobody spoke."""
    found: dict[str, float] = {}
    for name, columns in agents.items():
        rows = valid & columns.awake & np.isfinite(columns.p_up)
        if name != apart and rows.any():
            found[name] = float(proper.brier(columns.p_up[rows], truth.up[rows]).mean())
    return min(found, key=lambda name: found[name]) if found else None


def _heard(values: Floats, columns: Forecasts) -> Floats:
    keep = columns.awake if values.ndim == 1 else columns.awake[:, None]
    return np.where(keep, values, np.nan)


def _mean(stacked: Floats) -> Floats:
    """Mean along the first axis over what is finite; NaN where nothing is."""
    known = np.isfinite(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
