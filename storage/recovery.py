"""From a damaged database to the last state that verifies.

What is kept is the newest sound backup, carried on with those rows of the damaged file that still
read and follow from it in the chain; without a backup, with its rows from the first one on. The
damaged file is moved aside, never deleted. Nothing changes unless something was saved.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import ConclaveError, DatabaseDamaged
from storage import kinds
from storage.backup import sync
from storage.bookkeeping import BadRow
from storage.chaining import GENESIS
from storage.engine import open_database, read, sqlite_url, write
from storage.migrate import upgrade
from storage.rotation import Backup, is_sound
from storage.schema import INSERT_ONLY, TYPED, chain, events, leases, metadata, snapshots
from storage.verify import Walk, chain_rows

_BATCH = 2_000  # rows stored at once
_JOURNALS = ("-wal", "-shm")
_Rows = list[tuple[Any, dict[str, Any]]]  # (row of the chain, its typed row)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was saved.

    Attributes
    ----------
    backup : where it begins; None = with the first row of the damaged file.
    head_seq, head_hash : the newest row that was kept.
    salvaged : rows taken from the damaged file.
    lost : rows known of that are gone; None = the damaged file does not say.
    problem : the first thing that was wrong with the damaged file's rows, "" if nothing was.
    aside : where the damaged file lies now; None = there was none.
    """

    backup: Path | None
    head_seq: int
    head_hash: str
    salvaged: int
    lost: int | None
    problem: str
    aside: Path | None


def recover(database: Path, candidates: Sequence[Backup], stamp: str) -> Recovered:
    """Put the last state that verifies in the place of a damaged or missing database.

    Parameters
    ----------
    candidates : backups, the best first.
    stamp : names what is moved aside: ``ledger.db.damaged-<stamp>``.

    Raises
    ------
    DatabaseDamaged : if no backup is sound and no row can be saved; nothing was touched.
    """
    fresh = database.with_name(f"{database.name}.recovering")
    _remove(fresh)
    try:
        base = next((one for one in candidates if is_sound(one)), None)
        if base is not None:
            shutil.copyfile(base.path, fresh)
        target = open_database(sqlite_url(fresh))
        try:
            upgrade(target)
            saved = _salvage(database, target)
        finally:
            target.dispose()
        if not saved.walk.seq:
            raise DatabaseDamaged(
                "database", f"cannot be recovered: {saved.problem or 'it holds no row'}",
                str(database), "No backup is sound. Move it away to begin anew.",
            )  # fmt: skip
        sync(fresh)
        aside = _swap(fresh, database, stamp)
    finally:
        _remove(fresh)
    lost = None if saved.known is None else max(saved.known - saved.walk.seq, 0)
    return Recovered(
        None if base is None else base.path, saved.walk.seq, saved.walk.digest, saved.rows, lost,
        saved.problem, aside,
    )  # fmt: skip


@dataclass(slots=True)
class _Saved:
    walk: Walk
    rows: int = 0
    known: int | None = None  # the newest row that the damaged file knows of
    problem: str = ""


def _salvage(database: Path, target: Engine) -> _Saved:
    """Carry the target on with what the damaged file still holds."""
    saved = _Saved(Walk(*_head(target)))
    if not database.is_file():
        saved.problem, saved.known = "it is missing", None
        return saved
    try:
        with _copy_of(database) as source, read(source) as connection:
            saved.known = _newest(connection)
            _carry_on(connection, target, saved)
            _carry_over(connection, target, saved.walk.seq)
    except ConclaveError as error:
        saved.problem = error.message
    except SQLAlchemyError as error:
        saved.problem = f"it cannot be read ({type(error).__name__})"
    return saved


@contextmanager
def _copy_of(database: Path) -> Iterator[Engine]:
    """Open a copy: SQLite would write the journal into the file, and that is evidence."""
    copy = database.with_name(f"{database.name}.reading")
    _remove(copy)
    try:
        shutil.copyfile(database, copy)
        journal = database.with_name(f"{database.name}-wal")
        if journal.exists():
            shutil.copyfile(journal, copy.with_name(f"{copy.name}-wal"))
        engine = open_database(sqlite_url(copy))
        try:
            with suppress(ConclaveError, SQLAlchemyError):  # then it is read as it is
                upgrade(engine)
            yield engine
        finally:
            engine.dispose()
    finally:
        _remove(copy)


