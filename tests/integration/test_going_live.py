"""Going live: refused while any condition does not hold, slow when all do, off at once."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from data.sources.exchange import connect
from domain.errors import CheckFailed
from domain.operations import RiskEvent
from domain.times import HOUR_MS
from domain.trading import ModeChange, Order, OrderType, RiskMode, Side
from execution import books
from serving.bootstrap.storage import open_storage
from serving.cli import run as conclave
from serving.commands.common import settings_from
from serving.control import DESK_LEASE, LEASE_TTL_MS
from serving.going_live import LiveRecord, account_of, execution_of
from serving.going_live_conditions import broken_since
from serving.going_live_scene import Rehearsal
from serving.going_live_testnet import rehearse_at_testnet
from serving.killing import KillOrder, write_kill
from serving.plan import load_plan
from serving.system import SystemClock, git_commit
from sim.venue.signing import Key
from sim.venue.trading import Trading
from storage.leases import Lease
from storage.ledger import SqlLedger
from tests.live_record import BTC, WORLD, Past, environment, exchange
from tests.relay import free_port
from tests.venue_server import key_for, wall

DRAWS, READS = key_for("drawer", withdraws=True), key_for("reader", trades=False)
REHEARSED = {
    "orders": 10, "passed": True, "where": "the local exchange", "commit": git_commit(),
}  # fmt: skip
WORDS = "trade 5000.00 USDT on binance"


class Candidate:
    """Somebody who wants to go live: a paper account's past, an environment, a command line."""

    def __init__(self, var_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.var_dir, self._monkeypatch, self._capsys = var_dir, monkeypatch, capsys
        self.past, self.url, self.accounts = Past(), "", None

    def set(self, **values: str | None) -> None:
        for name, value in values.items():
            if value is None:
                self._monkeypatch.delenv(name)
            else:
                self._monkeypatch.setenv(name, value)

    def begin(self, url: str, accounts: Trading, key: Key) -> None:
        self.url, self.accounts = url, accounts
        self.set(**environment(url, key, self.var_dir))
        self.past.write(self.var_dir, url)

    @property
    def settings(self) -> Any:
        return settings_from(None, None, None)

    @cached_property
    def record(self) -> LiveRecord:
        return LiveRecord(open_storage(self.settings), WORLD)

    def rehearsed(self, at: int | None = None, **changes: Any) -> None:
        self.record.note("rehearsed", at or wall(), "Ada", REHEARSED | changes)

    def prepared(self) -> None:
        """Have rehearsed, here and at the testnet."""
        self.rehearsed()
        self.rehearsed(testnet=True, orders=20)

    def says(self, *words: str) -> tuple[int, str]:
        code = conclave(list(words))
        told = self._capsys.readouterr()
        return code, told.out + told.err

    def enable(self, *more: str) -> tuple[int, str]:
        return self.says("live", "enable", "--with-real-money", "--confirm", WORDS, *more)


@pytest.fixture
def candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Candidate:
    return Candidate(tmp_path / "var", monkeypatch, capsys)


@pytest.fixture
def ready(candidate: Candidate) -> Iterator[Candidate]:
    """One for whom every condition holds."""
    with exchange() as (url, accounts):
        candidate.begin(url, accounts, key_for())
        candidate.prepared()
        yield candidate


def holding(candidate: Candidate) -> None:
    client = connect("binance", "perp", candidate.url)
    client.apiKey, client.secret = key_for().key, key_for().secret
    client.create_order(f"{BTC}:USDT", "market", "buy", 0.01)


SPOILT: dict[str, Callable[[Candidate], object]] = {
    "configuration": lambda c: c.set(LIVE_MODE="false", PAPER_MODE="true"),
    "rehearsal": lambda c: c.rehearsed(passed=False),
    "testnet": lambda c: c.rehearsed(passed=False, testnet=True),
    "risk mode": lambda c: write_kill(c.var_dir, KillOrder("stop")),
    "flat account": holding,
}
"""Broken after the past was written: name of the condition → what breaks it."""
WORSE: dict[str, Callable[[Past], object]] = {
    "paper days": lambda p: setattr(p, "days", 20),
    "paper trades": lambda p: setattr(p, "trades", 49),
    f"calibration {BTC}": lambda p: setattr(p, "p_up", 0.9),
    "drawdown": lambda p: setattr(p, "drawdown", 0.09),
    "reconciliation": lambda p: p.more.append(
        RiskEvent("paper", 1, "reconciliation", "USDT 1 ≠ 2", "error", "loop", {"USDT": "1"})
    ),
    "risk mode": lambda p: p.more.append(
        ModeChange("paper", 1, RiskMode.HALTED, "risk", "total stop")
    ),
}
"""A past in which it did not hold."""


def refused(candidate: Candidate, name: str) -> None:
    """Demand that this condition and no other keeps it from being enabled."""
    code, told = candidate.enable()
    why = re.search(r"every condition must hold \((.*)\)", told)
    assert (code, why is not None) == (1, True)
    assert why is not None
    assert [part.split(": ")[0] for part in why[1].split("; ")] == [name]
    assert candidate.record.standing(candidate.settings, wall()).state == "off"


@pytest.mark.long
@pytest.mark.parametrize("name", SPOILT)
def test_live_enable_when_one_thing_is_wrong_then_it_names_it(ready: Candidate, name: str) -> None:
    SPOILT[name](ready)
    refused(ready, name)


@pytest.mark.long
def test_live_enable_when_key_or_market_are_none_then_the_exchange_is_not_even_asked(
    ready: Candidate,
) -> None:
    ready.set(EXECUTION_MARKET="spot")
    _, told = ready.enable()
    assert "(market: spot at 1×; exchange: EXECUTION_MARKET: must be perp" in told
    ready.set(EXCHANGE_API_KEY=None, EXCHANGE_API_SECRET=None, EXECUTION_MARKET=None)
    _, told = ready.enable()
    assert "(key: missing; exchange: EXCHANGE_API_KEY and EXCHANGE_API_SECRET: must be" in told


@pytest.mark.long
@pytest.mark.parametrize("name", WORSE)
def test_live_enable_when_paper_has_not_shown_enough_then_it_names_it(
    candidate: Candidate, name: str
) -> None:
    WORSE[name](candidate.past)
    with exchange() as (url, accounts):
        candidate.begin(url, accounts, key_for())
        candidate.prepared()
        refused(candidate, name)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "key", "ahead_ms"),
    [("no withdrawals", DRAWS, 0), ("may trade", READS, 0), ("clock", key_for(), 9_000)],
)
def test_live_enable_when_key_or_clock_are_wrong_then_it_names_it(
    candidate: Candidate, name: str, key: Key, ahead_ms: int
) -> None:
    with exchange((key,), ahead_ms) as (url, accounts):
        candidate.begin(url, accounts, key)
        candidate.prepared()
        refused(candidate, name)


