"""Stages 3 to 5 together: from admitted opinions and earned losses to a :class:`Consensus`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from consensus.admission import Admission, Admitted
from consensus.explain import contributions
from consensus.intervals import linear_pool, vincentise
from consensus.pooling import candidate_pools
from consensus.publish import publish
from consensus.settings import CouncilSettings
from consensus.weights import brier_weights
from domain.decision import Consensus

UNINFORMED = frozenset({"climatology"})  # does not count towards MIN_FORECASTERS
SEATLESS = frozenset({"no_book"})  # nobody failed: where nobody watches, there is nothing to see


def fuse(
    symbol: str,
    timeframe: str,
    as_of: int,
    admission: Admission,
    losses: Mapping[str, float],
    settings: CouncilSettings,
    state_seq: int = 0,
) -> Consensus | None:
    """Pool what the awake members say; None if none of them has a direction.

    Parameters
    ----------
    losses : member → L (:func:`consensus.weights.standing`); nobody else is pooled.

    Notes
    -----
    Quantiles and risks are pooled with the same Brier weights, renormalised over the members
    that gave them. A member that forecasts risk only is awake (it counts for the quorum) but
    is no forecaster of direction. The quorum is a share of the seats at this instant: a member
    that is absent for one of :data:`SEATLESS` has none, else its never tried weight would outgrow
    those of all who are scored.
    """
    awake = {x.opinion.agent: x for x in admission.awake if x.opinion.agent in losses}
    p = {agent: x.p_up for agent, x in awake.items() if x.p_up is not None}
    if not p:
        return None

    def weigh(agents: Collection[str]) -> dict[str, float]:
        return brier_weights({a: losses[a] for a in agents}, settings.eta, settings.floor)

    weights = weigh(p)
    seated = {a for a in losses if admission.absent.get(a) not in SEATLESS}
    seats = weights if p.keys() == seated else weigh(seated)
    candidates = candidate_pools(p, weights)
    p_up = publish(candidates)
    rows = {agent: x.canonical() for agent, x in awake.items() if x.levels}
    spread = vincentise(rows, weights if rows.keys() == p.keys() else weigh(rows)) if rows else None
    mean_p = math.fsum(weights[agent] * p[agent] for agent in p)
    variance = math.fsum(weights[agent] * (p[agent] - mean_p) ** 2 for agent in p)
    down, up = _risks(awake, "risk_down"), _risks(awake, "risk_up")
    return Consensus(
        symbol=symbol,
        timeframe=timeframe,
        as_of=as_of,
        horizon_bars=settings.horizon_bars,
        p_up=p_up,
        quantiles=spread.quantiles if spread else None,
        expected_return=spread.mean if spread else None,
        mean_abs_return=spread.mean_abs if spread else None,
        risk_down=linear_pool(down, weights if down.keys() == p.keys() else weigh(down)),
        risk_up=linear_pool(up, weights if up.keys() == p.keys() else weigh(up)),
        coherence_gap=abs(spread.p_up - p_up) if spread else None,
        dispersion=math.sqrt(variance),
        weights=weights,
        contributions=contributions(p_up, p, weights),
        candidates=candidates,
        opinions=tuple(x.opinion for x in admission.awake),
        absent=admission.absent,
        quorum=min(1.0, math.fsum(seats[agent] for agent in awake)),
        forecasters=len(p.keys() - UNINFORMED),
        state_seq=state_seq,
    )


def _risks(awake: Mapping[str, Admitted], name: str) -> dict[str, float]:
    found = {agent: getattr(x.opinion, name) for agent, x in awake.items()}
    return {agent: float(risk) for agent, risk in found.items() if risk is not None}
