"""Opening the database, and the two ways in: many readers, one writer at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from domain.errors import (
    ConclaveError,
    DatabaseDamaged,
    LedgerError,
    ServiceUnreachable,
    SettingError,
)

_LOCK = 0x636F6E636C617665  # "conclave": the advisory lock of every writer on PostgreSQL
_WRITES = "conclave_writes"


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def database_file(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for another kind of database."""
    target = make_url(url)
    return Path(str(target.database)) if target.get_backend_name() == "sqlite" else None


def open_database(url: str, *, busy_ms: int = 10_000) -> Engine:
    """Connect to ``sqlite:///<file>`` (WAL; its folder is made) or ``postgresql+<driver>://…``.

    The schema is :func:`storage.migrate.upgrade`'s business.

    Parameters
    ----------
    busy_ms : how long a writer waits for another one before it gives up (SQLite).

    Raises
    ------
    SettingError : if the URL is none of these, or the file's folder cannot be written.
    LedgerError : if the file is not a database, is damaged, or the disk is full.
    ServiceUnreachable : if another process holds the lock for too long, or no server answers.
    """
    target = _parse(url)
    if target.get_backend_name() == "sqlite":
        engine = _open_sqlite(target, busy_ms)
    else:
        engine = _open_postgresql(target)
    with engine.connect():
        return engine


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """Open one consistent view of the database; never blocks a writer."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """Open the one transaction that may write now; it commits at the end, or leaves no trace.

    Raises
    ------
    ServiceUnreachable : if the lock stays taken.
    """
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection


def _parse(url: str) -> URL:
    hint = "Try sqlite:///var/ledger.db or postgresql+psycopg://user@host/conclave."
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingError("DATABASE_URL", "must be a database URL", url, hint) from None
    if target.get_backend_name() not in ("sqlite", "postgresql"):
        shown = target.render_as_string()
        raise SettingError("DATABASE_URL", "must be SQLite or PostgreSQL", shown, hint)
    if target.get_backend_name() == "sqlite" and target.database in (None, "", ":memory:"):
        rule = "must name a file; a ledger in memory is storage.memory.MemoryLedger"
        raise SettingError("DATABASE_URL", rule, url, hint)
    return target


def _open_sqlite(target: URL, busy_ms: int) -> Engine:
    path = Path(str(target.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            "DATABASE_URL", f"must lie in a folder that can be written ({error.strerror})",
            str(path.parent), "Choose another VAR_DIR or DATABASE_URL.",
        ) from error  # fmt: skip
    engine = create_engine(target, connect_args={"timeout": busy_ms / 1000})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(path)
        connection.isolation_level = None  # transactions begin where `begin` below says
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            connection.close()
            raise explain(error, path) or error from error

    @event.listens_for(engine, "checkout")
    def same_file(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        # Another file in its place is a restored ledger: nobody may go on with the damaged one.
        if _identity(path) not in (None, record.info["file"]):
            raise DisconnectionError

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, sqlite3.Error) and (clear := explain(error, path)):
            raise clear from error

    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_postgresql(target: URL) -> Engine:
    shown = target.render_as_string()
    try:
        engine = create_engine(target, pool_pre_ping=True)
    except (ModuleNotFoundError, SQLAlchemyError) as error:
        raise SettingError(
            "DATABASE_URL", f"needs a driver that is not installed ({error})", shown,
            "pip install -c constraints.txt -e .[postgres] and write postgresql+psycopg://…",
        ) from error  # fmt: skip

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        if context.is_disconnect or context.connection is None:
            raise ServiceUnreachable(
                "database", f"does not answer ({context.original_exception})", shown,
                "Is the server running, and may this machine connect to it?",
            ) from context.original_exception  # fmt: skip

    return engine


_CLEAR: dict[int, tuple[type[ConclaveError], str, str]] = {
    sqlite3.SQLITE_BUSY: (
        ServiceUnreachable, "is locked by another process", "Is a second desk or a backup running?",
    ),
    sqlite3.SQLITE_LOCKED: (
        ServiceUnreachable, "is locked by another connection", "Try again.",
    ),
    sqlite3.SQLITE_PERM: (
        SettingError, "must be a file that can be written", "Check its owner and mode.",
    ),
    sqlite3.SQLITE_READONLY: (
        SettingError, "must be a file that can be written, in a folder that can be written",
        "Check owner and mode of both: the journal lies beside the database.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        SettingError, "cannot be opened", "Its folder must exist and be writable.",
    ),
    sqlite3.SQLITE_IOERR: (
        LedgerError, "cannot be read or written: the disk reports an error",
        "Check the disk; restore a backup if it is damaged.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        DatabaseDamaged, "is damaged", "Keep the file, and run: conclave ledger restore",
    ),
    sqlite3.SQLITE_NOTADB: (
        DatabaseDamaged, "is not a SQLite database",
        "Choose another DATABASE_URL; if it was one, run: conclave ledger restore",
    ),
    sqlite3.SQLITE_FULL: (
        LedgerError, "cannot grow: the disk is full", "Make room; nothing was half-written.",
    ),
}  # fmt: skip


def explain(error: sqlite3.Error, path: Path) -> ConclaveError | None:
    """Return what an error of SQLite means to whoever runs Conclave, or None if it is a bug."""
    code: Any = getattr(error, "sqlite_errorcode", None)
    if code is not None and (known := _CLEAR.get(code & 0xFF)):
        kind, rule, hint = known
        return kind("database", rule, str(path), hint)
    if "no such table" in str(error) or "no such column" in str(error):
        hint = "Run storage.migrate.upgrade on it: every command but doctor does."
        return LedgerError("database", f"lacks the schema ({error})", str(path), hint)
    if "already exists" in str(error):
        return LedgerError(
            "database", f"holds another program's tables ({error})", str(path),
            "Choose another DATABASE_URL or VAR_DIR.",
        )  # fmt: skip
    if "decode" in str(error):
        return LedgerError("database", f"holds text that is no text ({error})", str(path))
    return None
