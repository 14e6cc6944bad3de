"""How much of a result is the luck of having tried often: deflated Sharpe, and PBO by CSCV.

Sharpe ratios here are those of one period (a day), never annualised: mean / standard deviation
(ddof 1). Skewness and kurtosis are moments of the sample, the normal distribution's kurtosis is 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from domain.errors import UsageError

Floats = NDArray[np.float64]

MIN_LOGGED = 5  # logged Sharpe ratios from which their variance is estimated
MAX_BLOCKS = 20  # C(20, 10) = 184 756 combinations
_MIN_PERIODS = 3
_NO_DEVIATION = 1e-15


@dataclass(frozen=True, slots=True, eq=False)
class Pbo:
    """What CSCV says about choosing the best of some candidates.

    Attributes
    ----------
    probability : that the best in sample is below the median out of sample; λ = 0 counts half,
        so that noise gives ½ whether the number of candidates is even or odd.
    logits : (n_combinations,) λ = ln(ω / (1 − ω)), ω = rank out of sample / (N + 1).
    blocks, n_combinations : S, and C(S, S/2).
    slope : of the winner's performance out of sample on that in sample; None without variation.
        Below 0 even for noise: what is good luck in one half is missing in the other.
    loss : share of combinations in which the winner's performance out of sample is below 0.
    """

    probability: float
    logits: Floats
    blocks: int
    n_combinations: int
    slope: float | None
    loss: float


def probabilistic_sharpe(
    sharpe: float, benchmark: float, n: int, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Return the confidence in [0, 1] that the true Sharpe ratio is above a benchmark.

    Φ((SR − SR*)·√(n − 1) / √(1 − γ₃·SR + (γ₄ − 1)/4·SR²)), Bailey & López de Prado (2012). NaN
    where the variance is not positive (a series of two values can do that).

    Parameters
    ----------
    sharpe, benchmark : per period.
    n : periods.

    Raises
    ------
    UsageError : if n is below 2.
    """
    from scipy.special import ndtr  # so here and below: half a second that few commands need

    if n < 2:
        raise UsageError("probabilistic_sharpe", "needs at least 2 periods", n)
    variance = _variance(sharpe, skew, kurtosis)
    if not variance > 0.0:
        return float("nan")
    return float(ndtr((sharpe - benchmark) * np.sqrt((n - 1) / variance)))


def expected_max_sharpe(trials: int, variance: float) -> float:
    """Return the largest Sharpe ratio to expect of worthless trials; 0 for a single one.

    √V·((1 − γ)·Φ⁻¹(1 − 1/N) + γ·Φ⁻¹(1 − 1/(N·e))), γ = 0.5772…, Bailey & López de Prado (2014).

    Parameters
    ----------
    trials : N independent trials; for correlated ones the result is too large, so cautious.
    variance : V of their Sharpe ratios, per period.

    Raises
    ------
    UsageError : if there is no trial, or the variance is negative.
    """
    if trials < 1 or not variance >= 0.0:
        raise UsageError(
            "expected_max_sharpe", "needs a trial and a variance ≥ 0", (trials, variance)
        )
    if trials == 1:
        return 0.0
    from scipy.special import ndtri

    gamma = np.euler_gamma
    highest = (1 - gamma) * ndtri(1 - 1 / trials) + gamma * ndtri(1 - 1 / (trials * np.e))
    return float(np.sqrt(variance) * highest)


def deflated_sharpe(
    daily_returns: Floats, trials: int, sharpes: Sequence[float] | None = None
) -> float:
    """Return the confidence in [0, 1] that skill is left after the luck of all trials.

    The probabilistic Sharpe ratio against :func:`expected_max_sharpe`, Bailey & López de Prado
    (2014). V is the variance (ddof 1) of the trials' Sharpe ratios where five or more are known,
    and never below 1/(n − 1), what an estimate has by chance: else running one strategy over and
    over would lower the bar.

    Parameters
    ----------
    daily_returns : (n,) simple returns of the chosen trial.
    trials : how many were ever made, this one included.
    sharpes : those known of the trials, per period.

    Returns
    -------
    NaN for fewer than 3 periods, or without variation.

    Raises
    ------
    UsageError : if there is no trial.
    """
    n = len(daily_returns)
    deviation = float(daily_returns.std(ddof=1)) if n >= _MIN_PERIODS else 0.0
    if deviation <= _NO_DEVIATION:
        return float("nan")
    variance = 1.0 / (n - 1)
    if sharpes is not None and len(sharpes) >= MIN_LOGGED:
        variance = max(variance, float(np.var(sharpes, ddof=1)))
    z = (daily_returns - daily_returns.mean()) / daily_returns.std()
    return probabilistic_sharpe(
        float(daily_returns.mean()) / deviation, expected_max_sharpe(trials, variance), n,
        float((z**3).mean()), float((z**4).mean()),
    )  # fmt: skip


