"""``conclave ledger`` as people use it, on a VAR_DIR of its own."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from domain.trading import EquityMark, ModeChange
from storage.checks import examples
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.rotation import file_name
from tests.command_line import Cli

STEPS = 40
ROWS = STEPS * len(examples(0))


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A VAR_DIR with a ledger."""
    engine = open_database(sqlite_url(tmp_path / "var" / "ledger.db"))
    upgrade(engine)
    for step in range(STEPS):
        SqlLedger(engine, "w").append(examples(step))
    engine.dispose()
    return tmp_path / "var"


def ledger_in(var: Path) -> SqlLedger:
    return SqlLedger(open_database(sqlite_url(var / "ledger.db")), "w")


def damage(var: Path, text: bytes = b"The edge is below the cost.") -> None:
    with sqlite3.connect(var / "ledger.db") as database:  # or the journal still has the page
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    raw = bytearray((var / "ledger.db").read_bytes())
    page = raw.rindex(text) // 4096
    raw[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    (var / "ledger.db").write_bytes(raw)


@pytest.mark.long
def test_backup_when_no_file_is_named_then_it_lies_in_the_folder_and_is_listed(
    cli: Cli, var: Path
) -> None:
    assert cli("ledger", "backups")[1].startswith("none in ")
    code, out, _ = cli("ledger", "backup")
    assert code == 0
    assert f"clean: {ROWS:,} rows" in out
    code, out, _ = cli("ledger", "backups")
    (made,) = (var / "backups").glob("*.db")
    assert made.name in out
    assert f"{ROWS:,}" in out
    assert "yes" in out
    items = json.loads(cli("ledger", "backups", "--json")[1])["items"]
    assert [(item["path"], item["rows"], item["verified"]) for item in items] == [
        (str(made), ROWS, True)
    ]
    assert items[0]["head_hash"] == ledger_in(var).head()[1]


@pytest.mark.long
def test_backups_when_one_was_changed_then_it_is_named_and_the_exit_is_1(
    cli: Cli, var: Path
) -> None:
    cli("ledger", "backup")
    (made,) = (var / "backups").glob("*.db")
    with made.open("ab") as file:
        file.write(b"?")
    code, out, err = cli("ledger", "backups")
    assert code == 1
    assert "no" in out
    assert made.name in err


@pytest.mark.long
def test_restore_when_the_ledger_is_fine_then_nothing_is_done(cli: Cli, var: Path) -> None:
    cli("ledger", "backup")
    code, _, err = cli("ledger", "restore")
    assert code == 2
    assert "there is nothing to restore" in err
    assert not list(var.glob("*.damaged-*"))


@pytest.mark.long
def test_restore_when_the_newest_rows_are_damaged_then_the_last_state_is_back_and_halted(
    cli: Cli, var: Path
) -> None:
    cli("ledger", "backup")
    ledger = ledger_in(var)
    for step in range(STEPS, STEPS + 20):
        ledger.append(examples(step))
    ledger.engine.dispose()
    damage(var)
    code, _, err = cli("ledger", "verify")
    assert code == 1
    assert "cannot be read" in err
    code, out, _ = cli("ledger", "restore")
    assert code == 0
    assert "recovered in " in out
    assert "HALTED until armed" in out
    code, out, _ = cli("ledger", "verify")
    assert (code, "clean" in out) == (0, True)
    restored = ledger_in(var)
    assert restored.head()[0] > ROWS
    (*_, (_, change)) = restored.records(ModeChange)
    assert (change.by, change.mode) == ("recovery", "HALTED")
    assert len(list(var.glob("ledger.db.damaged-*Z"))) == 1  # beside its journals, if any


@pytest.mark.long
def test_restore_when_the_database_is_missing_then_the_newest_backup_takes_its_place(
    cli: Cli, var: Path
) -> None:
    cli("ledger", "backup")
    for file in var.glob("ledger.db*"):
        file.unlink()
    code, out, _ = cli("ledger", "restore")
    assert code == 0
    assert f"up to row {ROWS:,}" in out
    assert ledger_in(var).verify().ok


@pytest.mark.long
def test_restore_when_a_backup_is_named_then_that_one_is_taken_if_it_verifies(
    cli: Cli, var: Path, tmp_path: Path
) -> None:
    chosen = tmp_path / "mine.db"
    assert cli("ledger", "backup", chosen)[0] == 0
    damage(var)
    bad = tmp_path / "bad.db"
    bad.write_bytes(chosen.read_bytes()[:-4096])
    code, _, err = cli("ledger", "restore", bad)
    assert code == 1
    assert "does not verify" in err
    assert not list(var.glob("*.damaged-*"))
    code, out, _ = cli("ledger", "restore", chosen)
    assert code == 0
    assert "mine.db" in out
    assert len(list(ledger_in(var).records(EquityMark))) == STEPS


@pytest.mark.long
def test_restore_when_nothing_can_be_saved_then_the_file_stays_where_it_is(
    cli: Cli, var: Path
) -> None:
    for file in var.glob("ledger.db*"):
        file.unlink()
    (var / "ledger.db").write_bytes(b"noise" * 3000)
    code, _, err = cli("ledger", "restore")
    assert code == 1
    assert "cannot be recovered" in err
    assert (var / "ledger.db").read_bytes() == b"noise" * 3000


@pytest.mark.long
@pytest.mark.parametrize("name", ["books.parquet", "books.csv", "books"])
def test_export_when_the_suffix_names_a_format_then_a_folder_holds_a_file_for_each_kind(
    cli: Cli, var: Path, tmp_path: Path, name: str
) -> None:
    code, _, err = cli("ledger", "export", tmp_path / name)
    assert code == 0
    assert f"{ROWS} rows in 17 files" in err
    manifest = json.loads((tmp_path / name / "manifest.json").read_text())
    assert manifest["head_hash"] == ledger_in(var).head()[1]
    suffix = ".csv" if name.endswith("csv") else ".parquet"
    assert (tmp_path / name / f"bars{suffix}").is_file()


@pytest.mark.long
def test_export_when_the_suffix_is_jsonl_then_it_is_one_file_with_a_line_a_row(
    cli: Cli, var: Path, tmp_path: Path
) -> None:
    assert cli("ledger", "export", tmp_path / "books.jsonl")[0] == 0
    lines = (tmp_path / "books.jsonl").read_text().splitlines()
    assert len(lines) == ROWS
    assert json.loads(lines[-1])["hash"] == ledger_in(var).head()[1]


def test_backup_name_when_made_then_it_sorts_by_time() -> None:
    assert file_name(1_738_324_800_999) == "ledger-20250131T120000Z.db"
