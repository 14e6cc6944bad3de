"""Stage 2: weights from decayed relative Brier losses.

w_i = (1 − α)·π_i e^(−ηL_i)/Z + α·π_i over the agents asked about, π renormalised over them.
The floor α acts on the output only: fed back into the losses it would cost more than the edge.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from consensus.scoring import AgentScore, Fold
from consensus.settings import CouncilSettings


def brier_weights(
    losses: Mapping[str, float],
    eta: float,
    floor: float,
    priors: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the weight of each agent, sorted by agent, summing to 1 (empty for no agents).

    Parameters
    ----------
    losses : agent → L, dimensionless.
    eta : learning rate ≥ 0; 0 gives the prior.
    floor : α in [0, 1]: at least α times its prior for everybody.
    priors : agent → π > 0, renormalised here; equal if None.
    """
    agents = sorted(losses)
    if not agents:
        return {}
    best = min(losses.values())  # taken out of the exponent so that it cannot overflow
    pi = [1.0 if priors is None else priors[agent] for agent in agents]
    raw = [
        prior * math.exp(-eta * (losses[agent] - best))
        for agent, prior in zip(agents, pi, strict=True)
    ]
    z, all_pi = math.fsum(raw), math.fsum(pi)
    return {
        agent: (1.0 - floor) * mass / z + floor * prior / all_pi
        for agent, mass, prior in zip(agents, raw, pi, strict=True)
    }


def standing(fold: Fold, settings: CouncilSettings) -> dict[str, float]:
    """Return the L of everybody who has a seat, sorted; 0 during an agent's grace."""
    return {
        agent: score.loss
        if (score := fold.scores.get(agent)) and score.n >= settings.grace
        else 0.0
        for agent in fold.seats.priors
    }


def weights_rows(
    fold: Fold, awake: Collection[str], settings: CouncilSettings
) -> list[dict[str, Any]]:
    """Return what is published about every agent, sorted by agent.

    ``weight`` is before renormalising over the awake (0 in probation), ``n_effective`` = n/H
    allows for overlapping outcomes, ``skill_1e4`` = (¼ − decayed Brier)·10⁴, null before the
    first outcome. ``evidence`` is about the skill against climatology since the agent took, or
    lost, its seat: outcomes, and 95 % bounds valid at all times, ×10⁴, null where there is none.
    """
    priors = fold.seats.priors
    weights = brier_weights(standing(fold, settings), settings.eta, settings.floor, priors)
    rows = []
    for agent in sorted({*settings.members, *fold.scores, *awake}):
        score = fold.scores.get(agent, AgentScore())
        brier = score.brier
        rows.append(
            {
                "agent": agent,
                "member": agent in priors,
                "awake": agent in awake,
                "weight": weights.get(agent, 0.0),
                "decayed_brier": brier,
                "skill_1e4": None if brier is None else (0.25 - brier) * 1e4,
                "n": score.n,
                "n_effective": score.n / settings.horizon_bars,
                "loss": score.loss,
                "grace": agent in priors and score.n < settings.grace,
                "probation": agent not in priors,
                "evidence": _evidence(fold, agent),
            }
        )
    return rows


def _evidence(fold: Fold, agent: str) -> dict[str, Any]:
    seats = fold.seats
    low, high = seats.evidence.bounds(agent)
    return {
        "n": seats.evidence.n(agent),
        "skill_low_1e4": None if low is None else low * 1e4,
        "skill_high_1e4": None if high is None else high * 1e4,
        "changes": seats.changes.get(agent, 0),
    }
