"""Every table, as of the newest migration. SQLite now, PostgreSQL with the same definitions.

Times are UTC milliseconds, returns and probabilities fractions, money Decimal. The row types of
the ledger are the dataclasses of :mod:`domain`; :mod:`storage.kinds` maps one to the other.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from domain.canonical import canonical_json


class DecimalText(TypeDecorator[str]):
    """A Decimal in fixed-point notation: text on SQLite, unconstrained NUMERIC on PostgreSQL.

    Both keep every digit, trailing zeros included. In Python the column is text, so that a row
    can be hashed as it is; :mod:`storage.kinds` makes Decimals of it.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        exact = dialect.name == "postgresql"
        return dialect.type_descriptor(Numeric() if exact else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Hand the text to SQLite, a Decimal to PostgreSQL."""
        return Decimal(value) if value is not None and dialect.name == "postgresql" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the text."""
        return format(value, "f") if isinstance(value, Decimal) else value


class JsonText(TypeDecorator[Any]):
    """A JSON value as canonical text: sorted keys, no NaN, floats that survive the round trip."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        """Write canonical JSON."""
        return canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Read JSON."""
        return None if value is None else json.loads(value)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite makes a 64-bit row id of INTEGER PRIMARY KEY only, and a second index of any other type.
BIG = BigInteger().with_variant(Integer, "sqlite")


def _text(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=null)


def _int(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=null)


def _real(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, Double, nullable=null)


def _money(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, DecimalText, nullable=null)


def _json(name: str) -> Column[Any]:
    return Column(name, JsonText, nullable=False)


def _id() -> Column[Any]:
    return Column("id", BIG, primary_key=True, autoincrement=False)


chain = Table(
    "chain",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    _text("world"),
    _text("kind"),
    _text("record_key"),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("world", "record_key", "kind"),
    Index(None, "world", "seq"),
)


def _ledger(name: str, *columns: Column[Any], index: tuple[str, ...] = ()) -> Table:
    """Make a typed table of the chain: JSON columns are plain text here, hashed as stored."""
    extra = [Index(None, "world", *index)] if index else []
    seq = Column("seq", BIG, ForeignKey(chain.c.seq), primary_key=True, autoincrement=False)
    return Table(name, metadata, seq, _text("world"), *columns, Index(None, "world", "seq"), *extra)


bars = _ledger(
    "bars",
    _text("symbol"), _text("timeframe"), _int("open_ms"),
    _real("open"), _real("high"), _real("low"), _real("close"), _real("volume"),
    index=("symbol", "timeframe", "open_ms"),
)  # fmt: skip

opinions = _ledger(
    "opinions",
    _text("agent"), _text("model_version"), _text("symbol"), _text("timeframe"), _int("as_of"),
    _int("horizon_bars"), _real("p_up", null=True), _text("quantiles", null=True),
    _real("expected_return", null=True), _real("risk_down", null=True),
    _real("risk_up", null=True), _text("rationale"), _text("evidence"),
    index=("symbol", "as_of"),
)  # fmt: skip

outcomes = _ledger(
    "outcomes",
    _text("symbol"), _text("timeframe"), _int("as_of"), _int("horizon_bars"), _int("due"),
    _real("log_return"), _real("drop"), _real("rise"),
    index=("symbol", "as_of"),
)  # fmt: skip

decisions = _ledger(
    "decisions",
    _text("id"), _text("symbol"), _text("timeframe"), _int("as_of"), _int("ts"),
    _int("horizon_bars"), _text("strategy"), _text("intent"), _text("action"), _text("reasons"),
    _text("reason"), _real("prob_up", null=True), _real("expected_return", null=True),
    _text("quantiles", null=True), _real("risk_score", null=True), _real("risk_down", null=True),
    _real("risk_up", null=True), _real("break_even_prob", null=True), _real("stop", null=True),
    _real("target", null=True), _text("weights"), _text("contributions"), _text("explanations"),
    _text("absent"), _text("margins"), _text("inputs"), _text("model_versions"), _text("gate"),
    _text("origin"), _text("source"), _int("state_seq"), _text("git_commit"),
    index=("symbol", "as_of"),
)  # fmt: skip

orders = _ledger(
    "orders",
    _text("id"), _text("account"), _text("symbol"), _text("side"), _money("qty"), _text("type"),
    _int("created_at"), _text("decision_id"), _text("intent"), _money("price", null=True),
    _money("trigger", null=True), Column("reduce_only", Boolean, nullable=False),
    index=("decision_id",),
)  # fmt: skip

fills = _ledger(
    "fills",
    _text("id"), _text("order_id"), _text("account"), _text("symbol"), _text("side"),
    _money("qty"), _money("price"), _int("at"), _money("fee"), _money("spread"),
    _money("slippage"), _money("reference"), Column("maker", Boolean, nullable=False),
    _text("intent"), _money("realised"),
    index=("order_id",),
)  # fmt: skip

postings = _ledger(
    "postings",
    _text("entry"), _text("account"), _text("book"), _text("asset"), _money("amount"), _int("at"),
    _text("memo"),
    index=("entry",),
)  # fmt: skip

trades = _ledger(
    "trades",
    _text("id"), _text("symbol"), _text("side"), _money("qty"), _int("opened_at"),
    _int("closed_at"), _money("entry"), _money("exit"), _money("fee"), _money("slippage"),
    _money("spread"), _money("funding"), _money("pnl"), _text("reason"), _text("account"),
    _text("strategy"), _text("decision_id"),
)  # fmt: skip

refusals = _ledger(
    "refusals",
    _text("account"), _text("symbol"), _int("at"), _text("code"), _text("rule"), _text("value"),
    _text("intent"), _text("decision_id"),
)  # fmt: skip

equity_marks = _ledger(
    "equity_marks",
    _text("account"), _int("at"), _money("cash"), _money("equity"), _money("high_water"),
    index=("account", "at"),
)  # fmt: skip

mode_changes = _ledger(
    "mode_changes",
    _text("account"), _int("at"), _text("mode"), _text("by"), _text("why"),
)  # fmt: skip

risk_events = _ledger(
    "risk_events",
    _text("account"), _int("at"), _text("kind"), _text("subject"), _text("level"), _text("by"),
    _text("body"),
    index=("account", "at"),
)  # fmt: skip

seen_books = _ledger(
    "seen_books",
    _text("symbol"), _int("at"), _text("view"),
    index=("symbol", "at"),
)  # fmt: skip

settled_funding = _ledger(
    "settled_funding",
    _text("symbol"), _int("at"), _real("rate"), Column("published", Boolean, nullable=False),
    index=("symbol", "at"),
)  # fmt: skip

operator_reports = _ledger(
    "operator_reports",
    _text("account"), _int("at"), _text("source"), _real("value"), _text("by"), _text("note"),
)  # fmt: skip

reflections = _ledger(
    "reflections",
    _text("account"), _text("symbol"), _text("decision_id"), _int("at"), _text("author"),
    _text("text"), _text("tags"), Column("draft", Boolean, nullable=False),
    Column("followed_plan", Boolean, nullable=True),
    index=("decision_id",),
)  # fmt: skip

external_trades = _ledger(
    "external_trades",
    _text("id"), _text("account"), _text("ref"), _int("at"), _text("symbol"), _text("side"),
    _money("qty"), _int("opened_at"), _int("closed_at"), _money("entry"), _money("exit"),
    _money("fee"), _money("funding"), _money("pnl"), _text("by"), _text("source"), _text("note"),
)  # fmt: skip

events = Table(
    "events", metadata, _id(), _text("world"), _text("key"), _text("kind"), _int("at"),
    _text("level"), _json("body"),
    UniqueConstraint("world", "key"), Index(None, "world", "id"),
)  # fmt: skip

# ------------------------------------------------------------------ ordinary tables

accounts = Table(
    "accounts", metadata, _text("world"), _text("name"), _text("currency"), _text("kind"),
    PrimaryKeyConstraint("world", "name"),
)  # fmt: skip

symbols = Table(
    "symbols", metadata, _text("symbol"), _text("market"), _text("timeframe"),
    Column("active", Boolean, nullable=False), _json("meta"), PrimaryKeyConstraint("symbol"),
)  # fmt: skip

outbox = Table(
    "outbox", metadata, _id(), _text("world"), _text("key"), _text("kind"), _int("at"),
    _text("level"), _json("body"), _text("state"), _int("attempts"), _text("error"),
    UniqueConstraint("world", "key"), Index(None, "world", "state", "id"),
)  # fmt: skip

inbox = Table(
    "inbox", metadata, _id(), _text("world"), _text("kind"), _text("key", null=True), _json("body"),
    _int("at"), Column("answered", Boolean, nullable=False), _json("result"),
    UniqueConstraint("world", "key"), Index(None, "world", "answered", "id"),
)  # fmt: skip

jobs = Table(
    "jobs", metadata, _id(), _text("kind"), _text("state"), _json("body"), _json("result"),
    _int("created_at"), _int("updated_at"), Index(None, "state", "id"),
)  # fmt: skip

leases = Table(
    "leases", metadata, _text("name"), _text("owner"), _int("expires_at"), _json("info"),
    PrimaryKeyConstraint("name"),
)  # fmt: skip

snapshots = Table(
    "snapshots", metadata, _text("world"), _text("kind"), _text("key"),
    Column("seq", BigInteger, nullable=False), _json("body"),
    PrimaryKeyConstraint("world", "kind", "key", "seq"),
)  # fmt: skip

proposals = Table(
    "proposals", metadata, _id(), _text("kind"), _text("state"), _json("body"),
    _int("created_at"), _int("decided_at", null=True), _text("decided_by"),
)  # fmt: skip

audit = Table(
    "audit", metadata, _id(), _int("at"), _text("actor"), _text("action"), _json("body"),
)  # fmt: skip

learned_patterns = Table(
    "learned_patterns", metadata, _text("world"), _text("symbol"), _text("agent"), _int("at"),
    _real("weight"), _real("brier", null=True), _real("skill_1e4", null=True), _int("n"),
    _text("seat"), PrimaryKeyConstraint("world", "symbol", "agent", "at"),
)  # fmt: skip

service_health = Table(
    "service_health", metadata, _text("service"), _int("at"), _text("world"), _int("pid"),
    _text("status"), _int("rss_bytes"), _real("cpu_seconds"), _real("lag_seconds"),
    _int("decisions"), _text("via"), _real("feed_age_seconds", null=True),
    _int("received_bytes", null=True), _int("reconnects", null=True),
    PrimaryKeyConstraint("service", "at"),
)  # fmt: skip

TYPED: tuple[Table, ...] = (
    bars, opinions, outcomes, decisions, orders, fills, postings, trades, refusals, equity_marks,
    mode_changes, risk_events, operator_reports, reflections, external_trades,
    seen_books, settled_funding,
)  # fmt: skip
INSERT_ONLY: tuple[Table, ...] = (chain, *TYPED, events)
