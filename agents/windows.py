"""Trailing windows whose result depends on the window's own values and on nothing else.

A sum over the last w values is taken along one fixed binary tree (windows of 1, 2, 4, …), with
element-wise additions only. So a state computed alone and the same state computed among a
hundred thousand give the same bits, and a run of n consecutive states costs O(n log w).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from domain.market import BarFrame, MarketState

Floats = NDArray[np.float64]
N = TypeVar("N", bound=np.generic)
T = TypeVar("T")

_COLUMNS = ("ts", "open", "high", "low", "close", "volume")
_FEW = 8  # states whose sums are cheaper one by one than along all their bars
_NO_ROWS: Floats = np.empty((0, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """States that follow one another bar by bar, with their bars joined.

    Attributes
    ----------
    index : positions of the n states in their batch, in time order.
    bars : joined bars; state k's last bar is ``bars[first + k]``.
    first : index of the first state's last bar; the last bar is the last state's.
    limit : bars a state may look back at most.
    found : what :meth:`once` keeps.
    """

    index: tuple[int, ...]
    bars: BarFrame
    first: int
    limit: int
    found: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` made when first asked under ``key``; heads share it."""
        if key not in self.found:
            self.found[key] = make()
        made: T = self.found[key]
        return made

    def last(self, series: NDArray[N]) -> NDArray[N]:
        """Return the rows of ``series`` (aligned with ``bars``) at the states, (n, …)."""
        return np.asarray(series[self.first : self.first + len(self.index)])

    def sums(self, series: Floats, windows: Sequence[int], decay: float = 1.0) -> dict[int, Floats]:
        """Return the :func:`trailing_sums` of ``series`` at the states, (n, …) each."""
        states = len(self.index)
        if states <= _FEW:
            return _sums_at_end(series, windows, decay, states)
        totals = trailing_sums(series, windows, decay)
        return {window: self.last(total) for window, total in totals.items()}

    def lengths(self) -> NDArray[np.int64]:
        """Return how many bars each state sees, (n,)."""
        return np.minimum(self.first + 1 + np.arange(len(self.index)), self.limit)


def runs(states: Sequence[MarketState], limit: int, rows: int = 0) -> Iterator[Run]:
    """Group a batch into runs; neighbours are joined only if their pasts overlap value by value.

    Parameters
    ----------
    states : a list; each item is read several times.
    limit : bars to look back at most.
    rows : feature rows to look back at most; 0 if the features of a run are not joined.
    """
    start = 0
    before: tuple[BarFrame, Floats] | None = None
    for stop, state in enumerate(states):
        past = _tail(state.bars, limit), state.features.values[-rows:] if rows else _NO_ROWS
        if before is not None and not (
            _is_next(states[stop - 1], state)
            and _moved_on(before[0], past[0], limit)
            and (not rows or _rows_moved_on(before[1], past[1], rows))
        ):
            yield _run(states, start, stop, limit)
            start = stop
        before = past
    if len(states):
        yield _run(states, start, len(states), limit)


def joined_rows(
    states: Sequence[MarketState], run: Run, rows: int, columns: Sequence[int]
) -> Floats:
    """Return the feature rows of a run, chosen columns only; state k's newest is row −n + k."""
    pick = list(columns)
    head = states[run.index[0]].features.values[-rows:, pick]
    rest = [states[i].features.values[-1:, pick] for i in run.index[1:]]
    return np.ascontiguousarray(np.concatenate((head, *rest)) if rest else head)


def run_of(bars: BarFrame, limit: int) -> Run:
    """Treat contiguous bars as the run of all states that end in one of them."""
    return Run(tuple(range(len(bars))), bars, 0, limit)


def segments(bars: BarFrame) -> Iterator[tuple[int, int]]:
    """Iterate over the [start, stop) of each contiguous stretch of bars."""
    cuts = np.flatnonzero(np.diff(bars.ts) != bars.step_ms) + 1
    edges = [0, *cuts.tolist(), len(bars)]
    yield from itertools.pairwise(edges)


