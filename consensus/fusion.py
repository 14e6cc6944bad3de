"""Stages 3 to 5 together: from admitted opinions and earned losses to a :class:`Consensus`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from consensus.admission import Admission, Admitted
from consensus.debate import Case, debate
from consensus.explain import contributions
from consensus.intervals import distribution
from consensus.learnt import Learnt
from consensus.pooling import aggregate, calibrated, candidate_pools, candidates_of
from consensus.publish import publish
from consensus.rounds import DOWN, LEVELS, UP, WIDTH, P, Said, stacked
from consensus.scoring import HALF, Fold
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
    awake = seated(admission, losses)
    if settings.sole:
        awake = {agent: x for agent, x in awake.items() if agent == settings.sole}
        learnt, sigma = _unlearnt(learnt, settings.sole), None
    p = {agent: x.p_up for agent, x in awake.items() if x.p_up is not None}
    if not p:
        return None

    def weigh(agents: Collection[str]) -> dict[str, float]:
        asked = {agent: losses[agent] for agent in agents}
        return brier_weights(asked, settings.eta, settings.floor, learnt.priors or None)

    weights = weigh(p)
    everybody = {a for a in losses if admission.absent.get(a) not in SEATLESS}
    seats = weights if p.keys() == everybody else weigh(everybody)
    debated = debate(p, weights, case or Case(), settings.debate_step)
    pooled = _pooled(awake, learnt)
    bernstein = pooled.p_up or HALF
    candidates = candidate_pools(p, weights, learnt, bernstein, debated.p, settings.clip)
    if settings.sole:
        candidates = candidates_of(p)
    p_up, shares = publish(candidates, learnt.mixture)
    spread = distribution(pooled.levels, sigma, learnt.theta) if pooled.levels else None
    mean_p = math.fsum([weights[agent] * x for agent, x in p.items()])
    variance = math.fsum([weights[agent] * (x - mean_p) ** 2 for agent, x in p.items()])
    return Consensus(
        symbol=symbol,
        timeframe=timeframe,
        as_of=as_of,
        horizon_bars=settings.horizon_bars,
        p_up=p_up,
        quantiles=spread.quantiles if spread else None,
        expected_return=spread.mean if spread else None,
        mean_abs_return=spread.mean_abs if spread else None,
        risk_down=calibrated(pooled.risk_down, learnt.curves["down"]),
        risk_up=calibrated(pooled.risk_up, learnt.curves["up"]),
        coherence_gap=abs(spread.p_up - p_up) if spread else None,
        dispersion=math.sqrt(variance),
        weights=weights,
        contributions=contributions(p_up, p, weights),
        candidates=candidates,
        shares=shares,
        opinions=tuple(x.opinion for x in admission.awake),
        absent=admission.absent,
        quorum=min(1.0, math.fsum([seats[agent] for agent in awake])),
        forecasters=len(p.keys() - UNINFORMED),
        state_seq=state_seq,
        pooled=tuple(pooled.as_list()),
        sigma=sigma,
        debate=tuple(answer.as_dict() for answer in debated.answers),
    )


def learnt_for(admission: Admission, losses: Mapping[str, float], fold: Fold, copy: int) -> Learnt:
    """Return what the pools of these opinions read.

    Parameters
    ----------
    losses : agent with a seat → L (:func:`consensus.weights.standing`).
    copy : of the no-harm layer.
    """
    said = {agent: x.said for agent, x in seated(admission, losses).items()}
    return fold.learning.view(copy, losses, fold.seats.priors, said)


def seated(admission: Admission, seats: Collection[str]) -> dict[str, Admitted]:
    """Return those awake who have a seat, by name, sorted."""
    return {x.opinion.agent: x for x in admission.awake if x.opinion.agent in seats}


def _unlearnt(learnt: Learnt, sole: str) -> Learnt:
    """What is read where one agent is published as it is."""
    losses = learnt.losses
    return Learnt(losses=losses, priors=learnt.priors, bernstein={sole: (1.0,) * WIDTH})


def _pooled(awake: Mapping[str, Admitted], learnt: Learnt) -> Said:
    """What the Bernstein pools say of p, quantiles and risks."""
    rows = stacked(x.said for x in awake.values())
    weights = np.array([learnt.bernstein[agent] for agent in awake])
    numbers = [None if math.isnan(x) else x for x in aggregate(rows, weights).tolist()]
    levels = tuple(x for x in numbers[LEVELS] if x is not None)
    return Said(numbers[P], levels or None, numbers[DOWN], numbers[UP])
