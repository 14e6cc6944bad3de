"""Opening, migrating, copying: clear errors, and triggers that are always back."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, PrimaryKeyConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from domain.errors import (
    ConclaveError,
    LedgerError,
    ServiceUnreachable,
    SettingError,
    UsageError,
)
from domain.market import SeenBook, SettledFunding
from domain.operations import ExternalTrade, OperatorReport, Reflection, RiskEvent
from storage import migrate
from storage.backup import backup, restore
from storage.checks import examples
from storage.engine import open_database, read, sqlite_url, write
from storage.ledger import SqlLedger
from storage.schema import INSERT_ONLY, metadata


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(sqlite_url(tmp_path / "ledger.db"))


def triggers(engine: Engine) -> set[str]:
    with read(engine) as connection:
        rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        return {row[0] for row in rows}


def wanted(tables: set[str]) -> set[str]:
    return {f"{t}_{name}" for t in tables for name in ("no_update", "no_delete", "no_replace")}


SINCE = {
    "risk_events": "v0002", "operator_reports": "v0002", "reflections": "v0002",
    "external_trades": "v0003", "seen_books": "v0004", "settled_funding": "v0005",
}  # fmt: skip
WANTED = wanted({table.name for table in INSERT_ONLY})


def wanted_at(revision: str) -> set[str]:
    names = {table.name for table in INSERT_ONLY}
    return wanted({name for name in names if SINCE.get(name, "v0001") <= revision})


def test_migrations_when_run_up_down_and_up_again_then_every_trigger_is_there_after_each(
    engine: Engine,
) -> None:
    assert migrate.current(engine) is None
    for _ in range(2):
        for revision in migrate.revisions():
            assert migrate.upgrade(engine, revision) == revision
            assert triggers(engine) == wanted_at(revision)
        for revision in [*migrate.revisions()[-2::-1], None]:
            assert migrate.downgrade(engine, revision or "base") == revision
            assert triggers(engine) == (wanted_at(revision) if revision else set())
        assert len(wanted_at("v0001")) == 3 * 13
        assert len(WANTED) == 3 * 19
    assert migrate.upgrade(engine) == migrate.current(engine) == migrate.revisions()[-1]


def test_migrations_when_run_then_they_make_exactly_the_schema_of_the_code(
    engine: Engine,
) -> None:
    migrate.upgrade(engine)
    with read(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_upgrade_when_done_twice_then_the_second_changes_nothing(engine: Engine) -> None:
    migrate.upgrade(engine)
    SqlLedger(engine, "w").append(examples(0))
    migrate.upgrade(engine)
    assert SqlLedger(engine, "w").verify().rows == len(examples(0))


def test_upgrade_when_the_database_is_newer_than_the_code_then_it_says_so(engine: Engine) -> None:
    migrate.upgrade(engine)
    with write(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9999'")
    with pytest.raises(LedgerError, match=r"newer Conclave.*v9999.*Update Conclave"):
        migrate.upgrade(engine)


def test_downgrade_when_records_would_be_lost_then_it_is_refused(engine: Engine) -> None:
    migrate.upgrade(engine)
    ledger = SqlLedger(engine, "w")
    later = RiskEvent | OperatorReport | Reflection | ExternalTrade | SeenBook | SettledFunding
    kept = [record for record in examples(0) if not isinstance(record, later)]
    ledger.append(kept)
    assert migrate.downgrade(engine, "v0001") == "v0001"  # nothing of what v0002 brought is lost
    assert migrate.upgrade(engine) == migrate.revisions()[-1]
    assert ledger.verify().rows == len(kept)
    ledger.append(examples(0))
    for revision in ("v0001", "base"):
        with pytest.raises(LedgerError, match=r"table \w+: is never dropped while.*got [1-9]"):
            migrate.downgrade(engine, revision)
        assert ledger.verify().rows == len(examples(0))
    assert migrate.downgrade(engine, "v0001", discard=True) == "v0001"
    assert migrate.downgrade(engine, "base", discard=True) is None


def test_upgrade_when_timescaledb_may_be_there_then_the_server_decides_on_hypertables() -> None:
    sql = migrate.sql("postgresql")
    for name, time in (("learned_patterns", "at"), ("service_health", "at")):
        made = sql.index(f"CREATE TABLE {name}")
        asked = sql.index(f"PERFORM create_hypertable('{name}', '{time}'")
        assert made < asked
        (key,) = [
            c for c in metadata.tables[name].constraints if isinstance(c, PrimaryKeyConstraint)
        ]
        assert time in key.columns
    assert sql.count("create_hypertable") == 2
    assert "FROM pg_available_extensions WHERE name = 'timescaledb'" in sql
    assert "%" not in sql  # drivers and offline mode disagree on how to write one
    assert "timescaledb" not in migrate.sql("sqlite")


def test_upgrade_when_the_revision_is_unknown_then_it_says_which_there_are(engine: Engine) -> None:
    with pytest.raises(UsageError, match="v0001"):
        migrate.upgrade(engine, "v0000")


def test_open_when_the_folder_is_missing_then_it_is_made_and_the_journal_is_wal(
    tmp_path: Path,
) -> None:
    engine = open_database(sqlite_url(tmp_path / "a" / "b" / "ledger.db"))
    with read(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ledger.db", "must be a database URL"),
        ("mysql://me:secret@host/db", "SQLite or PostgreSQL"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("postgresql+nodriver://me:secret@host/db", "driver"),
    ],
)
def test_open_when_the_url_is_of_no_use_then_the_error_says_why_and_keeps_the_password(
    url: str, word: str
) -> None:
    with pytest.raises(SettingError, match=word) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def read_only_folder(tmp_path: Path) -> Path:
    """A folder nobody may write to; root may write to any but those the kernel makes."""
    if os.geteuid() == 0:
        if not Path("/proc/self").is_dir():
            pytest.skip("root can write to every folder of this system")
        return Path("/proc")
    folder = tmp_path / "fixed"
    folder.mkdir(mode=0o500)
    return folder


def test_open_when_the_folder_is_read_only_then_the_error_says_so(tmp_path: Path) -> None:
    folder = read_only_folder(tmp_path)
    with pytest.raises(SettingError, match=r"cannot be opened.*writable"):
        open_database(sqlite_url(folder / "ledger.db"))
    with pytest.raises(SettingError, match="must lie in a folder that can be written"):
        open_database(sqlite_url(folder / "deeper" / "ledger.db"))


def test_open_when_the_file_is_no_database_then_the_error_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"ts,open,high,low,close\n" * 100)
    with pytest.raises(LedgerError, match=r"is not a SQLite database.*ledger\.db"):
        open_database(sqlite_url(path))


@pytest.mark.long
def test_read_when_the_file_is_damaged_then_the_error_says_so_and_verify_names_a_row(
    engine: Engine,
) -> None:
    migrate.upgrade(engine)
    ledger = SqlLedger(engine, "w")
    for step in range(60):
        ledger.append(examples(step))
    path = Path(str(engine.url.database))
    engine.dispose()  # the last connection writes the journal back into the file
    raw = bytearray(path.read_bytes())
    page = raw.rindex(b"The edge is below the cost.") // 4096
    raw[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(raw)
    report = SqlLedger(open_database(sqlite_url(path)), "w").verify()
    assert not report.ok
    assert report.first_bad_seq is not None
    with pytest.raises(LedgerError, match="is damaged"):
        list(SqlLedger(open_database(sqlite_url(path)), "w").records_since())


def test_append_when_another_process_holds_the_lock_then_the_error_says_so(
    engine: Engine,
) -> None:
    migrate.upgrade(engine)
    impatient = open_database(str(engine.url), busy_ms=50)
    with write(engine), pytest.raises(ServiceUnreachable, match="is locked by another process"):
        SqlLedger(impatient, "w").append(examples(0))
    assert SqlLedger(impatient, "w").append(examples(0))


def test_append_when_the_disk_is_full_then_the_error_says_so_and_nothing_is_half_written(
    engine: Engine,
) -> None:
    migrate.upgrade(engine)
    ledger = SqlLedger(engine, "w")
    with read(engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
    stored = 0

    def fill_up() -> None:
        nonlocal stored
        for step in range(500):
            ledger.append(examples(step))
            stored += len(examples(step))

    with pytest.raises(LedgerError, match="the disk is full"):
        fill_up()
    report = ledger.verify()
    assert report.ok
    assert report.rows == stored


def test_append_when_the_schema_is_missing_then_the_error_names_the_cure(engine: Engine) -> None:
    with pytest.raises(LedgerError, match=r"lacks the schema.*upgrade"):
        SqlLedger(engine, "w").append(examples(0))


def test_postgresql_when_the_schema_is_compiled_then_every_type_is_its_own() -> None:
    dialect = postgresql.dialect()
    ddl = {
        table.name: str(CreateTable(table).compile(dialect=dialect))
        for table in metadata.sorted_tables
    }
    for table in metadata.sorted_tables:
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))
    assert "seq BIGINT NOT NULL" in ddl["chain"]
    assert "p_up DOUBLE PRECISION" in ddl["opinions"]
    assert "amount NUMERIC NOT NULL" in ddl["postings"]
    assert "reduce_only BOOLEAN NOT NULL" in ddl["orders"]
    assert "SERIAL" not in "".join(ddl.values())


def test_postgresql_when_the_migrations_are_written_as_sql_then_each_table_is_guarded() -> None:
    sql = migrate.sql("postgresql")
    for table in INSERT_ONLY:
        for before in ("UPDATE", "DELETE", "TRUNCATE", "INSERT"):
            assert f"BEFORE {before} ON {table.name} FOR EACH" in sql
    assert "sqlite" not in sql.lower()


def test_backup_when_made_while_open_then_it_restores_to_an_equal_chain(
    engine: Engine, tmp_path: Path
) -> None:
    migrate.upgrade(engine)
    ledger = SqlLedger(engine, "w")
    ledger.append(examples(0))
    head = ledger.head()
    assert backup(engine, tmp_path / "copies" / "one.db").head_hash == head[1]
    ledger.append(examples(1))
    report = restore(tmp_path / "copies" / "one.db", tmp_path / "restored.db")
    assert (report.head_seq, report.head_hash) == head
    restored = open_database(sqlite_url(tmp_path / "restored.db"))
    assert triggers(restored) == WANTED
    assert SqlLedger(restored, "w").append(examples(1))
    assert SqlLedger(restored, "w").head() == ledger.head()


def test_backup_when_a_file_is_in_the_way_or_broken_then_it_is_left_alone(
    engine: Engine, tmp_path: Path
) -> None:
    migrate.upgrade(engine)
    taken = tmp_path / "taken.db"
    taken.write_bytes(b"mine, not a database" * 50)
    with pytest.raises(UsageError, match="must not exist"):
        backup(engine, taken)
    with pytest.raises(ConclaveError, match="not a SQLite database"):
        restore(taken, tmp_path / "new.db")
    assert taken.read_bytes().startswith(b"mine")
    assert not (tmp_path / "new.db").exists()


def test_backup_when_the_copy_was_tampered_with_then_restore_refuses(
    engine: Engine, tmp_path: Path
) -> None:
    migrate.upgrade(engine)
    SqlLedger(engine, "w").append(examples(0))
    backup(engine, tmp_path / "one.db")
    with sqlite3.connect(tmp_path / "one.db") as raw:
        raw.execute("DROP TRIGGER bars_no_update")
        raw.execute("UPDATE bars SET close = 1")
    raw.close()
    with pytest.raises(LedgerError, match=r"does not verify.*row 1 "):
        restore(tmp_path / "one.db", tmp_path / "new.db")
