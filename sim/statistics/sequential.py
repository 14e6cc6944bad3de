"""Evidence that may be watched as it grows, although the labels of neighbouring rows overlap.

The gain d_t = loss of the reference − loss of the forecast at decision t is known H bars later,
and a bound |d_t| ≤ c_t is known at t. Row t belongs to stream t mod H; within a stream a bet is
settled before the next is placed, so its wealth is a martingale at the stream's own times. Henzi &
Ziegel 2022 (Biometrika 109, 647) average the H wealths. That mean is an e-value at a fixed n, but
**not** a supermartingale: who may stop at any bar has already seen part of the open bets (their
corrigendum, Biometrika 109, 1181: at a stopping time τ only E[mean at τ + H − 1] ≤ 1 holds). So
every open bet is counted here at the worst it can still do, which c_t makes known: what is left
is below the mean at τ + H − 1 and has expectation ≤ 1 at **every** stopping time τ. The corrigendum
does the same with one factor for all streams; adjusters (Choe & Ramdas, Combining evidence across
filtrations, arXiv 2402.09698) need no bound and pay a logarithm. The price here is a few per cent
of the evidence, as single bets are small.

Bets are a mixture over a fixed grid (Waudby-Smith & Ramdas 2024, JRSS B 86, 1): the stake λ is a
fraction of wealth per unit of gain. A calibrated p against ½ wants λ = E d/E d² = 1 whatever its
boldness, and a 95 % interval over 10⁴–10⁵ rows wants λ of the same order: hence the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.errors import UsageError

Floats = NDArray[np.float64]

BETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # λ, per unit of gain
_MOST = 0.5  # of the wealth at risk in one bet: no loss is fatal
_NEWTON = 60  # steps; the convex equation below takes about ten


@dataclass(frozen=True, slots=True, eq=False)
class ConfidenceSequence:
    """Intervals for the running mean gain, over the first t + 1 rows, that hold together.

    Attributes
    ----------
    at : (k,) rows t, increasing, the last one included.
    mean : (k,) mean gain so far.
    lo, hi : (k,) with probability ≥ 1 − α every one of them covers, unit of the gain.
    """

    at: NDArray[np.int64]
    mean: Floats
    lo: Floats
    hi: Floats


def brier_bound(p: Floats, q: Floats | float = 0.5) -> Floats:
    """Return the largest |(q − y)² − (p − y)²| over y ∈ {0, 1}, (n,); p and q in [0, 1].

    Parameters
    ----------
    p : (n,) forecast probabilities.
    q : (n,) or one, probabilities of the reference.
    """
    p, q = np.asarray(p, float), np.asarray(q, float)
    return np.asarray(np.abs(p - q) * np.maximum(p + q, 2.0 - p - q))


def pinball_bound(a: Floats, b: Floats, levels: Sequence[float]) -> Floats:
    """Return the largest |mean pinball loss of b − that of a| over all outcomes, (n,).

    The loss at level τ is Lipschitz in the quantile with constant max(τ, 1 − τ), so a difference
    of pinball losses is bounded although the losses are not: nothing needs clipping. Divide gain
    and bound by a volatility known at the decision (σ) to give every row a like weight; the gain
    then is in units of σ and the default ``scale`` fits. For a mean in the unit of the return,
    pass gain and bound as they are and a typical σ as ``scale``.

    Parameters
    ----------
    a, b : (n, k) quantiles, unit of the return.
    levels : (k,) in (0, 1); the losses are averaged over them.
    """
    tau = np.asarray(levels, float)
    return np.asarray((np.maximum(tau, 1.0 - tau) * np.abs(np.subtract(a, b))).mean(axis=1))


def e_process(
    gain: Floats,
    bound: Floats | float,
    horizon: int = 5,
    *,
    scale: float = 1.0,
    bets: Sequence[float] = BETS,
) -> Floats:
    """Return log E_t, the evidence that the forecast is ever better than the reference, (n,).

    Null hypothesis: E[d_t | everything known at decision t] ≤ 0 at every t (the strong null:
    never better). Under it, without any assumption on dependence or stationarity,

    - E[E_τ] ≤ 1 for every stopping time τ, the times being those at which the outcome of row τ
      is known, all bars up to then seen; so P(E_t ≥ 20 for some t) ≤ 5 %, and
      :func:`p_value` is valid whenever one looks or stops;
    - this holds for the mean of the interleaved streams with open bets counted at their worst,
      as the head of this file explains; at the last row nothing is open and the value is the
      plain mean of the H streams.

    E_t uses d up to t and c up to t + H − 1, all known when the outcome of t is.

    Parameters
    ----------
    gain : (n,) d_t, finite, in time order. Rows may be left out if that was decided without the
        outcome: rows H apart then are at least H bars apart.
    bound : c_t ≥ |d_t| known at t: one number, (n,), or (n + m,) where the last m < H are
        decisions already made whose outcome is open: give them when monitoring live.
    horizon : H ≥ 1, bars until the outcome is known.
    scale : unit of the gain, fixed in advance; the stakes are bets / scale. 1 for Brier scores
        and for gains in units of a volatility; for gains in basis points a typical volatility in
        basis points. Any fixed value is valid, a fitting one is powerful.
    bets : λ > 0, fixed in advance; most of the wealth starts on those near √2.

    Raises
    ------
    UsageError : if shapes, signs or the horizon are wrong, or a gain exceeds its bound.
    """
    gain, bound = _checked(gain, bound, horizon, scale, bets)
    n, made = len(gain), len(bound)
    settled, open_ = np.full(n, -np.inf), np.full(n + horizon - 1, -np.inf)
    for bet, share in zip(bets, _log_shares(bets), strict=True):
        stake = _capped(bet / scale, bound)
        wealth = share + _by_stream(np.log1p(stake[:n] * gain), horizon)
        np.logaddexp(settled, wealth, out=settled)
        before = np.concatenate([np.full(horizon, share), wealth])[: len(open_)]
        before[:made] += np.log1p(-stake * bound)[: len(before)]
        np.logaddexp(open_, before, out=open_)
    # Stream by stream: that of row t is settled, the H − 1 others wait for t + 1 … t + H − 1.
    total = settled
    for ahead in range(1, horizon):
        total = np.logaddexp(total, open_[ahead : ahead + n])
    return np.asarray(total - math.log(horizon))


def p_value(log_e: Floats) -> float:
    """Return min(1, 1 / max_t E_t): valid at any stopping time (Ville 1939)."""
    return math.exp(-max(float(np.max(log_e, initial=0.0)), 0.0))


def confidence_sequence(
    gain: Floats,
    bound: Floats | float,
    horizon: int = 5,
    alpha: float = 0.05,
    *,
    scale: float = 1.0,
    bets: Sequence[float] = BETS,
    points: int = 200,
) -> ConfidenceSequence:
    """Return intervals for the running mean of the *conditional* gains, uniformly over time.

    Covered is Δ_t = (1/(t + 1)) Σ_{s ≤ t} E[d_s | known at s], which may drift at will (the
    target of Choe & Ramdas 2023, Comparing sequential forecasters, Operations Research): with
    probability ≥ 1 − α every Δ_t lies in [lo_t, hi_t], so any stopping rule may be used.

    Lower end: for a fixed λ, Π (1 + λ d_s) exp(−λ μ_s) over a stream is a supermartingale, as
    (1 + λμ) e^{−λμ} ≤ 1; it dominates the empirical Bernstein process of Choe & Ramdas. The mean
    over the H streams and the grid of λ, open bets at their worst, is below 2/α at all times with
    probability ≥ 1 − α/2. Its inversion for Δ_t takes the least that mean can be when the streams'
    own means are free: the geometric mean over streams. Upper end: the same for −d.

    The price of knowing nothing of the dependence: the interval is that of n/H rows. Where labels
    overlap and forecasts persist that is the truth; where forecasts are white it is √H too wide.

    Parameters
    ----------
    gain, bound, horizon, scale, bets : as :func:`e_process`.
    alpha : in (0, 1), both sides together.
    points : at most so many rows t are evaluated, evenly spread, the last included.

    Raises
    ------
    UsageError : as :func:`e_process`.
    """
    gain, bound = _checked(gain, bound, horizon, scale, bets)
    if not 0.0 < alpha < 1.0 or points < 1:
        raise UsageError("alpha and points", "must be in (0, 1) and ≥ 1", (alpha, points))
    n = len(gain)
    at = np.unique(np.linspace(n - 1, 0, min(points, n)).round().astype(np.int64))
    rows = at + 1.0
    within = np.cumsum(bound[:n])[at] / rows  # |Δ| cannot be larger
    stakes, shares = np.asarray(bets) / scale, _log_shares(bets) + math.log(alpha / 2.0)
    lo = _lower(gain, bound, horizon, stakes, shares, at)
    hi = -_lower(-gain, bound, horizon, stakes, shares, at)
    return ConfidenceSequence(
        at, np.cumsum(gain)[at] / rows, np.maximum(lo, -within), np.minimum(hi, within)
    )


def _checked(
    gain: Floats, bound: Floats | float, horizon: int, scale: float, bets: Sequence[float]
) -> tuple[Floats, Floats]:
    gain, bound = np.asarray(gain, float), np.asarray(bound, float)
    n = len(gain) if gain.ndim == 1 else 0
    bound = np.full(n, bound) if bound.ndim == 0 else bound
    if not n or not np.isfinite(gain).all():
        raise UsageError("gain", "must be a finite series of at least one row", gain.shape)
    if horizon < 1 or not (scale > 0.0 and len(bets) and min(bets) > 0.0):
        raise UsageError("horizon, scale and bets", "must be > 0", (horizon, scale, tuple(bets)))
    if bound.ndim != 1 or not n <= len(bound) < n + horizon:
        raise UsageError("bound", "must have a row per gain and fewer than H more", bound.shape)
    if not (np.isfinite(bound).all() and (bound >= 0.0).all()):
        raise UsageError("bound", "must be finite and ≥ 0")
    over = np.abs(gain) - bound[:n] * (1.0 + 1e-9) - 1e-15
    if over.max() > 0.0:
        row = int(over.argmax())
        raise UsageError(
            f"gain of row {row}", f"exceeds its bound {bound[row]:g}", float(gain[row])
        )
    return gain, bound


def _log_shares(bets: Sequence[float]) -> Floats:
    """(J,) log of the wealth that starts on each bet: most near λ = √2, where the rest of the
    grid is insurance and pays a logarithm.
    """
    shares = 1.0 / (1.0 + (np.log2(np.asarray(bets, float)) - 0.5) ** 2)
    return np.asarray(np.log(shares / shares.sum()))


def _capped(stake: float, bound: Floats) -> Floats:
    """(n,) the stake, less where it would put more than half of the wealth at risk."""
    return np.asarray(_MOST / np.maximum(bound, _MOST / stake))


def _by_stream(x: Floats, horizon: int) -> Floats:
    """(n,) cumulative sums of x over t, t − H, t − 2H, …"""
    padded = np.zeros(-(-len(x) // horizon) * horizon)
    padded[: len(x)] = x
    return np.cumsum(padded.reshape(-1, horizon), axis=0).ravel()[: len(x)]


def _lower(
    gain: Floats, bound: Floats, horizon: int, bets: Floats, shares: Floats, at: NDArray[np.int64]
) -> Floats:
    """(k,) the Δ at which the mixture reaches its limit: Σ_j exp(share_j + a_j − b_j Δ) = 1."""
    n, rows = len(gain), at + 1.0
    a, b = np.empty((len(bets), len(at))), np.outer(bets, rows) / horizon
    last = np.minimum(at + horizon - 1, len(bound) - 1)
    for j, bet in enumerate(bets):
        risked = bet * bound
        small = risked <= _MOST
        # exp(λ(d − μ)) ≥ exp(−λ(c + μ)) ≤ 1: where the bet is too large, book the certain loss.
        won = np.where(small[:n], np.log1p(np.maximum(bet * gain, -_MOST)), -risked[:n])
        worst = np.where(small, np.log1p(-np.minimum(risked, _MOST)), -risked) - risked
        waiting = np.cumsum(worst)
        a[j] = (np.cumsum(won)[at] + waiting[last] - waiting[at]) / horizon
    return _root(a + shares[:, None], b)


def _root(a: Floats, b: Floats) -> Floats:
    """(k,) x with Σ_j exp(a_j − b_j x) = 1, a and b (J, k), b > 0.

    The log of the sum falls and is convex in x, and it is ≥ 0 where the first single term is 1:
    Newton's steps from there rise to the root and never pass it, so that an unfinished search
    would give a bound that is too low, never one that is too tight.
    """
    x: Floats = (a / b).max(axis=0)
    for _ in range(_NEWTON):
        terms = a - b * x
        top = terms.max(axis=0)
        weights = np.exp(terms - top)
        total = weights.sum(axis=0)
        step = (top + np.log(total)) * total / (weights * b).sum(axis=0)
        x = x + step
        if np.abs(step).max() <= 1e-15 + 1e-12 * np.abs(x).max():
            break
    return x
