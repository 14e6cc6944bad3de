"""Pools of p and the no-harm layer (:mod:`consensus.pooling`, ``weights``), compiled."""

from __future__ import annotations

import math

import numpy as np

from consensus.kernel.numbers import logit
from consensus.kernel.state import Flags, Floats
from consensus.noharm import ETA
from data.jit import jit


@jit
def log_pool(p: Floats, weights: Floats, speaks: Flags) -> float:
    """Return the p whose logit is Σ w logit p over those who speak."""
    total, low, high = 0.0, 1.0, 0.0
    for k in range(len(p)):
        if speaks[k]:
            total += weights[k] * logit(p[k])
            low, high = min(low, p[k]), max(high, p[k])
    return min(max(1.0 / (1.0 + math.exp(-total)), low), high)


@jit
def brier_weights(
    losses: Floats, priors: Floats, speaks: Flags, eta: float, floor: float, into: Floats
) -> None:
    """Write the weights of those who speak, summing to 1, and 0 for the others."""
    best, z, everybody = np.inf, 0.0, 0.0
    for k in range(len(losses)):
        if speaks[k]:
            best = min(best, losses[k])
    for k in range(len(losses)):
        into[k] = 0.0
        if speaks[k]:
            into[k] = priors[k] * math.exp(-eta * (losses[k] - best))
            z += into[k]
            everybody += priors[k]
    for k in range(len(losses)):
        if speaks[k]:
            into[k] = (1.0 - floor) * into[k] / z + floor * priors[k] / everybody


@jit
def mix(candidates: Floats, ln_weights: Floats, into: Floats) -> float:
    """Write the shares of the candidates that are there and return what they mix to."""
    top, total, low, high = -np.inf, 0.0, 1.0, 0.0
    for j in range(len(candidates)):
        if not math.isnan(candidates[j]):
            top = max(top, ln_weights[j])
            low, high = min(low, candidates[j]), max(high, candidates[j])
    for j in range(len(candidates)):
        into[j] = 0.0 if math.isnan(candidates[j]) else math.exp(ln_weights[j] - top)
        total += into[j]
    for j in range(len(candidates)):
        into[j] /= total
    p = 0.5 + 0.5 * (charged(candidates, into, 0.0) - charged(candidates, into, 1.0))
    return min(max(p, low), high)


@jit
def charged(candidates: Floats, share: Floats, y: float) -> float:
    """Return g(y), the loss that the mixture is charged with."""
    total = 0.0
    for j in range(len(candidates)):
        if share[j] > 0.0:
            total += share[j] * math.exp(-ETA * (candidates[j] - y) ** 2)
    return -math.log(total) / ETA


@jit
def learn(candidates: Floats, ln_weights: Floats, y: float) -> None:
    """Fold one outcome into a copy of the no-harm layer."""
    share = np.empty(len(candidates))
    mix(candidates, ln_weights, share)
    lost = charged(candidates, share, y)
    for j in range(len(candidates)):
        if not math.isnan(candidates[j]):
            ln_weights[j] -= ETA * ((candidates[j] - y) ** 2 - lost)