@pytest.mark.long
def test_live_enable_when_the_exchange_is_gone_then_it_says_so(candidate: Candidate) -> None:
    with exchange() as (url, accounts):
        candidate.begin(url, accounts, key_for())
        candidate.prepared()
    refused(candidate, "exchange")


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [{"orders": 9}, {"passed": False}, {"commit": "another"}, {"at": wall() - 169 * HOUR_MS}],
)
def test_a_rehearsal_that_is_too_short_failed_or_old_does_not_count(
    ready: Candidate, change: dict[str, Any]
) -> None:
    ready.rehearsed(**change)
    refused(ready, "rehearsal")
    ready.prepared()
    other = {"orders": change.get("orders", 10) + 10, "at": change.get("at", wall()) + 2}
    ready.rehearsed(testnet=True, **change | other)
    refused(ready, "testnet")


@pytest.mark.long
def test_live_enable_when_no_testnet_is_asked_for_then_it_is_told_and_not_needed(
    ready: Candidate,
) -> None:
    ready.rehearsed(testnet=True, passed=False)
    ready.set(CONCLAVE_LIVE__TESTNET_ORDERS="0")
    assert "live.testnet_orders is 0" in ready.says("live", "status")[1]
    assert ready.enable()[0] == 0


@pytest.mark.long
def test_live_enable_when_flag_or_words_are_missing_then_nothing_is_enabled(
    ready: Candidate,
) -> None:
    code, told = ready.says("live", "enable", "--confirm", WORDS)
    assert (code, "needs --with-real-money" in told) == (2, True)
    code, told = ready.says("live", "enable", "--with-real-money")
    assert (code, WORDS in told) == (2, True)
    code, told = ready.says("live", "enable", "--with-real-money", "--confirm", "yes")
    assert (code, f'must be "{WORDS}"' in told) == (2, True)
    assert ready.record.standing(ready.settings, wall()).state == "off"


