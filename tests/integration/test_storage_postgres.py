"""The migrations on a real PostgreSQL server, started for this test and thrown away after it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage import migrate
from storage.schema import INSERT_ONLY, metadata

Psql = Callable[[str], subprocess.CompletedProcess[str]]


def _user() -> str | None:
    """PostgreSQL refuses to run as root; then its own user is borrowed, if there is one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("runs as root, and there is no user postgres")


@pytest.fixture(scope="module")
def psql() -> Iterator[Psql]:
    for program in ("initdb", "pg_ctl", "psql"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: the name of a socket has a limit
    if user is not None:
        shutil.chown(folder, user)
    data = str(folder / "data")

    def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=stdin, user=user, cwd=folder, text=True, capture_output=True, timeout=60,
            check=False,
        )  # fmt: skip

    try:
        run("initdb", "-D", data, "-A", "trust", "-U", "conclave", "--no-sync").check_returncode()
        options = f"-c listen_addresses= -c fsync=off -k {folder}"
        run(
            "pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start"
        ).check_returncode()
        yield lambda sql: run(
            "psql", "-h", str(folder), "-U", "conclave", "-d", "postgres", "-qtA",
            "-v", "ON_ERROR_STOP=1", stdin=sql,
        )  # fmt: skip
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


LINK = "(1, 'w', 'equity_mark', 'k', repeat('a', 64))"
MARK = "(1, 'w', 'paper', 1, 1.10, 0.3333333333333333333333333333, 100)"


@pytest.mark.postgres
def test_postgresql_when_migrated_then_it_has_every_table_and_guards_what_is_insert_only(
    psql: Psql,
) -> None:
    made = psql(migrate.sql("postgresql"))
    assert made.returncode == 0, made.stderr
    count = "SELECT count(*) FROM {} WHERE {}"
    tables = psql(count.format("pg_tables", "schemaname = 'public'")).stdout
    assert int(tables) == len(metadata.tables) + 1  # and Alembic's own
    guards = psql(count.format("pg_trigger", "NOT tgisinternal")).stdout
    assert int(guards) == 4 * len(INSERT_ONLY)

    stored = psql(f"INSERT INTO chain VALUES {LINK}; INSERT INTO equity_marks VALUES {MARK}")
    assert stored.returncode == 0, stored.stderr
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
        refused = psql(statement)
        assert refused.returncode != 0
        assert "is insert-only" in refused.stderr, statement
    digits = psql("SELECT cash, equity, high_water FROM equity_marks").stdout.strip()
    assert digits == "1.10|0.3333333333333333333333333333|100"
