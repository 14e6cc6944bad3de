"""Training windows over bars with holes: which rows may serve, and which group they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.errors import UsageError
from domain.market import BarFrame

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """One row per bar, as sequence models want them.

    Attributes
    ----------
    symbol, timeframe : of the bars.
    encoder_length, horizon : bars up to and with the deciding one, and bars after it.
    ts : (n,) int64, bar open, UTC ms.
    time_idx : (n,) int64, the bar's absolute number (``ts // step``): a gap is a jump in it.
    segment : (n,) int64, counts the contiguous runs from 0; with ``symbol`` the group id.
    valid : (n,) bool, whether a window may decide at this bar; see :func:`valid_windows`.
    interpolated : (n,) bool, made-up bars; never in a label.
    """

    symbol: str
    timeframe: str
    encoder_length: int
    horizon: int
    ts: Ints
    time_idx: Ints
    segment: Ints
    valid: Mask
    interpolated: Mask

    def __len__(self) -> int:
        return len(self.ts)

    def group(self, row: int) -> str:
        """Return the group id of a row, e.g. ``"BTC/USDT#1"``."""
        return f"{self.symbol}#{self.segment[row]}"


def valid_windows(
    ts: Ints, step_ms: int, encoder: int, horizon: int, interpolated: Mask | None = None
) -> Ints:
    """Return the rows at which a window may decide.

    Row t may when bars t − encoder + 1 … t + horizon follow one another without a gap, and when
    none of the bars its label is made from (t … t + horizon) was interpolated. The bars before t
    may be: an interpolated run ends before the real bar t, so what it drew on is known by then.

    Parameters
    ----------
    ts : (n,) int64 bar opens, UTC ms, strictly increasing.
    step_ms : length of a bar.
    encoder, horizon : bars, at least 1.
    interpolated : (n,) bool, or None for none.

    Returns
    -------
    (m,) int64, increasing.

    Raises
    ------
    UsageError : if a length is below 1.
    """
    if encoder < 1 or horizon < 1:
        raise UsageError("window", "encoder and horizon must be at least 1", (encoder, horizon))
    size = encoder + horizon
    if len(ts) < size:
        return np.zeros(0, dtype=np.int64)
    spans = ts[size - 1 :] - ts[: len(ts) - size + 1]
    rows = np.flatnonzero(spans == (size - 1) * step_ms) + encoder - 1
    if interpolated is not None:
        made_up = np.concatenate(([0], np.cumsum(interpolated, dtype=np.int64)))
        rows = rows[made_up[rows + horizon + 1] == made_up[rows]]
    return rows.astype(np.int64)


def build_windows(
    frame: BarFrame, encoder: int, horizon: int, interpolated: Mask | None = None
) -> Windows:
    """Number the bars and mark the rows at which a window may decide.

    Raises
    ------
    UsageError : if a length is below 1.
    """
    rows = valid_windows(frame.ts, frame.step_ms, encoder, horizon, interpolated)
    valid = np.zeros(len(frame), dtype=bool)
    valid[rows] = True
    breaks = np.diff(frame.ts, prepend=frame.ts[:1]) > frame.step_ms
    return Windows(
        symbol=frame.symbol,
        timeframe=frame.timeframe,
        encoder_length=encoder,
        horizon=horizon,
        ts=frame.ts,
        time_idx=frame.ts // frame.step_ms,
        segment=np.cumsum(breaks, dtype=np.int64),
        valid=valid,
        interpolated=np.zeros(len(frame), dtype=bool) if interpolated is None else interpolated,
    )


def interpolate_gaps(frame: BarFrame, max_bars: int) -> tuple[BarFrame, Mask]:
    """Fill holes of at most ``max_bars`` bars along a straight line of log price, and say which.

    An opt-in for models that cannot live with short holes. The bars made up have no volume and
    use the first bar after the hole, so nothing may decide or be scored inside one.

    Returns
    -------
    BarFrame of (m,) bars and the (m,) mask of those made up. Longer holes stay.

    Raises
    ------
    UsageError : if ``max_bars`` is below 1.
    """
    if max_bars < 1:
        raise UsageError("interpolation", "must allow at least 1 bar", max_bars)
    missing = np.diff(frame.ts) // frame.step_ms - 1
    holes = np.flatnonzero((missing > 0) & (missing <= max_bars))
    if not len(holes):
        return frame, np.zeros(len(frame), dtype=bool)
    lengths = missing[holes]
    left = np.repeat(holes, lengths)  # (made up,) the row before each made-up bar
    nth = np.arange(len(left)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    ts = frame.ts[left] + nth * frame.step_ms
    start, end = np.log(frame.close[left]), np.log(frame.open[left + 1])
    share = 1.0 / (np.repeat(lengths, lengths) + 1)
    opens = np.exp(start + (end - start) * (nth - 1) * share)
    closes = np.exp(start + (end - start) * nth * share)
    high, low = np.maximum(opens, closes), np.minimum(opens, closes)
    order = np.argsort(np.concatenate((frame.ts, ts)), kind="stable")
    made = (opens, high, low, closes, np.zeros(len(ts)))
    real = (frame.open, frame.high, frame.low, frame.close, frame.volume)
    columns = [np.concatenate(pair)[order] for pair in zip(real, made, strict=True)]
    mask = np.concatenate((np.zeros(len(frame), dtype=bool), np.ones(len(ts), dtype=bool)))
    all_ts = np.concatenate((frame.ts, ts))[order]
    return BarFrame(frame.symbol, frame.timeframe, all_ts, *columns), mask[order]
