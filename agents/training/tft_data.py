"""What the TFT learns from: windows of several symbols as tensors, with labels at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from agents.tft import TftInputs
from agents.training.dataset import VOLATILITY_FROM, VOLUME_FROM, Dataset, first_row_ms
from agents.training.volatility import all_regressors, fit_har, fit_season
from agents.volatility import HarModel, Regressors
from data.labels import adverse, make_labels
from domain.errors import DataRefused

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

UNKNOWN_SHARE = 0.15  # of training windows whose symbol is hidden, so that it can do without


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """One symbol's bars, ready to be cut into windows.

    Attributes
    ----------
    past : (n, variables) standardised. ``known`` : (n + horizon, calendar).
    y : (n, horizon) cumulative log return after 1 … H bars, NaN where there is none.
    down, up : (n, horizon) adverse moves within 1 … H bars.
    sigma : (n,) σ̂ over H bars. ``whole`` : (n,) rows with a full window and labels.
    """

    symbol: int
    data: Dataset
    past: Singles
    known: Singles
    y: Floats
    down: Flags
    up: Flags
    sigma: Floats
    whole: Flags

    def rows(self, start_ms: int, end_ms: int, windows: int = 1, stride: int = 1) -> Ints:
        """Return the last rows of usable blocks from ``start_ms`` on, known at ``end_ms``.

        A block is as many windows, so far apart; a single window by default.
        """
        usable = self.whole & self.data.known_by(start_ms, end_ms)
        block = usable.copy()
        for k in range(1, windows):
            block[: k * stride] = False
            block[k * stride :] &= usable[: -k * stride]
        return np.flatnonzero(block)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Blocks of bars, m windows in all, and what came of each window.

    Attributes
    ----------
    symbol : (n,). ``past`` : (n, bars, ·). ``known`` : (n, bars + horizon, ·).
    y, down, up : (m, horizon). ``sigma`` : (m,).
    """

    symbol: Ints
    past: Singles
    known: Singles
    y: Floats
    down: Flags
    up: Flags
    sigma: Floats


def cut(group: Group, rows: Ints, inputs: TftInputs, windows: int = 1, stride: int = 1) -> Batch:
    """Return blocks of ``windows`` windows, ``stride`` bars apart, that end in ``rows``."""
    back = inputs.encoder + (windows - 1) * stride
    past = group.past[rows[:, None] + np.arange(1 - back, 1)]
    known = group.known[rows[:, None] + np.arange(1 - back, 1 + inputs.horizon)]
    each = (rows[:, None] + stride * np.arange(1 - windows, 1)).ravel()
    return Batch(
        np.full(len(rows), group.symbol), past, known,
        group.y[each], group.down[each], group.up[each], group.sigma[each],
    )  # fmt: skip


def join(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one."""
    names = Batch.__dataclass_fields__
    return Batch(*(np.concatenate([getattr(batch, name) for batch in batches]) for name in names))


def pooled_volatility(data: Sequence[Dataset], end_ms: int) -> tuple[HarModel, list[Regressors]]:
    """Fit one season and one HAR with ranges to all symbols, on what was known at ``end_ms``."""
    starts = [first_row_ms(one.bars, VOLATILITY_FROM, end_ms) for one in data]
    seasons = [
        fit_season(one.bars.between(start, end_ms)) for one, start in zip(data, starts, strict=True)
    ]
    season = np.mean(seasons, axis=0)
    each = [all_regressors(one.bars, season, one.horizon_bars) for one in data]
    rows = [one.known_by(start, end_ms) for one, start in zip(data, starts, strict=True)]
    together = Regressors(*(
        np.concatenate([getattr(x, name) for x in each]) for name in Regressors.__dataclass_fields__
    ))  # fmt: skip
    realised = np.concatenate([one.realised for one in data])
    har = fit_har(
        together, realised, np.concatenate(rows), season, data[0].horizon_bars, ranges=True
    )
    return har, each


def scaling(
    data: Sequence[Dataset], columns: Sequence[Floats], end_ms: int
) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of feature columns over all symbols' training rows."""
    rows = np.concatenate([
        x[one.known_by(first_row_ms(one.bars, VOLUME_FROM, end_ms), end_ms)]
        for one, x in zip(data, columns, strict=True)
    ])  # fmt: skip
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        raise DataRefused("features", "must be finite on some training rows")
    return rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)


def group_of(
    symbol: int, data: Dataset, columns: Floats, inputs: TftInputs, sigma: Floats
) -> Group:
    """Prepare one symbol.

    Parameters
    ----------
    columns : (n, len(inputs.past)) raw features.
    """
    bars, ahead, size = data.bars, inputs.horizon, inputs.encoder
    past = inputs.scaled(columns)
    finite = np.isfinite(past).all(axis=1)
    full = np.zeros(len(bars), np.bool_)
    full[size - 1 :] = sliding_window_view(finite, size).all(axis=1)
    full &= bars.bars_since_gap() >= size
    steps = [make_labels(bars, k) for k in range(1, ahead + 1)]
    sides = [adverse(labels) for labels in steps]
    opens = np.concatenate((bars.ts, bars.ts[-1] + bars.step_ms * np.arange(1, ahead + 1)))
    known = inputs.calendar(opens, bars.step_ms)
    return Group(
        symbol, data, np.nan_to_num(past), known, np.stack([s.y for s in steps], axis=1),
        np.stack([d for d, _ in sides], axis=1), np.stack([u for _, u in sides], axis=1),
        sigma, full & data.labels.valid & np.isfinite(sigma),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Training batches: the first symbol half of the time, the others the rest.

    Attributes
    ----------
    rows : per group, the last rows of blocks of ``windows`` windows ``stride`` bars apart.
    """

    groups: Sequence[Group]
    rows: Sequence[Ints]
    inputs: TftInputs
    seed: int
    windows: int
    stride: int
    first_share: float = 0.5

    def batch(self, number: int, size: int) -> Batch:
        """Return ``size`` blocks, a pure function of the number and the seed."""
        rng = np.random.default_rng([self.seed, number])
        many = len(self.groups)
        share = np.full(many, (1.0 - self.first_share) / max(1, many - 1))
        share[0] = self.first_share if many > 1 else 1.0
        parts = []
        for group, rows, n in zip(
            self.groups, self.rows, rng.multinomial(size, share), strict=True
        ):
            if n:
                ends = rows[rng.integers(0, len(rows), n)]
                parts.append(cut(group, ends, self.inputs, self.windows, self.stride))
        made = join(parts)
        made.symbol[rng.random(size) < UNKNOWN_SHARE] = 0
        return made
