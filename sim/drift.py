"""Has the market left the one the models were trained on? Three statistics of drift, pure.

features   PSI and KS of 30 days of feature rows (sim.feature_drift)
brier      Page's (1954) CUSUM of Spiegelhalter's (1986) statistic: Brier loss in excess of what
           the published p itself promises
coverage   share of outcomes inside the published p10–p90 interval over 30 days

Labels of H bars overlap: outcomes are summed by UTC days, and the variance of a day's sum knows
the overlap. A forecaster that has lost its skill and says ½ does no harm and raises no alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.features.names import REFERENCE_54
from domain.canonical import plain
from domain.quantiles import CANONICAL_LEVELS
from domain.times import DAY_MS, iso
from sim.feature_drift import FeatureDrift, Floats, Reference, Stamps, ks, psi, shipped_reference
from sim.statistics.distribution import thinned

DAYS = 30  # trailing days of the coverage
SLACK, LIMIT = 0.5, 5.0  # CUSUM, in standard deviations of a day: 940 days between false alarms
SPREAD = 0.01  # of p around ½, below which being wrong does not matter
TARGET, TOLERANCE = 0.80, 0.035  # of the coverage, fractions
ERRORS = 3.0  # and at least so many standard errors off
_HAC_DAYS = 3
_LEAST_ROWS = 12  # a day with fewer outcomes has no statistic
_LEAST_DAYS = 20
_LOW, _HIGH = CANONICAL_LEVELS.index(0.1), CANONICAL_LEVELS.index(0.9)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that has drifted: ``at`` in UTC ms, ``words`` for people."""

    kind: str  # feature, brier or coverage
    name: str
    at: int
    value: float
    threshold: float
    words: str


