"""Which rows train and which are tested: purged walk-forward and combinatorial purged folds.

A row's label lives in [ts + step, ts + (H + 1)·step]: from the close that is forecast from to the
close H bars later. No training row's label may touch a test row's label (purge, López de Prado
2018, ch. 7), measured in time, so that holes in the bars change nothing about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from data.labels import Flags, training_rows
from domain.errors import DataRefused, UsageError

Ints = NDArray[np.int64]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class WalkFold:
    """One step of a walk forward.

    Attributes
    ----------
    start_ms, end_ms : rows that open in [start, end) are tested, UTC ms.
    fit_ms : training labels are known by then: the start less the embargo.
    train, test : (n,) which rows; never both.
    """

    start_ms: int
    end_ms: int
    fit_ms: int
    train: Flags
    test: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One of the C(N, k) splits.

    Attributes
    ----------
    groups : which of the N groups are tested, increasing.
    train, test : (n,) which rows; purged and embargoed rows are in neither.
    """

    groups: tuple[int, ...]
    train: Flags
    test: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Combinatorial:
    """All splits, and how their forecasts join to whole paths.

    Attributes
    ----------
    splits : C(N, k), in lexical order of the tested groups.
    group : (n,) each row's group, 0 … N − 1.
    paths : (C(N − 1, k − 1), N) the split whose forecasts of a group the path uses. Every split
        tests k groups and each of these test blocks is used by exactly one path.
    """

    splits: tuple[Split, ...]
    group: Ints
    paths: Ints

    def rejoin(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return every path's values, (n_paths, n), from those of every split, (n_splits, n).

        Raises
        ------
        UsageError : if the shape is another.
        """
        expected = (len(self.splits), len(self.group))
        if values.shape != expected:
            raise UsageError("rejoin", f"values must be of shape {expected}", values.shape)
        return np.asarray(values[self.paths[:, self.group], np.arange(len(self.group))])


def quarters(start_ms: int, end_ms: int) -> list[Span]:
    """Return the calendar quarters (UTC) of [start, end), the first and the last cut to it, ms.

    Raises
    ------
    UsageError : if the range is empty.
    """
    if start_ms >= end_ms:
        raise UsageError("quarters", "the start must lie before the end", (start_ms, end_ms))
    first, last = (_month(at) for at in (start_ms, end_ms - 1))
    firsts = np.arange(first - first % 3 + 3, last + 1, 3).astype("M8[M]").astype("M8[ms]")
    edges = [start_ms, *(int(at) for at in firsts.astype(np.int64)), end_ms]
    return list(pairwise(edges))


def _month(at_ms: int) -> int:
    return int(np.datetime64(at_ms, "ms").astype("M8[M]").astype(np.int64))


def walk_forward(
    ts: Ints,
    valid: Flags,
    horizon: int,
    step: int,
    spans: Sequence[Span],
    embargo: int,
    min_rows: int = 1,
) -> list[WalkFold]:
    """Return a fold for each span: tested in it, trained on everything known before it.

    A row may train if ts + (H + 1)·step ≤ start − embargo·step
    (:func:`data.labels.training_rows`).

    Parameters
    ----------
    ts : (n,) bar opens, UTC ms, increasing; gaps are allowed.
    valid : (n,) rows with features and a label.
    horizon, embargo : bars; the embargo is at least the horizon.
    step : length of a bar, ms.
    spans : [start, end) of each test, UTC ms.
    min_rows : training rows that a fold needs at least.

    Raises
    ------
    UsageError : for stamps out of order, an empty span, or an embargo below the horizon.
    DataRefused : if a span has no valid row, or too few before it; it is named.
    """
    _check(ts, horizon, step, embargo)
    folds = []
    for start, end in spans:
        if start >= end:
            raise UsageError("span", "the start must lie before the end", (start, end))
        fit_ms = start - embargo * step
        train = valid & training_rows(ts, fit_ms, horizon, step)
        test = valid & (ts >= start) & (ts < end)
        if train.sum() < min_rows or not test.any():
            raise DataRefused(
                f"walk-forward fold [{start}, {end})",
                f"needs a row to test and {min_rows} known before it to train on",
                (int(train.sum()), int(test.sum())),
            )
        folds.append(WalkFold(start, end, fit_ms, train, test))
    return folds


def combinatorial_purged(
    ts: Ints, horizon: int, step: int, groups: int = 6, tested: int = 2, *, embargo: int
) -> Combinatorial:
    """Return the splits of combinatorial purged cross-validation (López de Prado 2018, ch. 12).

    The rows form N consecutive groups of ⌊n/N⌋, the last with the rest. Each choice of k of them
    is tested once. A training row is dropped if its label touches that of a test row, on either
    side, or starts within ``embargo`` bars after the last test label has ended (ibid., snippet
    7.3): features there still describe the test span. On contiguous bars these are the
    rows of skfolio's ``CombinatorialPurgedCV(purged_size=H, embargo_size=embargo)``; it counts
    rows, not time, so across a gap it drops rows that share no time with the test.

    Parameters
    ----------
    ts : (n,) bar opens of the rows to split, UTC ms, increasing; gaps are allowed.
    horizon, embargo : bars; the embargo is at least the horizon.
    step : length of a bar, ms.
    groups, tested : N and k.

    Raises
    ------
    UsageError : for stamps out of order, 1 ≤ k < N not kept, or an embargo below the horizon.
    DataRefused : if a split is left without a training row.
    """
    _check(ts, horizon, step, embargo)
    if not 1 <= tested < groups:
        raise UsageError("combinatorial", "needs 1 ≤ tested < groups", (tested, groups))
    if len(ts) < groups:
        raise DataRefused("combinatorial", f"needs at least {groups} rows", len(ts))
    group = np.minimum(np.arange(len(ts)) // (len(ts) // groups), groups - 1).astype(np.int64)
    dropped = np.stack([_too_near(ts, group == g, horizon, step, embargo) for g in range(groups)])
    splits = tuple(
        _split(chosen, np.isin(group, chosen), dropped)
        for chosen in combinations(range(groups), tested)
    )
    paths = [[i for i, split in enumerate(splits) if g in split.groups] for g in range(groups)]
    return Combinatorial(splits, group, np.array(paths, dtype=np.int64).T)


def _too_near(ts: Ints, block: Flags, horizon: int, step: int, embargo: int) -> Flags:
    """Rows whose label touches the block's labels, or that follow them too closely."""
    first, last = ts[block][[0, -1]]
    return np.asarray(
        ~training_rows(ts, first, horizon, step) & (ts <= last + (horizon + embargo) * step)
    )


def _split(chosen: tuple[int, ...], test: Flags, dropped: NDArray[np.bool_]) -> Split:
    train = ~test & ~dropped[list(chosen)].any(axis=0)
    if not train.any():
        raise DataRefused(
            "combinatorial", "leaves no row to train on; give more rows, fewer tested groups or a "
            "shorter embargo", f"test groups {chosen}",
        )  # fmt: skip
    return Split(chosen, train, test)


def _check(ts: Ints, horizon: int, step: int, embargo: int) -> None:
    if horizon < 1 or step < 1:
        raise UsageError("split", "horizon and step must be at least 1", (horizon, step))
    if embargo < horizon:
        raise UsageError("embargo", f"must be at least the horizon of {horizon} bars", embargo)
    if ts.ndim != 1 or bool((np.diff(ts) <= 0).any()):
        raise UsageError("split", "stamps must be one-dimensional and increase strictly")
