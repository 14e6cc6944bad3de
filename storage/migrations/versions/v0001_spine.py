"""The spine: one chain, its typed tables, events, and the ordinary tables around them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage import triggers

revision = "v0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MONEY = sa.Text().with_variant(sa.Numeric(), "postgresql")

TYPED = (
    "bars", "opinions", "outcomes", "decisions", "orders", "fills", "postings", "trades",
    "refusals", "equity_marks", "mode_changes",
)  # fmt: skip
ORDINARY = (
    "accounts", "symbols", "outbox", "inbox", "jobs", "leases", "snapshots", "proposals", "audit",
)  # fmt: skip
LEDGER = ("chain", *TYPED, "events")
INSERT_ONLY = {
    "chain": [["seq"], ["world", "record_key", "kind"]],
    **{table: [["seq"]] for table in TYPED},
    "events": [["id"], ["world", "key"]],
}


def upgrade() -> None:
    _chain_and_events()
    _forecasts()
    _trading()
    _ordinary()
    for table, keys in INSERT_ONLY.items():
        for statement in triggers.install(op.get_context().dialect.name, table, keys):
            op.execute(statement)


def downgrade() -> None:
    for table in INSERT_ONLY:
        for statement in triggers.remove(op.get_context().dialect.name, table):
            op.execute(statement)
    for table in (*ORDINARY, "events", *TYPED, "chain"):
        op.drop_table(table)


def _chain_and_events() -> None:
    op.create_table(
        "chain",
        sa.Column("seq", BIG, primary_key=True, autoincrement=False),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("record_key", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("world", "record_key", "kind", name="uq_chain_world"),
    )
    op.create_index("ix_chain_world_seq", "chain", ["world", "seq"])
    op.create_table(
        "events",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("world", "key", name="uq_events_world"),
    )
    op.create_index("ix_events_world_id", "events", ["world", "id"])


def _forecasts() -> None:
    op.create_table(
        "bars",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_bars_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("timeframe", sa.Text, nullable=False),
        sa.Column("open_ms", sa.BigInteger, nullable=False),
        sa.Column("open", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("close", sa.Double, nullable=False),
        sa.Column("volume", sa.Double, nullable=False),
    )
    op.create_index("ix_bars_world_seq", "bars", ["world", "seq"])
    op.create_index(
        "ix_bars_world_symbol_timeframe_open_ms",
        "bars",
        ["world", "symbol", "timeframe", "open_ms"],
    )
    op.create_table(
        "opinions",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_opinions_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("timeframe", sa.Text, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("horizon_bars", sa.BigInteger, nullable=False),
        sa.Column("p_up", sa.Double, nullable=True),
        sa.Column("quantiles", sa.Text, nullable=True),
        sa.Column("expected_return", sa.Double, nullable=True),
        sa.Column("risk_down", sa.Double, nullable=True),
        sa.Column("risk_up", sa.Double, nullable=True),
        sa.Column("rationale", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
    )
    op.create_index("ix_opinions_world_seq", "opinions", ["world", "seq"])
    op.create_index("ix_opinions_world_symbol_as_of", "opinions", ["world", "symbol", "as_of"])
    op.create_table(
        "outcomes",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_outcomes_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("timeframe", sa.Text, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("horizon_bars", sa.BigInteger, nullable=False),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("log_return", sa.Double, nullable=False),
        sa.Column("drop", sa.Double, nullable=False),
        sa.Column("rise", sa.Double, nullable=False),
    )
    op.create_index("ix_outcomes_world_seq", "outcomes", ["world", "seq"])
    op.create_index("ix_outcomes_world_symbol_as_of", "outcomes", ["world", "symbol", "as_of"])
    op.create_table(
        "decisions",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_decisions_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("timeframe", sa.Text, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("horizon_bars", sa.BigInteger, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("intent", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("prob_up", sa.Double, nullable=True),
        sa.Column("expected_return", sa.Double, nullable=True),
        sa.Column("quantiles", sa.Text, nullable=True),
        sa.Column("risk_score", sa.Double, nullable=True),
        sa.Column("risk_down", sa.Double, nullable=True),
        sa.Column("risk_up", sa.Double, nullable=True),
        sa.Column("break_even_prob", sa.Double, nullable=True),
        sa.Column("stop", sa.Double, nullable=True),
        sa.Column("target", sa.Double, nullable=True),
        sa.Column("weights", sa.Text, nullable=False),
        sa.Column("contributions", sa.Text, nullable=False),
        sa.Column("explanations", sa.Text, nullable=False),
        sa.Column("absent", sa.Text, nullable=False),
        sa.Column("margins", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("model_versions", sa.Text, nullable=False),
        sa.Column("gate", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("state_seq", sa.BigInteger, nullable=False),
        sa.Column("git_commit", sa.Text, nullable=False),
    )
    op.create_index("ix_decisions_world_seq", "decisions", ["world", "seq"])
    op.create_index("ix_decisions_world_symbol_as_of", "decisions", ["world", "symbol", "as_of"])


def _trading() -> None:
    op.create_table(
        "orders",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_orders_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("qty", MONEY, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("intent", sa.Text, nullable=False),
        sa.Column("price", MONEY, nullable=True),
        sa.Column("trigger", MONEY, nullable=True),
        sa.Column("reduce_only", sa.Boolean, nullable=False),
    )
    op.create_index("ix_orders_world_seq", "orders", ["world", "seq"])
    op.create_table(
        "fills",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_fills_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("order_id", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("qty", MONEY, nullable=False),
        sa.Column("price", MONEY, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("fee", MONEY, nullable=False),
        sa.Column("spread", MONEY, nullable=False),
        sa.Column("slippage", MONEY, nullable=False),
        sa.Column("reference", MONEY, nullable=False),
        sa.Column("maker", sa.Boolean, nullable=False),
        sa.Column("intent", sa.Text, nullable=False),
        sa.Column("realised", MONEY, nullable=False),
    )
    op.create_index("ix_fills_world_order_id", "fills", ["world", "order_id"])
    op.create_index("ix_fills_world_seq", "fills", ["world", "seq"])
    op.create_table(
        "postings",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_postings_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("book", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("memo", sa.Text, nullable=False),
    )
    op.create_index("ix_postings_world_entry", "postings", ["world", "entry"])
    op.create_index("ix_postings_world_seq", "postings", ["world", "seq"])
    op.create_table(
        "trades",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_trades_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("qty", MONEY, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger, nullable=False),
        sa.Column("entry", MONEY, nullable=False),
        sa.Column("exit", MONEY, nullable=False),
        sa.Column("fee", MONEY, nullable=False),
        sa.Column("slippage", MONEY, nullable=False),
        sa.Column("spread", MONEY, nullable=False),
        sa.Column("funding", MONEY, nullable=False),
        sa.Column("pnl", MONEY, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
    )
    op.create_index("ix_trades_world_seq", "trades", ["world", "seq"])
    op.create_table(
        "refusals",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_refusals_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("intent", sa.Text, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
    )
    op.create_index("ix_refusals_world_seq", "refusals", ["world", "seq"])
    op.create_table(
        "equity_marks",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_equity_marks_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("cash", MONEY, nullable=False),
        sa.Column("equity", MONEY, nullable=False),
        sa.Column("high_water", MONEY, nullable=False),
    )
    op.create_index("ix_equity_marks_world_account_at", "equity_marks", ["world", "account", "at"])
    op.create_index("ix_equity_marks_world_seq", "equity_marks", ["world", "seq"])
    op.create_table(
        "mode_changes",
        sa.Column(
            "seq",
            BIG,
            sa.ForeignKey("chain.seq", name="fk_mode_changes_seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_index("ix_mode_changes_world_seq", "mode_changes", ["world", "seq"])


def _ordinary() -> None:
    op.create_table(
        "accounts",
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("world", "name", name="pk_accounts"),
    )
    op.create_table(
        "symbols",
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("timeframe", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("meta", sa.Text, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.UniqueConstraint("world", "key", name="uq_outbox_world"),
    )
    op.create_index("ix_outbox_world_state_id", "outbox", ["world", "state", "id"])
    op.create_table(
        "inbox",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("answered", sa.Boolean, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.UniqueConstraint("world", "key", name="uq_inbox_world"),
    )
    op.create_index("ix_inbox_world_answered_id", "inbox", ["world", "answered", "id"])
    op.create_table(
        "jobs",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("info", sa.Text, nullable=False),
    )
    op.create_table(
        "snapshots",
        sa.Column("world", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("world", "kind", "key", "seq", name="pk_snapshots"),
    )
    op.create_table(
        "proposals",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=True),
        sa.Column("decided_by", sa.Text, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