def _carry_on(source: Connection, target: Engine, saved: _Saved) -> None:
    """Store the rows that follow, up to the first bad one, in whole steps of the loop.

    An append is one transaction, but the chain does not say where it ended, and half of one would
    leave a fill without its postings. A bar begins a step, unless it follows on a bar: that is the
    same span on the other market.
    """
    walk = Walk(saved.walk.seq, saved.walk.digest)
    waiting: _Rows = []
    whole = 0  # rows of ``waiting`` before the step that is being read
    before = ""
    try:
        for link_row, row in chain_rows(source, walk.seq):
            walk.step(link_row, row)
            begins, before = link_row.kind == "bar" != before, link_row.kind
            if begins:
                whole = len(waiting)
                if whole >= _BATCH:
                    _store(target, waiting[:whole], saved)
                    waiting, whole = waiting[whole:], 0
            waiting.append((link_row, row or {}))
        whole = len(waiting)
    except BadRow as bad:
        saved.problem = f"row {bad.seq} {bad.problem}"
    _store(target, waiting[:whole], saved)


def _store(target: Engine, rows: _Rows, saved: _Saved) -> None:
    if not rows:
        return
    by_table: dict[Table, list[dict[str, Any]]] = {chain: []}
    for link_row, row in rows:
        seq, world, kind, key, digest = link_row
        place = {"seq": seq, "world": world}
        by_table[chain].append({**place, "kind": kind, "record_key": key, "hash": digest})
        by_table.setdefault(kinds.BY_NAME[kind].table, []).append({**place, **row})
    with write(target) as connection:
        for table, values in by_table.items():
            connection.execute(insert(table), values)
    saved.rows += len(rows)
    saved.walk = Walk(rows[-1][0].seq, rows[-1][0].hash)


def _carry_over(source: Connection, target: Engine, head: int) -> None:
    """Take what lies beside the chain from the damaged file, table by table, where it reads."""
    for table in metadata.sorted_tables:
        if table is not events and (table in INSERT_ONLY or table is leases):
            continue
        try:
            rows = [dict(row) for row in source.execute(select(table)).mappings()]
        except (ConclaveError, SQLAlchemyError):
            continue  # the backup's stay
        if table is snapshots:
            rows = [row for row in rows if row["seq"] <= head]
        with write(target) as connection:
            if table is events:
                newest = connection.execute(select(func.max(events.c.id))).scalar() or 0
                rows = [row for row in rows if row["id"] > newest]
            elif rows:
                connection.execute(delete(table))
            if rows:
                connection.execute(insert(table), rows)


def _newest(connection: Connection) -> int | None:
    """Return the newest row that anything in a damaged file speaks of."""
    found: list[int] = []
    for table in (chain, *TYPED, snapshots):
        with suppress(ConclaveError, SQLAlchemyError):
            found.append(connection.execute(select(func.max(table.c.seq))).scalar() or 0)
    return max(found) if found else None


def _head(engine: Engine) -> tuple[int, str]:
    query = select(chain.c.seq, chain.c.hash).order_by(chain.c.seq.desc()).limit(1)
    with read(engine) as connection:
        row = connection.execute(query).first()
    return (0, GENESIS) if row is None else (row.seq, row.hash)


def _swap(fresh: Path, database: Path, stamp: str) -> Path | None:
    """Move the damaged file aside and the new one into its place; at no time is there none."""
    aside = None
    if database.exists():
        aside = database.with_name(f"{database.name}.damaged-{stamp}")
        for ending in _JOURNALS:  # first: SQLite would replay them into the new file
            journal = database.with_name(database.name + ending)
            if journal.exists():
                journal.rename(aside.with_name(aside.name + ending))
        try:
            aside.hardlink_to(database)
        except OSError:  # a file system without links
            shutil.copyfile(database, aside)
    fresh.replace(database)
    return aside


def _remove(path: Path) -> None:
    for ending in ("", *_JOURNALS):
        path.with_name(path.name + ending).unlink(missing_ok=True)
