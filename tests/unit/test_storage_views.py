"""The platform's tables: views of the ledger, measurements, and the document that lists them."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.errors import UsageError
from domain.operations import OperatorReport, Reflection, RiskEvent
from domain.trading import ClosedTrade, Fill, ModeChange, Posting, RiskMode
from storage import glossary, views
from storage.engine import open_database, read, sqlite_url
from storage.health import (
    KEPT_MS,
    LearnedPattern,
    ServiceHealth,
    health,
    note_health,
    note_patterns,
    patterns,
)
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.queries import Reader
from storage.reference import schema_markdown
from storage.schema import metadata
from tests.execution_scenes import PERP, START, STEP, Script, loop_over, states_of, walk

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "SCHEMA.md"
DAY = 86_400_000


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    return engine


@pytest.fixture
def ledger(engine: Engine) -> SqlLedger:
    """The ledger of a perpetual traded over two days, with funding and two round trips."""
    ledger = SqlLedger(engine, "w")
    loop = loop_over(ledger, Script({5: "LONG", 300: "SHORT"}, horizon_bars=200))
    for state in states_of(list(walk(560).bars())):
        loop.step(state, [], {}, state.as_of)
    return ledger


def test_schema_document_when_made_again_then_the_committed_one_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == schema_markdown(), (
        "run: python -m storage.reference > docs/SCHEMA.md"
    )


def test_glossary_when_held_against_the_schema_then_every_word_in_it_is_used() -> None:
    tables = {**metadata.tables, **views.metadata.tables}
    assert set(glossary.TABLES) == set(tables)
    columns = {(t.name, c.name) for t in tables.values() for c in t.columns}
    used = {f"{t}.{c}" if f"{t}.{c}" in glossary.COLUMNS else c for t, c in columns}
    assert used == set(glossary.COLUMNS)


def test_views_when_migrated_then_they_have_the_columns_that_the_code_reads(
    engine: Engine,
) -> None:
    with read(engine) as connection:
        for view in views.metadata.tables.values():
            rows = connection.exec_driver_sql(f"PRAGMA table_info({view.name})")
            assert [row[1] for row in rows] == list(view.c.keys())


@pytest.mark.long
def test_trade_context_when_a_trade_has_closed_then_its_decision_order_and_words_are_beside_it(
    engine: Engine, ledger: SqlLedger
) -> None:
    trades = [record for _, record in ledger.records(ClosedTrade)]
    told = Reflection("paper", PERP.symbol, trades[0].decision_id, 1, "me", "Early.", ("x",))
    ledger.append([told, replace(told, at=2, text="Too early.")])
    found = views.page(engine, views.trade_context, "w")
    rows = [row for _, row in found.items][::-1]
    assert [row["trade_id"] for row in rows] == [trade.id for trade in trades]
    for row, trade in zip(rows, trades, strict=True):
        decision = Reader(engine, "w").decision(trade.decision_id)[1]
        assert (row["as_of"], row["horizon_bars"]) == (decision.as_of, decision.horizon_bars)
        assert row["opened_at"] >= row["as_of"]
        assert json.loads(row["margins"]) == decision.margins != {}
        orders = Reader(engine, "w").orders(decision_id=decision.id, intent="entry")
        order = orders.items[0][1]
        assert (row["entry_order_id"], row["ordered_qty"]) == (order.id, format(order.qty, "f"))
        assert Decimal(row["pnl"]) == trade.pnl
    assert [row["reflection"] for row in rows] == ["Too early.", None]
    assert views.page(engine, views.trade_context, "elsewhere").items == ()


@pytest.mark.long
def test_trade_context_when_paged_then_each_trade_comes_once(
    engine: Engine, ledger: SqlLedger
) -> None:
    first = views.page(engine, views.trade_context, "w", limit=1)
    second = views.page(engine, views.trade_context, "w", limit=1, before_seq=first.next)
    assert first.items[0][0] > second.items[0][0]
    assert second.next is None
    with pytest.raises(UsageError, match="must be a column"):
        views.page(engine, views.trade_context, "w", pnl_usd=1)


def test_risk_log_when_anything_bears_on_risk_then_it_is_in_one_place(
    engine: Engine, ledger: SqlLedger
) -> None:
    ledger.append([
        ModeChange("paper", START, RiskMode.HALTED, "risk", "daily loss"),
        RiskEvent("paper", START + 1, "external", "news", "error", "me", {"score": 0.5}),
        OperatorReport("paper", START + 2, "hrv", 41.25, "watch", "after lunch"),
        ModeChange("paper", START + 3, RiskMode.ACTIVE, "me", "calm"),
    ])  # fmt: skip
    rows = [row for _, row in views.page(engine, views.risk_log, "w", limit=4).items]
    assert [(row["source"], row["level"], row["kind"], row["by"]) for row in rows] == [
        ("mode_change", "info", "ACTIVE", "me"),
        ("operator_report", "info", "hrv", "watch"),
        ("risk_event", "error", "external", "me"),
        ("mode_change", "warning", "HALTED", "risk"),
    ]
    assert (rows[1]["value"], rows[1]["why"]) == (41.25, "after lunch")
    assert json.loads(rows[2]["body"]) == {"score": 0.5}
    assert views.page(engine, views.risk_log, "w", kind="HALTED").items[0][1] == rows[3]


def test_cost_days_when_added_up_then_they_are_the_fills_and_the_funding_to_the_last_digit(
    engine: Engine, ledger: SqlLedger
) -> None:
    fills = [record for _, record in ledger.records(Fill)]
    funding = [p for _, p in ledger.records(Posting) if p.book == "funding"]
    assert funding
    days = views.cost_days(engine, "w", "paper")
    assert [day.day for day in days] == [START, START + DAY]
    for day in days:
        mine = [fill for fill in fills if fill.at // DAY * DAY == day.day]
        assert day.costs.get("fee") == sum(fill.fee for fill in mine)
        assert day.costs.get("slippage") == sum(fill.slippage for fill in mine)
        assert day.total == sum(day.costs.values())
    paid = sum(day.costs.get("funding", Decimal(0)) for day in days)
    assert paid == sum(posting.amount for posting in funding)
    (line,) = {row["symbol"] for _, row in views.page(
        engine, views.cost_tracker, "w", cost="funding").items}  # fmt: skip
    assert line == PERP.symbol


def minute(at: int, **changes: object) -> ServiceHealth:
    row = ServiceHealth("desk", at, "w", 7, "live", 1 << 20, 1.5, 0.02, 3, "serve", None)
    return replace(row, **changes)  # type: ignore[arg-type]


def test_health_when_noted_each_minute_then_the_newest_come_first_and_old_ones_go(
    engine: Engine,
) -> None:
    now = START + KEPT_MS
    for at in (START - 1, START, now):
        note_health(engine, minute(at))
    note_health(engine, minute(now, decisions=9))  # the same instant again
    note_health(engine, minute(START - 1, service="api"))
    assert health(engine, "desk") == [minute(now, decisions=9), minute(START)]
    assert health(engine, "api") == [minute(START - 1, service="api")]


def test_patterns_when_noted_again_after_a_crash_then_the_hour_is_there_once(
    engine: Engine,
) -> None:
    row = LearnedPattern("w", "BTC/USDT", "technical", START, 0.5, None, None, 0, "grace")
    later = replace(row, at=START + STEP, brier=0.24, skill_1e4=100.0, n=12, seat="member")
    note_patterns(engine, [row])
    note_patterns(engine, [row, later])
    note_patterns(engine, [])
    assert patterns(engine, "w", "BTC/USDT", "technical") == [row, later]
    assert patterns(engine, "w", "BTC/USDT", "chronos") == []
