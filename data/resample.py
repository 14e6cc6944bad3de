"""Higher timeframes from base bars, and only from complete ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from domain.times import timeframe_ms


def resample(frame: BarFrame, timeframe: str) -> BarFrame:
    """Build the complete bars of a longer timeframe.

    A higher bar opens on a multiple of its own length since the epoch and exists only if every
    one of its base bars does: one missing base bar removes it, and so does a last bar that is
    still growing. What it holds is therefore final at its close and never changes when more base
    bars follow.

    Parameters
    ----------
    frame : base bars, strictly increasing and aligned to their own timeframe; holes are allowed.
    timeframe : a whole multiple of the base timeframe, e.g. ``"1h"``.

    Returns
    -------
    BarFrame of (m,) bars, m ≤ n·base/target; possibly empty. Equal timeframes return ``frame``.

    Raises
    ------
    UsageError : if the timeframe is no whole multiple of the base.
    DataRefused : if the stamps are out of order, doubled or misaligned.
    """
    step, base = timeframe_ms(timeframe), frame.step_ms
    if step % base:
        raise UsageError(
            "timeframe",
            f"must be a whole multiple of the bars' {frame.timeframe}",
            timeframe,
            f"Import bars of {timeframe}, or of a timeframe that divides it.",
        )
    if step == base:
        return frame
    _require_ordered(frame)
    slots = frame.ts // step
    starts = np.flatnonzero(np.diff(slots, prepend=-1) != 0)
    per_bar = step // base
    starts = starts[np.diff(starts, append=len(frame)) == per_bar]
    rows = starts[:, None] + np.arange(per_bar)  # (m, per_bar)
    return BarFrame(
        frame.symbol,
        timeframe,
        slots[starts] * step,
        frame.open[starts],
        frame.high[rows].max(axis=1),
        frame.low[rows].min(axis=1),
        frame.close[starts + per_bar - 1],
        frame.volume[rows].sum(axis=1),
    )


def differing(
    own: BarFrame, made: BarFrame
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:  # fmt: skip
    """Return the opens (n,), UTC ms, that two frames share, and where their bars are not the same.

    Prices must be equal to the bit; volumes, which are sums, to one part in 10⁹ or 10⁻⁸ base units.
    """
    opens, left, right = np.intersect1d(own.ts, made.ts, return_indices=True)
    apart = ~np.isclose(own.volume[left], made.volume[right], rtol=1e-9)
    for name in ("open", "high", "low", "close"):
        apart |= getattr(own, name)[left] != getattr(made, name)[right]
    return opens, apart


def _require_ordered(frame: BarFrame) -> None:
    if np.any(np.diff(frame.ts) <= 0) or np.any(frame.ts % frame.step_ms):
        raise DataRefused(
            f"{frame.symbol} {frame.timeframe}",
            "bars must be aligned, in order and without duplicates to be resampled",
            hint="Import the file first: the cleansed bars are.",
        )