@pytest.mark.long
def test_live_enable_when_all_holds_then_it_cools_down_and_only_then_orders_are_real(
    ready: Candidate,
) -> None:
    code, told = ready.enable("--json")
    assert (code, json.loads(told)["state"]) == (0, "cooling")
    record, settings, now = ready.record, ready.settings, wall()
    assert execution_of("live", settings, record, now)[0] == "paper"
    later = now + 25 * HOUR_MS
    assert record.standing(settings, later).state == "on"
    assert execution_of("live", settings, record, later)[0] == "live"
    assert execution_of("demo", settings, record, later)[0] == "paper"
    ready.set(LIVE_MODE="false", PAPER_MODE="true")
    assert execution_of("live", ready.settings, record, later)[0] == "paper"
    ready.set(LIVE_MODE="true", PAPER_MODE="false", EXCHANGE_API_KEY="k" * 64)
    assert record.standing(ready.settings, later).why == (
        "was enabled for another account or exchange"
    )


def test_first_real_order_when_a_condition_holds_no_more_then_it_is_paper_until_it_does(
    ready: Candidate,
) -> None:
    assert ready.enable()[0] == 0
    engine, settings = open_storage(ready.settings), ready.settings
    later = wall() + 25 * HOUR_MS

    def broken() -> str:
        return broken_since(engine, WORLD, settings, ready.record, later)

    assert broken() == ""
    write_kill(ready.var_dir, KillOrder("stop"))
    assert "risk mode" in broken()
    # once an account has traded, whoever holds a position must be able to close it
    ledger = SqlLedger(engine, WORLD)
    ledger.append(books.opening("live", "USDT", Decimal(5_000), later))
    assert "risk mode" in broken()
    qty = Decimal("0.01")
    ledger.append([
        Order("o", "live", f"{BTC}:USDT", Side.BUY, qty, OrderType.MARKET, later, "d", "entry")
    ])  # fmt: skip
    assert broken() == ""


@pytest.mark.long
def test_live_disable_when_enabled_then_it_is_off_at_once_and_everything_is_on_record(
    ready: Candidate,
) -> None:
    ready.set(CONCLAVE_LIVE__COOL_DOWN_HOURS="0")
    assert ready.enable("--why", "ready")[0] == 0
    assert ready.record.standing(ready.settings, wall()).state == "on"
    code, told = ready.says("live", "disable", "--why", "a feeling")
    assert (code, "the last run traded on paper" in told) == (0, True)
    standing = ready.record.standing(ready.settings, wall())
    assert (standing.state, "a feeling" in standing.why) == ("off", True)
    acts = [(event.body["act"], event.body.get("why")) for event in ready.record.acts()]
    assert acts[-2:] == [("enabled", "ready"), ("disabled", "a feeling")]
    code, told = ready.says("live", "status")
    assert (code, "live trading: off (disabled by" in told) == (0, True)


@pytest.mark.long
def test_live_disable_when_the_settings_contradict_each_other_then_it_works_all_the_same(
    ready: Candidate,
) -> None:
    ready.set(CONCLAVE_LIVE__COOL_DOWN_HOURS="0")
    assert ready.enable("--why", "ready")[0] == 0
    record, settings = ready.record, ready.settings
    ready.set(PAPER_MODE="true")
    code, told = ready.says("live", "disable")
    assert (code, "cannot be on together with PAPER_MODE" in told) == (0, True)
    assert record.standing(settings, wall()).state == "off"


def test_live_disable_when_settings_are_wrong_then_a_live_desk_is_killed_all_the_same(
    ready: Candidate,
) -> None:
    engine = open_storage(ready.settings)
    replace(load_plan(ready.var_dir / "run.json"), execution="live").save(ready.var_dir)
    lease = Lease(engine, DESK_LEASE, "desk", LEASE_TTL_MS, SystemClock())
    assert lease.acquire({"pid": os.getpid()})
    ready.set(PROB_MIN="2")
    code, told = ready.says("live", "disable", "--why", "out")
    assert (code, "positions are closed" in told) == (0, True)
    assert (ready.var_dir / "KILL").read_text() == "out\n"


@pytest.mark.long
def test_a_rehearsal_when_answers_are_lost_then_nothing_else_is(ready: Candidate) -> None:
    code, told = ready.says("live", "rehearse", "--orders", "40", "--seed", "5", "--json")
    body = json.loads(told)
    assert (code, body["passed"], body["orders"]) == (0, True, 40)
    assert body["answers_lost"] > body["unplaced"] > 0
    assert (body["lost"], body["doubled"], Decimal(body["apart"])) == (0, 0, 0)
    assert ready.record.acts()[-1].body["orders"] == 40


TESTER = Key.made(8, "tester")


