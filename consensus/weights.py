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
    """Return each member's L, sorted; 0 during its grace."""
    return {
        agent: score.loss
        if (score := fold.scores.get(agent)) and score.n >= settings.grace
        else 0.0
        for agent in sorted(settings.members)
    }


def weights_rows(
    fold: Fold, awake: Collection[str], settings: CouncilSettings
) -> list[dict[str, Any]]:
    """Return what is published about every agent, sorted by agent.

    ``weight`` is before renormalising over the awake (0 in probation), ``n_effective`` = n/H
    allows for overlapping outcomes, ``skill_1e4`` = (¼ − decayed Brier)·10⁴, null before the
    first outcome.
    """
    weights = brier_weights(standing(fold, settings), settings.eta, settings.floor)
    rows = []
    for agent in sorted({*settings.members, *fold.scores, *awake}):
        score = fold.scores.get(agent, AgentScore())
        brier = score.brier
        rows.append(
            {
                "agent": agent,
                "member": agent in settings.members,
                "awake": agent in awake,
                "weight": weights.get(agent, 0.0),
                "decayed_brier": brier,
                "skill_1e4": None if brier is None else (0.25 - brier) * 1e4,
                "n": score.n,
                "n_effective": score.n / settings.horizon_bars,
                "loss": score.loss,
                "grace": agent in settings.members and score.n < settings.grace,
            }
        )
    return rows
