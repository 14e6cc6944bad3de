"""The debate (:mod:`consensus.debate`), compiled: everybody's p afterwards, without transcript."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from consensus import debate as rules
from consensus.kernel.numbers import logit, sigmoid
from consensus.kernel.state import Flags, Floats, Ints
from data.jit import jit

NOTHING, JUMP, CONFLICT, THIN_BOOK = range(4)
_CODES: dict[object, int] = {rules.jump: JUMP, rules.conflict: CONFLICT, rules.thin_book: THIN_BOOK}
_JUMP, _CONFLICT, _CONCEDED, _SETTLED = rules.JUMP, rules.CONFLICT, rules.CONCEDED, rules.SETTLED


def roles(agents: Sequence[str]) -> Ints:
    """Return the code of the argument that each agent may bring, (K,)."""
    return np.array([_CODES[rules.ROLES[a]] if a in rules.ROLES else NOTHING for a in agents])


@jit
def aim(role: int, own: float, pool: float, case: Floats, most: float) -> float:
    """Return the logit that an agent's own argument leads to, NaN without one."""
    last, short, long, liquidity = case
    if role == JUMP and abs(last) > _JUMP:
        return own - math.copysign(most * min(1.0, abs(last) / _JUMP - 1.0), last)
    if role == CONFLICT and short * long < 0.0:
        strength = min(1.0, min(abs(short), abs(long)) / _CONFLICT - 1.0)
        return own * (1.0 - strength) if strength > 0.0 else math.nan
    if role == THIN_BOOK and liquidity < 1.0:
        return float(own + (1.0 - liquidity) * (pool - own))
    return math.nan


@jit
def spoken(aims: Floats, now: Floats, blind: Floats, most: float) -> bool:
    """Move those with an aim, nobody beyond Δ; False, and nobody moves, if all would stay put."""
    furthest = 0.0
    for k in range(len(aims)):
        if not math.isnan(aims[k]):
            aims[k] = min(max(aims[k], blind[k] - most), blind[k] + most)
            furthest = max(furthest, abs(aims[k] - now[k]))
    if furthest < _SETTLED:
        return False
    for k in range(len(aims)):
        if not math.isnan(aims[k]):
            now[k] = aims[k]
    return True


@jit
def pooled(logits: Floats, weights: Floats, speaks: Flags) -> float:
    """Return Σ w logit p."""
    total = 0.0
    for k in range(len(logits)):
        if speaks[k]:
            total += weights[k] * logits[k]
    return total


@jit
def dissenter(now: Floats, weights: Floats, speaks: Flags) -> int:
    """Return the agent that pulls the pool most; among equals the last by name."""
    pool, found, most = pooled(now, weights, speaks), -1, -1.0
    for k in range(len(now)):
        pull = weights[k] * abs(now[k] - pool)
        if speaks[k] and pull >= most:
            found, most = k, pull
    return found


@jit
def debate(
    p: Floats, weights: Floats, speaks: Flags, role: Ints, mute: Flags, case: Floats, most: float,
    into: Floats,
) -> None:  # fmt: skip
    """Write everybody's p after the debate."""
    into[:] = p
    if most <= 0.0:
        return
    blind = np.zeros(len(p))
    for k in range(len(p)):
        if speaks[k]:
            blind[k] = logit(p[k])
    pool, now, first = pooled(blind, weights, speaks), blind.copy(), np.full(len(p), np.nan)
    for k in range(len(p)):
        if speaks[k]:
            first[k] = aim(role[k], blind[k], pool, case, most)
    if not spoken(first, now, blind, most):
        return
    second = concessions(now, first, weights, speaks, mute)
    if not spoken(second, now, blind, most):
        second[:] = np.nan
    for k in range(len(p)):
        if not (math.isnan(first[k]) and math.isnan(second[k])):
            into[k] = sigmoid(now[k])


@jit
def concessions(now: Floats, first: Floats, weights: Floats, speaks: Flags, mute: Flags) -> Floats:
    """Return where those who had no argument go, NaN for who goes nowhere."""
    aims, to = np.full(len(now), np.nan), dissenter(now, weights, speaks)
    if math.isnan(first[to]):
        return aims
    for k in range(len(now)):
        if speaks[k] and math.isnan(first[k]) and not mute[k]:
            aims[k] = now[k] + _CONCEDED * (now[to] - now[k])
    return aims