def at_testnet(candidate: Candidate, url: str, orders: int, hurry: float = 60.0) -> Rehearsal:
    """Rehearse there, in a sixtieth of the time."""
    candidate.set(
        TESTNET_API_KEY=TESTER.key, TESTNET_API_SECRET=TESTER.secret,
        CONCLAVE_LIVE__TESTNET_URL=url,
    )  # fmt: skip
    return rehearse_at_testnet(
        candidate.settings, orders, 1, lambda *_: None, lambda s: time.sleep(s / hurry),
        lambda: time.monotonic() * hurry,
    )  # fmt: skip


@pytest.mark.long
def test_a_rehearsal_at_a_testnet_when_answers_are_lost_then_nothing_else_is(
    ready: Candidate,
) -> None:
    with exchange((TESTER,)) as (url, accounts):
        account = accounts.exchange.ledger.accounts["tester"]
        begun = account.perp.balances["USDT"]
        done = at_testnet(ready, url, 6)
        assert done.passed
        assert done.orders >= 6
        assert done.answers_lost > 0
        placed = list(account.orders.values())
        assert len(placed) == done.orders - done.unplaced
        assert not any(held.qty for held in account.perp.held.values())
        assert account.perp.balances["USDT"] < begun  # fees of a testnet are fees


def test_a_rehearsal_at_a_testnet_when_somebody_else_trades_there_then_it_fails(
    ready: Candidate,
) -> None:
    with exchange((TESTER,)) as (url, _):
        client = connect("binance", "perp", url)
        client.apiKey, client.secret = TESTER.key, TESTER.secret
        client.create_order(f"{BTC}:USDT", "market", "buy", 0.01)
        with pytest.raises(CheckFailed, match="must have no position"):
            at_testnet(ready, url, 2)


@pytest.mark.long
def test_a_rehearsal_at_a_testnet_without_money_says_what_it_refuses(ready: Candidate) -> None:
    with exchange((TESTER,)) as (url, accounts):
        accounts.exchange.ledger.accounts["tester"].perp.balances["USDT"] = Decimal(1)
        with pytest.raises(CheckFailed, match=r"end flat \(got 'refused: .*-2019"):
            at_testnet(ready, url, 1)


def test_a_rehearsal_at_a_testnet_without_a_key_or_with_nobody_there_says_what_to_do(
    ready: Candidate,
) -> None:
    code, told = ready.says("live", "rehearse", "--testnet")
    assert (code, "TESTNET_API_KEY" in told) == (2, True)
    nobody = f"http://127.0.0.1:{free_port()}"
    ready.set(
        TESTNET_API_KEY=TESTER.key, TESTNET_API_SECRET=TESTER.secret,
        CONCLAVE_LIVE__TESTNET_URL=nobody,
    )  # fmt: skip
    code, told = ready.says("live", "rehearse", "--testnet", "--orders", "2")
    assert code not in (0, 1, 2)
    assert TESTER.key not in told
    assert TESTER.secret not in told


@pytest.mark.long
def test_keys_when_everything_is_said_then_they_are_in_none_of_it(ready: Candidate) -> None:
    key, told = key_for(), ""
    ready.set(CONCLAVE_LIVE__COOL_DOWN_HOURS="0")
    for words in (
        ("live", "status"), ("live", "status", "--json"),
        ("live", "enable", "--with-real-money", "--confirm", WORDS), ("live", "disable"),
        ("live", "enable", "--with-real-money", "--confirm", key.secret[:4]),
    ):  # fmt: skip
        told += ready.says(*words)[1]
    told += repr(ready.settings) + str(ready.settings.describe()) + account_of(ready.settings)
    told += "".join(map(repr, ready.record.acts()))
    files = [path for path in ready.var_dir.rglob("*") if path.is_file()]
    assert len(files) > 1
    for text in (told.encode(), *(path.read_bytes() for path in files)):
        assert key.key.encode() not in text
        assert key.secret.encode() not in text


def test_keys_when_they_come_by_file_or_flag_then_they_are_refused(
    ready: Candidate, tmp_path: Path
) -> None:
    ready.set(EXCHANGE_API_KEY=None, EXCHANGE_API_SECRET=None)
    file = tmp_path / "mine.yaml"
    file.write_text("live:\n  exchange_api_key: abcdef\n  exchange_api_secret: ghijkl\n")
    for words in (["--config", str(file)], ["--set", "EXCHANGE_API_KEY=abcdef"]):
        code, told = ready.says("live", "status", *words)
        assert (code, "must come from the environment alone" in told) == (2, True)
        assert "abcdef" not in told
