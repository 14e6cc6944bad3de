"""Feature rows against the distribution the models were trained on: PSI and KS, with thresholds.

Rows five minutes apart share nearly all of their past. Over 30 days a trend or a volatility
column has four or five independent looks, so its PSI is beyond the textbook's .25 nearly always
and a p-value of independent rows would cry drift every day. A column's threshold is therefore set
by how far equally long windows *inside* the training period stray (:data:`FACTOR`).

Measured on BTC/USDT spot 5m, every day of 2024, the reference made of data before: with one of
sixteen months (2022-09 to 2023-12) the textbook threshold alarms on 100 % of the days, ours on
none. With one of nine months (2023-04 to 2023-12) ours alarms on 20 %, mostly in columns of the
ratio of range to volatility, which did move: a reference needs more than one kind of market.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.features.names import REFERENCE_54
from domain.errors import DataRefused, ModelError

Floats = NDArray[np.float64]
Stamps = NDArray[np.int64]

WINDOW = 8_640  # rows compared: 30 days of five-minute bars
LEVELS: Floats = np.linspace(0.0, 1.0, 21)
PSI_MAJOR = 0.25  # Siddiqi's "major shift" for independent rows: the least threshold of any column
FACTOR = 2.0  # a threshold is at least this many times the farthest window inside the training
EPSILON = 1e-4  # an empty bin counts as this share of the rows
_LEAST_SHARE = 0.9  # of a window's rows, without which it is not measured
_LEAST_WINDOWS = 6  # in the training period, without which nobody knows how far one strays

# The clock cannot drift: any window that is not whole weeks differs, and means nothing.
CALENDAR = frozenset(
    name
    for name in REFERENCE_54
    if name.startswith(("tod_", "slot_")) or name in ("weekday", "weekend")
)

# Largest PSI of a 30-day window inside 2023-04-01 … 2024-12-31 (183 378 rows, BTC/USDT spot 5m)
# against all of it: Reference.of on the rows that the shipped quantiles are of.
INSIDE: Mapping[str, float] = MappingProxyType({
    "ret_0": 0.017, "ret_1": 0.017, "ret_2": 0.017, "ret_3": 0.018, "ret_4": 0.018,
    "ret_5": 0.018, "cum_3": 0.024, "cum_6": 0.024, "cum_12": 0.023, "cum_36": 0.043,
    "cum_96": 0.117, "cum_288": 0.358, "cum_2016": 2.535, "rsi_14": 0.022, "macd": 0.047,
    "macd_hist": 0.023, "ema_gap_12": 0.030, "ema_gap_48": 0.045, "ema_gap_288": 0.260,
    "ema_gap_2016": 2.301,
    "atr": 0.603, "range_hl": 0.227, "log_s": 2.107, "rv_3": 0.040, "rv_12": 0.077,
    "rv_48": 0.106, "rv_288": 0.156, "rv_2016": 0.527, "pk_3": 0.275, "pk_12": 0.342,
    "pk_48": 0.365, "pk_288": 0.157, "pk_2016": 0.469, "vol_z": 0.006, "vol_12": 0.046,
    "vol_level": 0.307, "vol_signed": 0.010, "signed_vol_12": 0.021, "signed_vol_48": 0.087,
    "close_loc": 0.119,
    "range_pos_12": 0.037, "range_pos_48": 0.054, "range_pos_288": 0.181,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How far one column is from its training distribution.

    Attributes
    ----------
    psi : ≥ 0. ``ks`` : in [0, 1].
    threshold : PSI beyond which it is an alarm; None where the training period was too short to
        say, and for calendar columns, which never alarm.
    """

    name: str
    psi: float
    ks: float
    alarm: bool
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """The training distribution of feature columns; holds for one symbol and timeframe.

    Attributes
    ----------
    start_ms, end_ms, n : the rows it is of, opens in [start, end).
    window : rows of the windows that ``inside`` was measured on.
    columns : name → 21 quantiles at 0, .05, …, 1.
    inside : name → largest PSI of such a window of the training rows; absent where they were too
        few for six windows, and then nothing alarms.
    """

    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int
    n: int
    columns: Mapping[str, tuple[float, ...]]
    inside: Mapping[str, float]
    window: int = WINDOW

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        values: Floats,
        ts: Stamps,
        *,
        symbol: str,
        timeframe: str,
        window: int = WINDOW,
    ) -> Self:
        """Make a reference from training rows (n, len(names)) at opens ``ts`` (n,).

        Rows with a missing value are left out. Windows start a tenth of their length apart.

        Raises
        ------
        DataRefused : if fewer than 1 000 rows are usable.
        """
        usable = np.isfinite(values).all(axis=1)
        rows, opens = values[usable], ts[usable]
        if len(rows) < 1_000:
            raise DataRefused("feature reference", "needs at least 1 000 whole rows", len(rows))
        quantiles = np.quantile(rows, LEVELS, axis=0)
        columns = {name: tuple(quantiles[:, j].tolist()) for j, name in enumerate(names)}
        inside: dict[str, float] = {}
        if len(rows) >= _LEAST_WINDOWS * window:
            starts = range(0, len(rows) - window + 1, max(1, window // 10))
            inside = {
                name: max(psi(quantiles[:, j], rows[s : s + window, j]) for s in starts)
                for j, name in enumerate(names)
                if name not in CALENDAR
            }
        return cls(
            symbol, timeframe, int(opens[0]), int(opens[-1]) + 1, len(rows), columns, inside, window
        )

    def suits(self, symbol: str, timeframe: str) -> bool:
        """Whether it may be compared with these bars."""
        return (self.symbol, self.timeframe) == (symbol, timeframe)

    def compare(self, names: Sequence[str], values: Floats) -> list[FeatureDrift] | None:
        """Compare the last ``window`` rows with the reference, the worst column first.

        Parameters
        ----------
        names : columns of ``values`` (n, len(names)); those without a reference are passed over.

        Returns
        -------
        None if fewer than 90 % of a window's rows are there and whole.
        """
        known = [(j, name) for j, name in enumerate(names) if name in self.columns]
        rows = values[-self.window :][:, [j for j, _ in known]]
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows) < _LEAST_SHARE * self.window:
            return None
        found = [self._column(name, rows[:, k]) for k, (_, name) in enumerate(known)]
        return sorted(found, key=_badness)

    def worst(self, names: Sequence[str], values: Floats) -> list[FeatureDrift]:
        """Return each column's worst window, windows counted back from the last of n rows."""
        found: dict[str, FeatureDrift] = {}
        for stop in range(len(values), 0, -self.window):
            for one in self.compare(names, values[max(0, stop - self.window) : stop]) or ():
                if one.name not in found or one.psi > found[one.name].psi:
                    found[one.name] = one
        return sorted(found.values(), key=_badness)

    def _column(self, name: str, values: Floats) -> FeatureDrift:
        knots = np.asarray(self.columns[name])
        shift = psi(knots, values)
        farthest = self.inside.get(name)
        threshold = None if farthest is None else max(PSI_MAJOR, FACTOR * farthest)
        over = threshold is not None and shift > threshold
        return FeatureDrift(name, shift, ks(knots, values), over, threshold)


def shipped_reference() -> Reference | None:
    """Return the reference that ships with the baselines (BTC/USDT spot 5m), None if none does."""
    from sim.baselines import feature_reference

    try:
        found = feature_reference()
    except (ModelError, KeyError):
        return None
    columns = {name: tuple(row.tolist()) for name, row in found.quantiles.items()}
    return Reference(
        found.symbol, found.timeframe, found.start_ms, found.end_ms, found.n, columns, INSIDE
    )


def psi(knots: ArrayLike, values: ArrayLike) -> float:
    """Return the population stability index of values (n,) against a reference.

    PSI = Σ (a_i − e_i)·ln(a_i/e_i) over the reference's decile bins, with e_i the reference's and
    a_i the values' share of bin i (Siddiqi 2006: below .1 stable, above .25 a major shift, both
    for independent rows). Shares below :data:`EPSILON` count as it, so that an empty bin is large
    and finite. Deciles that coincide make one bin.

    Parameters
    ----------
    knots : (21,) the reference's quantiles at 0, .05, …, 1.
    """
    grid = np.asarray(knots, dtype=np.float64)
    x = np.asarray(values, dtype=np.float64)
    edges = np.unique(grid[2:-2:2])
    below = _cdf(grid, edges, "right")
    edges, below = edges[below < 1.0], below[below < 1.0]
    expected = np.maximum(np.diff(below, prepend=0.0, append=1.0), EPSILON)
    counts = np.bincount(np.searchsorted(edges, x, side="left"), minlength=len(edges) + 1)
    actual = np.maximum(counts / len(x), EPSILON)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def ks(knots: ArrayLike, values: ArrayLike) -> float:
    """Return the Kolmogorov-Smirnov distance of values (n,) from a reference, in [0, 1].

    sup|F_n − F| with F linear between the reference's quantiles (Kolmogorov 1933). Its p-value
    holds for independent rows only, so none is given: neighbouring rows share nearly all of their
    past, and √n counts them as if each were news.

    Parameters
    ----------
    knots : (21,) the reference's quantiles at 0, .05, …, 1.
    """
    grid = np.asarray(knots, dtype=np.float64)
    x, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    after = np.cumsum(counts) / counts.sum()
    before = np.append(0.0, after[:-1])
    right = _cdf(grid, x, "right")
    continuous = bool((np.diff(grid) > 0).all())
    left = right if continuous else _cdf(grid, x, "left")
    return float(max(np.abs(after - right).max(), np.abs(before - left).max()))


def _badness(one: FeatureDrift) -> tuple[bool, float, str]:
    """Alarms first, then what is nearest to its threshold; the calendar last."""
    return one.name in CALENDAR, -one.psi / (one.threshold or PSI_MAJOR), one.name


def _cdf(knots: Floats, x: Floats, side: Literal["left", "right"]) -> Floats:
    """F(x) or, from the left, F(x−): linear between quantiles, with a jump where some coincide."""
    values = np.unique(knots)
    after = LEVELS[np.searchsorted(knots, values, side="right") - 1]
    before = LEVELS[np.searchsorted(knots, values, side="left")]
    at = np.searchsorted(values, x, side=side) - 1  # the knot at or before x
    low = np.clip(at, 0, len(values) - 1)
    high = np.minimum(low + 1, len(values) - 1)
    width = np.where(high > low, values[high] - values[low], 1.0)
    share = np.minimum((x - values[low]) / width, 1.0)
    inside = after[low] + share * (before[high] - after[low])
    return np.where(at < 0, 0.0, np.where(at >= len(values) - 1, 1.0, inside))
