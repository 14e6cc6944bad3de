"""A damaged ledger at the start: the last state that verifies, told and with the brake on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine

from domain.errors import ConclaveError, DatabaseDamaged, LedgerError, ServiceUnreachable
from domain.operations import Level, RiskEvent
from domain.ports import Clock
from domain.times import iso, timeframe_ms
from domain.trading import Event, ModeChange, RiskMode
from serving.plan import RUN_FILE, load_plan
from serving.processes import alive
from serving.report_files import stamp
from serving.settings import Settings
from storage.accounts import list_accounts
from storage.engine import database_file, open_database
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.queries import Reader, worlds
from storage.recovery import Recovered, recover
from storage.rotation import Backup, backups, is_sound
from storage.verify import trouble, verify_tail

log = structlog.get_logger("recovering")

HINT = "Run: conclave ledger restore"


def backup_folder(settings: Settings) -> Path:
    """Return where backups lie."""
    return settings.data.var_dir / "backups"


def sound_storage(
    settings: Settings, clock: Clock, say: Callable[[str], None] = lambda _: None
) -> Engine:
    """Open the database for whoever appends to it, after a look for damage.

    A damaged SQLite file is replaced by the last state that verifies, unless ``data.recover`` is
    off: see :func:`restore_newest`.

    Parameters
    ----------
    say : shows a line to whoever started this.

    Raises
    ------
    DatabaseDamaged : if it is damaged and cannot be, or must not be, replaced.
    """
    problem = _problem(settings)
    if isinstance(problem, DatabaseDamaged):
        if not settings.data.recover or database_file(settings.database_url()) is None:
            raise problem
        try:
            words = told(*restore_newest(settings, clock, why=problem.message))
            log.warning("ledger_recovered", why=problem.message, how=words)
            say(f"{problem.message}: {words}")
        except DatabaseDamaged:
            raise problem from None
    engine = open_database(settings.database_url())
    upgrade(engine)
    return engine


def restore_newest(
    settings: Settings, clock: Clock, chosen: Backup | None = None, why: str = ""
) -> tuple[Recovered, float]:
    """Recover the database, note it in ledger and events, and say how many seconds it took.

    Every account of the market written last is HALTED if rows may be gone: what they did may
    still be open, and a person has to look before anything new is entered.

    Parameters
    ----------
    chosen : the only backup to begin with; None = the newest sound one.
    why : what was found wrong.

    Raises
    ------
    ServiceUnreachable : if a desk is running on it.
    DatabaseDamaged : if nothing could be saved.
    LedgerError : if ``chosen`` does not verify.
    """
    started, now = time.perf_counter(), clock.now()
    _refuse_running(settings)
    path = database_file(settings.database_url())
    if path is None:
        raise DatabaseDamaged(
            "database", "is PostgreSQL, which has its own way back", hint="Use pg_restore."
        )
    if chosen is not None and not is_sound(chosen):
        raise LedgerError("backup", "does not verify", str(chosen.path), "Choose another one.")
    candidates = backups(backup_folder(settings)) if chosen is None else [chosen]
    done = recover(path, candidates, stamp(now))
    engine = open_database(settings.database_url())
    try:
        _note(engine, done, now, why)
    finally:
        engine.dispose()
    return done, time.perf_counter() - started


def told(done: Recovered, seconds: float) -> str:
    """Say in a line what was saved."""
    begin = "its own rows" if done.backup is None else done.backup.name
    return (
        f"recovered in {seconds:.1f} s up to row {done.head_seq:,}: {begin}, "
        f"{done.salvaged:,} rows of the damaged file, {_gone(done)}"
        + ("" if done.aside is None else f"; the damaged file is {done.aside.name}")
        + ("" if done.lost == 0 else "; HALTED until armed")
    )


def damage(settings: Settings) -> str:
    """Return what is wrong with the database, the whole chain included; "" if nothing is."""
    path = database_file(settings.database_url())
    if path is not None and not path.exists():
        return "it is missing"
    problem = _problem(settings)
    if problem is not None:
        return problem.message
    engine = open_database(settings.database_url())
    try:
        return verify_tail(engine, sys.maxsize)
    finally:
        engine.dispose()


def _problem(settings: Settings) -> ConclaveError | None:
    try:
        engine = open_database(settings.database_url())
        try:
            upgrade(engine)
            found = trouble(engine)
        finally:
            engine.dispose()
    except DatabaseDamaged as error:
        return error
    if found:
        return DatabaseDamaged("ledger", f"is damaged: {found}", hint=HINT)
    return None


def _refuse_running(settings: Settings) -> None:
    try:
        plan = load_plan(settings.data.var_dir / RUN_FILE)
    except ServiceUnreachable:
        return
    if plan.pid not in (os.getpid(), os.getppid()) and alive(plan.pid):
        raise ServiceUnreachable(
            "conclave", "is running on this VAR_DIR", f"pid {plan.pid}", "Stop it first."
        )


def _gone(done: Recovered) -> str:
    if done.lost == 0:
        return "nothing is lost"
    return f"{'an unknown number' if done.lost is None else done.lost} of the newest rows are gone"


def _note(engine: Engine, done: Recovered, now: int, why: str) -> None:
    body = {
        "why": why or done.problem, "problem": done.problem, "rows": done.head_seq,
        "salvaged": done.salvaged, "lost": done.lost, "at": iso(now),
        "backup": done.backup and done.backup.name, "aside": done.aside and done.aside.name,
    }  # fmt: skip
    for world in (info.world for info in worlds(engine)[:1]):
        reader, at = Reader(engine, world), _market_now(engine, world) or now
        names = {row.name for row in list_accounts(engine, world)}
        for name in sorted(names | {row.account for row in reader.trial_balance()}):
            SqlLedger(engine, world).append(_records(reader, name, at, done, body))
        words = f"ledger recovered up to row {done.head_seq}: {_gone(done)}"
        EventLog(engine, world).append(Event("risk", at, {**body, "why": words}, "error"))


def _records(
    reader: Reader, account: str, at: int, done: Recovered, body: Mapping[str, Any]
) -> list[RiskEvent | ModeChange]:
    found = reader.latest_mode(account)
    at = at if found is None else max(at, found[1].at + 1)
    safe = done.lost == 0
    level: Level = "warning" if safe else "error"
    event = RiskEvent(account, at, "recovery", "ledger", level, "recovery", body)
    if safe or (found is not None and found[1].mode is RiskMode.KILLED):
        return [event]
    words = f"the ledger was damaged and restored: {_gone(done)}"
    return [event, ModeChange(account, at, RiskMode.HALTED, "recovery", words)]


def _market_now(engine: Engine, world: str) -> int:
    bars = Reader(engine, world).last_bars()
    return max((open_ms + timeframe_ms(tf) for (_, tf), open_ms in bars.items()), default=0)
