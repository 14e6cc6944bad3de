"""The ledger as a folder of Parquet or CSV files, one a kind, with a manifest.

Times are UTC timestamps, money is text with every digit (no decimal type is wide enough for
averages), JSON is text. Each row keeps its number, key and hash, so that the chain can be checked
from the files alone: :func:`storage.chaining.link` over the rows of all files in order of ``seq``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import Boolean, Column, Double, Engine, Integer, func, select

from domain.errors import LedgerError, UsageError
from storage import kinds
from storage.bookkeeping import BadRow
from storage.engine import read
from storage.glossary import MS, told
from storage.kinds import Kind
from storage.schema import chain
from storage.verify import Walk, chain_rows

Format = Literal["parquet", "csv"]
MANIFEST = "manifest.json"
_CHUNK = 10_000  # rows of a kind that are held before they are written
_SPINE = (("seq", pa.int64()), ("world", pa.string()))
_ENDS = (("key", pa.string()), ("hash", pa.string()))


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: rows in all and by file, and the chain's head."""

    rows: int
    head_hash: str
    files: dict[str, int]


def export_tables(
    engine: Engine,
    folder: Path,
    format: Format,  # noqa: A002 - what it is
    tick: Callable[[int, int], None] = lambda _done, _total: None,
) -> Exported:
    """Write every row of the chain, checking each hash on the way.

    The folder appears when all of it is written.

    Parameters
    ----------
    folder : must not exist, or be an export itself, which is replaced.
    tick : called with rows done and rows there are.

    Raises
    ------
    UsageError : if the folder holds something else.
    LedgerError : if a row is not what was appended; nothing is left then.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UsageError(
            "target",
            "cannot be written: it is there and no export",
            str(folder),
            "Choose another folder.",
        )
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        done = _write(engine, partial, format, tick)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return done


def _write(
    engine: Engine, folder: Path, format: Format, tick: Callable[[int, int], None]  # noqa: A002
) -> Exported:  # fmt: skip
    walk, files = Walk(), {}
    with read(engine) as connection, ExitStack() as stack:
        total = connection.execute(select(func.max(chain.c.seq))).scalar() or 0
        try:
            for link_row, row in chain_rows(connection):
                walk.step(link_row, row)
                kind = kinds.BY_NAME[link_row.kind]
                if kind.name not in files:
                    files[kind.name] = stack.enter_context(_File(kind, folder, format))
                files[kind.name].add(link_row, row or {})
                if walk.seq % _CHUNK == 0:
                    tick(walk.seq, total)
        except BadRow as bad:
            raise LedgerError(
                "ledger", f"row {bad.seq} {bad.problem}", hint="Run: conclave ledger verify"
            ) from bad
    tick(total, total)
    rows = {file.path.name: file.rows for file in files.values()}
    manifest = {
        "rows": walk.seq, "head_seq": walk.seq, "head_hash": walk.digest,
        "files": {name: {"rows": n, "sha256": _sha256(folder / name)} for name, n in rows.items()},
    }  # fmt: skip
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return Exported(walk.seq, walk.digest, rows)


@dataclass(slots=True)
class _File:
    """The file of a kind; rows wait here until there are enough for a piece."""

    kind: Kind
    folder: Path
    format: Format
    rows: int = 0
    _waiting: list[dict[str, Any]] = field(default_factory=list)
    _writer: Any = None

    @property
    def path(self) -> Path:
        return self.folder / f"{self.kind.table.name}.{self.format}"

    @property
    def schema(self) -> Any:
        columns = [(c.name, _arrow(c)) for c in self.kind.table.columns][2:]
        return pa.schema([*_SPINE, *columns, *_ENDS])

    def __enter__(self) -> _File:
        make = pa.parquet.ParquetWriter if self.format == "parquet" else pa.csv.CSVWriter
        self._writer = make(str(self.path), self.schema)
        return self

    def add(self, link_row: Any, row: dict[str, Any]) -> None:
        place = {"seq": link_row.seq, "world": link_row.world}
        self._waiting.append({**place, **row, "key": link_row.record_key, "hash": link_row.hash})
        self.rows += 1
        if len(self._waiting) >= _CHUNK:
            self._flush()

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self.schema))
            self._waiting = []


def _arrow(column: Column[Any]) -> Any:
    if told(column.table.name, column.name)[0] == MS:
        return pa.timestamp("ms", "UTC")
    if isinstance(column.type, Boolean):
        return pa.bool_()
    if isinstance(column.type, Double):
        return pa.float64()
    return pa.int64() if isinstance(column.type, Integer) else pa.string()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
