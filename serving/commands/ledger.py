"""``conclave ledger``: can the books be believed, and taken elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from domain.canonical import plain
from domain.errors import CheckFailed, UsageError
from serving.commands.common import Config, Json, Set, err, out, print_json, settings_from

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = typer.Typer(help="Verify, export and restore the ledger.", no_args_is_help=True)


@app.command()
def verify(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Walk the hash chain and sum the books; exits 1 and names the first bad row if one is bad."""
    from storage.queries import Reader, worlds
    from storage.verify import verify_chain

    engine = _database(config, sets)
    report = verify_chain(engine)
    balances = {
        world.world: Reader(engine, world.world).trial_balance() for world in worlds(engine)
    }
    if json:
        print_json({**plain(report), "balances": balances})
    else:
        _tell(report.ok, report.rows, report.head_hash, report.problem)
        table = Table("world", "account", "book", "asset", "sum of postings", box=None)
        for world, rows in balances.items():
            for row in rows:
                table.add_row(world, row.account, row.book, row.asset, f"{row.amount:f}")
        if any(balances.values()):
            out.print(table)
    if not report.ok:
        raise CheckFailed("ledger", report.problem or "is broken", f"row {report.first_bad_seq}")


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="file to write, one JSON line a row")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Write every row of the chain as JSON lines."""
    from storage.backup import export_lines

    engine = _database(config, sets)
    plain_file = not target.is_symlink() and (target.is_file() or not target.exists())
    partial = target.with_name(f"{target.name}.partial") if plain_file else target
    try:
        with partial.open("w", encoding="utf-8") as file:
            rows = sum(1 for line in export_lines(engine) if file.write(line + "\n"))
        if plain_file:
            partial.replace(target)
    except OSError as error:
        raise UsageError(
            "target", f"cannot be written: {error.strerror}", str(target), "Choose another file."
        ) from error
    finally:
        if plain_file:
            partial.unlink(missing_ok=True)
    err.print(f"{rows:,} rows in {target}", markup=False)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="file to write; must not exist")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Copy the database while it is in use, and verify the copy."""
    from storage import backup as copies

    report = copies.backup(_database(config, sets), target)
    _tell(report.ok, report.rows, report.head_hash, report.problem)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="a backup")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Put a verified backup in the place of a missing database (move a damaged one away first)."""
    from storage import backup as copies

    settings = settings_from(None, config, sets)
    report = copies.restore(source, settings.data.var_dir / "ledger.db")
    _tell(report.ok, report.rows, report.head_hash, report.problem)


def _tell(ok: bool, rows: int, head: str, problem: str | None) -> None:
    if ok:
        out.print(f"[green]clean[/]: {rows:,} rows, chain head {head[:16]}…, books sum to zero")
    else:
        out.print(f"broken: {problem}", style="red", markup=False)


def _database(config: Config, sets: Set) -> Engine:
    from serving.bootstrap import open_storage

    return open_storage(settings_from(None, config, sets))
