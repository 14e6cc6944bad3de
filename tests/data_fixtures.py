"""Bars for tests: a clean run, and one builder for each defect a file can have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from domain.market import BarFrame
from domain.times import parse_iso, timeframe_ms

START = parse_iso("2025-01-01T00:00:00Z")
COLUMNS = ("open", "high", "low", "close", "volume")


def clean_bars(
    n: int = 200, timeframe: str = "5m", symbol: str = "BTC/USDT", start: int = START, seed: int = 7
) -> BarFrame:
    """Build n contiguous, consistent bars of a random walk."""
    draw = np.random.default_rng(seed)
    close = 50_000 * np.exp(np.cumsum(draw.normal(0, 1e-3, n)))
    opens = np.concatenate(([50_000.0], close[:-1]))
    high = np.maximum(opens, close) * (1 + draw.uniform(0, 5e-4, n))
    low = np.minimum(opens, close) * (1 - draw.uniform(0, 5e-4, n))
    ts = start + np.arange(n, dtype=np.int64) * timeframe_ms(timeframe)
    return BarFrame(symbol, timeframe, ts, opens, high, low, close, draw.uniform(1, 100, n))


def pick(frame: BarFrame, rows: object) -> BarFrame:
    """Return the given rows (indices or a mask) in the given order."""
    columns = [getattr(frame, name)[rows] for name in COLUMNS]
    return BarFrame(frame.symbol, frame.timeframe, frame.ts[rows], *columns)


def without(frame: BarFrame, start: int, count: int) -> BarFrame:
    """Cut a hole of ``count`` bars before row ``start + count``."""
    keep = np.ones(len(frame), dtype=bool)
    keep[start : start + count] = False
    return pick(frame, keep)


def changed(frame: BarFrame, **cells: dict[int, float]) -> BarFrame:
    """Overwrite cells: ``changed(frame, close={3: nan})``."""
    new = {}
    for name, values in cells.items():
        column = getattr(frame, name).copy()
        for row, value in values.items():
            column[row] = value
        new[name] = column
    return dataclasses.replace(frame, **new)


def halted(frame: BarFrame, start: int, count: int) -> BarFrame:
    """Let an exchange stop: bars at the last price, without volume."""
    price = frame.close[start - 1]
    cells = dict.fromkeys(range(start, start + count), price)
    quiet = dict.fromkeys(cells, 0.0)
    return changed(frame, open=cells, high=cells, low=cells, close=cells, volume=quiet)


def jumping(frame: BarFrame, row: int, factor: float) -> BarFrame:
    """Let the price move by a factor within one bar, and stay there."""
    after = np.where(np.arange(len(frame)) > row, factor, 1.0)
    opens, close = frame.open * after, frame.close * after
    close[row] *= factor
    high, low = np.maximum(frame.high * after, close), np.minimum(frame.low * after, close)
    return dataclasses.replace(frame, open=opens, high=high, low=low, close=close)


def _shuffled(frame: BarFrame) -> BarFrame:
    return pick(frame, np.random.default_rng(3).permutation(len(frame)))


def _twice(frame: BarFrame) -> BarFrame:
    return pick(frame, np.sort(np.concatenate((np.arange(len(frame)), [20, 40]))))


def _conflict(frame: BarFrame) -> BarFrame:
    return changed(_twice(frame), volume={21: 1e6})


def _misaligned(frame: BarFrame) -> BarFrame:
    ts = frame.ts.copy()
    ts[30] += 1000
    return dataclasses.replace(frame, ts=ts)


def _wrong_timeframe(frame: BarFrame) -> BarFrame:
    return dataclasses.replace(frame, timeframe="1m")


def _mixed_volume(frame: BarFrame) -> BarFrame:
    """Six months of hourly bars whose volume falls to a tenth on 2025-04-01."""
    long = clean_bars(181 * 24, "1h")
    return dataclasses.replace(
        long, volume=np.where(long.ts < parse_iso("2025-04-01"), long.volume, long.volume / 10)
    )


NAN = float("nan")
DEFECTS: dict[str, Callable[[BarFrame], BarFrame]] = {
    "empty": lambda frame: frame.slice(0, 0),
    "out_of_order": _shuffled,
    "duplicates": _twice,
    "conflicting_duplicates": _conflict,
    "misaligned": _misaligned,
    "wrong_timeframe": _wrong_timeframe,
    "nan": lambda frame: changed(frame, close={50: NAN}),
    "non_positive_price": lambda frame: changed(frame, low={50: 0.0}),
    "negative_volume": lambda frame: changed(frame, volume={50: -1.0}),
    "inconsistent_ohlc": lambda frame: changed(frame, high={50: frame.low[50] * 0.99}),
    "gaps": lambda frame: without(frame, 100, 16),
    "jumps": lambda frame: jumping(frame, 120, 1.96),
    "zero_volume_runs": lambda frame: changed(frame, volume={60: 0.0, 61: 0.0}),
    "flat_runs": lambda frame: halted(frame, 70, 14),
    "volume_shift": _mixed_volume,
}
"""Code of the finding → what to do to clean bars to get it."""


def write_parquet(path: Path, frame: BarFrame) -> Path:
    """Write bars as the samples are written."""
    columns = {"ts": frame.ts, **{name: getattr(frame, name) for name in COLUMNS}}
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def csv_text(frame: BarFrame, header: str = "ts,open,high,low,close,volume") -> str:
    """Return bars as CSV."""
    lines = [
        ",".join([str(bar.open_ms), *(repr(getattr(bar, name)) for name in COLUMNS)])
        for bar in frame.bars()
    ]
    return "\n".join([header, *lines]) + "\n"


def write_csv(path: Path, frame: BarFrame) -> Path:
    """Write bars as CSV."""
    path.write_text(csv_text(frame), encoding="utf-8")
    return path
