"""How far forecast probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

BINS = 10  # forecast deciles
HAC_LAG = 60  # bars; as the Diebold-Mariano statistic
_BAND = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class BrierParts:
    """The mean Brier score, taken apart: reliability − resolution + uncertainty + within.

    Attributes
    ----------
    reliability : ≥ 0, Σ n_k (p̄_k − ō_k)²/n; 0 is best.
    resolution : ≥ 0, Σ n_k (ō_k − ō)²/n; it is subtracted, more is better.
    uncertainty : ō(1 − ō), the same for everybody on the same rows.
    within : of either sign, the spread of the forecasts inside a bin minus twice their covariance
        with the outcome there; negative where differences inside the bins carry skill.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One point of a reliability diagram.

    Attributes
    ----------
    lo, hi : smallest and largest forecast in it.
    n : how many.
    forecast, observed : mean forecast and share of events.
    band_lo, band_hi : 95 % range of ``observed``, were the forecasts calibrated.
    """

    lo: float
    hi: float
    n: int
    forecast: float
    observed: float
    band_lo: float
    band_hi: float


@dataclass(frozen=True, slots=True)
class Line:
    """logit P(event) = intercept + slope·logit p; 0 and 1 are ideal, a slope < 1 is too sure.

    Attributes
    ----------
    slope_se : standard error of the slope that allows for overlapping outcomes.
    """

    intercept: float
    slope: float
    slope_se: float


@dataclass(frozen=True, slots=True, eq=False)
class OverlapDraws:
    """Outcomes as they would be under calibration, drawn once and shared by all forecasters.

    Outcomes of neighbouring bars share all but one bar of the horizon, so a bin of n rows holds
    far fewer than n independent ones; bands for independent outcomes are too narrow by up to
    √horizon. So every row gets z = (sum of ``horizon`` consecutive iid normals)/√horizon: its
    marginal is standard normal, its dependence that of overlapping sums. 1{z > Φ⁻¹(1 − p)} then
    happens with probability p in every row, and Φ(z) is a PIT value of a calibrated forecast.

    A fall within the horizon overlaps in nearly the same way (for Brownian motion and a horizon
    of 5, √(1 + 2Σρ) is 1.48 instead of 1.45 at p = .005, 1.70 at .05, 1.82 instead of 1.87 at
    .2), so the same draws serve ``risk_down``.

    Attributes
    ----------
    z : (draws, span) one path a row, float32.
    rows : (n,) which positions of the span the forecasts stand at.
    """

    z: NDArray[np.float32]
    rows: Rows

    @classmethod
    def of(cls, span: int, horizon: int = 5, draws: int = 200, seed: int = 7) -> Self:
        """Draw paths over ``span`` consecutive bars; 4·draws·span bytes.

        Raises
        ------
        ValueError : if horizon or draws is below 1, or span below 0.
        """
        if horizon < 1 or draws < 1 or span < 0:
            raise ValueError(f"horizon {horizon}, draws {draws} ≥ 1 and span {span} ≥ 0 needed")
        rng = np.random.default_rng(seed)
        z = np.zeros((draws, span), dtype=np.float32)
        for path in z:
            steps = rng.standard_normal(span + horizon - 1, dtype=np.float32)
            for k in range(horizon):
                path += steps[k : k + span]
        z /= np.float32(np.sqrt(horizon))
        return cls(z, np.arange(span, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, rows: ArrayLike) -> Self:
        """Return the same paths, read at other positions of the span; nothing is copied.

        Parameters
        ----------
        rows : (n,) positions in the span, or a mask (span,). Count them in bars of time,
            (ts − first ts)/step, and rows on both sides of a gap share nothing.

        Raises
        ------
        ValueError : if a position lies outside the span.
        """
        index = np.asarray(rows)
        if index.dtype == np.bool_ and index.shape != self.z.shape[1:]:
            raise ValueError(f"a mask {index.shape} does not fit a span of {self.z.shape[1]}")
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        if len(index) and not (index.min() >= 0 and index.max() < self.z.shape[1]):
            raise ValueError(
                f"rows {index.min()} to {index.max()} leave 0 to {self.z.shape[1] - 1}"
            )
        return type(self)(self.z, index)


def brier_decomposition(p: ArrayLike, up: ArrayLike, bins: int = BINS) -> BrierParts | None:
    """Return reliability, resolution, uncertainty and the part within the bins.

    reliability − resolution + uncertainty + within is the mean Brier score, to rounding (Murphy
    1973; the part within the bins after Stephenson, Coelho & Jolliffe 2008, WBV − WBC). None
    without rows.

    Parameters
    ----------
    p : (n,) probabilities in [0, 1], no NaN.
    up : (n,) whether it happened.
    bins : quantile bins of the forecast; equal forecasts share one, so there may be fewer.

    Raises
    ------
    ValueError : if p leaves [0, 1] or holds NaN, or the shapes disagree.
    """
    p, up = _checked(p, up)
    if not len(p):
        return None
    cut = _Cut.of(p, bins)
    observed = cut.sums(up) / cut.size
    share = cut.size / len(p)
    base = float(up.mean())
    spread = p[cut.order] - np.repeat(cut.forecast, cut.size)
    surprise: Floats = up[cut.order] - np.repeat(observed, cut.size)
    return BrierParts(
        reliability=float(share @ (cut.forecast - observed) ** 2),
        resolution=float(share @ (observed - base) ** 2),
        uncertainty=base * (1.0 - base),
        within=float((spread * (spread - 2.0 * surprise)).mean()),
    )


def reliability(p: ArrayLike, up: ArrayLike, draws: OverlapDraws, bins: int = BINS) -> list[Bin]:
    """Return a reliability diagram with consistency bars, lowest forecasts first.

    Bins are quantiles of the forecast (as ``sklearn.calibration.calibration_curve``, strategy
    "quantile"); equal forecasts share a bin, so a constant forecast has one. Bars after Bröcker &
    Smith (2007), with two changes: the forecasts are kept as they are, not resampled, and the
    outcomes overlap. Empty without rows; other parameters and errors as
    :func:`brier_decomposition`.

    Parameters
    ----------
    draws : n long, for these rows.

    Raises
    ------
    ValueError : also if ``draws`` is of another length.
    """
    p, up = _checked(p, up, draws)
    if not len(p):
        return []
    cut = _Cut.of(p, bins)
    band = band_of(cut.simulated(p, draws) / cut.size)
    columns = (cut.lo, cut.hi, cut.size, cut.forecast, cut.sums(up) / cut.size, *band)
    return [Bin(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def ece(p: ArrayLike, up: ArrayLike, bins: int = BINS) -> float | None:
    """Return the expected calibration error: mean |forecast − observed| of the bins, by size.

    Naeini, Cooper & Hauskrecht 2015, on quantile bins. It is above 0 even for a calibrated
    forecast: read it beside :func:`ece_noise`. None without rows; parameters and errors as
    :func:`brier_decomposition`.
    """
    p, up = _checked(p, up)
    if not len(p):
        return None
    cut = _Cut.of(p, bins)
    return float(np.abs(cut.forecast - cut.sums(up) / cut.size) @ cut.size / len(p))


def ece_noise(p: ArrayLike, draws: OverlapDraws, bins: int = BINS) -> tuple[float, float] | None:
    """Return mean and 95 % quantile of the calibration error that calibrated forecasts p show.

    Parameters, errors and None as :func:`reliability`.
    """
    p, _ = _checked(p, np.zeros(np.shape(p), dtype=np.bool_), draws)
    if not len(p):
        return None
    cut = _Cut.of(p, bins)
    error = np.abs(cut.forecast - cut.simulated(p, draws) / cut.size) @ cut.size / len(p)
    return float(error.mean()), float(np.quantile(error, 0.95, method="weibull"))


def calibration_line(p: ArrayLike, up: ArrayLike, lag: int = HAC_LAG) -> Line | None:
    """Fit logit P(up) = a + b·logit p by maximum likelihood (Cox 1958).

    None if p or the outcome does not vary, or if they separate perfectly. p is clipped to
    [1e-6, 1 − 1e-6].

    Parameters
    ----------
    p, up : (n,) in time order, as :func:`brier_decomposition`.
    lag : bars; of the Newey-West (1987) estimate of the variance of the score.
    """
    p, up = _checked(p, up)
    x = np.log(np.clip(p, 1e-6, 1 - 1e-6))
    x = x - np.log1p(-np.clip(p, 1e-6, 1 - 1e-6))
    if len(x) < 3 or float(np.ptp(x)) < 1e-9 or up.all() or not up.any():
        return None
    design = np.column_stack([np.ones(len(x)), x])
    beta = np.zeros(2)
    for _ in range(50):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -30, 30)))
        hessian = design.T @ (design * (chance * (1.0 - chance))[:, None])
        if np.linalg.cond(hessian) > 1e12:
            return None
        step = np.linalg.solve(hessian, design.T @ (up - chance))
        beta = beta + step
        if float(np.abs(step).max()) < 1e-9:
            bread = np.linalg.inv(hessian)
            cov = bread @ _long_run(design * (up - chance)[:, None], lag) @ bread
            return Line(float(beta[0]), float(beta[1]), float(np.sqrt(max(cov[1, 1], 0.0))))
    return None


def calibration_slope(p: ArrayLike, up: ArrayLike) -> float | None:
    """Return the slope of :func:`calibration_line`; 1 is ideal, < 1 too sure."""
    line = calibration_line(p, up, lag=0)
    return None if line is None else line.slope


def band_of(simulated: NDArray[np.floating | np.integer]) -> tuple[Floats, Floats]:
    """Return the 95 % range over draws, (k,) and (k,), of (draws, k).

    With method "weibull" a further draw falls inside with probability .95 exactly, whatever the
    number of draws; the default of NumPy would give .94 at 200.
    """
    low, high = np.quantile(simulated, _BAND, axis=0, method="weibull")
    return np.asarray(low), np.asarray(high)


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """Forecasts in order, cut at their quantiles; a bin without forecasts does not exist."""

    order: Rows  # (n,) sorts the forecasts
    starts: Rows  # (m,) where each bin begins in that order
    size: Rows
    lo: Floats
    hi: Floats
    forecast: Floats

    @classmethod
    def of(cls, p: Floats, bins: int) -> Self:
        if bins < 1:
            raise ValueError(f"at least one bin is needed, not {bins}")
        order = np.argsort(p, kind="stable")
        ranked = p[order]
        edges = np.quantile(ranked, np.linspace(0.0, 1.0, bins + 1)[1:-1])
        starts = np.flatnonzero(np.diff(np.searchsorted(edges, ranked), prepend=-1))
        size = np.diff(starts, append=len(p))
        lo, hi = ranked[starts], ranked[starts + size - 1]
        # rounding must not carry the mean of equal forecasts away from them
        mean = np.clip(np.add.reduceat(ranked, starts) / size, lo, hi)
        return cls(order, starts, size, lo, hi, mean)

    def sums(self, up: Mask) -> Rows:
        return np.add.reduceat(up[self.order], self.starts, dtype=np.int64)

    def simulated(self, p: Floats, draws: OverlapDraws) -> Rows:
        """Events a bin, (draws, m), of outcomes that have exactly the probabilities p."""
        from scipy.special import ndtri  # half a second that few commands need

        limit = -ndtri(p[self.order]).astype(np.float32)
        rows = draws.rows[self.order]
        counts = np.empty((len(draws.z), len(self.starts)), dtype=np.int64)
        for out, path in zip(counts, draws.z, strict=True):
            np.add.reduceat(path[rows] > limit, self.starts, dtype=np.int64, out=out)
        return counts


def _checked(p: ArrayLike, up: ArrayLike, draws: OverlapDraws | None = None) -> tuple[Floats, Mask]:
    chance, event = np.asarray(p, dtype=np.float64), np.asarray(up, dtype=np.bool_)
    if chance.ndim != 1 or chance.shape != event.shape:
        raise ValueError(f"forecasts {chance.shape} and outcomes {event.shape} must be (n,) alike")
    if not ((chance >= 0.0) & (chance <= 1.0)).all():
        raise ValueError("probabilities must lie in [0, 1], without NaN: leave such rows out")
    if draws is not None and len(draws) != len(chance):
        raise ValueError(f"draws for {len(draws)} rows do not fit {len(chance)} forecasts")
    return chance, event


def _long_run(score: Floats, lag: int) -> Floats:
    """Sum of the autocovariances of (n, 2) with Bartlett weights, times n."""
    total = score.T @ score
    for k in range(1, min(lag, len(score) - 1) + 1):
        cross = score[k:].T @ score[:-k]
        total = total + (1.0 - k / (lag + 1.0)) * (cross + cross.T)
    return total
