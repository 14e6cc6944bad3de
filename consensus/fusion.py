"""Stages 3 to 5 together: from admitted opinions and earned losses to a :class:`Consensus`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from consensus.admission import Admission, Admitted
from consensus.debate import Case, debate
from consensus.explain import contributions
from consensus.intervals import vincentise
from consensus.learnt import Learnt
from consensus.pooling import calibrated, candidate_pools, linear_pool, log_pool
from consensus.publish import publish
from consensus.scoring import Fold
from consensus.settings import UNINFORMED, CouncilSettings
from consensus.weights import brier_weights
from domain.decision import Consensus

SEATLESS = frozenset({"no_book"})  # nobody failed: where nobody watches, there is nothing to see


def fuse(
    symbol: str,
    timeframe: str,
    as_of: int,
    admission: Admission,
    learnt: Learnt,
    settings: CouncilSettings,
    sigma: float | None = None,
    case: Case | None = None,
    state_seq: int = 0,
) -> Consensus | None:
    """Pool what the awake members say; None if none of them has a direction.

    Parameters
    ----------
    learnt : what the fold has learned; nobody but those in its ``losses`` is pooled.
    sigma : volatility of the horizon, log return; None without enough bars.
    case : what a debate can point at; None = nothing.

    Notes
    -----
    Risks are pooled linearly: for small probabilities the arithmetic mean lies above the geometric
    one, so that an agent that sees danger is not argued away, and one that says 0 cannot veto. A
    member that forecasts risk only is awake (it counts for the quorum) but is no forecaster of
    direction. The quorum is a share of the seats at this instant: a member
    that is absent for one of :data:`SEATLESS` has none, else its never tried weight would outgrow
    those of all who are scored.
    """
    losses = learnt.losses
    awake = pooled(admission, losses)
    p = directions(awake)
    if not p:
        return None

    def weigh(agents: Collection[str]) -> dict[str, float]:
        asked = {agent: losses[agent] for agent in agents}
        return brier_weights(asked, settings.eta, settings.floor, learnt.priors or None)

    weights = weigh(p)
    seated = {a for a in losses if admission.absent.get(a) not in SEATLESS}
    seats = weights if p.keys() == seated else weigh(seated)
    debated = debate(p, weights, case or Case(), settings.debate_step)
    after = log_pool(debated.p, weights)
    candidates = candidate_pools(p, weights, learnt, after, settings.clip)
    p_up, shares = publish(candidates, learnt.mixture)
    rows = {agent: x.canonical() for agent, x in awake.items() if x.levels}
    spread = vincentise(rows, learnt.levels, sigma, learnt.theta) if rows else None
    mean_p = math.fsum(weights[agent] * p[agent] for agent in p)
    variance = math.fsum(weights[agent] * (p[agent] - mean_p) ** 2 for agent in p)
    pooled_risks = {
        side: linear_pool(said, weight)
        for side, weight in (("down", learnt.down), ("up", learnt.up))
        if (said := risks(awake, side))
    }
    known = {side: calibrated(risk, learnt.curves[side]) for side, risk in pooled_risks.items()}
    return Consensus(
        symbol=symbol,
        timeframe=timeframe,
        as_of=as_of,
        horizon_bars=settings.horizon_bars,
        p_up=p_up,
        quantiles=spread.quantiles if spread else None,
        expected_return=spread.mean if spread else None,
        mean_abs_return=spread.mean_abs if spread else None,
        risk_down=known.get("down"),
        risk_up=known.get("up"),
        coherence_gap=abs(spread.p_up - p_up) if spread else None,
        dispersion=math.sqrt(variance),
        weights=weights,
        contributions=contributions(p_up, p, weights),
        candidates=candidates,
        shares=shares,
        opinions=tuple(x.opinion for x in admission.awake),
        absent=admission.absent,
        quorum=min(1.0, math.fsum(seats[agent] for agent in awake)),
        forecasters=len(p.keys() - UNINFORMED),
        state_seq=state_seq,
        levels=spread.levels if spread else None,
        sigma=sigma,
        pooled_risks=pooled_risks,
        debate=tuple(answer.as_dict() for answer in debated.answers),
    )


def learnt_for(admission: Admission, losses: Mapping[str, float], fold: Fold, copy: int) -> Learnt:
    """Return what the pools of these opinions read.

    Parameters
    ----------
    losses : agent with a seat → L (:func:`consensus.weights.standing`).
    copy : of the no-harm layer.
    """
    awake = pooled(admission, losses)
    levels = [agent for agent, x in awake.items() if x.levels]
    return fold.learning.view(
        copy, losses, fold.seats.priors(), directions(awake), levels, risks(awake, "down"),
        risks(awake, "up"),
    )  # fmt: skip


def pooled(admission: Admission, members: Collection[str]) -> dict[str, Admitted]:
    """Return the awake members by name."""
    return {x.opinion.agent: x for x in admission.awake if x.opinion.agent in members}


def directions(awake: Mapping[str, Admitted]) -> dict[str, float]:
    """Return the p of those that have one."""
    return {agent: x.p_up for agent, x in awake.items() if x.p_up is not None}


def risks(awake: Mapping[str, Admitted], side: str) -> dict[str, float]:
    """Return the risk of ``down`` or ``up`` by those that forecast it."""
    found = {agent: getattr(x.opinion, f"risk_{side}") for agent, x in awake.items()}
    return {agent: float(risk) for agent, risk in found.items() if risk is not None}
