"""Backups in rotation, and the way back from a damaged file: real files, really damaged."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.errors import DatabaseDamaged, LedgerError, UsageError
from domain.trading import Event, Posting
from storage.accounts import ensure_account, list_accounts
from storage.checks import examples
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.recovery import recover
from storage.rotation import backups, file_name, is_sound, make_backup, prune
from storage.schema import INSERT_ONLY
from storage.snapshots import SqlSnapshots
from storage.verify import trouble
from tests.execution_scenes import PERP, Script, loop_over, states_of, walk

NOW = 1_738_324_800_000  # 2025-01-31T12:00:00Z
HOUR, DAY = 3_600_000, 86_400_000
PER_STEP = len(examples(0))


def opened(path: Path) -> Engine:
    engine = open_database(sqlite_url(path))
    upgrade(engine)
    return engine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def filled(path: Path, steps: int, first: int = 0) -> Engine:
    engine = opened(path)
    for step in range(first, first + steps):
        SqlLedger(engine, "w").append(examples(step))
    return engine


def overwrite_row(path: Path, seq: int) -> None:
    """Change a row as somebody with the file and a SQLite shell would."""
    with sqlite3.connect(path) as raw:
        for table in INSERT_ONLY:
            raw.execute(f"DROP TRIGGER IF EXISTS {table.name}_no_update")
        assert raw.execute("UPDATE chain SET hash = 'x' WHERE seq = ?", (seq,)).rowcount
    raw.close()


def damage_page(path: Path, text: bytes) -> None:
    """Overwrite the page that holds the last occurrence of a text."""
    raw = bytearray(path.read_bytes())
    page = raw.rindex(text) // 4096
    raw[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(raw)


# Rotation


def test_backup_when_made_then_its_note_knows_it_and_it_is_sound_until_it_is_touched(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 3)
    made = make_backup(engine, folder, NOW)
    assert made.path == folder / "ledger-20250131T120000Z.db"
    assert (made.head_seq, made.head_hash) == SqlLedger(engine, "w").head()
    assert backups(folder) == [made]
    assert is_sound(made)
    assert sorted(p.name for p in folder.iterdir()) == [
        "ledger-20250131T120000Z.db", "ledger-20250131T120000Z.json",
    ]  # fmt: skip
    with made.path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    assert not is_sound(made)


@pytest.mark.long
def test_backup_when_it_has_no_note_then_the_chain_says_whether_it_is_sound(
    path: Path, folder: Path
) -> None:
    made = make_backup(filled(path, 2), folder, NOW)
    made.path.with_suffix(".json").unlink()
    (one,) = backups(folder)
    assert (one.head_seq, one.head_hash, one.sha256) == (made.head_seq, made.head_hash, "")
    assert is_sound(one)
    overwrite_row(made.path, 5)
    assert not is_sound(one)


def test_backup_when_there_is_no_room_then_it_says_how_much_it_needs_and_leaves_nothing(
    path: Path, folder: Path
) -> None:
    with pytest.raises(LedgerError, match=r"needs \d+ MiB of free disk.*the ledger itself goes on"):
        make_backup(filled(path, 1), folder, NOW, room=1 << 60)
    assert not folder.exists()


def test_backup_when_the_ledger_is_broken_then_the_copy_is_kept_apart_and_is_no_backup(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 2)
    overwrite_row(path, 7)
    with pytest.raises(LedgerError, match="does not verify"):
        make_backup(engine, folder, NOW)
    assert backups(folder) == []
    assert [p.name for p in folder.iterdir()] == [f"{file_name(NOW)}.bad"]


def test_backup_when_an_old_one_was_cut_off_then_the_next_one_sweeps_up(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 1)
    folder.mkdir()
    left = folder / "ledger-20200101T000000Z.db.partial"
    left.touch()
    os.utime(left, (NOW / 1000 - 2 * DAY / 1000,) * 2)
    make_backup(engine, folder, NOW)
    assert not left.exists()


@pytest.mark.long
def test_prune_when_there_are_many_then_the_newest_and_the_last_of_each_day_stay(
    path: Path, folder: Path
) -> None:
    made = make_backup(filled(path, 1), folder, NOW)
    for hours in range(1, 24 * 10):
        older = folder / file_name(NOW - hours * HOUR)
        shutil.copyfile(made.path, older)
        shutil.copyfile(made.path.with_suffix(".json"), older.with_suffix(".json"))
    prune(folder, hourly=24, daily=7)
    names = {one.path.name for one in backups(folder)}
    newest = {file_name(NOW - hours * HOUR) for hours in range(24)}
    midday = NOW - 12 * HOUR  # 00:00; the last of a day is made at 23:00
    nightly = {file_name(midday - HOUR - days * DAY) for days in range(6)}
    assert names == newest | nightly
    assert len(list(folder.glob("*.json"))) == len(names)


def test_prune_when_none_that_would_stay_is_sound_then_nothing_is_deleted(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 1)
    for hours in range(4):
        make_backup(engine, folder, NOW + hours * HOUR)
    for one in backups(folder)[:2]:
        one.path.write_bytes(b"rotten")
    assert prune(folder, hourly=2, daily=0) == []
    assert len(backups(folder)) == 4
    assert len(prune(folder, hourly=3, daily=0)) == 1


# Recovery


@pytest.mark.long
def test_recover_when_an_old_row_is_bad_then_the_backup_is_carried_on_and_nothing_is_lost(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 4)
    made = make_backup(engine, folder, NOW)
    filled(path, 3, first=4)
    head = SqlLedger(engine, "w").head()
    engine.dispose()
    overwrite_row(path, 3)
    done = recover(path, backups(folder), "now")
    assert (done.head_seq, done.head_hash) == head
    assert (done.backup, done.salvaged, done.lost) == (made.path, 3 * PER_STEP, 0)
    restored = opened(path)
    assert SqlLedger(restored, "w").verify().ok
    assert SqlLedger(restored, "w").append(examples(7))
    aside = path.with_name("ledger.db.damaged-now")
    assert done.aside == aside
    assert trouble(open_database(sqlite_url(aside)), rows=10**9).startswith("row 3 ")


def test_recover_when_a_row_after_the_backup_is_bad_then_whole_steps_before_it_stay(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 2)
    make_backup(engine, folder, NOW)
    filled(path, 4, first=2)
    engine.dispose()
    overwrite_row(path, 4 * PER_STEP + 9)  # in the fifth step
    done = recover(path, backups(folder), "now")
    assert done.head_seq == 4 * PER_STEP
    assert done.salvaged == 2 * PER_STEP
    assert done.lost == 2 * PER_STEP
    assert f"row {4 * PER_STEP + 9} does not match its hash" in done.problem
    assert SqlLedger(opened(path), "w").verify().rows == 4 * PER_STEP


@pytest.mark.long
def test_recover_when_there_is_no_backup_then_the_rows_before_the_bad_one_are_saved(
    path: Path,
) -> None:
    filled(path, 5).dispose()
    overwrite_row(path, 3 * PER_STEP + 2)
    done = recover(path, [], "now")
    assert (done.backup, done.head_seq, done.lost) == (None, 3 * PER_STEP, 2 * PER_STEP)
    assert SqlLedger(opened(path), "w").verify().ok


@pytest.mark.long
def test_recover_when_a_page_is_gone_then_what_still_reads_is_saved_with_what_lies_beside(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 60)
    ensure_account(engine, "w", "paper", "USDT")
    make_backup(engine, folder, NOW)
    ensure_account(engine, "w", "second", "USDT")
    told = EventLog(engine, "w").append(Event("desk", 1, {"n": 1}))
    SqlSnapshots(engine, "w").save("fold", "council", 60 * PER_STEP, {"n": 1})
    engine.dispose()
    damage_page(path, b"The edge is below the cost.")
    assert trouble(opened(path)).startswith("Page ")
    done = recover(path, backups(folder), "now")
    assert (done.head_seq, done.lost) == (60 * PER_STEP, 0)
    restored = opened(path)
    assert {row.name for row in list_accounts(restored, "w")} == {"paper", "second"}
    assert [number for number, _ in EventLog(restored, "w").after()] == [told]
    assert SqlSnapshots(restored, "w").latest("fold", "council") == (60 * PER_STEP, {"n": 1})


@pytest.mark.long
def test_recover_when_rows_are_lost_then_no_snapshot_knows_more_than_the_ledger(
    path: Path,
) -> None:
    engine = filled(path, 3)
    store = SqlSnapshots(engine, "w")
    store.save("fold", "council", PER_STEP, {"n": 1})
    store.save("fold", "council", 3 * PER_STEP, {"n": 3})
    engine.dispose()
    overwrite_row(path, 2 * PER_STEP + 4)
    recover(path, [], "now")
    restored = opened(path)
    assert SqlSnapshots(restored, "w").latest("fold", "council") == (PER_STEP, {"n": 1})
    assert SqlLedger(restored, "w").verify().ok


def test_recover_when_the_file_is_noise_then_the_backup_is_all_there_is(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 2)
    made = make_backup(engine, folder, NOW)
    engine.dispose()
    path.write_bytes(bytes(range(256)) * 64)
    done = recover(path, backups(folder), "now")
    assert (done.head_seq, done.salvaged, done.lost) == (made.head_seq, 0, None)
    assert "is not a SQLite database" in done.problem
    assert path.with_name("ledger.db.damaged-now").read_bytes() == bytes(range(256)) * 64


def test_recover_when_the_newest_backup_is_rotten_then_the_one_before_it_is_taken(
    path: Path, folder: Path
) -> None:
    engine = filled(path, 1)
    older = make_backup(engine, folder, NOW)
    make_backup(filled(path, 1, first=1), folder, NOW + HOUR).path.write_bytes(b"rotten")
    engine.dispose()
    path.unlink()
    for journal in path.parent.glob("ledger.db-*"):
        journal.unlink()
    done = recover(path, backups(folder), "now")
    assert (done.backup, done.head_seq, done.lost) == (older.path, PER_STEP, None)
    assert done.aside is None


def test_recover_when_nothing_can_be_saved_then_it_says_so_and_touches_nothing(
    path: Path,
) -> None:
    path.write_bytes(b"mine, not a database" * 500)
    before = path.read_bytes()
    with pytest.raises(DatabaseDamaged, match=r"cannot be recovered: .*not a SQLite database"):
        recover(path, [], "now")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["ledger.db"]


def test_recover_when_the_journal_holds_rows_then_they_are_saved_and_it_goes_aside_too(
    path: Path, tmp_path: Path
) -> None:
    """A desk that was killed leaves its newest rows in the journal only."""
    engine = filled(path, 2)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in tmp_path.glob("ledger.db*"):
        shutil.copyfile(file, crashed / file.name)
    engine.dispose()
    assert (crashed / "ledger.db-wal").stat().st_size > 0
    before = (crashed / "ledger.db-wal").read_bytes()
    done = recover(crashed / "ledger.db", [], "now")
    assert (done.head_seq, done.lost) == (2 * PER_STEP, 0)
    assert (crashed / "ledger.db.damaged-now-wal").read_bytes() == before
    assert not (crashed / "ledger.db-wal").exists()
    assert SqlLedger(opened(crashed / "ledger.db"), "w").verify().rows == 2 * PER_STEP


def test_engine_when_the_file_is_replaced_then_the_next_reader_sees_the_new_one(
    path: Path,
) -> None:
    reading = filled(path, 2)
    assert SqlLedger(reading, "w").head()[0] == 2 * PER_STEP
    overwrite_row(path, PER_STEP + 4)
    assert recover(path, [], "now").head_seq == PER_STEP
    assert SqlLedger(reading, "w").head()[0] == PER_STEP
    filled(path, 3, first=7)
    assert SqlLedger(reading, "w").head()[0] == 4 * PER_STEP


@pytest.mark.long
@pytest.mark.parametrize("cut", range(0, 700, 97))
def test_recover_when_cut_anywhere_in_a_session_then_the_loop_carries_on_to_the_same_end(
    path: Path, cut: int
) -> None:
    """Wherever the bad row lies, what is kept is a state the loop has been in."""
    states = states_of(list(walk(40).bars()))
    ledger = SqlLedger(opened(path), "w")

    def play() -> None:
        loop = loop_over(ledger, Script(dict.fromkeys(range(3, 40, 9), "LONG"), horizon_bars=4))
        loop.resume()
        for state in states:
            if state.as_of > loop.decided_up_to(PERP.symbol):
                loop.step(state, [], {}, state.as_of)

    play()
    whole = ledger.head()
    bad = cut * whole[0] // 700 + 1
    ledger.engine.dispose()
    overwrite_row(path, bad)
    if bad <= 3:
        with pytest.raises(DatabaseDamaged):
            recover(path, [], "now")
        return
    done = recover(path, [], "now")
    assert done.head_seq < bad
    assert bad - done.head_seq < 15
    play()
    assert ledger.head() == whole
    assert ledger.verify().ok
    assert sum(p.amount for _, p in ledger.records(Posting) if p.book == "capital") == -10_000


def test_note_when_written_then_it_is_json_that_others_can_read(path: Path, folder: Path) -> None:
    made = make_backup(filled(path, 1), folder, NOW)
    note = json.loads(made.path.with_suffix(".json").read_text())
    assert note == {
        "head_seq": made.head_seq, "head_hash": made.head_hash, "sha256": made.sha256,
    }  # fmt: skip
    with pytest.raises(UsageError, match="must not exist"):
        make_backup(filled(path, 1), folder, NOW)
