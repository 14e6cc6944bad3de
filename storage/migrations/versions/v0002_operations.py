"""Operation: risk events, the operator's reports and reflections join the chain.

Beside it: what the council has learned, how the processes are, and views that read the ledger as
trades in context, as a log of risk, and as costs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage import timescale, triggers

revision = "v0002"
down_revision = "v0001"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LEDGER = ("risk_events", "operator_reports", "reflections")

_ENTRY = """(
  SELECT o.{column} FROM orders o
  WHERE o.world = t.world AND o.decision_id = t.decision_id AND o.account = t.account
    AND o.symbol = t.symbol AND o.intent = 'entry'
  ORDER BY o.seq LIMIT 1)"""
VIEWS = {
    "trade_context": f"""
SELECT t.seq, t.world, t.id AS trade_id, t.account, t.symbol, t.strategy, t.side, t.qty,
  t.opened_at, t.closed_at, t.entry, t.exit, t.reason AS exit_reason, t.pnl, t.fee, t.spread,
  t.slippage, t.funding, t.decision_id, {_ENTRY.format(column="id")} AS entry_order_id,
  {_ENTRY.format(column="qty")} AS ordered_qty,
  d.symbol AS forecast_symbol, d.timeframe, d.as_of, d.horizon_bars, d.prob_up,
  d.expected_return, d.quantiles, d.risk_score, d.break_even_prob, d.stop, d.target, d.weights,
  d.contributions, d.reasons, d.margins, d.inputs, d.model_versions, d.gate, (
  SELECT r.text FROM reflections r
  WHERE r.world = t.world AND r.decision_id = t.decision_id AND r.account = t.account
    AND r.symbol = t.symbol
  ORDER BY r.seq DESC LIMIT 1) AS reflection
FROM trades t
LEFT JOIN chain c ON c.world = t.world AND c.record_key = t.decision_id AND c.kind = 'decision'
LEFT JOIN decisions d ON d.seq = c.seq""",  # noqa: S608 - our own names
    "risk_log": """
SELECT seq, world, account, at, 'mode_change' AS source,
  CASE mode WHEN 'ACTIVE' THEN 'info' ELSE 'warning' END AS level, mode AS kind, '' AS subject,
  "by", why, CAST(NULL AS DOUBLE PRECISION) AS value, '' AS body, '' AS decision_id
FROM mode_changes
UNION ALL
SELECT seq, world, account, at, 'refusal', 'info', code, symbol, 'risk',
  rule || ' (' || value || ')', NULL, '', decision_id
FROM refusals
UNION ALL
SELECT seq, world, account, at, 'risk_event', level, kind, subject, "by", '', NULL, body, ''
FROM risk_events
UNION ALL
SELECT seq, world, account, at, 'operator_report', 'info', source, '', "by", note, value, '', ''
FROM operator_reports""",
    "cost_tracker": """
SELECT seq, world, account, at, at / 86400000 * 86400000 AS day, symbol,
  CASE intent WHEN 'liquidation' THEN 'liquidation' ELSE 'fee' END AS cost, fee AS amount,
  id AS entry
FROM fills
UNION ALL
SELECT seq, world, account, at, at / 86400000 * 86400000, symbol, 'spread', spread, id
FROM fills
UNION ALL
SELECT seq, world, account, at, at / 86400000 * 86400000, symbol, 'slippage', slippage, id
FROM fills
UNION ALL
SELECT seq, world, account, at, at / 86400000 * 86400000, REPLACE(memo, ' funding', ''), 'funding',
  amount, entry
FROM postings WHERE book = 'funding'""",
}
HYPERTABLES = {"learned_patterns": "at", "service_health": "at"}


def upgrade() -> None:
    dialect = op.get_context().dialect.name
    _ledger(
        "risk_events", ["account", "at"],
        _text("account"), _int("at"), _text("kind"), _text("subject"), _text("level"), _text("by"),
        _text("body"),
    )  # fmt: skip
    _ledger(
        "operator_reports", [],
        _text("account"), _int("at"), _text("source"), _real("value"), _text("by"), _text("note"),
    )  # fmt: skip
    _ledger(
        "reflections", ["decision_id"],
        _text("account"), _text("symbol"), _text("decision_id"), _int("at"), _text("author"),
        _text("text"), _text("tags"), sa.Column("draft", sa.Boolean, nullable=False),
        sa.Column("followed_plan", sa.Boolean, nullable=True),
    )  # fmt: skip
    for table in LEDGER:
        for statement in triggers.install(dialect, table, [["seq"]]):
            op.execute(statement)
    op.create_index("ix_orders_world_decision_id", "orders", ["world", "decision_id"])
    _measurements()
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query.strip()}")
    if dialect == "postgresql":
        for table, time in HYPERTABLES.items():
            op.execute(timescale.make_hypertable(table, time))


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    for table in HYPERTABLES:
        op.drop_table(table)
    op.drop_index("ix_orders_world_decision_id", "orders")
    for table in LEDGER:
        for statement in triggers.remove(op.get_context().dialect.name, table):
            op.execute(statement)
        op.drop_table(table)


def _measurements() -> None:
    op.create_table(
        "learned_patterns", _text("world"), _text("symbol"), _text("agent"), _int("at"),
        _real("weight"), _real("brier", null=True), _real("skill_1e4", null=True), _int("n"),
        _text("seat"),
        sa.PrimaryKeyConstraint("world", "symbol", "agent", "at", name="pk_learned_patterns"),
    )  # fmt: skip
    op.create_table(
        "service_health", _text("service"), _int("at"), _text("world"), _int("pid"),
        _text("status"), _int("rss_bytes"), _real("cpu_seconds"), _real("lag_seconds"),
        _int("decisions"), _text("via"), _real("feed_age_seconds", null=True),
        sa.PrimaryKeyConstraint("service", "at", name="pk_service_health"),
    )  # fmt: skip


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


def _real(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Double, nullable=null)
