"""Trades made elsewhere join the chain, so that the journal can hold them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage import triggers

revision = "v0003"
down_revision = "v0002"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MONEY = sa.Text().with_variant(sa.Numeric(), "postgresql")
LEDGER = ("external_trades",)


def upgrade() -> None:
    op.create_table(
        "external_trades",
        sa.Column(
            "seq", BIG, sa.ForeignKey("chain.seq", name="fk_external_trades_seq"),
            primary_key=True, autoincrement=False,
        ),
        _text("world"), _text("id"), _text("account"), _text("ref"), _int("at"), _text("symbol"),
        _text("side"), _money("qty"), _int("opened_at"), _int("closed_at"), _money("entry"),
        _money("exit"), _money("fee"), _money("funding"), _money("pnl"), _text("by"),
        _text("source"), _text("note"),
    )  # fmt: skip
    op.create_index("ix_external_trades_world_seq", "external_trades", ["world", "seq"])
    for statement in triggers.install(op.get_context().dialect.name, "external_trades", [["seq"]]):
        op.execute(statement)


def downgrade() -> None:
    for statement in triggers.remove(op.get_context().dialect.name, "external_trades"):
        op.execute(statement)
    op.drop_table("external_trades")


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text, nullable=False)


def _int(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _money(name: str) -> sa.Column[object]:
    return sa.Column(name, MONEY, nullable=False)
