"""Bringing a database to the schema this code knows, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select, table

from domain.errors import LedgerError, UsageError
from storage.engine import read, write

_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(engine: Engine, revision: str = "head") -> str:
    """Migrate up to ``revision`` and return the revision reached. Safe from several processes.

    Raises
    ------
    LedgerError : if the database was made by a newer Conclave.
    UsageError : if there is no such revision.
    """
    return _run(engine, revision, command.upgrade)


def downgrade(engine: Engine, revision: str, *, discard: bool = False) -> str | None:
    """Migrate down to ``revision`` (``base`` drops every table) and return it.

    Raises
    ------
    LedgerError : if a table of the ledger that holds records would be dropped and ``discard`` is
        not set, or as :func:`upgrade`. What was discarded stays in the chain, which from then on
        no longer verifies.
    UsageError : if there is no such revision.
    """

    def step(config: Config, to: str) -> None:
        if not discard:
            _refuse_loss(config.attributes["connection"], to)
        command.downgrade(config, to)

    return _run(engine, revision, step) or None


def current(engine: Engine) -> str | None:
    """Return the database's revision, or None before the first migration."""
    with read(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def revisions() -> list[str]:
    """Return all revisions this code knows, oldest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def sql(dialect: str, down_to: str | None = None) -> str:
    """Return all migrations as SQL text for ``postgresql`` (or ``sqlite``), run by nobody.

    Parameters
    ----------
    down_to : revision, or ``base``: the way down to it from the newest one instead.
    """
    config = _config()
    config.attributes["dialect"] = dialect
    text = StringIO()
    config.output_buffer = text
    if down_to is None:
        command.upgrade(config, "head", sql=True)
    else:
        command.downgrade(config, f"{revisions()[-1]}:{down_to}", sql=True)
    return text.getvalue()


def _run(engine: Engine, revision: str, step: Callable[[Config, str], None]) -> str:
    if revision not in ("head", "base", *revisions()):
        known = ", ".join(revisions())
        raise UsageError("revision", "must be one of this code's", revision, f"Known: {known}.")
    with write(engine) as connection:
        _refuse_newer(connection)
        step(_config(connection), revision)
        return MigrationContext.configure(connection).get_current_revision() or ""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _refuse_newer(connection: Connection) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in revisions():
        raise LedgerError(
            "database", f"was made by a newer Conclave (this one knows {revisions()[-1]})", found,
            "Update Conclave, or open another DATABASE_URL.",
        )  # fmt: skip


def _refuse_loss(connection: Connection, down_to: str) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        return
    kept = () if down_to == "base" else revisions()[: revisions().index(down_to) + 1]
    scripts = ScriptDirectory.from_config(_config())
    for script in scripts.walk_revisions("base", found):
        for name in () if script.revision in kept else script.module.LEDGER:
            rows = connection.execute(select(func.count()).select_from(table(name))).scalar()
            if rows:
                raise LedgerError(
                    f"table {name}", "is never dropped while it holds records", rows,
                    "Make a backup, then migrate down with discard.",
                )  # fmt: skip
