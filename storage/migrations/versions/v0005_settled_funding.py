"""What funding stamps of perpetuals paid joins the chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage import triggers

revision = "v0005"
down_revision = "v0004"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LEDGER = ("settled_funding",)


def upgrade() -> None:
    op.create_table(
        "settled_funding",
        sa.Column(
            "seq", BIG, sa.ForeignKey("chain.seq", name="fk_settled_funding_seq"),
            primary_key=True, autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False), sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("rate", sa.Double, nullable=False),
        sa.Column("published", sa.Boolean, nullable=False),
    )  # fmt: skip
    op.create_index("ix_settled_funding_world_seq", "settled_funding", ["world", "seq"])
    op.create_index(
        "ix_settled_funding_world_symbol_at", "settled_funding", ["world", "symbol", "at"]
    )
    for statement in triggers.install(op.get_context().dialect.name, "settled_funding", [["seq"]]):
        op.execute(statement)


def downgrade() -> None:
    for statement in triggers.remove(op.get_context().dialect.name, "settled_funding"):
        op.execute(statement)
    op.drop_table("settled_funding")
