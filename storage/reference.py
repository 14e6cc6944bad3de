"""docs/SCHEMA.md, written from the code: ``python -m storage.reference > docs/SCHEMA.md``."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, Table
from sqlalchemy.schema import UniqueConstraint

from storage import views
from storage.glossary import TABLES, told
from storage.schema import INSERT_ONLY, DecimalText, metadata

_HEAD = """# Schema

Made from the code by `python -m storage.reference > docs/SCHEMA.md`; a test holds it to that.

One schema on SQLite and PostgreSQL. *money* is a decimal number that keeps every digit: text on
SQLite, unconstrained NUMERIC on PostgreSQL. SQLite would add text as floating point, so sums of
money are made in Python (`storage.views.cost_days`, `Reader.trial_balance`); on PostgreSQL `sum()`
is exact. Times are integers, UTC milliseconds. *text (JSON)* is canonical JSON.

The names of the trading platform's document in bold: **Symbol** is `symbols`, **TradeContext**
`trade_context`, **LearnedPattern** `learned_patterns`, **RiskLog** `risk_log`, **ServiceHealth**
`service_health`, **CostTracker** `cost_tracker`. Operating costs are not booked: no setting knows a
price of machines or language models; what a debater's answers took stands as `tokens` in the
evidence of its opinions.

## TimescaleDB

Where the extension is installed (and its library loaded), the migration makes hypertables of
`learned_patterns` and `service_health`, in chunks of a week; `conclave doctor` says whether it did.
The others stay ordinary tables, also there:

- A hypertable needs its time column in every unique key. The ledger's tables are keyed by `seq`,
  and `chain` by world, kind and key as well: an index by time could not refuse a second row.
- What hypertables are for, dropping and compressing old chunks, is what must never happen to the
  ledger. It is read by `seq`, which rises with time, so recent rows lie together anyway.
- `trade_context`, `risk_log` and `cost_tracker` are views of it and store nothing.
"""


def schema_markdown() -> str:
    """Return the document."""
    parts = [_HEAD]
    insert_only = {table.name for table in INSERT_ONLY}
    ledger = [table for table in metadata.tables.values() if table.name in insert_only]
    ordinary = [table for table in metadata.tables.values() if table.name not in insert_only]
    for title, words, tables in (
        ("The ledger", "INSERT-only by triggers. Each row but those of `events` is in the chain.",
         ledger),
        ("Ordinary tables", "Rows may change and go.", ordinary),
        ("Views", "They store nothing.", list(views.metadata.tables.values())),
    ):  # fmt: skip
        parts.append(f"## {title}\n\n{words}\n")
        parts += ["\n".join(_table(table)) for table in tables]
    return "\n".join(parts)


def _table(table: Table) -> Iterator[str]:
    words = TABLES[table.name]
    yield f"### {table.name}\n"
    yield f"{_sentence(words.meaning)} Written by: {words.written_by}. Read by: {words.read_by}."
    if keys := [", ".join(key) for key in _keys(table)]:
        yield f"Unique: {'; '.join(keys)}."
    yield "\n| column | type | unit | meaning |\n| --- | --- | --- | --- |"
    for column in table.columns:
        unit, meaning = told(table.name, column.name)
        kind = f"text ({unit})" if unit == "JSON" else _type(column)
        null = "" if column.nullable is False or table.metadata is views.metadata else ", or null"
        yield f"| `{column.name}` | {kind}{null} | {'' if unit == 'JSON' else unit} | {meaning} |"
    yield ""


def _sentence(text: str) -> str:
    bold = text.startswith("**")
    return f"{text if bold else text[0].upper() + text[1:]}."


def _keys(table: Table) -> Iterator[list[str]]:
    if len(table.primary_key.columns):
        yield [column.name for column in table.primary_key.columns]
    unique = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    yield from sorted([column.name for column in c.columns] for c in unique)


def _type(column: Column[object]) -> str:
    for of, name in (
        (DecimalText, "money"), (Boolean, "boolean"), (Double, "double"), (Integer, "integer"),
        (BigInteger, "integer"),
    ):  # fmt: skip
        if isinstance(column.type, of):
            return name
    return "text"


if __name__ == "__main__":
    import sys

    sys.stdout.write(schema_markdown())
