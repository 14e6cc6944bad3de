"""No form of overwriting gets past the triggers, on any INSERT-only table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, Table
from sqlalchemy.exc import IntegrityError

from domain.trading import Event
from storage.checks import examples
from storage.engine import open_database, read, sqlite_url, write
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.schema import INSERT_ONLY


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    engine = open_database(sqlite_url(tmp_path_factory.mktemp("insert_only") / "ledger.db"))
    upgrade(engine)
    SqlLedger(engine, "binance").append(examples(0))
    SqlLedger(engine, "binance").append(examples(1))
    EventLog(engine, "binance").extend([Event("fill", 1, {"n": 1}), Event("fill", 2, {"n": 2})])
    return engine


def _key(table: Table) -> str:
    return next(iter(table.primary_key.columns)).name


def _copy(table: Table) -> str:
    """Insert the first row once more."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"({columns}) SELECT {columns} FROM {table.name} ORDER BY {_key(table)} LIMIT 1"


FORMS: dict[str, Callable[[Table], str]] = {
    "update": lambda t: f"UPDATE {t.name} SET world = 'other'",
    "update or replace": lambda t: f"UPDATE OR REPLACE {t.name} SET {_key(t)} = {_key(t)} + 1",
    "update or ignore": lambda t: f"UPDATE OR IGNORE {t.name} SET world = 'other'",
    "delete": lambda t: f"DELETE FROM {t.name}",
    "insert again": lambda t: f"INSERT INTO {t.name} {_copy(t)}",
    "insert or replace": lambda t: f"INSERT OR REPLACE INTO {t.name} {_copy(t)}",
    "replace": lambda t: f"REPLACE INTO {t.name} {_copy(t)}",
    "insert or ignore": lambda t: f"INSERT OR IGNORE INTO {t.name} {_copy(t)}",
    "upsert": lambda t: (
        f"INSERT INTO {t.name} {_copy(t)}".replace("ORDER BY", "WHERE true ORDER BY")
        + f" ON CONFLICT ({_key(t)}) DO UPDATE SET world = 'other'"
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("table", INSERT_ONLY, ids=lambda table: table.name)
def test_insert_only_table_when_overwritten_then_the_trigger_refuses(
    database: Engine, table: Table, form: str
) -> None:
    def rows() -> list[object]:
        with read(database) as connection:
            return list(connection.exec_driver_sql(f"SELECT * FROM {table.name}"))

    before = rows()
    assert before, "an empty table would refuse nothing"
    with (
        pytest.raises(IntegrityError, match=f"{table.name} is insert-only"),
        write(database) as connection,
    ):
        connection.exec_driver_sql(FORMS[form](table))
    assert rows() == before


@pytest.mark.parametrize("form", ["INSERT OR REPLACE", "INSERT OR IGNORE", "INSERT"])
@pytest.mark.parametrize(
    ("table", "columns", "values"),
    [
        ("chain", "seq, world, kind, record_key, hash", "999, world, kind, record_key, hash"),
        ("events", "id, world, key, kind, at, level, body", "999, world, key, kind, 9, 'x', '{}'"),
    ],
)
def test_insert_only_table_when_a_key_comes_under_a_new_number_then_the_trigger_refuses(
    database: Engine, table: str, columns: str, values: str, form: str
) -> None:
    with (
        pytest.raises(IntegrityError, match="insert-only"),
        write(database) as connection,
    ):
        connection.exec_driver_sql(
            f"{form} INTO {table} ({columns}) SELECT {values} FROM {table} LIMIT 1"
        )


def test_typed_row_when_it_has_no_link_in_the_chain_then_the_foreign_key_refuses(
    database: Engine,
) -> None:
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), write(database) as connection:
        connection.exec_driver_sql(
            "INSERT INTO mode_changes VALUES (999, 'binance', 'paper', 1, 'KILLED', 'me', 'so')"
        )


def test_ledger_when_every_overwrite_was_refused_then_it_still_verifies(
    database: Engine, tmp_path: Path
) -> None:
    report = SqlLedger(database, "binance").verify()
    assert (report.ok, report.rows) == (True, 2 * len(examples(0)))
