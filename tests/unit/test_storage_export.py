"""The ledger taken elsewhere: every row, every digit, and a chain that can be checked there."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from sqlalchemy import Engine

from domain.canonical import canonical_json
from domain.errors import LedgerError, UsageError
from storage import kinds
from storage.chaining import GENESIS, link
from storage.checks import examples
from storage.engine import open_database, sqlite_url
from storage.export import MANIFEST, Format, export_tables
from storage.ledger import SqlLedger
from storage.migrate import upgrade

STEPS = 3


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    for step in range(STEPS):
        SqlLedger(engine, "w").append(examples(step))
    return engine


def rows_in(folder: Path, form: Format) -> list[tuple[str, dict[str, Any]]]:
    """Read an export back: (kind, row), in the order of the chain."""
    found = []
    for kind in kinds.ALL:
        path = folder / f"{kind.table.name}.{form}"
        if form == "parquet":
            table = pa.parquet.read_table(path)
        else:
            schema = pa.parquet.read_schema(folder.with_suffix(".parquet") / f"{path.stem}.parquet")
            quoted = pa.csv.ConvertOptions(
                column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False,
                null_values=[""],
            )  # fmt: skip
            read = pa.csv.ReadOptions(block_size=1 << 24)
            parse = pa.csv.ParseOptions(newlines_in_values=True)
            table = pa.csv.read_csv(path, read, parse, quoted)
        found += [(kind.name, row) for row in table.to_pylist()]
    return sorted(found, key=lambda item: item[1]["seq"])


def hashed_again(rows: list[tuple[str, dict[str, Any]]]) -> str:
    digest = GENESIS
    for kind, row in rows:
        world, key, stored = row.pop("world"), row.pop("key"), row.pop("hash")
        row.pop("seq")
        plain = {
            name: round(value.timestamp() * 1000) if isinstance(value, datetime) else value
            for name, value in row.items()
            if value is not None
        }
        digest = link(digest, kind, world, canonical_json({**plain, "key": key}))
        assert digest == stored
    return digest


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_export_when_read_back_then_every_row_has_its_hash_and_the_manifest_the_head(
    engine: Engine, tmp_path: Path, form: Format
) -> None:
    export_tables(engine, tmp_path / "books.parquet", "parquet")  # its types are what CSV lacks
    folder = tmp_path / f"books.{form}"
    ticks: list[tuple[int, int]] = []
    done = export_tables(engine, folder, form, lambda n, total: ticks.append((n, total)))
    seq, head = SqlLedger(engine, "w").head()
    assert (done.rows, done.head_hash) == (seq, head)
    assert ticks[-1] == (seq, seq)
    rows = rows_in(folder, form)
    assert len(rows) == seq
    assert hashed_again(rows) == head
    manifest = json.loads((folder / MANIFEST).read_text())
    assert (manifest["rows"], manifest["head_hash"]) == (seq, head)
    assert manifest["files"][f"fills.{form}"]["rows"] == done.files[f"fills.{form}"] == STEPS


def test_export_when_parquet_then_money_is_text_and_times_are_utc(
    engine: Engine, tmp_path: Path
) -> None:
    export_tables(engine, tmp_path / "x", "parquet")
    fills = pa.parquet.read_table(tmp_path / "x" / "fills.parquet")
    for name in ("qty", "price", "fee", "spread", "slippage", "realised"):
        assert fills.schema.field(name).type == pa.string()
    assert fills.schema.field("at").type == pa.timestamp("ms", "UTC")
    row = fills.to_pylist()[0]
    assert Decimal(row["slippage"]) == Decimal(1) / 3
    assert row["realised"] == "-0.00000000000000000001"
    assert row["at"] == datetime(2025, 1, 1, 0, 10, tzinfo=UTC)
    for path in (tmp_path / "x").glob("*.parquet"):
        table = kinds.BY_NAME[{k.table.name: k.name for k in kinds.ALL}[path.stem]].table
        schema = pa.parquet.read_schema(path)
        floats = {f.name for f in schema if f.type == pa.float64()}
        assert all(not isinstance(table.c[name].type, kinds.schema.DecimalText) for name in floats)


def test_export_when_made_again_then_it_replaces_an_export_and_nothing_else(
    engine: Engine, tmp_path: Path
) -> None:
    export_tables(engine, tmp_path / "x", "parquet")
    SqlLedger(engine, "w").append(examples(STEPS))
    assert export_tables(engine, tmp_path / "x", "csv").rows == (STEPS + 1) * len(examples(0))
    assert not list((tmp_path / "x").glob("*.parquet"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="there and no export"):
        export_tables(engine, mine, "csv")
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]


def test_export_when_a_row_was_changed_then_it_is_named_and_nothing_is_left(
    engine: Engine, tmp_path: Path
) -> None:
    with sqlite3.connect(str(engine.url.database)) as raw:
        raw.execute("DROP TRIGGER bars_no_update")
        raw.execute("UPDATE bars SET close = 1 WHERE seq = 1")
    raw.close()
    with pytest.raises(LedgerError, match="row 1 does not match its hash"):
        export_tables(engine, tmp_path / "x", "parquet")
    assert not list(tmp_path.glob("x*"))


@pytest.mark.long
def test_export_when_there_are_more_rows_than_a_piece_then_all_are_written(
    tmp_path: Path,
) -> None:
    engine = open_database(sqlite_url(tmp_path / "long.db"))
    upgrade(engine)
    bars = [examples(step)[0] for step in range(10_050)]
    SqlLedger(engine, "w").append(bars)
    export_tables(engine, tmp_path / "x", "parquet")
    file = pa.parquet.ParquetFile(tmp_path / "x" / "bars.parquet")
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (10_050, 2)
    assert file.read(["close"]).column(0).to_pylist() == [bar.close for bar in bars]


def test_export_when_the_ledger_is_empty_then_the_manifest_says_so(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "empty.db"))
    upgrade(engine)
    export_tables(engine, tmp_path / "x", "parquet")
    assert json.loads((tmp_path / "x" / MANIFEST).read_text()) == {
        "files": {}, "head_hash": GENESIS, "head_seq": 0, "rows": 0,
    }  # fmt: skip
