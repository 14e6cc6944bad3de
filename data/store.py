"""The four layers of bars on disk, as Parquet.

``01_raw``        the imported files, byte for byte and read-only, each with its provenance
``02_cleansed``   one file per symbol, market and timeframe: what validation let through
``03_features``   feature rows beside their stamps
``04_processed``  window rows for training: time_idx, group, encoder length, horizon

Every write is whole or not at all, and equal content makes equal bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from data.datasets import Windows
from data.files import file_sha256
from domain.canonical import canonical_json
from domain.errors import ConclaveError, DataRefused
from domain.market import BarFrame, FeatureFrame, market_of
from domain.times import iso, timeframe_ms

Mask = NDArray[np.bool_]

_COLUMNS = ("open", "high", "low", "close", "volume")
_META = b"conclave"


@dataclass(frozen=True, slots=True)
class RawFile:
    """An imported file: where its copy lies and what is known about its origin."""

    path: Path
    provenance: Mapping[str, Any]
    new: bool  # False: it was there already


@dataclass(frozen=True, slots=True)
class StoredBars:
    """One cleansed file. Times are bar opens (ISO); ``sources`` are sha256 of raw files."""

    symbol: str
    timeframe: str
    market: str
    rows: int
    interpolated: int
    start: str
    end: str
    sources: tuple[str, ...]
    path: Path


class BarStore:
    """Bars, features and windows under one folder.

    Parameters
    ----------
    root : the folder of the four layers, made on the first write.
    raw, processed : other places for ``01_raw`` and ``04_processed``.

    Every method raises ConclaveError when the disk is full, read-only or otherwise unwilling, and
    DataRefused when a stored file is damaged; what was stored before stays untouched.
    """

    def __init__(self, root: Path, raw: Path | None = None, processed: Path | None = None) -> None:
        self.raw = raw or root / "01_raw"
        self.cleansed = root / "02_cleansed"
        self.features = root / "03_features"
        self.processed = processed or root / "04_processed"

    def put_raw(self, source: Path, sha256: str, provenance: Mapping[str, Any]) -> RawFile:
        """Keep a file's bytes for good, with its provenance beside it; the same bytes once only.

        Parameters
        ----------
        sha256 : of the bytes that were judged; other bytes by now are refused.
        provenance : JSON's types; ``name``, ``sha256`` and ``bytes`` are added.

        Raises
        ------
        DataRefused : if the file changed meanwhile, or cannot be read.
        """
        for stored in sorted(self.raw.glob(f"{sha256[:12]}-*.provenance.json")):
            known = _read_json(stored)
            kept = self.raw / f"{sha256[:12]}-{known['name']}"
            if known["sha256"] == sha256 and kept.exists() and file_sha256(kept) == sha256:
                return RawFile(kept, known, new=False)
        target = self.raw / f"{sha256[:12]}-{source.name}"
        with _unwilling_disk(target), _replacing(target) as temporary:
            digest, size = _copy(source, temporary)
            if digest != sha256:
                raise DataRefused(source.name, "changed while it was being imported")
            temporary.chmod(0o444)
        body = {**provenance, "name": source.name, "sha256": sha256, "bytes": size}
        self._write_text(Path(f"{target}.provenance.json"), canonical_json(body) + "\n", 0o444)
        return RawFile(target, body, new=True)

    def put_bars(
        self,
        frame: BarFrame,
        sources: tuple[str, ...] = (),
        interpolated: Mask | None = None,
    ) -> Path:
        """Store cleansed bars, replacing what was there; made-up bars go to a file of their own.

        Parameters
        ----------
        sources : sha256 of the raw files they come from.
        interpolated : (n,) bool; given, the file is the interpolated variant, never loaded unasked.
        """
        columns = {"ts": frame.ts, **{name: getattr(frame, name) for name in _COLUMNS}}
        if interpolated is not None:
            columns["interpolated"] = interpolated
        meta = {
            "symbol": frame.symbol,
            "timeframe": frame.timeframe,
            "market": market_of(frame.symbol),
            "sources": sorted(sources),
        }
        path = self.bars_path(frame.symbol, frame.timeframe, interpolated is not None)
        self._write_table(path, columns, meta)
        return path

    def put_features(
        self, frame: BarFrame, features: FeatureFrame, *, interpolated: bool = False
    ) -> Path:
        """Store feature rows beside the stamps of the bars they end with."""
        ts = frame.ts[len(frame) - len(features.values) :]
        columns = {"ts": ts, **{name: features.column(name) for name in features.names}}
        meta = {"symbol": frame.symbol, "timeframe": frame.timeframe, "schema": features.schema}
        path = self.features / _name(frame.symbol, frame.timeframe, interpolated)
        self._write_table(path, columns, meta)
        return path

    def put_windows(self, windows: Windows, *, interpolated: bool = False) -> Path:
        """Store window rows; encoder length and horizon (bars) are columns, too."""
        rows = len(windows)
        columns = {
            "ts": windows.ts,
            "time_idx": windows.time_idx,
            "symbol": pa.array([windows.symbol] * rows).dictionary_encode(),
            "segment": windows.segment,
            "encoder_length": np.full(rows, windows.encoder_length, dtype=np.int32),
            "horizon": np.full(rows, windows.horizon, dtype=np.int32),
            "valid": windows.valid,
            "interpolated": windows.interpolated,
        }
        meta = {"symbol": windows.symbol, "timeframe": windows.timeframe}
        path = self.processed / _name(windows.symbol, windows.timeframe, interpolated)
        self._write_table(path, columns, meta)
        return path

    def load(self, symbol: str, timeframe: str) -> BarFrame:
        """Return the cleansed bars of a unified symbol; made-up bars are never among them.

        Raises
        ------
        DataRefused : if there are none, or the file is damaged.
        """
        return self._load(self.bars_path(symbol, timeframe))[0]

    def load_interpolated(self, symbol: str, timeframe: str) -> tuple[BarFrame, Mask]:
        """Return the bars of the opt-in variant and the (n,) mask of those made up.

        Raises
        ------
        DataRefused : if there are none, or the file is damaged.
        """
        frame, table = self._load(self.bars_path(symbol, timeframe, interpolated=True))
        return frame, np.asarray(table["interpolated"].to_numpy())

    def load_features(self, symbol: str, timeframe: str) -> tuple[NDArray[np.int64], FeatureFrame]:
        """Return the bar opens (n,) and the stored features.

        Raises
        ------
        DataRefused : if there are none, or the file is damaged.
        """
        table, meta = _read_table(self.features / _name(symbol, timeframe))
        names = tuple(name for name in table.column_names if name != "ts")
        values = np.column_stack([table[name].to_numpy() for name in names])
        return table["ts"].to_numpy(), FeatureFrame(names, values, meta["schema"])

    def load_windows(self, symbol: str, timeframe: str) -> Windows:
        """Return the stored window rows.

        Raises
        ------
        DataRefused : if there are none, or the file is damaged.
        """
        table, _ = _read_table(self.processed / _name(symbol, timeframe))
        return Windows(
            symbol,
            timeframe,
            pc.max(table["encoder_length"]).as_py(),
            pc.max(table["horizon"]).as_py(),
            *(
                table[name].to_numpy()
                for name in ("ts", "time_idx", "segment", "valid", "interpolated")
            ),
        )

    def sources(self, symbol: str, timeframe: str) -> tuple[str, ...]:
        """Return the sha256 of the raw files behind the cleansed bars; empty without bars."""
        path = self.bars_path(symbol, timeframe)
        return tuple(_read_meta(path)[0]["sources"]) if path.exists() else ()

    def list(self) -> list[StoredBars]:
        """Return what is cleansed and ready, by file name; the interpolated variants included."""
        return [_describe(path) for path in sorted(self.cleansed.glob("*.parquet"))]

    def bars_path(self, symbol: str, timeframe: str, interpolated: bool = False) -> Path:
        """Return where the cleansed bars lie, or would lie."""
        return self.cleansed / _name(symbol, timeframe, interpolated)

    def _load(self, path: Path) -> tuple[BarFrame, pa.Table]:
        table, meta = _read_table(path)
        columns = [table[name].to_numpy() for name in ("ts", *_COLUMNS)]
        return BarFrame(meta["symbol"], meta["timeframe"], *columns), table

    def _write_table(self, path: Path, columns: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        table = pa.table(dict(columns)).replace_schema_metadata({_META: canonical_json(meta)})
        with _unwilling_disk(path), _replacing(path) as temporary:
            pyarrow.parquet.write_table(table, temporary, compression="zstd", store_schema=True)

    def _write_text(self, path: Path, text: str, mode: int) -> None:
        with _unwilling_disk(path), _replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
            temporary.chmod(mode)


def _name(symbol: str, timeframe: str, interpolated: bool = False) -> str:
    timeframe_ms(timeframe)
    pair, _, settle = symbol.partition(":")
    pair = pair.replace("/", "") + (f"_{settle}" if not pair.endswith(settle) else "")
    variant = "-interpolated" if interpolated else ""
    return f"{pair}-{market_of(symbol)}-{timeframe}{variant}.parquet"


def _describe(path: Path) -> StoredBars:
    table, meta = _read_table(path, ["ts", "interpolated"])
    ts = table["ts"].to_numpy()
    made_up = table["interpolated"].to_numpy() if "interpolated" in table.column_names else ()
    return StoredBars(
        symbol=meta["symbol"],
        timeframe=meta["timeframe"],
        market=meta["market"],
        rows=len(ts),
        interpolated=int(np.count_nonzero(made_up)),
        start=iso(int(ts[0])),
        end=iso(int(ts[-1])),
        sources=tuple(meta["sources"]),
        path=path,
    )


def _read_meta(path: Path) -> tuple[dict[str, Any], list[str]]:
    with _damaged(path):
        schema = pyarrow.parquet.read_schema(path)
        return json.loads(schema.metadata[_META]), schema.names


def _read_table(path: Path, only: list[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    if not path.exists():
        raise DataRefused(path.stem, "is not stored", hint="Import it: conclave data import FILE.")
    meta, names = _read_meta(path)
    with _damaged(path):
        chosen = [name for name in names if only is None or name in only]
        return pyarrow.parquet.ParquetFile(path).read(columns=chosen), meta


def _read_json(path: Path) -> dict[str, Any]:
    with _damaged(path):
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return body


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataRefused(
            path.name,
            f"the stored file is damaged: {' '.join(str(error).split())[:200]}",
            hint="Remove it and import its source again.",
        ) from error


@contextlib.contextmanager
def _unwilling_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConclaveError(
            path.name,
            f"cannot be written: {error.strerror or error}",
            hint="Free some space, or choose a writable VAR_DIR; nothing was changed.",
        ) from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(source: Path, target: Path) -> tuple[str, int]:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
    return file_sha256(target), target.stat().st_size
