"""Stage 3: candidate pools of p. One entry in the dictionary of candidates per pool and agent."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from consensus.learnt import IDENTITY, Learnt, Line
from consensus.recalibration import sigmoid

Floats = NDArray[np.float64]

EQUAL_POOL = "equal_log_pool"
BRIER_POOL = "brier_log_pool"
BOA_POOL = "bernstein_pool"
STACKED = "stacked"
RECALIBRATED = "recalibrated"
DEBATED = "debated"
CONSTANT = "constant"
LEAST = 1e-6
_AGENT = "agent:"  # before an agent's name: it stands for itself


def logit(p: float) -> float:
    """Return ln(p / (1 − p)) for p in (0, 1)."""
    return math.log(p / (1.0 - p))


def log_pool(p: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the weighted logarithmic pool: the p whose logit is Σ w_i logit p_i.

    Parameters
    ----------
    p : agent → p in (0, 1), at least one.
    weights : agent → w ≥ 0, summing to 1 over the agents in ``p``.

    Returns
    -------
    A probability between the smallest and the largest input; the order of agents is irrelevant.
    """
    total = math.fsum([weights[agent] * logit(chance) for agent, chance in p.items()])
    return _between(total, min(p.values()), max(p.values()))


def _between(total: float, low: float, high: float) -> float:
    """The p of a logit, not beyond the p that it was pooled from."""
    return min(max(1.0 / (1.0 + math.exp(-total)), low), high)


def aggregate(rows: Floats, weights: Floats) -> Floats:
    """Return Σ w_i x_i of every column over those who spoke on it; NaN where nobody did.

    Parameters
    ----------
    rows : (n, d), NaN where an agent is silent. ``weights`` : (n, d), each column summing to 1 over
        those who spoke.

    Returns
    -------
    (d,), each between the least and the greatest of its column.
    """
    low, high = np.fmin.reduce(rows), np.fmax.reduce(rows)  # of those who spoke; NaN if none
    parts = weights * rows
    np.putmask(parts, np.isnan(rows), 0.0)
    return np.asarray(np.minimum(np.maximum(np.add.reduce(parts), low), high))


def risk_logit(risk: float) -> float:
    """Return the logit of a probability that may be 0 or 1, as if within [1e-6, 1 − 1e-6]."""
    return logit(min(max(risk, LEAST), 1.0 - LEAST))


def calibrated(risk: float | None, line: Line) -> float | None:
    """Return a pooled risk on the curve of what came true; the identity leaves it as it is."""
    if risk is None or line == IDENTITY:
        return risk
    intercept, slope = line
    return sigmoid(intercept + slope * risk_logit(risk))


def candidate_pools(
    p: Mapping[str, float], weights: Mapping[str, float], learnt: Learnt, bernstein: float,
    debated: Mapping[str, float], clip: tuple[float, float],
) -> dict[str, float]:  # fmt: skip
    """Return every candidate for the published p, by name.

    Parameters
    ----------
    p : awake member → admitted p.
    weights : their Brier weights, summing to 1.
    learnt : what has been learned up to now. ``bernstein`` : the Bernstein pool.
    debated : awake member → p after the debate.
    clip : range of a candidate.
    """
    logits, equal = {agent: logit(x) for agent, x in p.items()}, 1.0 / len(p)
    ends = min(p.values()), max(p.values())
    brier = _between(math.fsum([weights[agent] * x for agent, x in logits.items()]), *ends)
    stacked = math.fsum([learnt.stack.get(agent, 0.0) * x for agent, x in logits.items()])
    intercept, slope = learnt.platt
    pools = {
        EQUAL_POOL: _between(math.fsum([equal * x for x in logits.values()]), *ends),
        BRIER_POOL: brier,
        BOA_POOL: bernstein,
        STACKED: sigmoid(stacked),
        RECALIBRATED: sigmoid(intercept + slope * logit(brier)),
        DEBATED: brier if debated == p else log_pool(debated, weights),
        CONSTANT: learnt.base,
        **candidates_of(p),
    }
    low, high = clip
    return {name: min(max(chance, low), high) for name, chance in sorted(pools.items())}


def candidates_of(p: Mapping[str, float]) -> dict[str, float]:
    """Return agents as candidates for themselves: name → p."""
    return {_AGENT + agent: chance for agent, chance in p.items()}


def agents_of(candidates: Mapping[str, float]) -> dict[str, float]:
    """Return the agents among candidates: name → p."""
    return {
        name.removeprefix(_AGENT): chance
        for name, chance in candidates.items()
        if name.startswith(_AGENT)
    }
