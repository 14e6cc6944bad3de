"""What one outcome teaches (:mod:`consensus.scoring`, ``learning``, ``seats``), compiled."""

from __future__ import annotations

import math

import numpy as np

from consensus.conformal import BOUND, LEVELS
from consensus.evidence import ALPHA, CAP, GRID, LARGEST, PRIOR, ZERO
from consensus.kernel import bernstein, pools
from consensus.kernel.numbers import logit, risk_logit, sigmoid
from consensus.kernel.state import (
    BRIER,
    CONSTANT,
    FIRST,
    POOLS,
    QUANTILES,
    Floats,
    Folded,
    Rules,
    State,
    Told,
)
from consensus.rounds import DOWN, P
from data.jit import jit
from domain.opinion import ADVERSE_MOVE

_PASSED = 1.0 / ALPHA
_ABOVE, _BELOW = 0, 1


@jit
def resolve(s: int, told: Told, made: Folded, state: State, rules: Rules) -> None:
    """Fold the outcome of row s."""
    r = told.log_return[s]
    shown = not math.isnan(made.p_up[s])
    y = 1.0 if r > 0.0 else 0.0
    score(s, y, shown, told, made, state, rules)
    state.base[0], state.base[1] = rules.decay * state.base[0] + y, rules.decay * state.base[1] + 1
    if not shown:
        return
    pools.learn(made.candidates[s], state.ln_weights[told.copy[s]], y)
    direction(made.candidates[s], y, state, rules)
    fell = 1.0 if told.drop[s] > ADVERSE_MOVE else 0.0
    rose = 1.0 if told.rise[s] > ADVERSE_MOVE else 0.0
    bernstein.learn(
        told.said[s], made.pooled[s], (y, r, fell, rose), told.sigma[s], state.boa, rules.keep,
        rules.breadth,
    )  # fmt: skip
    line(state.curves[0], state.curve_covs[0], made.pooled[s, DOWN], fell, rules)
    line(state.curves[1], state.curve_covs[1], made.pooled[s, DOWN + 1], rose, rules)
    track(made.pooled[s], made.theta[s], told.sigma[s], r, state.theta, rules.rate)
    if not math.isnan(made.mean_abs[s]):
        x = (2.0 * made.p_up[s] - 1.0) * made.mean_abs[s]
        state.edge[0] = rules.decay * state.edge[0] + x * r
        state.edge[1] = rules.decay * state.edge[1] + x * x
        state.edge[2] += 1.0


@jit
def score(
    s: int, y: float, shown: bool, told: Told, made: Folded, state: State, rules: Rules
) -> None:
    """Move losses, evidence and seats of those who spoke."""
    published = ((made.p_up[s] if shown else 0.5) - y) ** 2
    climatology = ((made.candidates[s, CONSTANT] if shown else 0.5) - y) ** 2
    for k in range(len(state.loss)):
        if not math.isnan(told.said[s, k, P]):
            brier = (told.said[s, k, P] - y) ** 2
            state.loss[k] = rules.decay * state.loss[k] + brier - published
            state.scored[k] += 1.0
            copy = told.copy[s]
            bet(state.stats[k, copy], state.logs[k, copy], climatology - brier)
    for k in range(len(state.loss)):
        if not math.isnan(told.said[s, k, P]):
            reseat(k, state, rules)


@jit
def reseat(k: int, state: State, rules: Rules) -> None:
    """Give or take a seat by the evidence."""
    if state.prior[k] > 0.0:
        if not refuted(state.logs[k], _BELOW):
            return
        state.prior[k] = 0.0
    else:
        if state.stats[k, :, 0].sum() < rules.probation or not refuted(state.logs[k], _ABOVE):
            return
        state.prior[k] = 1.0 / ((state.prior > 0.0).sum() + 1.0)
        state.loss[k] = 0.0
    state.stats[k], state.logs[k] = 0.0, 0.0


@jit
def bet(stats: Floats, logs: Floats, d: float) -> None:
    """Fold d into one purse."""
    n, total, squares = stats
    for g in range(len(GRID)):
        m = GRID[g]
        stake = (total - n * m) / (squares - (2.0 * total - n * m) * m + PRIOR)
        logs[_ABOVE, g] += math.log1p(min(max(stake, 0.0), CAP) * (d - m))
        logs[_BELOW, g] += math.log1p(min(max(stake, -CAP), 0.0) * (d - m))
    stats[0], stats[1], stats[2] = n + 1.0, total + d, squares + d * d


@jit
def refuted(logs: Floats, side: int) -> bool:
    """Return whether the mean of the purses at m = 0 is at least 1/α."""
    total = 0.0
    for copy in range(len(logs)):
        total += math.exp(min(logs[copy, side, ZERO], LARGEST))
    return total / len(logs) >= _PASSED


@jit
def direction(candidates: Floats, y: float, state: State, rules: Rules) -> None:
    """Teach stacking and recalibration."""
    x = np.zeros(len(state.stack))
    for k in range(len(x)):
        if not math.isnan(candidates[POOLS + k]):
            x[k] = logit(candidates[POOLS + k])
    logistic(state.stack, state.stack_cov, rules.stack_prior, rules.stack_spread, x, y, rules)
    x = np.array([1.0, logit(candidates[BRIER])])
    logistic(state.platt, state.platt_cov, rules.line_prior, rules.platt_spread, x, y, rules)


@jit
def line(beta: Floats, cov: Floats, risk: float, event: float, rules: Rules) -> None:
    """Teach the calibration of a risk."""
    if not math.isnan(risk):
        x = np.array([1.0, risk_logit(risk)])
        logistic(beta, cov, rules.line_prior, rules.risk_spread, x, event, rules)


@jit
def logistic(
    beta: Floats, cov: Floats, prior: Floats, spread: Floats, x: Floats, y: float, rules: Rules
) -> None:
    """Fold one outcome into :class:`consensus.recalibration.OnlineLogistic`."""
    n, keep, eta = len(beta), rules.decay, 0.0
    for i in range(n):
        beta[i] = prior[i] + keep * (beta[i] - prior[i])
        eta += beta[i] * x[i]
        for j in range(n):
            cov[i, j] *= keep * keep
        cov[i, i] += (1.0 - keep * keep) * spread[i] * spread[i]
    q = sigmoid(eta)
    weight = rules.share * q * (1.0 - q)
    px = times(cov, x)
    along = 0.0
    for i in range(n):
        along += x[i] * px[i]
    scale = weight / (1.0 + weight * along)
    for i in range(n):
        for j in range(n):
            cov[i, j] -= px[i] * px[j] * scale
    step = times(cov, x)
    for i in range(n):
        beta[i] += step[i] * rules.share * (y - q)


@jit
def times(matrix: Floats, x: Floats) -> Floats:
    """Return the product of a matrix and a vector."""
    out = np.zeros(len(x))
    for i in range(len(x)):
        for j in range(len(x)):
            out[i] += matrix[i, j] * x[j]
    return out


@jit
def track(
    pooled: Floats, issued: Floats, sigma: float, r: float, theta: Floats, rate: float
) -> None:
    """Move the conformal tracker."""
    if math.isnan(sigma) or math.isnan(pooled[FIRST]):
        return
    for i in range(QUANTILES):
        score = min(max((r - pooled[FIRST + i]) / sigma, -BOUND), BOUND)
        theta[i] += rate * (LEVELS[i] - (1.0 if score <= issued[i] else 0.0))
