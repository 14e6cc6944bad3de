"""What goes into a panel's fold, what it keeps, and what comes out: plain arrays with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consensus.evidence import GRID
from consensus.rounds import WIDTH
from consensus.settings import CouncilSettings

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

POOLS = 7  # candidates before the agents
EQUAL, BRIER, BERNSTEIN, STACKED, RECALIBRATED, DEBATED, CONSTANT = range(POOLS)
QUANTILES = WIDTH - 3
FIRST = 1  # a row's first quantile


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """T bars and K agents, sorted by name; NaN for what was not said or is not known.

    Attributes
    ----------
    agents : (K,). ``said`` : (T, K, 16) admitted opinions, as :meth:`consensus.rounds.Said.row`.
    log_return, drop, rise : (T,) outcomes, NaN if never known; ``due`` : (T,) row before whose
        decision each is known, not decreasing.
    copy : (T,) copy of the no-harm layer. ``sigma`` : (T,) volatility of the horizon.
    case : (T, 4) last, short, long, liquidity (:class:`consensus.debate.Case`).
    """

    agents: Sequence[str]
    said: Floats
    log_return: Floats
    drop: Floats
    rise: Floats
    due: Ints
    copy: Ints
    sigma: Floats
    case: Floats


class Told(NamedTuple):
    """A panel as compiled code reads it, and what each agent is."""

    said: Floats
    log_return: Floats
    drop: Floats
    rise: Floats
    due: Ints
    copy: Ints
    sigma: Floats
    case: Floats
    mute: Flags  # (K,) answers nobody in a debate
    role: Ints  # (K,) the argument it may bring


class Rules(NamedTuple):
    """Settings as numbers."""

    eta: float
    floor: float
    clip_low: float
    clip_high: float
    decay: float
    keep: float  # 1 − φ of Bernstein aggregation
    breadth: float  # ln of its number of experts
    share: float  # weight of one outcome, 1/H
    grace: int
    probation: int
    base_weight: float
    rate: float
    step: float
    kappa_prior: float
    kappa_weight: float
    stack_prior: Floats  # (K,)
    stack_spread: Floats
    line_prior: Floats  # (2,)
    platt_spread: Floats
    risk_spread: Floats


class State(NamedTuple):
    """The fold; every array is changed in place."""

    prior: Floats  # (K,) 0 in probation
    loss: Floats
    scored: Floats  # (K,) outcomes
    stats: Floats  # (K, H, 3)
    logs: Floats  # (K, H, 2, grid)
    ln_weights: Floats  # (H, 7 + K)
    boa: Floats  # (3, K, 16) R, V, E
    stack: Floats  # (K,)
    stack_cov: Floats
    platt: Floats  # (2,)
    platt_cov: Floats
    curves: Floats  # (2, 2) of the risk down and up
    curve_covs: Floats
    theta: Floats  # (13,)
    base: Floats  # (2,) ups, outcomes
    edge: Floats  # (3,) Σxr, Σx², outcomes


class Folded(NamedTuple):
    """What the council publishes at each of T bars; NaN where it has nothing to say.

    Attributes
    ----------
    p_up, mean_abs, expected, kappa : (T,). ``quantiles`` : (T, 13). ``risks`` : (T, 2) down, up.
    candidates : (T, 7 + K) pools, then agents. ``shares`` : their shares in ``p_up``.
    weights : (T, K) Brier weights, 0 for who is not pooled. ``theta`` : (T, 13) as issued.
    pooled : (T, 16) Bernstein pools, before tracker and calibration.
    """

    p_up: Floats
    mean_abs: Floats
    expected: Floats
    kappa: Floats
    quantiles: Floats
    risks: Floats
    candidates: Floats
    shares: Floats
    weights: Floats
    theta: Floats
    pooled: Floats


def rules_of(settings: CouncilSettings, member: Flags) -> Rules:
    """Return settings as numbers; ``member`` (K,) tells who sits from the first decision."""
    seats, n = len(settings.members), len(member)
    return Rules(
        settings.eta, settings.floor, *settings.clip, settings.decay, 1.0 - settings.boa_forget,
        float(np.log(max(2, seats))), 1.0 / settings.horizon_bars, settings.grace,
        settings.probation, settings.base_weight, settings.conformal_rate, settings.debate_step,
        settings.kappa_prior, settings.kappa_weight, np.where(member, 1.0 / seats, 0.0),
        np.full(n, settings.stack_spread), np.array([0.0, 1.0]), np.array(settings.platt_spread),
        np.array(settings.risk_spread),
    )  # fmt: skip


def fresh(rules: Rules, member: Flags, seats: int, horizon_bars: int) -> State:
    """Return the fold's prior."""
    n = len(member)
    return State(
        np.where(member, 1.0 / seats, 0.0), np.zeros(n), np.zeros(n),
        np.zeros((n, horizon_bars, 3)), np.zeros((n, horizon_bars, 2, len(GRID))),
        np.zeros((horizon_bars, POOLS + n)), np.zeros((3, n, WIDTH)), rules.stack_prior.copy(),
        np.diag(rules.stack_spread**2), rules.line_prior.copy(), np.diag(rules.platt_spread**2),
        np.tile(rules.line_prior, (2, 1)), np.tile(np.diag(rules.risk_spread**2), (2, 1, 1)),
        np.zeros(QUANTILES), np.zeros(2), np.zeros(3),
    )  # fmt: skip


def empty(bars: int, agents: int) -> Folded:
    """Return a panel of which nothing was published."""

    def nan(*shape: int) -> Floats:
        return np.full((bars, *shape), np.nan)

    pools = POOLS + agents
    return Folded(
        nan(), nan(), nan(), nan(), nan(QUANTILES), nan(2), nan(pools), np.zeros((bars, pools)),
        np.zeros((bars, agents)), np.zeros((bars, QUANTILES)), nan(WIDTH),
    )  # fmt: skip
