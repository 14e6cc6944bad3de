"""``conclave ledger``: can the books be believed, and taken elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from domain.canonical import plain
from domain.errors import CheckFailed, UsageError
from domain.times import iso
from serving.commands.common import (
    Config,
    Json,
    Set,
    err,
    out,
    print_json,
    progress_bar,
    settings_from,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.rotation import Backup

app = typer.Typer(help="Verify, export, back up and restore the ledger.", no_args_is_help=True)
_FORMATS = {".parquet": "parquet", ".csv": "csv", "": "parquet"}


@app.command()
def verify(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Walk the hash chain and add up the books; exits 1 and names the first bad row, if any."""
    from storage.queries import Reader, worlds
    from storage.verify import verify_chain

    engine = _database(config, sets)
    known = worlds(engine)
    rows = sum(world.rows for world in known)
    with progress_bar("rows", quiet=json) as tick:
        report = verify_chain(engine, lambda done: tick(done, rows))
    balances = {world.world: Reader(engine, world.world).trial_balance() for world in known}
    if json:
        print_json({**plain(report), "balances": balances})
    else:
        _tell(report.ok, report.rows, report.head_hash, report.problem)
        table = Table("world", "account", "book", "asset", "sum of postings", box=None)
        for world, lines in balances.items():
            for line in lines:
                table.add_row(world, line.account, line.book, line.asset, f"{line.amount:f}")
        if any(balances.values()):
            out.print(table)
    if not report.ok:
        raise CheckFailed("ledger", report.problem or "is broken", f"row {report.first_bad_seq}")


@app.command()
def export(
    target: Annotated[
        Path,
        typer.Argument(help="x.jsonl, one JSON line a row; x.parquet, x.csv or x, a folder"),
    ],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Write every row of the chain, as JSON lines or as a folder with a file for each kind.

    Example: conclave ledger export books.parquet
    """
    engine = _database(config, sets)
    form = _FORMATS.get(target.suffix)
    if form is None or (target.exists() and not target.is_dir()):
        _export_lines(engine, target)
        return
    from storage.export import export_tables

    try:
        with progress_bar("rows") as tick:
            done = export_tables(engine, target, "csv" if form == "csv" else "parquet", tick)
    except OSError as error:
        raise _unwritable(target, error) from error
    err.print(
        f"{done.rows:,} rows in {len(done.files)} files under {target}, chain head "
        f"{done.head_hash[:16]}…", markup=False,
    )  # fmt: skip


def _export_lines(engine: Engine, target: Path) -> None:
    from storage.backup import export_lines
    from storage.queries import worlds

    total = sum(world.rows for world in worlds(engine))
    plain_file = not target.is_symlink() and (target.is_file() or not target.exists())
    partial = target.with_name(f"{target.name}.partial") if plain_file else target
    rows = 0
    try:
        with partial.open("w", encoding="utf-8") as file, progress_bar("rows") as tick:
            for rows, line in enumerate(export_lines(engine), start=1):
                file.write(line + "\n")
                if rows % 1000 == 0:
                    tick(rows, total)
        if plain_file:
            partial.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        if plain_file:
            partial.unlink(missing_ok=True)
    err.print(f"{rows:,} rows in {target}", markup=False)


def _unwritable(target: Path, error: OSError) -> UsageError:
    return UsageError(
        "target", f"cannot be written: {error.strerror}", str(target), "Choose another one."
    )


@app.command()
def backup(
    target: Annotated[
        Path | None,
        typer.Argument(help="file to write, must not exist; none = VAR_DIR/backups, rotated"),
    ] = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Copy the database while it is in use, and verify the copy.

    Example: conclave ledger backup
    """
    from serving.recovering import backup_folder
    from serving.system import SystemClock
    from storage import backup as copies
    from storage.rotation import make_backup, prune

    settings = settings_from(None, config, sets)
    engine = _database(config, sets)
    if target is not None:
        report = copies.backup(engine, target)
        _tell(report.ok, report.rows, report.head_hash, report.problem)
        return
    folder = backup_folder(settings)
    made = make_backup(engine, folder, SystemClock().now())
    prune(folder, settings.data.backup_hourly, settings.data.backup_daily)
    _tell(True, made.head_seq, made.head_hash, None)
    out.print(str(made.path), markup=False)


@app.command()
def backups(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """List the backups in VAR_DIR/backups, newest first; exits 1 if one is no longer sound."""
    from serving.recovering import backup_folder
    from storage.rotation import backups as there
    from storage.rotation import is_sound

    folder = backup_folder(settings_from(None, config, sets))
    with progress_bar("backups", quiet=json) as tick:
        found = there(folder)
        sound: dict[Backup, bool] = {}
        for n, one in enumerate(found, start=1):
            sound[one] = is_sound(one)
            tick(n, len(found))
    if json:
        print_json({"items": [
            {"path": str(one.path), "at": iso(one.at), "rows": one.head_seq,
             "head_hash": one.head_hash, "verified": sound[one]}
            for one in found
        ]})  # fmt: skip
    elif not found:
        out.print(f"none in {folder}", markup=False)
    else:
        table = Table("made at", "rows", "head", "verified", "file", box=None)
        for one in found:
            mark = "[green]yes[/]" if sound[one] else "[red]no[/]"
            table.add_row(iso(one.at), f"{one.head_seq:,}", one.head_hash[:8], mark, one.path.name)
        out.print(table)
    if bad := [one.path.name for one in found if not sound[one]]:
        raise CheckFailed("backups", "are no longer what was verified", bad)


@app.command()
def restore(
    source: Annotated[
        Path | None, typer.Argument(help="a backup; none = the newest sound one in VAR_DIR/backups")
    ] = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Put the last state that verifies in the place of a damaged or missing database.

    Rows of the damaged file that follow on the backup and still verify are kept; the file is
    moved aside. Afterwards accounts are HALTED if rows are gone.

    Example: conclave ledger restore
    """
    from serving import recovering
    from serving.system import SystemClock
    from storage import backup as copies
    from storage.engine import database_file
    from storage.rotation import described

    settings, clock = settings_from(None, config, sets), SystemClock()
    path = database_file(settings.database_url())
    if path is not None and not path.exists() and source is not None:
        report = copies.restore(source, path)
        _tell(report.ok, report.rows, report.head_hash, report.problem)
        return
    why = recovering.damage(settings)
    if not why:
        raise UsageError(
            "ledger", "verifies: there is nothing to restore", str(path),
            "Move it away first to go back to a backup.",
        )  # fmt: skip
    chosen = None if source is None else described(source, clock.now())
    done, seconds = recovering.restore_newest(settings, clock, chosen, why)
    out.print(recovering.told(done, seconds), markup=False)


def _tell(ok: bool, rows: int, head: str, problem: str | None) -> None:
    if ok:
        out.print(f"[green]clean[/]: {rows:,} rows, chain head {head[:16]}…, books sum to zero")
    else:
        out.print(f"broken: {problem}", style="red", markup=False)


def _database(config: Config, sets: Set) -> Engine:
    from serving.bootstrap.storage import open_storage

    return open_storage(settings_from(None, config, sets))
