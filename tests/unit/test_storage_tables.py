"""The ordinary tables: outbox, inbox, leases, snapshots, events, symbols, accounts, jobs, …"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.errors import DuplicateRecord, NotFound, UsageError
from domain.trading import EquityMark, Event
from storage.accounts import Account, ensure_account, list_accounts
from storage.audit import Audit
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.inbox import Inbox
from storage.jobs import Jobs
from storage.leases import Lease
from storage.ledger import SqlLedger
from storage.memory import MemoryOutbox, MemorySnapshots
from storage.migrate import upgrade
from storage.outbox import SqlOutbox
from storage.proposals import Proposals
from storage.snapshots import SqlSnapshots
from storage.symbols import SymbolRow, Symbols
from storage.verify import verify_chain

FILL = Event("fill", 1_735_689_600_000, {"symbol": "BTC/USDT", "price": 0.1 + 0.2, "text": "ü"})


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    return engine


@dataclass
class FakeClock:
    at: int = 1000

    def now(self) -> int:
        return self.at


def test_lease_when_held_then_nobody_else_gets_it_until_it_is_stale(engine: Engine) -> None:
    clock = FakeClock()
    first = Lease(engine, "desk", "host-1", 5000, clock)
    second = Lease(engine, "desk", "host-2", 5000, clock)
    assert first.holder() is None
    assert first.acquire({"pid": 1, "world": "binance"})
    assert not second.acquire({"pid": 2})
    assert first.acquire({"pid": 1, "world": "binance"})  # again by the same owner
    clock.at += 4999
    assert not second.acquire({"pid": 2})
    assert not second.renew()
    clock.at += 1
    assert second.holder() is None
    assert second.acquire({"pid": 2})
    assert not first.renew()
    holder = first.holder()
    assert holder is not None
    assert (holder.owner, holder.expires_at, holder.info) == ("host-2", 11_000, {"pid": 2})


def test_lease_when_renewed_then_it_lives_on_and_keeps_what_it_says(engine: Engine) -> None:
    clock = FakeClock()
    lease = Lease(engine, "desk", "me", 100, clock)
    assert lease.acquire({"pid": 1})
    for _ in range(5):
        clock.at += 99
        assert lease.renew()
    held = lease.holder()
    assert held is not None
    assert (held.expires_at, held.info) == (clock.at + 100, {"pid": 1})
    assert lease.renew({"api": "http://127.0.0.1:8000"})
    held = lease.holder()
    assert held is not None
    assert held.info == {"api": "http://127.0.0.1:8000"}
    clock.at += 100
    assert not lease.renew()


def test_lease_when_released_then_it_is_free_but_only_its_owner_can_release_it(
    engine: Engine,
) -> None:
    clock = FakeClock()
    mine, other = (Lease(engine, "desk", owner, 100, clock) for owner in ("me", "you"))
    mine.acquire()
    other.release()
    assert mine.holder() is not None
    mine.release()
    assert other.acquire()
    assert Lease(engine, "another", "me", 100, clock).acquire()


def reach(engine: Engine, rows: int) -> None:
    """Make the ledger so long that states up to that row can be kept."""
    money = Decimal(10_000)
    marks = [EquityMark("paper", at, money, money, money) for at in range(rows)]
    assert SqlLedger(engine, "binance").append(marks)[-1] == rows


@pytest.mark.parametrize("make", ["sql", "memory"])
def test_snapshots_when_saved_then_the_newest_comes_back_with_its_floats(
    engine: Engine, make: str
) -> None:
    store = SqlSnapshots(engine, "binance") if make == "sql" else MemorySnapshots()
    reach(engine, 50)
    assert store.latest("council", "BTC/USDT") is None
    for seq in (10, 20, 30, 40):
        store.save("council", "BTC/USDT", seq, {"loss": [0.1 * seq, 1 / 3], "n": seq})
    store.save("council", "ETH/USDT", 50, {})
    assert store.latest("council", "BTC/USDT") == (40, {"loss": [4.0, 1 / 3], "n": 40})
    store.save("council", "BTC/USDT", 40, {"n": 41})
    assert store.latest("council", "BTC/USDT") == (40, {"n": 41})


def test_snapshots_when_many_were_saved_then_the_last_three_of_each_are_kept(
    engine: Engine,
) -> None:
    store = SqlSnapshots(engine, "binance")
    other = SqlSnapshots(engine, "demo-7")
    reach(engine, 7)
    other.save("council", "BTC/USDT", 1, {})
    for seq in range(1, 8):
        store.save("council", "BTC/USDT", seq, {})
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT world, seq FROM snapshots ORDER BY 1, 2").all()
    assert [tuple(row) for row in kept] == [
        ("binance", 5), ("binance", 6), ("binance", 7), ("demo-7", 1),
    ]  # fmt: skip


def test_snapshots_when_the_state_is_ahead_of_the_ledger_then_nothing_is_kept(
    engine: Engine,
) -> None:
    store = SqlSnapshots(engine, "binance")
    reach(engine, 3)
    assert store.save("council", "BTC/USDT", 3, {"n": 3})
    assert not store.save("council", "BTC/USDT", 4, {"n": 4})
    assert store.latest("council", "BTC/USDT") == (3, {"n": 3})
    assert verify_chain(engine).ok


def test_outbox_when_a_key_is_put_twice_then_it_is_queued_once(engine: Engine) -> None:
    outbox, memory = SqlOutbox(engine, "binance"), MemoryOutbox()
    for box in (outbox, memory):
        box.put(FILL, "a")
        box.put(replace(FILL, kind="other"), "a")
        box.put(FILL, "b")
    assert [item.event for item in outbox.pending()] == [FILL, FILL]
    assert list(memory.events.values()) == [FILL, FILL]
    assert SqlOutbox(engine, "demo-7").pending() == []


def test_outbox_when_delivery_fails_then_it_is_tried_again_until_it_is_given_up(
    engine: Engine,
) -> None:
    outbox = SqlOutbox(engine, "binance", max_attempts=3)
    outbox.put(FILL, "a")
    outbox.put(FILL, "b")
    first, second = outbox.pending()
    outbox.mark_sent(second.id)
    for attempt in (1, 2):
        outbox.mark_failed(first.id, f"timeout {attempt}")
        assert [(i.key, i.attempts, i.error) for i in outbox.pending()] == [
            ("a", attempt, f"timeout {attempt}")
        ]
    outbox.mark_failed(first.id, "timeout 3")
    assert outbox.pending() == []
    assert [(i.key, i.attempts, i.state) for i in outbox.given_up()] == [("a", 3, "failed")]
    outbox.put(FILL, "b")
    assert outbox.pending() == []  # sent is sent
    with pytest.raises(NotFound):
        SqlOutbox(engine, "demo-7").mark_sent(first.id)


def test_outbox_when_many_are_put_then_they_keep_their_order_and_known_keys_are_left_out(
    engine: Engine,
) -> None:
    outbox = SqlOutbox(engine, "binance")
    assert outbox.extend([("a", FILL), ("b", FILL), ("a", FILL)]) == 2
    assert outbox.extend([("b", FILL), ("c", FILL)]) == 1
    assert [item.key for item in outbox.pending()] == ["a", "b", "c"]
    assert outbox.extend([]) == 0


def test_outbox_when_an_item_is_handed_over_then_its_mark_stays_until_the_end_is_noted(
    engine: Engine,
) -> None:
    outbox = SqlOutbox(engine, "binance")
    outbox.extend([("a", FILL), ("b", FILL), ("c", FILL)])
    first, second, third = outbox.pending()
    outbox.mark_sending(first.id)
    assert [item.state for item in outbox.pending()] == ["sending", "pending", "pending"]
    for _ in range(20):
        outbox.put_back(first.id, "503")  # passes, however often
    outbox.put_back(second.id, "timeout", unsure=True)
    outbox.give_up(third.id, "blocked")
    told = [(item.key, item.state, item.attempts, item.error) for item in outbox.pending()]
    assert told == [("a", "pending", 20, "503"), ("b", "sending", 1, "timeout")]
    assert [(item.key, item.error) for item in outbox.given_up()] == [("c", "blocked")]
    assert outbox.counts() == {"pending": 1, "sending": 1, "failed": 1}


def test_outbox_when_pruned_then_the_newest_sent_items_and_all_others_stay(
    engine: Engine,
) -> None:
    outbox = SqlOutbox(engine, "binance")
    outbox.extend([(str(n), FILL) for n in range(10)])
    for item in outbox.pending()[1:]:
        outbox.mark_sent(item.id)
    assert outbox.prune(3) == 6
    assert outbox.counts() == {"pending": 1, "sent": 3}
    assert outbox.prune(3) == 0
    assert outbox.extend([("9", FILL)]) == 0  # still known


def test_inbox_when_a_request_is_answered_then_the_answer_waits_for_who_asked(
    engine: Engine,
) -> None:
    inbox = Inbox(engine, "binance")
    kill = inbox.put("kill", {"why": "test"}, at=5)
    arm = inbox.put("arm", {})
    assert [(r.id, r.kind, r.body, r.at) for r in inbox.pending()] == [
        (kill, "kill", {"why": "test"}, 5),
        (arm, "arm", {}, 0),
    ]
    assert inbox.result(kill) is None
    assert inbox.answer(kill, {"mode": "KILLED"})
    assert not inbox.answer(kill, {"mode": "ACTIVE"})
    assert inbox.result(kill) == {"mode": "KILLED"}
    assert [r.id for r in inbox.pending(limit=1)] == [arm]
    assert Inbox(engine, "demo-7").pending() == []
    for act in (lambda: inbox.result(99), lambda: inbox.answer(99, {})):
        with pytest.raises(NotFound, match="99"):
            act()
    with pytest.raises(NotFound):
        Inbox(engine, "demo-7").answer(arm, {})


def test_inbox_when_a_key_comes_again_then_it_is_the_same_request_or_refused(
    engine: Engine,
) -> None:
    inbox = Inbox(engine, "binance")
    first = inbox.put("trade", {"qty": "1", "side": "buy"}, key="k")
    assert inbox.put("trade", {"side": "buy", "qty": "1"}, key="k") == first
    with pytest.raises(DuplicateRecord):
        inbox.put("trade", {"qty": "2", "side": "buy"}, key="k")
    assert inbox.put("trade", {"qty": "1", "side": "buy"}) != first
    assert Inbox(engine, "demo-7").put("trade", {}, key="k") != first


def test_events_when_appended_then_readers_go_on_from_the_last_id_of_their_world(
    engine: Engine,
) -> None:
    live, demo = EventLog(engine, "binance"), EventLog(engine, "demo-7")
    assert live.last_id() == 0
    first = live.append(FILL)
    demo.append(FILL)
    second = live.append(replace(FILL, level="warning"))
    assert live.after(0) == [(first, FILL), (second, replace(FILL, level="warning"))]
    assert live.after(first) == [(second, replace(FILL, level="warning"))]
    assert live.after(0, limit=1) == [(first, FILL)]
    assert (live.after(second), live.last_id()) == ([], second)


def test_events_when_a_step_is_told_again_then_nothing_is_added(engine: Engine) -> None:
    log = EventLog(engine, "binance")
    batch = [FILL, replace(FILL, kind="trade"), FILL]
    ids = log.extend(batch)
    assert ids[0] == ids[2] != ids[1]
    assert log.extend(batch) == ids
    assert log.append(FILL, key="another") > max(ids)
    assert len(log.after()) == 3


def test_symbols_when_changed_then_each_step_is_seen_and_mistakes_are_named(
    engine: Engine,
) -> None:
    symbols = Symbols(engine)
    btc = symbols.add(SymbolRow("BTC/USDT", "spot", "5m", meta={"tick": "0.01"}))
    eth = symbols.add(SymbolRow("ETH/USDT", "spot", "5m", active=False))
    assert symbols.list() == [btc, eth]
    assert symbols.list(active=True) == [btc]
    with pytest.raises(DuplicateRecord, match="BTC/USDT"):
        symbols.add(btc)
    assert symbols.change("BTC/USDT", timeframe="15m", active=False) == replace(
        btc, timeframe="15m", active=False
    )
    assert symbols.get("BTC/USDT").meta == {"tick": "0.01"}
    with pytest.raises(UsageError, match="colour"):
        symbols.change("BTC/USDT", colour="red")
    symbols.remove("BTC/USDT")
    for act in (
        lambda: symbols.get("BTC/USDT"),
        lambda: symbols.remove("BTC/USDT"),
        lambda: symbols.change("BTC/USDT", active=True),
    ):
        with pytest.raises(NotFound, match="BTC/USDT"):
            act()


def test_accounts_when_opened_again_then_currency_and_kind_must_agree(engine: Engine) -> None:
    paper = ensure_account(engine, "binance", "paper", "USDT")
    assert ensure_account(engine, "binance", "paper", "USDT", "paper") == paper
    euro = ensure_account(engine, "binance", "euro", "EUR")
    demo = ensure_account(engine, "demo-7", "paper", "EUR")
    with pytest.raises(DuplicateRecord, match="USDT"):
        ensure_account(engine, "binance", "paper", "EUR")
    assert list_accounts(engine, "binance") == [euro, paper]
    assert list_accounts(engine) == [euro, paper, demo]
    assert demo == Account("demo-7", "paper", "EUR", "paper")


def test_jobs_when_claimed_then_the_oldest_runs_once_and_ends_once(engine: Engine) -> None:
    jobs = Jobs(engine)
    assert jobs.claim(at=0) is None
    first, second = jobs.put("train", {"target": "trend"}, at=1), jobs.put("evaluate", {}, at=2)
    claimed = jobs.claim(at=3)
    assert claimed == replace(first, state="running", updated_at=3)
    done = jobs.set_state(first.id, "done", at=4, result={"brier": 0.2499})
    assert (done.state, done.result, done.updated_at) == ("done", {"brier": 0.2499}, 4)
    assert jobs.list() == [second, done]
    assert jobs.list(state="queued") == [second]
    assert jobs.list(limit=1, before_id=second.id) == [done]
    with pytest.raises(UsageError, match="ended as done"):
        jobs.set_state(first.id, "running", at=5)
    with pytest.raises(UsageError, match="queued, running"):
        jobs.set_state(second.id, "lost", at=5)
    with pytest.raises(NotFound, match="99"):
        jobs.get(99)


def test_proposals_when_decided_then_once_and_by_name(engine: Engine) -> None:
    proposals = Proposals(engine)
    number = proposals.put("promote", {"agent": "tft", "version": "7"}, at=1)
    assert [p.id for p in proposals.list(state="open")] == [number]
    decided = proposals.decide(number, accept=True, by="api", at=2)
    assert (decided.state, decided.decided_by, decided.decided_at) == ("accepted", "api", 2)
    with pytest.raises(UsageError, match="accepted already"):
        proposals.decide(number, accept=False, by="api", at=3)
    with pytest.raises(NotFound):
        proposals.decide(99, accept=True, by="api", at=3)
    assert proposals.list(before_id=number) == []


def test_audit_when_acts_are_noted_then_they_are_listed_newest_first(engine: Engine) -> None:
    audit = Audit(engine)
    first = audit.note(1, "cli", "kill", {"why": "test"})
    second = audit.note(2, "api", "arm", {})
    assert [entry.id for entry in audit.list()] == [second, first]
    assert [(e.actor, e.body) for e in audit.list(before_id=second)] == [("cli", {"why": "test"})]
