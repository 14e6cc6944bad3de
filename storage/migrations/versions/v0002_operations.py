"""Operation: risk events, the operator's reports and reflections join the chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage import triggers

revision = "v0002"
down_revision = "v0001"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LEDGER = ("risk_events", "operator_reports", "reflections")


def upgrade() -> None:
    _ledger(
        "risk_events", ["account", "at"],
        _text("account"), _int("at"), _text("kind"), _text("subject"), _text("level"), _text("by"),
        _text("body"),
    )  # fmt: skip
    _ledger(
        "operator_reports", [],
        _text("account"), _int("at"), _text("source"),
        sa.Column("value", sa.Double, nullable=False), _text("by"), _text("note"),
    )  # fmt: skip
    _ledger(
        "reflections", ["decision_id"],
        _text("account"), _text("symbol"), _text("decision_id"), _int("at"), _text("author"),
        _text("text"), _text("tags"), sa.Column("draft", sa.Boolean, nullable=False),
        sa.Column("followed_plan", sa.Boolean, nullable=True),
    )  # fmt: skip
    for table in LEDGER:
        for statement in triggers.install(op.get_context().dialect.name, table, [["seq"]]):
            op.execute(statement)


def downgrade() -> None:
    for table in LEDGER:
        for statement in triggers.remove(op.get_context().dialect.name, table):
            op.execute(statement)
        op.drop_table(table)


def _ledger(name: str, index: list[str], *columns: sa.Column[object]) -> None:
    seq = sa.Column(
        "seq", BIG, sa.ForeignKey("chain.seq", name=f"fk_{name}_seq"), primary_key=True,
        autoincrement=False,
    )  # fmt: skip
    op.create_table(name, seq, _text("world"), *columns)
    op.create_index(f"ix_{name}_world_seq", name, ["world", "seq"])
    if index:
        op.create_index(f"ix_{name}_world_{'_'.join(index)}", name, ["world", *index])


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text, nullable=False)


def _int(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False)