@dataclass(frozen=True, slots=True)
class DayScore:
    """What one UTC day's outcomes said.

    Attributes
    ----------
    at : end of the day, UTC ms.
    z : Spiegelhalter's statistic, about N(0, 1) under calibration; positive is worse; or None.
    n, hits : rows with an interval and an outcome, and those inside it.
    """

    at: int
    z: float | None
    n: int
    hits: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage over the trailing days; ``threshold`` is the largest deviation from 80 % allowed."""

    at: int
    value: float
    se: float
    threshold: float
    alarm: bool


def brier_z(p: ArrayLike, up: ArrayLike, horizon: int) -> float | None:
    """Return Spiegelhalter's (1986) z of forecasts in time order, labels of H bars overlapping.

    The Brier loss in excess of its expectation under calibration is
    Σ[(p − y)² − p(1 − p)] = Σ(1 − 2p)(y − p). Its variance is that of independent outcomes plus
    the covariance of overlapping ones: signs of sums that share 1 − k/H of their terms correlate
    by (2/π)·arcsin(1 − k/H) (Sheppard 1899). Measured on 2024: standard deviation of the daily z
    .91 to .97, correlation from day to day below .08.

    A council that hardly leaves ½ is measured as if it said ½ ± .01 (:data:`SPREAD`): what it may
    lose is less than a year of outcomes could show, and not worth anybody's time.

    Returns
    -------
    About N(0, 1) under calibration (narrower below that spread), positive for a forecaster that
    is surer than right; None for fewer than 12 rows.
    """
    q, y = np.asarray(p, dtype=np.float64), np.asarray(up, dtype=np.float64)
    if len(q) < _LEAST_ROWS:
        return None
    weight = 1.0 - 2.0 * q
    size = weight * np.sqrt(q * (1.0 - q))
    least = _overlapping(np.full(len(q), SPREAD), horizon)
    return float(weight @ (y - q)) / math.sqrt(max(_overlapping(size, horizon), least))


def _overlapping(size: Floats, horizon: int) -> float:
    """Variance of a sum whose terms have these standard deviations and overlapping outcomes."""
    variance = float(size @ size)
    for k in range(1, min(horizon, len(size))):
        shared = 2.0 / math.pi * math.asin(1.0 - k / horizon)
        variance += 2.0 * shared * float(size[k:] @ size[:-k])
    return variance


def page(z: Sequence[float | None], start: float = 0.0) -> tuple[list[float], list[bool]]:
    """Run Page's (1954) one-sided CUSUM: S ← max(0, S + z − ½); above 5 it alarms and restarts.

    One step a day. For N(0, 1) the average run to a false alarm is 940 days (simulated; Siegmund
    1985 gives 930). On 2024, models of 2023: none for three direction models shrunk by half, 2 to
    7 for the same ones unshrunk, which are too sure; turned to 1 − p, found in 5 days (shrunk: 6
    to 8); as sure as before but without skill, in 8. A day without a statistic leaves S alone.

    Returns
    -------
    S after each day (before a restart), and whether it alarmed.
    """
    level, path, alarms = start, [], []
    for step in z:
        level = level if step is None else max(0.0, level + step - SLACK)
        path.append(level)
        alarms.append(level > LIMIT)
        level = 0.0 if level > LIMIT else level
    return path, alarms


def day_scores(
    p_up: Floats,
    up: NDArray[np.bool_],
    low: Floats,
    high: Floats,
    r: Floats,
    ts: Stamps,
    horizon: int,
) -> list[DayScore]:
    """Score n rows by the UTC day in which their bar opened; days without any row are left out.

    Parameters
    ----------
    p_up, up : (n,) forecast and outcome; ``low``, ``high``, ``r`` : (n,) p10, p90 and the log
        return; NaN where there is none, and then ``up`` is not looked at.
    ts : (n,) opens, UTC ms, rising.
    """
    days = ts // DAY_MS
    edges = np.flatnonzero(np.diff(days, prepend=-1)).tolist()
    found = []
    for first, stop in zip(edges, [*edges[1:], len(ts)], strict=True):
        q, y, lo, hi, hit = (column[first:stop] for column in (p_up, r, low, high, up))
        spoke = np.isfinite(q) & np.isfinite(y)
        ranged = np.isfinite(lo) & np.isfinite(hi) & np.isfinite(y)
        hits = int(((lo <= y) & (y <= hi))[ranged].sum())
        z = brier_z(q[spoke], hit[spoke], horizon)
        found.append(DayScore(int(days[first] + 1) * DAY_MS, z, int(ranged.sum()), hits))
    return found


def unscored(days: Sequence[DayScore]) -> str:
    """Say which days have no statistic for the CUSUM, and why; empty if each has one.

    Bars longer than two hours have fewer than 12 outcomes a day: there it never measures.
    """
    missing = sum(day.z is None for day in days)
    if missing == len(days):
        return f"Not measured: no day has {_LEAST_ROWS} forecasts with an outcome."
    if not missing:
        return ""
    few = f"fewer than {_LEAST_ROWS} forecasts with an outcome"
    return f"{missing} of {len(days)} days were not measured: {few}."


def coverage(days: Sequence[DayScore]) -> Coverage | None:
    """Return coverage over the last 30 days and whether it is off; None below 20 days with rows.

    An alarm is a deviation from 80 % beyond 3.5 points, the tolerance of a month, *and* beyond 3
    standard errors of the daily hits (Newey-West over 3 days: labels overlap, and intervals that
    are too narrow are so for hours). Measured on 2024, models of 2023: no day for EWMA quantiles
    (78.4 %; halved, they are found after 16 days), 91 % of the days for a boosted model that
    really covered 75.8 %, 7 % for plain 30-day quantiles, which do go wrong with volatility.
    """
    told = [day for day in days[-DAYS:] if day.n]
    if len(told) < _LEAST_DAYS:
        return None
    n = np.array([day.n for day in told], dtype=np.float64)
    hits = np.array([day.hits for day in told], dtype=np.float64)
    value = float(hits.sum() / n.sum())
    miss = hits - value * n
    variance = float(miss @ miss)
    for k in range(1, _HAC_DAYS + 1):
        variance += 2.0 * (1.0 - k / (_HAC_DAYS + 1.0)) * float(miss[k:] @ miss[:-k])
    se = math.sqrt(max(variance, 0.0)) / float(n.sum())
    threshold = max(TOLERANCE, ERRORS * se)
    return Coverage(told[-1].at, value, se, threshold, abs(value - TARGET) > threshold)


def drift_of(
    reference: Reference | None,
    features: Floats,
    p_up: Floats,
    up: NDArray[np.bool_],
    quantiles: Floats,
    r: Floats,
    ts: Stamps,
    *,
    horizon: int = 5,
    names: Sequence[str] = REFERENCE_54,
) -> dict[str, Any]:
    """Return ``board["drift"]`` of n rows in time order: the worst of each statistic, no NaN in it.

    Parameters
    ----------
    reference : that of the rows' symbol and timeframe (see :meth:`Reference.suits`), or None.
    features : (n, len(names)); compared in windows counted back from the last row.
    p_up, up, r : (n,) published P(up), outcome, log return; NaN where there is none.
    quantiles : (n, 13) published, on the canonical levels, log return.
    ts : (n,) opens, UTC ms.

    Returns
    -------
    ``features``, ``cusum`` and ``coverage``. Where no day has a statistic the CUSUM's path is
    empty; its ``note`` says which days have none (:func:`unscored`).
    """
    days = day_scores(p_up, up, quantiles[:, _LOW], quantiles[:, _HIGH], r, ts, horizon)
    path, alarmed = page([day.z for day in days])
    rolling = [found for k in range(len(days)) if (found := coverage(days[: k + 1])) is not None]
    shown = thinned(len(path)).tolist() if any(day.z is not None for day in days) else []
    board = {
        "features": [] if reference is None else reference.worst(names, features),
        "cusum": {
            "threshold": LIMIT,
            "path": [{"at": iso(days[k].at), "value": path[k]} for k in shown],
            "alarms": [
                {"at": iso(day.at), "value": level}
                for day, level, over in zip(days, path, alarmed, strict=True)
                if over
            ],
            "note": unscored(days),
        },
        "coverage": {
            "alarms": [
                {"at": iso(one.at), "value": one.value, "threshold": one.threshold}
                for before, one in pairwise([None, *rolling])
                if one is not None and one.alarm and not (before is not None and before.alarm)
            ],
        },
    }
    made: dict[str, Any] = plain(board)
    return made


__all__ = [
    "DAYS", "LIMIT", "Alarm", "Coverage", "DayScore", "FeatureDrift", "Reference", "brier_z",
    "coverage", "day_scores", "drift_of", "ks", "page", "psi", "shipped_reference", "unscored",
]  # fmt: skip
