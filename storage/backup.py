"""Copies of a SQLite database, made while it is in use, and their way back."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from domain.canonical import canonical_json
from domain.errors import LedgerError, UsageError
from storage.engine import explain, open_database, read, sqlite_url
from storage.migrate import upgrade
from storage.verify import VerifyReport, chain_rows, verify_chain


def backup(engine: Engine, target: Path) -> VerifyReport:
    """Copy the whole database to a new file, verify the copy, and return its report.

    The desk may go on writing: the copy is the database as of one instant. It gets its name when
    it is whole and verified, not before.

    Raises
    ------
    UsageError : if ``target`` exists, or the database is not SQLite (use pg_dump).
    LedgerError : if the copy does not verify; it is kept for inspection as ``<target>.bad``.
    """
    if engine.dialect.name != "sqlite":
        raise UsageError(
            "backup", "copies SQLite files only", engine.dialect.name,
            "Use pg_dump --format=custom, and pg_restore for the way back.",
        )  # fmt: skip
    _refuse_existing(target)
    _make_folder(target)
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    with engine.connect() as connection:
        _copy(connection.connection.driver_connection, partial)
    try:
        report = _checked(partial)
    except LedgerError:
        partial.replace(target.with_name(f"{target.name}.bad"))
        raise
    sync(partial)
    partial.replace(target)
    return report


def restore(source: Path, target: Path) -> VerifyReport:
    """Copy a backup to a new database file, bring it to this code's schema, and verify it.

    Raises
    ------
    UsageError : if ``source`` is missing, or ``target`` or its journal exist; move the old database
        away first.
    LedgerError : if the backup is damaged or does not verify.
    """
    if not source.is_file():
        raise UsageError("backup", "must be a file", str(source))
    _refuse_existing(target)
    _refuse_existing(target.with_name(f"{target.name}-wal"))  # SQLite would replay it into the copy
    open_database(sqlite_url(source)).dispose()  # says clearly if it is no database
    _make_folder(target)
    unproven = target.with_name(f"{target.name}.restoring")
    unproven.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source)) as connection:
            _copy(connection, unproven)
        report = _checked(unproven)
        sync(unproven)
        unproven.rename(target)
    finally:  # what does not verify must not stand where the desk would take it for its ledger
        for name in ("", "-wal", "-shm"):
            unproven.with_name(unproven.name + name).unlink(missing_ok=True)
    return report


def sync(path: Path) -> None:
    """Wait until a file is on the disk, so that a name given to it then survives a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def export_lines(engine: Engine) -> Iterator[str]:
    """Iterate over the whole chain as canonical JSON lines: enough to check every hash elsewhere.

    Each line has seq, world, kind, key, hash and ``row``: the object that was hashed, without key.
    """
    with read(engine) as connection:
        for entry, row in chain_rows(connection):
            kept = {k: v for k, v in (row or {}).items() if v is not None and k != "world"}
            yield canonical_json({
                "seq": entry.seq, "world": entry.world, "kind": entry.kind,
                "key": entry.record_key, "hash": entry.hash, "row": kept,
            })  # fmt: skip


def _copy(source: sqlite3.Connection | None, target: Path) -> None:
    if source is None:
        raise LedgerError("backup", "lost its connection")
    try:
        with closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        clear = explain(error, target)
        raise clear or LedgerError("backup", f"failed ({error})", str(target)) from error


def _checked(path: Path) -> VerifyReport:
    engine = open_database(sqlite_url(path))
    try:
        upgrade(engine)
        report = verify_chain(engine)
    finally:
        engine.dispose()
    if not report.ok:
        raise LedgerError(f"copy {path}", "does not verify", report.problem)
    return report


def _make_folder(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            "target", f"must lie in a folder that can be written ({error.strerror})", str(target)
        ) from error


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UsageError(
            "target", "must not exist yet", str(target), "Move it away, or choose another file."
        )
