"""Bar after bar: what has become known is folded, then what is said is fused."""

from __future__ import annotations

import math

import numpy as np

from consensus.kernel.bernstein import aggregate
from consensus.kernel.debating import debate, roles
from consensus.kernel.distribution import moments
from consensus.kernel.learning import resolve
from consensus.kernel.numbers import logit, risk_logit, sigmoid
from consensus.kernel.pools import brier_weights, log_pool, mix
from consensus.kernel.state import (
    BERNSTEIN,
    BRIER,
    CONSTANT,
    DEBATED,
    EQUAL,
    FIRST,
    POOLS,
    QUANTILES,
    RECALIBRATED,
    STACKED,
    Flags,
    Floats,
    Folded,
    Panel,
    Rules,
    State,
    Told,
    empty,
    fresh,
    rules_of,
)
from consensus.rounds import DOWN, P
from consensus.settings import UNINFORMED, CouncilSettings
from data.jit import jit


def fold(panel: Panel, settings: CouncilSettings) -> Folded:
    """Play a panel from the fold's prior.

    Raises
    ------
    ValueError : if agents are not sorted.
    """
    agents = list(panel.agents)
    if agents != sorted(agents):
        raise ValueError(f"agents must be sorted, not {agents}")
    member = np.array([agent in settings.members for agent in agents])
    rules = rules_of(settings, member)
    f = np.ascontiguousarray  # one layout, or it is compiled again for another
    told = Told(
        said=f(panel.said), log_return=f(panel.log_return), drop=f(panel.drop),
        rise=f(panel.rise), due=f(panel.due), copy=f(panel.copy), sigma=f(panel.sigma),
        case=f(panel.case), mute=np.array([agent in UNINFORMED for agent in agents]),
        role=roles(agents),
    )  # fmt: skip
    made = empty(len(panel.said), len(agents))
    play(told, made, fresh(rules, member, len(settings.members), settings.horizon_bars), rules)
    return made


@jit
def play(told: Told, made: Folded, state: State, rules: Rules) -> None:
    """Fill ``made``."""
    waits = 0
    for t in range(len(told.said)):
        while waits < t and told.due[waits] <= t:
            if not math.isnan(told.log_return[waits]):
                resolve(waits, told, made, state, rules)
            waits += 1
        made.kappa[t] = kappa(state.edge, rules)
        made.theta[t] = state.theta
        publish(t, told, made, state, rules)


@jit
def kappa(edge: Floats, rules: Rules) -> float:
    """Return κ."""
    if edge[1] <= 0.0:
        return max(0.0, rules.kappa_prior)
    total = edge[2] * (edge[0] / edge[1]) + rules.kappa_weight * rules.kappa_prior
    return max(0.0, float(total / (edge[2] + rules.kappa_weight)))


@jit
def publish(t: int, told: Told, made: Folded, state: State, rules: Rules) -> None:
    """Fuse what is said at row t; leave it empty if nobody with a seat has a direction."""
    n = len(state.prior)
    awake, speaks, losses = np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.zeros(n)
    speakers = 0
    for k in range(n):
        awake[k] = state.prior[k] > 0.0 and not np.isnan(told.said[t, k]).all()
        speaks[k] = awake[k] and not math.isnan(told.said[t, k, P])
        losses[k] = state.loss[k] if state.scored[k] >= rules.grace else 0.0
        speakers += speaks[k]
    if speakers == 0:
        return
    brier_weights(losses, state.prior, speaks, rules.eta, rules.floor, made.weights[t])
    aggregate(told.said[t], awake, state.boa, rules.breadth, made.pooled[t])
    candidates(t, speaks, speakers, told, made, state, rules)
    made.p_up[t] = mix(made.candidates[t], state.ln_weights[told.copy[t]], made.shares[t])
    for side in range(2):
        made.risks[t, side] = calibrated(made.pooled[t, DOWN + side], state.curves[side])
    if not math.isnan(made.pooled[t, FIRST]):
        moved = made.pooled[t, FIRST : FIRST + QUANTILES].copy()
        if not math.isnan(told.sigma[t]):
            moved += told.sigma[t] * state.theta
        made.quantiles[t] = np.sort(moved)
        made.expected[t], made.mean_abs[t], _ = moments(made.quantiles[t])


@jit
def candidates(
    t: int, speaks: Flags, speakers: int, told: Told, made: Folded, state: State, rules: Rules
) -> None:
    """Write every candidate for p."""
    n = len(speaks)
    p, row = told.said[t, :, P], made.candidates[t]
    equal, debated = np.full(n, 1.0 / speakers), np.empty(n)
    debate(p, made.weights[t], speaks, told.role, told.mute, told.case[t], rules.step, debated)
    brier, stacked = log_pool(p, made.weights[t], speaks), 0.0
    for k in range(n):
        if speaks[k]:
            stacked += state.stack[k] * logit(p[k])
            row[POOLS + k] = p[k]
    row[EQUAL], row[BRIER] = log_pool(p, equal, speaks), brier
    row[BERNSTEIN], row[STACKED] = made.pooled[t, P], sigmoid(stacked)
    row[RECALIBRATED] = sigmoid(state.platt[0] + state.platt[1] * logit(brier))
    row[DEBATED] = log_pool(debated, made.weights[t], speaks)
    row[CONSTANT] = (state.base[0] + 0.5 * rules.base_weight) / (state.base[1] + rules.base_weight)
    for j in range(len(row)):
        if not math.isnan(row[j]):
            row[j] = min(max(row[j], rules.clip_low), rules.clip_high)


@jit
def calibrated(risk: float, line: Floats) -> float:
    """Return a pooled risk on the curve of what came true."""
    if math.isnan(risk) or (line[0] == 0.0 and line[1] == 1.0):
        return risk
    return sigmoid(line[0] + line[1] * risk_logit(risk))