def _variance(sharpe: float, skew: float, kurtosis: float) -> float:
    return 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2


def pbo(performance: Floats, blocks: int = 16) -> Pbo:
    """Return the probability of backtest overfitting by CSCV.

    Combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado & Zhu 2017): the
    time is cut into S blocks; for each choice of S/2 of them the best candidate there is ranked
    among all in the other half. Performance is the mean over rows. Candidates that tie in sample
    share their mean rank; ties out of sample get the middle rank.

    Parameters
    ----------
    performance : (T, N) what each candidate earned in each period; anything additive, more is
        better. Blocks differ by one row at most where S does not divide T.
    blocks : S, even, 2 … 20.

    Raises
    ------
    UsageError : if S is none of these, T < S, N < 2, or a value is not finite.
    """
    _check(performance, blocks)
    chosen = _halves(blocks)
    best_in, best_out, rank = _winners(performance, chosen)
    share = rank / (performance.shape[1] + 1)
    logits = np.log(share) - np.log1p(-share)
    logits[rank * 2 == performance.shape[1] + 1] = 0.0  # the median, whatever log rounds to
    return Pbo(
        probability=float((logits < 0).mean() + 0.5 * (logits == 0).mean()),
        logits=logits,
        blocks=blocks,
        n_combinations=len(chosen),
        slope=_slope(best_in, best_out),
        loss=float((best_out < 0).mean()),
    )


def _check(performance: Floats, blocks: int) -> None:
    if blocks % 2 or not 2 <= blocks <= MAX_BLOCKS:
        raise UsageError("pbo", f"blocks must be even, 2 to {MAX_BLOCKS}", blocks)
    if performance.ndim != 2 or performance.shape[0] < blocks or performance.shape[1] < 2:
        raise UsageError(
            "pbo", f"needs {blocks} rows or more of 2 candidates or more", performance.shape
        )
    if not np.isfinite(performance).all():
        raise UsageError("pbo", "every value must be finite; leave other rows out")


def _halves(blocks: int) -> NDArray[np.bool_]:
    """(C(S, S/2), S), which blocks are in sample."""
    picked = np.array(list(combinations(range(blocks), blocks // 2)))
    chosen = np.zeros((len(picked), blocks), dtype=np.bool_)
    np.put_along_axis(chosen, picked, values=True, axis=1)
    return chosen


def _winners(performance: Floats, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Mean in sample, mean out of sample and rank there of the best in sample, (C,) each."""
    parts = np.array_split(performance, chosen.shape[1])
    sums = np.stack([part.sum(axis=0) for part in parts])
    rows = np.array([len(part) for part in parts])
    inside, outside = _means(sums, rows, chosen), _means(sums, rows, ~chosen)
    highest = inside.max(axis=1)
    which, who = np.nonzero(inside == highest[:, None])
    theirs, rivals = outside[which, who], outside[which]
    ranks = (rivals < theirs[:, None]).sum(axis=1) + 0.5 * (
        (rivals == theirs[:, None]).sum(axis=1) + 1
    )
    ties = np.bincount(which)
    return highest, np.bincount(which, theirs) / ties, np.bincount(which, ranks) / ties


def _means(sums: Floats, rows: NDArray[np.int64], taken: NDArray[np.bool_]) -> Floats:
    # Block by block, not by matmul: the same order of additions for every candidate, so that
    # candidates with the same numbers tie exactly.
    total = np.zeros((len(taken), sums.shape[1]))
    for block, inside in enumerate(taken.T):
        total += np.where(inside[:, None], sums[block], 0.0)
    return np.asarray(total / (taken @ rows)[:, None])


def _slope(x: Floats, y: Floats) -> float | None:
    centred = x - x.mean()
    spread = float(centred @ centred)
    if spread <= _NO_DEVIATION * float(x @ x):
        return None
    return float(centred @ (y - y.mean())) / spread
