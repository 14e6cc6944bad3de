"""The migrations on a real PostgreSQL server, started for these tests and thrown away after them.

The server comes from ``scripts/postgres.sh``. What needs Python's driver as well (psycopg, of the
extras ``dev`` and ``postgres``) says so when it is missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from domain.errors import LedgerError
from serving.examination import examine
from serving.settings import load_settings
from storage import migrate, views
from storage.checks import check_ledger, examples
from storage.engine import open_database
from storage.ledger import SqlLedger
from storage.schema import INSERT_ONLY, metadata

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "postgres.sh"
NOT_INSTALLED = 3
COUNT = "SELECT count(*) FROM {} WHERE {}"
pytestmark = pytest.mark.postgres


def script(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *words], text=True, capture_output=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a fresh server's first database."""
    folder = tempfile.mkdtemp(prefix="pg")  # short: the name of a socket has a limit
    try:
        started = script("start", folder)
        if started.returncode == NOT_INSTALLED:
            pytest.skip(started.stderr.strip())
        assert started.returncode == 0, started.stderr
        yield started.stdout.strip()
        script("stop", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Database:
    """A database of one test."""

    name: str
    url: str
    socket: str

    def run(self, sql: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["psql", "-h", self.socket, "-U", "conclave", "-d", self.name, "-qtA",
             "-v", "ON_ERROR_STOP=1"],
            input=sql, text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def told(self, sql: str) -> str:
        done = self.run(sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, sql: str) -> str:
        done = self.run(sql)
        assert done.returncode != 0, sql
        return done.stderr


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> Database:
    name = "t" + re.sub(r"\W", "", request.node.name)[-40:].lower()
    socket = server.partition("host=")[2]
    Database("postgres", server, socket).told(f"CREATE DATABASE {name}")
    return Database(name, server.replace("/postgres?", f"/{name}?"), socket)


@pytest.fixture
def driven(database: Database) -> Database:
    """A database that Python can talk to."""
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: make setup-dev")
    return database


def guards(database: Database) -> int:
    return int(database.told(COUNT.format("pg_trigger", "NOT tgisinternal")))


def tables(database: Database) -> set[str]:
    rows = database.told("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return set(rows.split()) - {"alembic_version"}


LINK = "(1, 'w', 'equity_mark', 'k', repeat('a', 64))"
MARK = "(1, 'w', 'paper', 1, 1.10, 0.3333333333333333333333333333, 100)"


def test_postgresql_when_migrated_then_it_has_every_table_and_guards_what_is_insert_only(
    database: Database,
) -> None:
    database.told(migrate.sql("postgresql"))
    assert tables(database) == set(metadata.tables)
    assert guards(database) == 4 * len(INSERT_ONLY)

    database.told(f"INSERT INTO chain VALUES {LINK}; INSERT INTO equity_marks VALUES {MARK}")
    for statement in (
        "UPDATE chain SET world = 'x'",
        "DELETE FROM chain",
        "TRUNCATE chain CASCADE",
        f"INSERT INTO chain VALUES {LINK} ON CONFLICT (seq) DO UPDATE SET world = 'x'",
        f"INSERT INTO chain VALUES {LINK} ON CONFLICT DO NOTHING",
        f"INSERT INTO chain VALUES {LINK.replace('1', '9', 1)}",
        "UPDATE equity_marks SET cash = 2",
        "DELETE FROM equity_marks",
        f"INSERT INTO equity_marks VALUES {MARK} ON CONFLICT (seq) DO UPDATE SET cash = 2",
    ):
        assert "is insert-only" in database.refused(statement), statement
    digits = database.told("SELECT cash, equity, high_water FROM equity_marks")
    assert digits == "1.10|0.3333333333333333333333333333|100"


def test_postgresql_when_migrated_down_and_up_again_then_nothing_is_left_over(
    database: Database,
) -> None:
    database.told(migrate.sql("postgresql"))
    database.told(migrate.sql("postgresql", "v0001"))
    assert database.told("SELECT version_num FROM alembic_version") == "v0001"
    assert not {"risk_events", "learned_patterns", "service_health"} & tables(database)
    assert guards(database) == 4 * 13  # the tables of v0001
    assert database.told(COUNT.format("pg_views", "schemaname = 'public'")) == "0"

    up = migrate.sql("postgresql")
    database.told("BEGIN;" + up[up.index("-- Running upgrade v0001 -> v0002") :])
    assert tables(database) == set(metadata.tables)
    database.told(migrate.sql("postgresql", "base"))
    assert tables(database) == set()
    assert database.told(COUNT.format("pg_proc", "pronamespace = 'public'::regnamespace")) == "0"


def test_postgresql_when_it_has_no_timescaledb_then_the_growing_tables_are_ordinary(
    database: Database,
) -> None:
    there = COUNT.format("pg_available_extensions", "name = 'timescaledb'")
    if database.told(there) != "0":
        pytest.skip("this server has TimescaleDB")
    database.told(migrate.sql("postgresql"))
    for table in ("learned_patterns", "service_health"):
        assert database.told(f"SELECT relkind FROM pg_class WHERE relname = '{table}'") == "r"
        assert database.told(f"SELECT count(*) FROM {table}") == "0"


def test_postgresql_when_the_views_are_read_then_they_have_their_columns_and_add_up_exactly(
    database: Database,
) -> None:
    database.told(migrate.sql("postgresql"))
    for view in views.metadata.tables.values():
        rows = database.told(
            "SELECT column_name FROM information_schema.columns "
            f"WHERE table_name = '{view.name}' ORDER BY ordinal_position"
        )
        assert rows.split() == list(view.c.keys())
    day = 1_735_689_600_000
    fill = "({n}, 'w', 'f{n}', 'o', 'paper', 'BTC/USDT:USDT', 'buy', 1, 1, {at}, 0.1, 0.2, 0, 1, "
    fills = [fill.format(n=n, at=day + n) + "false, 'entry', 0)" for n in (1, 2, 3)]
    links = [f"({n}, 'w', 'fill', 'f{n}', repeat('a', 64))" for n in (1, 2, 3)]
    database.told(f"INSERT INTO chain VALUES {', '.join(links)}")
    database.told(f"INSERT INTO fills VALUES {', '.join(fills)}")
    costs = database.told(
        "SELECT cost, day, sum(amount) FROM cost_tracker GROUP BY cost, day ORDER BY cost"
    )
    assert costs.split() == [f"fee|{day}|0.3", f"slippage|{day}|0", f"spread|{day}|0.6"]
    database.told(
        "INSERT INTO chain VALUES (4, 'w', 'operator_report', 'k', repeat('a', 64));"
        "INSERT INTO operator_reports VALUES (4, 'w', 'paper', 1, 'hrv', 41.25, 'me', '')"
    )
    assert database.told("SELECT source, value FROM risk_log") == "operator_report|41.25"


def test_postgresql_when_driven_from_python_then_it_keeps_the_laws_of_a_ledger(
    driven: Database,
) -> None:
    engine = open_database(driven.url)
    migrate.upgrade(engine)
    worlds = iter(range(1000))
    make: Callable[[], SqlLedger] = lambda: SqlLedger(engine, f"w{next(worlds)}")  # noqa: E731
    check_ledger(make)
    assert make().verify().ok


def test_postgresql_when_records_would_be_lost_then_the_way_down_is_refused(
    driven: Database,
) -> None:
    engine = open_database(driven.url)
    migrate.upgrade(engine)
    SqlLedger(engine, "w").append(examples(0))
    with pytest.raises(LedgerError, match="never dropped while it holds records"):
        migrate.downgrade(engine, "v0001")
    assert migrate.downgrade(engine, "base", discard=True) is None


def test_doctor_when_the_database_is_postgresql_then_it_says_whether_timescaledb_is_there(
    driven: Database, tmp_path: Path
) -> None:
    migrate.upgrade(open_database(driven.url))
    env = {"VAR_DIR": str(tmp_path), "DATABASE_URL": driven.url}
    found = next(f for f in examine(load_settings(env=env, profile=None)) if f.name == "database")
    assert found.ok
    assert "without TimescaleDB: ordinary tables" in found.detail
