"""A folder of verified backups: the newest ones and one a day, each with a note of what it holds.

``ledger-20250131T120000Z.db`` is a whole database that was verified before it got its name.
The note beside it (``.json``) says how far it reaches and what its SHA-256 is, so that whoever
needs it knows in a second whether it is still the file that was verified.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from domain.errors import ConclaveError, LedgerError
from domain.times import DAY_MS, iso, parse_iso
from storage.backup import backup
from storage.engine import open_database, sqlite_url
from storage.verify import verify_chain

_NAME = re.compile(r"ledger-(\d{8}T\d{6}Z)\.db")
ROOM = 1 << 26  # bytes that must stay free beside a copy
_STALE_MS = DAY_MS  # what a backup that was cut off has left behind


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup and what it holds.

    Attributes
    ----------
    at : ms, wall time.
    head_seq, head_hash : its newest row; (0, "") if it cannot be read.
    sha256 : of the file when it was verified; "" without a note.
    """

    path: Path
    at: int
    head_seq: int
    head_hash: str
    sha256: str = ""


def file_name(now_ms: int) -> str:
    """Return the name of a backup made at ``now_ms`` (wall time)."""
    return f"ledger-{iso(now_ms - now_ms % 1000).replace('-', '').replace(':', '')}.db"


def make_backup(engine: Engine, folder: Path, now_ms: int, room: int = ROOM) -> Backup:
    """Add a verified backup to the folder while the database is in use.

    Parameters
    ----------
    room : bytes that must stay free beside the copy.

    Raises
    ------
    UsageError : if the database is not SQLite, or the folder cannot be written.
    LedgerError : if there is no room for it, or the copy does not verify.
    """
    target = folder / file_name(now_ms)
    if engine.dialect.name == "sqlite":
        _refuse_no_room(folder, Path(str(engine.url.database)), room)
        _clean(folder, now_ms)
    report = backup(engine, target)
    made = Backup(target, now_ms, report.head_seq, report.head_hash, _sha256(target))
    note = {"head_seq": made.head_seq, "head_hash": made.head_hash, "sha256": made.sha256}
    _note(target).write_text(json.dumps(note) + "\n", encoding="utf-8")
    return made


def backups(folder: Path) -> list[Backup]:
    """Return the backups of a folder, newest first."""
    names = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("ledger-*.db"))
    found = [(path, parse_iso(name[1])) for path, name in names if name]
    return [described(path, at) for path, at in sorted(found, reverse=True)]


def is_sound(one: Backup) -> bool:
    """Return whether a backup is still what was verified; without a note it is verified now."""
    try:
        if one.sha256:
            return _sha256(one.path) == one.sha256
        engine = open_database(sqlite_url(one.path))
        try:
            return verify_chain(engine).ok
        finally:
            engine.dispose()
    except (OSError, ConclaveError):
        return False


def prune(folder: Path, hourly: int, daily: int) -> list[Path]:
    """Delete all but the newest ``hourly`` backups and the last one of ``daily`` days.

    Nothing is deleted unless one of those that stay is sound.

    Returns
    -------
    What was deleted.
    """
    there = backups(folder)
    kept = _kept(there, hourly, daily)
    gone = [one for one in there if one not in kept]
    if not gone or not any(is_sound(one) for one in kept):
        return []
    for one in gone:
        one.path.unlink(missing_ok=True)
        _note(one.path).unlink(missing_ok=True)
    return [one.path for one in gone]


def _kept(there: Sequence[Backup], hourly: int, daily: int) -> list[Backup]:
    last_of_day: dict[int, Backup] = {}
    for one in there:
        last_of_day.setdefault(one.at // DAY_MS, one)
    days = list(last_of_day.values())[:daily]
    return [one for i, one in enumerate(there) if i < hourly or one in days]


def described(path: Path, at: int) -> Backup:
    """Return a backup as its note says, or as far as the file itself tells without one."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        return Backup(path, at, int(note["head_seq"]), note["head_hash"], note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return Backup(path, at, *_head(path))


def _head(path: Path) -> tuple[int, str]:
    query = "SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as file:
            row = file.execute(query).fetchone()
    except sqlite3.Error:
        row = None
    return (0, "") if row is None else (int(row[0]), str(row[1]))


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_no_room(folder: Path, database: Path, room: int) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    need = sum(path.stat().st_size for path in _files(database)) + room
    if free < need:
        raise LedgerError(
            "backup", f"needs {need >> 20} MiB of free disk", f"{free >> 20} MiB",
            "Free some, or move old backups elsewhere; the ledger itself goes on.",
        )  # fmt: skip


def _files(database: Path) -> Iterator[Path]:
    both = (database, database.with_name(f"{database.name}-wal"))
    return (path for path in both if path.exists())


def _clean(folder: Path, now_ms: int) -> None:
    for path in folder.glob("ledger-*.db.partial*"):
        if path.stat().st_mtime * 1000 < now_ms - _STALE_MS:
            path.unlink(missing_ok=True)
