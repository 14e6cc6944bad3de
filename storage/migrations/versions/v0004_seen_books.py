"""Order books that were seen join the chain, and what a feed received the measurements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage import triggers

revision = "v0004"
down_revision = "v0003"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LEDGER = ("seen_books",)
MEASURED = ("received_bytes", "reconnects")


def upgrade() -> None:
    op.create_table(
        "seen_books",
        sa.Column(
            "seq", BIG, sa.ForeignKey("chain.seq", name="fk_seen_books_seq"), primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False), sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False), sa.Column("view", sa.Text, nullable=False),
    )  # fmt: skip
    op.create_index("ix_seen_books_world_seq", "seen_books", ["world", "seq"])
    op.create_index("ix_seen_books_world_symbol_at", "seen_books", ["world", "symbol", "at"])
    for statement in triggers.install(op.get_context().dialect.name, "seen_books", [["seq"]]):
        op.execute(statement)
    for name in MEASURED:
        op.add_column("service_health", sa.Column(name, sa.BigInteger, nullable=True))


def downgrade() -> None:
    for name in MEASURED:
        op.drop_column("service_health", name)
    for statement in triggers.remove(op.get_context().dialect.name, "seen_books"):
        op.execute(statement)
    op.drop_table("seen_books")
