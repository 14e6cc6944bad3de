"""From a file to the four layers, or to a refusal that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.datasets import build_windows, interpolate_gaps
from data.files import file_sha256, read_bars
from data.report import Report
from data.store import BarStore, RawFile
from data.validation import cleanse, validate
from domain.errors import DataRefused
from domain.market import BarFrame, FeatureFrame, Market, market_of
from domain.times import iso

INTERPOLATE_MAX_BARS = 3  # a longer hole is not a hiccup of the feed


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import made of a file.

    Attributes
    ----------
    report : on the file itself.
    stored : on all bars of this symbol and timeframe that are stored now.
    raw : the kept copy; ``raw.new`` is False when these bytes were imported before.
    features : None when no feature function was given.
    windows : rows at which a window may decide.
    interpolated : bars made up, in the variants named ``…-interpolated`` only.
    """

    symbol: str
    timeframe: str
    market: Market
    report: Report
    stored: Report
    raw: RawFile
    cleansed: Path
    features: Path | None
    processed: Path
    windows: int
    interpolated: int


def check_file(
    path: Path, *, symbol: str | None = None, timeframe: str | None = None, now_ms: int | None
) -> tuple[BarFrame, Report]:
    """Read and judge a file without storing anything.

    Raises
    ------
    DataRefused : if it cannot be read as bars; what is wrong with the bars is in the report.
    UsageError : if ``symbol`` or ``timeframe`` is none.
    """
    sha256 = file_sha256(path)
    frame = read_bars(path, symbol, timeframe)
    return frame, validate(frame, now_ms=now_ms, sha256=sha256)


def import_file(
    path: Path,
    store: BarStore,
    *,
    symbol: str | None = None,
    timeframe: str | None = None,
    now_ms: int,
    features: Callable[[BarFrame], FeatureFrame] | None = None,
    encoder: int = 60,
    horizon: int = 5,
    interpolate: bool = False,
) -> ImportResult:
    """Take a file through all layers: raw, cleansed, features, windows.

    New bars join those already stored for the symbol and timeframe. Importing the same bytes again
    changes nothing and is no error. A refused file leaves no trace.

    Parameters
    ----------
    symbol, timeframe : else from the file's name.
    now_ms : the present, UTC ms; bars not closed by then do not count.
    features : makes feature rows; None leaves ``03_features`` alone.
    encoder, horizon : bars per window.
    interpolate : also store variants with holes of up to three bars filled and flagged.

    Raises
    ------
    DataRefused : if the file or its bars are refused, or contradict bars already stored.
    ConclaveError : if the disk is full or read-only.
    UsageError : if an argument makes no sense.
    """
    frame, report = check_file(path, symbol=symbol, timeframe=timeframe, now_ms=now_ms)
    report.require_ok(path.name)
    clean = cleanse(frame, report)
    merged = _merge(store, clean, path.name)
    stored = validate(merged, now_ms=now_ms)
    raw = store.put_raw(path, report.sha256 or "", _provenance(report, now_ms))
    _same_identity(raw, path, clean)
    sources = tuple({*store.sources(clean.symbol, clean.timeframe), report.sha256 or ""})
    cleansed = store.put_bars(merged, sources)
    made = features(merged) if features else None
    windows = build_windows(merged, encoder, horizon)
    made_up = 0
    if interpolate or store.bars_path(clean.symbol, clean.timeframe, interpolated=True).exists():
        filled, mask = interpolate_gaps(merged, INTERPOLATE_MAX_BARS)
        store.put_bars(filled, sources, mask)
        store.put_windows(build_windows(filled, encoder, horizon, mask), interpolated=True)
        if features:
            store.put_features(filled, features(filled), interpolated=True)
        made_up = int(np.count_nonzero(mask))
    return ImportResult(
        symbol=clean.symbol,
        timeframe=clean.timeframe,
        market=market_of(clean.symbol),
        report=report,
        stored=stored,
        raw=raw,
        cleansed=cleansed,
        features=store.put_features(merged, made) if made else None,
        processed=store.put_windows(windows),
        windows=int(np.count_nonzero(windows.valid)),
        interpolated=made_up,
    )


def _merge(store: BarStore, new: BarFrame, name: str) -> BarFrame:
    if not store.bars_path(new.symbol, new.timeframe).exists():
        return new
    old = store.load(new.symbol, new.timeframe)
    _, in_old, in_new = np.intersect1d(old.ts, new.ts, assume_unique=True, return_indices=True)
    differs = np.zeros(len(in_old), dtype=bool)
    columns = ("open", "high", "low", "close", "volume")
    for column in columns:
        differs |= getattr(old, column)[in_old] != getattr(new, column)[in_new]
    if np.any(differs):
        first = iso(int(old.ts[in_old[np.argmax(differs)]]))
        raise DataRefused(
            name,
            f"contradicts {np.count_nonzero(differs)} stored bars of {new.symbol} "
            f"{new.timeframe}, the first at {first}",
            hint="Is it another symbol or venue? To start afresh, remove "
            f"{store.bars_path(new.symbol, new.timeframe).name} from 02_cleansed.",
        )
    fresh = np.ones(len(new), dtype=bool)
    fresh[in_new] = False
    order = np.argsort(np.concatenate((old.ts, new.ts[fresh])), kind="stable")

    def joined(column: str) -> NDArray[np.float64]:
        both = (getattr(old, column), getattr(new, column)[fresh])
        return np.asarray(np.concatenate(both)[order])

    ts = np.concatenate((old.ts, new.ts[fresh]))[order]
    return BarFrame(new.symbol, new.timeframe, ts, *(joined(column) for column in columns))


def _same_identity(raw: RawFile, path: Path, frame: BarFrame) -> None:
    before = (raw.provenance["symbol"], raw.provenance["timeframe"])
    if before != (frame.symbol, frame.timeframe):
        raise DataRefused(
            path.name,
            f"these bytes were imported as {' '.join(before)} before",
            f"{frame.symbol} {frame.timeframe}",
            "Check --symbol and --timeframe.",
        )


def _provenance(report: Report, now_ms: int) -> dict[str, object]:
    return {
        "symbol": report.symbol,
        "timeframe": report.timeframe,
        "market": market_of(report.symbol),
        "imported_at": iso(now_ms),
        "rows": report.rows,
        "kept": report.kept,
        "start": report.start,
        "end": report.end,
        "findings": [
            {"code": found.code, "severity": found.severity, "count": found.count}
            for found in report.findings
        ],
    }
