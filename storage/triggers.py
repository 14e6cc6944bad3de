"""Statements that make a table INSERT-only, for SQLite and PostgreSQL.

``INSERT OR REPLACE`` deletes without firing a delete trigger; hence the third trigger, which
refuses an insert whose key exists, whatever its conflict clause says.
"""

from __future__ import annotations

from collections.abc import Sequence

# Each insert-only table with its unique keys, as of migration v0001.
Keys = Sequence[Sequence[str]]


def install(dialect: str, table: str, keys: Keys) -> list[str]:
    """Return the statements that refuse UPDATE, DELETE and a second insert of a key."""
    return (_postgresql if dialect == "postgresql" else _sqlite)(table, keys)


def remove(dialect: str, table: str) -> list[str]:
    """Return the statements that take the triggers away again."""
    where = f" ON {table}" if dialect == "postgresql" else ""
    names = ["no_update", "no_delete", "no_replace"]
    if dialect == "postgresql":
        names.append("no_truncate")
    drops = [f"DROP TRIGGER IF EXISTS {table}_{name}{where}" for name in names]
    if dialect == "postgresql":
        drops += [f"DROP FUNCTION IF EXISTS {table}_{what}()" for what in ("refuse", "unique")]
    return drops


def _same(table: str, keys: Keys) -> str:
    tests = (" AND ".join(f"{name} = NEW.{name}" for name in key) for key in keys)
    found = (f"SELECT 1 FROM {table} WHERE {test}" for test in tests)  # noqa: S608 - our names
    return " OR ".join(f"EXISTS ({query})" for query in found)


def _sqlite(table: str, keys: Keys) -> list[str]:
    def trigger(name: str, before: str, when: str = "") -> str:
        return (
            f"CREATE TRIGGER {table}_{name} BEFORE {before} ON {table} {when} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is insert-only: {before} refused'); END"
        )

    return [
        trigger("no_update", "UPDATE"),
        trigger("no_delete", "DELETE"),
        trigger("no_replace", "INSERT", f"WHEN {_same(table, keys)}"),
    ]


def _postgresql(table: str, keys: Keys) -> list[str]:
    refuse = (  # no percent sign: drivers and offline mode disagree on how to write one
        f"RAISE EXCEPTION USING MESSAGE = '{table} is insert-only: ' || TG_OP || ' refused', "
        "ERRCODE = 'integrity_constraint_violation';"
    )

    def function(name: str, body: str) -> str:
        return (
            f"CREATE FUNCTION {table}_{name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {body} END $$"
        )

    def trigger(name: str, before: str, each: str, call: str) -> str:
        return (
            f"CREATE TRIGGER {table}_{name} BEFORE {before} ON {table} "
            f"FOR EACH {each} EXECUTE FUNCTION {table}_{call}()"
        )

    return [
        function("refuse", refuse),
        function("unique", f"IF {_same(table, keys)} THEN {refuse} END IF; RETURN NEW;"),
        trigger("no_update", "UPDATE", "ROW", "refuse"),
        trigger("no_delete", "DELETE", "ROW", "refuse"),
        trigger("no_truncate", "TRUNCATE", "STATEMENT", "refuse"),
        trigger("no_replace", "INSERT", "ROW", "unique"),
    ]