def trailing_sums(x: Floats, windows: Sequence[int], decay: float = 1.0) -> dict[int, Floats]:
    """Return Σ decay^j·x[i−j] over j < w for each window w, with zeros before the start.

    Parameters
    ----------
    x : (n, …) finite values.
    windows : lengths ≥ 1.
    decay : weight ratio of neighbours in (0, 1].

    Returns
    -------
    w → (n, …) sums.
    """
    totals: dict[int, Floats] = {}
    covered = dict.fromkeys(windows, 0)
    part, size = x, 1
    while size <= max(windows):
        for window in windows:
            if window & size:
                piece = _shift(part, covered[window]) * decay ** covered[window]
                totals[window] = piece if covered[window] == 0 else totals[window] + piece
                covered[window] += size
        part = part + _shift(part, size) * decay**size
        size *= 2
    return totals


def _sums_at_end(x: Floats, windows: Sequence[int], decay: float, rows: int) -> dict[int, Floats]:
    """Return the last rows of :func:`trailing_sums`: the same tree, without the other rows."""
    longest = max(windows)
    missing = max(0, longest + rows - 1 - len(x))
    padded = np.concatenate((np.zeros((missing, *x.shape[1:])), x)) if missing else x
    first = len(padded) - rows - longest + 1
    along = np.moveaxis(padded[first:], 0, -1)  # time last: neighbours are added
    pasts = np.stack([along[..., k : k + longest] for k in range(rows)])
    totals: dict[int, Floats] = {}
    for window in windows:
        covered = 0
        for bit in range(window.bit_length()):
            width = window & 1 << bit
            if width:
                part = pasts[..., longest - covered - width : longest - covered]
                for level in range(bit):
                    older = part[..., ::2]
                    part = part[..., 1::2] + (
                        older if decay == 1.0 else older * decay ** (1 << level)
                    )
                piece = part[..., 0] * decay**covered
                totals[window] = totals[window] + piece if covered else piece
                covered += width
    return totals


def _shift(x: Floats, by: int) -> Floats:
    if by == 0:
        return x
    out = np.zeros_like(x)
    if by < len(x):
        out[by:] = x[:-by]
    return out


def _tail(bars: BarFrame, limit: int) -> BarFrame:
    return bars if len(bars) <= limit else bars.slice(len(bars) - limit, len(bars))


def _is_next(before: MarketState, after: MarketState) -> bool:
    return (
        after.as_of == before.as_of + after.bars.step_ms
        and after.symbol == before.symbol
        and after.timeframe == before.timeframe
    )


def _moved_on(before: BarFrame, after: BarFrame, limit: int) -> bool:
    return len(after) == min(limit, len(before) + 1) and all(
        same_overlap(getattr(before, name), getattr(after, name)) for name in _COLUMNS
    )


def _rows_moved_on(before: Floats, after: Floats, rows: int) -> bool:
    return len(after) == min(rows, len(before) + 1) and same_overlap(before, after)


def same_overlap(before: NDArray[np.generic], after: NDArray[np.generic]) -> bool:
    """Whether ``after`` is ``before`` moved on by one row; both end at their newest row."""
    shared = min(len(before), len(after) - 1)
    if shared == 0:
        return True
    if before.strides == after.strides and _end(after) == _end(before) + after.strides[0]:
        return True  # two live views of the same memory
    return bool(np.array_equal(before[-shared:], after[-1 - shared : -1], equal_nan=True))


def _end(x: NDArray[np.generic]) -> int:
    address: int = x.__array_interface__["data"][0]
    return address + len(x) * x.strides[0]


def _run(states: Sequence[MarketState], start: int, stop: int, limit: int) -> Run:
    head = _tail(states[start].bars, limit)
    index = tuple(range(start, stop))
    if len(index) == 1:
        return Run(index, head, len(head) - 1, limit)
    ts, *columns = (
        np.concatenate(
            (getattr(head, name), [getattr(states[i].bars, name)[-1] for i in index[1:]])
        )
        for name in _COLUMNS
    )
    joined = BarFrame(head.symbol, head.timeframe, ts.astype(np.int64), *columns)
    return Run(index, joined, len(head) - 1, limit)
