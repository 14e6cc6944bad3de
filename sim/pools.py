"""What the council must beat: simple ways to pool its agents, and the best of them in hindsight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from domain import scores as proper
from sim.scoring import Floats, Forecasts, Mask, Truth

EQUAL_WEIGHT, INVERSE_BRIER, GREEDY = "equal_weight", "inverse_brier", "greedy_ensemble"
BEST_AGENT = "best_agent"
POOLS = (EQUAL_WEIGHT, INVERSE_BRIER, GREEDY, BEST_AGENT)

CHOSEN_EVERY = 8_640  # rows between two choices of the greedy ensemble, 30 days of five minutes
PICKS = 20  # of the greedy ensemble, with replacement
_CLIP = 0.02  # as the council clips opinions before it pools them


def pooled(
    agents: Mapping[str, Forecasts], truth: Truth, valid: Mask, horizon: int,
    apart: str = "climatology",
) -> dict[str, Forecasts]:  # fmt: skip
    """Return a row of forecasts for each of :data:`POOLS`; empty without an agent.

    The mean is of logits for p, of quantile functions (Vincent 1912) for quantiles, and of
    probabilities for risks, over the agents that were awake. Weights of ``inverse_brier`` are one
    over the mean Brier score, of ``greedy_ensemble`` how often each was picked (Caruana et al.,
    *Ensemble Selection from Libraries of Models*, 2004), anew every :data:`CHOSEN_EVERY` rows; both
    know a row's outcome ``horizon`` rows later. The best agent has the lowest Brier score over all
    rows: known only afterwards, so nobody could have followed it.

    Parameters
    ----------
    valid : (n,) rows with an outcome. ``horizon`` : H, bars until it is known.
    apart : the agent that stands for the base rate and is no candidate for the best.
    """
    if not agents:
        return {}
    losses = _losses(agents, truth, valid)
    out = {
        EQUAL_WEIGHT: equal_weight(agents),
        INVERSE_BRIER: mean_of(agents, inverse_brier(losses, horizon)),
        GREEDY: mean_of(agents, greedy(agents, truth, valid, horizon)),
    }
    means = [
        float(row[~np.isnan(row)].mean()) if (~np.isnan(row)).any() else np.inf for row in losses
    ]
    known = {a: x for a, x in zip(agents, means, strict=True) if a != apart and np.isfinite(x)}
    if known:
        out[BEST_AGENT] = agents[min(known, key=lambda name: known[name])]
    return out


def equal_weight(agents: Mapping[str, Forecasts]) -> Forecasts:
    """Return the mean of all forecasts that count, row by row."""
    n = len(next(iter(agents.values())).p_up)
    return mean_of(agents, np.ones((len(agents), n)))


def mean_of(agents: Mapping[str, Forecasts], weights: Floats) -> Forecasts:
    """Return the weighted mean, row by row, of all forecasts that count.

    Parameters
    ----------
    weights : (agents, n) ≥ 0, not normalised.
    """
    each = list(agents.values())
    out = Forecasts.silent(len(each[0].p_up))
    chance = np.clip(_stacked("p_up", each), _CLIP, 1.0 - _CLIP)
    with np.errstate(invalid="ignore"):
        logits = _mean(np.log(chance) - np.log1p(-chance), weights)
        out.p_up[:] = 1.0 / (1.0 + np.exp(-logits))
    out.quantiles[:] = _mean(_stacked("quantiles", each), weights[:, :, None])
    for name in ("risk_down", "risk_up"):
        getattr(out, name)[:] = _mean(_stacked(name, each), weights)
    return out


def inverse_brier(losses: Floats, horizon: int) -> Floats:
    """Return one over each agent's mean Brier score so far, (agents, n); 1 before the first."""
    known = ~np.isnan(losses)
    total = _known_before(np.where(known, losses, 0.0), horizon)
    count = _known_before(known.astype(np.float64), horizon)
    return np.divide(count, total, out=np.ones_like(total), where=total > 0.0)


def greedy(
    agents: Mapping[str, Forecasts],
    truth: Truth,
    valid: Mask,
    horizon: int,
    every: int = CHOSEN_EVERY,
) -> Floats:
    """Return how often each agent was picked from what was known, (agents, n); 1 at first.

    Parameters
    ----------
    every : rows between two choices.
    """
    each = list(agents.values())
    chance = np.clip(_stacked("p_up", each), _CLIP, 1.0 - _CLIP)
    logits = np.nan_to_num(np.log(chance) - np.log1p(-chance))  # a sleeper says ½
    n = logits.shape[1]
    weights = np.ones((len(each), n))
    for start in range(every, n, every):
        rows = valid.copy()
        rows[start - horizon + 1 :] = False  # the outcome of row s is known at row s + H
        weights[:, start : start + every] = _picks(logits[:, rows], truth.up[rows])[:, None]
    return weights


def _picks(logits: Floats, up: Mask) -> Floats:
    """How often each agent is picked, each time the one that helps the mean most."""
    count, total = np.zeros(len(logits)), np.zeros(logits.shape[1])
    if not logits.shape[1]:
        return np.ones(len(logits))
    for size in range(1, PICKS + 1):
        means = [1.0 / (1.0 + np.exp(-(total + row) / size)) for row in logits]
        best = int(np.argmin([proper.brier(p, up).mean() for p in means]))
        count[best] += 1
        total = total + logits[best]
    return count


def _losses(agents: Mapping[str, Forecasts], truth: Truth, valid: Mask) -> Floats:
    """Brier losses, (agents, n), NaN where there is none."""
    p = _stacked("p_up", list(agents.values()))
    return np.where(valid, proper.brier(p, truth.up), np.nan)


def _known_before(values: Floats, horizon: int) -> Floats:
    """Σ over the rows whose outcome is known at each row."""
    out = np.zeros_like(values)
    out[:, horizon:] = np.cumsum(values, axis=1)[:, :-horizon]
    return out


def _stacked(name: str, each: Sequence[Forecasts]) -> Floats:
    return np.stack([_heard(getattr(columns, name), columns) for columns in each])


def _heard(values: Floats, columns: Forecasts) -> Floats:
    keep = columns.awake if values.ndim == 1 else columns.awake[:, None]
    return np.where(keep, values, np.nan)


def _mean(stacked: Floats, weights: Floats) -> Floats:
    """Weighted mean along the first axis over what is finite; NaN where nothing is."""
    known = np.isfinite(stacked)
    share = np.where(known, np.broadcast_to(weights, stacked.shape), 0.0)
    mass = share.sum(axis=0)
    total = (share * np.where(known, stacked, 0.0)).sum(axis=0)
    return np.asarray(np.divide(total, mass, out=np.full(total.shape, np.nan), where=mass > 0))
