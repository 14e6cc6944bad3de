"""The reading side: pages, the latest of each, thinned curves, bars as columns, balances."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from domain.decision import Decision
from domain.errors import UsageError
from domain.market import Bar, BarFrame
from domain.opinion import Opinion, Outcome
from domain.trading import ClosedTrade, EquityMark, Event, Fill, ModeChange, Order, Refusal
from storage.checks import examples
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.queries import Balance, Reader, table_counts, worlds

STEPS = 25
SPOT = "BTC/USDT"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    engine = open_database(sqlite_url(tmp_path_factory.mktemp("queries") / "ledger.db"))
    upgrade(engine)
    for step in range(STEPS):
        SqlLedger(engine, "binance").append(examples(step))
        if step % 5 == 0:
            SqlLedger(engine, "demo-7").append(examples(step))
    return engine


@pytest.fixture(scope="module")
def reader(engine: Engine) -> Reader:
    return Reader(engine, "binance")


def of(kind: type, step: int) -> list:
    return [record for record in examples(step) if type(record) is kind]


def test_decisions_when_paged_then_all_come_once_newest_first(reader: Reader) -> None:
    found: list[Decision] = []
    cursor, pages = None, 0
    while True:
        page = reader.decisions(limit=10, before_seq=cursor)
        found += [decision for _, decision in page.items]
        pages += 1
        if page.next is None:
            break
        cursor = page.next
    assert pages == 3
    assert found == [of(Decision, step)[0] for step in reversed(range(STEPS))]


def test_page_when_it_is_exactly_full_then_there_is_no_next_one(reader: Reader) -> None:
    assert reader.decisions(limit=STEPS).next is None
    assert reader.decisions(limit=STEPS - 1).next is not None


def test_decisions_when_filtered_then_only_those_match(reader: Reader) -> None:
    assert reader.decisions("ETH/USDT").items == ()
    as_of = of(Decision, 3)[0].as_of
    assert [d.as_of for _, d in reader.decisions(SPOT, as_of=as_of, strategy="council").items] == [
        as_of
    ]
    with pytest.raises(UsageError, match="weights"):
        reader.decisions(SPOT, weights="x")


def test_decision_when_looked_up_then_it_is_found_by_id_in_its_world_only(
    reader: Reader, engine: Engine
) -> None:
    wanted = of(Decision, 7)[0]
    found = reader.decision(wanted.id)
    assert found is not None
    assert found[1] == wanted
    assert reader.decision("nothing") is None
    assert Reader(engine, "demo-7").decision(wanted.id) is None
    latest = reader.latest_decision(SPOT)
    assert latest is not None
    assert latest[1] == of(Decision, STEPS - 1)[0]
    assert reader.latest_decision("ETH/USDT") is None


def test_opinions_and_outcome_when_asked_for_an_instant_then_they_are_of_it(
    reader: Reader,
) -> None:
    as_of = of(Opinion, 4)[0].as_of
    assert [opinion for _, opinion in reader.opinions_at(SPOT, as_of)] == of(Opinion, 4)
    assert reader.outcome_at(SPOT, as_of, 5) == of(Outcome, 4)[0]
    assert reader.outcome_at(SPOT, as_of, 6) is None


def test_trading_lists_when_read_then_the_newest_is_first(reader: Reader) -> None:
    last = STEPS - 1
    for page, kind in (
        (reader.trades(limit=2), ClosedTrade),
        (reader.orders(limit=2), Order),
        (reader.fills(limit=2), Fill),
        (reader.refusals(limit=2), Refusal),
    ):
        assert [record for _, record in page.items] == of(kind, last) + of(kind, last - 1)
    trade = of(ClosedTrade, 0)[0]
    found = reader.trade(trade.id)
    assert found is not None
    assert found[1] == trade
    order_id = of(Order, 2)[0].id
    assert [fill for _, fill in reader.fills(order_id=order_id).items] == of(Fill, 2)
    many = [of(Order, step)[0].id for step in range(STEPS)]
    assert reader.fills_of([*many, many[0], "unknown"]) == {
        **{one: of(Fill, step) for step, one in enumerate(many)}, "unknown": [],
    }  # fmt: skip


def test_latest_mode_and_equity_when_read_then_the_newest_of_the_account(reader: Reader) -> None:
    mode, mark = reader.latest_mode("paper"), reader.latest_equity("paper")
    assert mode is not None
    assert mark is not None
    assert mode[1] == of(ModeChange, STEPS - 1)[0]
    assert mark[1] == of(EquityMark, STEPS - 1)[0]
    assert reader.latest_mode("other") is None


@pytest.mark.parametrize("points", [2, 3, 7, 24, 25, 500])
def test_equity_marks_when_thinned_then_few_enough_and_both_ends_stay(
    reader: Reader, points: int
) -> None:
    marks = reader.equity_marks("paper", max_points=points)
    every = [of(EquityMark, step)[0] for step in range(STEPS)]
    assert len(marks) <= points + 1
    assert (marks[0], marks[-1]) == (every[0], every[-1])
    assert [mark.at for mark in marks] == sorted({mark.at for mark in marks})
    if points >= STEPS:
        assert marks == every
    assert reader.equity_marks("paper", since_ms=every[20].at) == every[20:]
    assert reader.equity_marks("other") == []


def test_bars_when_followed_then_columns_come_in_order_after_the_known_one(
    reader: Reader,
) -> None:
    every = [of(Bar, step)[0] for step in range(STEPS)]
    wanted = BarFrame.of(every)
    frame = reader.bars(SPOT, "5m")
    for name in ("ts", "open", "high", "low", "close", "volume"):
        column = getattr(frame, name)
        assert column.dtype == getattr(wanted, name).dtype
        assert np.array_equal(column, getattr(wanted, name))
    assert list(reader.bars(SPOT, "5m", after_open_ms=every[20].open_ms).bars()) == every[21:]
    assert list(reader.bars(SPOT, "5m", limit=3).bars()) == every[:3]
    assert list(reader.newest_bars(SPOT, "5m", 3).bars()) == every[-3:]
    assert len(reader.bars(SPOT, "15m")) == len(reader.newest_bars(SPOT, "15m", 3)) == 0
    assert reader.last_bar_open(SPOT, "5m") == every[-1].open_ms
    assert reader.last_bar_open(SPOT, "15m") is None
    assert reader.last_bars() == {(SPOT, "5m"): every[-1].open_ms}


def test_worlds_and_counts_when_read_then_they_add_up(engine: Engine, reader: Reader) -> None:
    a, b = worlds(engine)
    n = len(examples(0))
    assert (a.world, a.first_seq, a.rows) == ("binance", 1, STEPS * n)
    assert (b.world, b.first_seq, b.rows) == ("demo-7", n + 1, 5 * n)
    counts = reader.counts()
    assert counts["opinions"] == 2 * STEPS
    assert counts["events"] == len(EventLog(engine, "binance").after())
    assert sum(counts.values()) == a.rows
    assert table_counts(engine)["chain"] == a.rows + b.rows


def test_trial_balance_when_read_then_books_are_exact_and_sum_to_zero(reader: Reader) -> None:
    assert reader.trial_balance() == [
        Balance("paper", "cash", "USDT", Decimal("-0.047000050") * STEPS),
        Balance("paper", "fee", "USDT", Decimal("0.047000050") * STEPS),
    ]


def test_postings_when_read_by_book_then_only_those(reader: Reader) -> None:
    page = reader.postings(book="cash", limit=STEPS)
    assert len(page.items) == STEPS
    assert {posting.memo for _, posting in page.items} == {"taker"}


def test_page_when_a_key_was_replaced_by_another_world_then_it_is_not_seen(engine: Engine) -> None:
    changed = replace(of(Bar, 0)[0], close=2.0)
    SqlLedger(engine, "late").append([changed])
    assert [bar for _, bar in Reader(engine, "late").page(Bar).items] == [changed]


def test_counts_when_asked_again_then_what_is_new_is_added(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    reader, other = Reader(engine, "binance"), SqlLedger(engine, "demo-7")
    assert set(reader.counts().values()) == {0}
    for step in range(3):
        SqlLedger(engine, "binance").append(examples(step))
        other.append(examples(step))
        EventLog(engine, "binance").append(Event("note", step, {"n": step}))
        assert reader.counts() == Reader(engine, "binance").counts()
    assert reader.counts()["decisions"] == 3 * len(of(Decision, 0))
    assert reader.counts()["events"] == 3


def test_counts_when_another_ledger_is_in_its_place_then_they_start_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    engine = open_database(sqlite_url(path))
    upgrade(engine)
    reader = Reader(engine, "binance")
    for step in range(3):
        SqlLedger(engine, "binance").append(examples(step))
    assert reader.counts()["decisions"] == 3
    fresh = open_database(sqlite_url(tmp_path / "restored.db"))
    upgrade(fresh)
    for step in range(7, 12):
        SqlLedger(fresh, "binance").append(examples(step))
    fresh.dispose()
    (tmp_path / "restored.db").replace(path)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert reader.counts()["decisions"] == 5
