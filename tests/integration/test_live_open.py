"""What a live account has open: no run leaves it alone unsaid, and disable says what there is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.decision import Reason
from domain.errors import SettingError
from domain.trading import Fill, Order, OrderType, Refusal, Side
from execution import books
from serving.bootstrap.storage import open_storage
from serving.control import DESK_LEASE, LEASE_TTL_MS
from serving.going_live import LIVE_ACCOUNT, account_of, execution_of
from serving.going_live_open import left_alone, open_by_ledger, refuse_to_leave
from serving.plan import load_plan
from serving.system import SystemClock
from storage.accounts import ensure_account
from storage.leases import Lease
from storage.ledger import SqlLedger
from tests.integration.test_going_live import Candidate, holding
from tests.live_record import BTC, WORLD, exchange
from tests.venue_server import key_for, wall

PERP, OTHER = f"{BTC}:USDT", "binance-other"
QTY = Decimal("0.010")


class Holder(Candidate):
    """One who may hold something on the live account of a world."""

    def run(self, **changes: Any) -> None:
        """Have the last run been another."""
        replace(load_plan(self.var_dir / "run.json"), **changes).save(self.var_dir)

    @property
    def engine(self) -> Any:
        return open_storage(self.settings)

    def enabled(self) -> None:
        body = {"account": account_of(self.settings), "ready_at": 1, "why": ""}
        self.record.note("enabled", wall(), "Ada", body)

    def entered(self, world: str = WORLD, fills: bool = True, refused: bool = False) -> None:
        ensure_account(self.engine, world, LIVE_ACCOUNT, "USDT", "live")
        at = wall()
        entry = Order("e", LIVE_ACCOUNT, PERP, Side.BUY, QTY, OrderType.MARKET, at, "d", "entry")
        rows: list[Any] = [*books.opening(LIVE_ACCOUNT, "USDT", Decimal(5_000), at), entry]
        if fills:
            zero, price = Decimal(0), Decimal(50_000)
            fill = Fill("live:BTCUSDT:1", "e", LIVE_ACCOUNT, PERP, Side.BUY, QTY, price, at, zero,
                        zero, zero, price, False, "entry", zero)  # fmt: skip
            rows += [fill, *books.of_fill(fill, "USDT")]
        if refused:
            rows.append(
                Refusal(LIVE_ACCOUNT, PERP, at, Reason.NOT_PLACED, "it", "is", "entry", "d")
            )
        SqlLedger(self.engine, world).append(rows)

    def desk_runs(self) -> None:
        lease = Lease(self.engine, DESK_LEASE, "desk", LEASE_TTL_MS, SystemClock())
        assert lease.acquire({"pid": os.getpid()})

    @property
    def file(self) -> Path:
        return self.var_dir / "KILL"

    def disables(self, *more: str) -> dict[str, Any]:
        code, told = self.says("live", "disable", "--json", *more)
        assert code == 0
        # an earlier test may have set where logs go, and a command leaves that as it is
        [answer] = [line for line in told.splitlines() if line.startswith("{")]
        body: dict[str, Any] = json.loads(answer)
        return body


@pytest.fixture
def holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Holder]:
    made = Holder(tmp_path / "var", monkeypatch, capsys)
    made.past.days = made.past.trades = 1
    with exchange() as (url, accounts):
        made.begin(url, accounts, key_for())
        yield made


# What is open by the ledger


@pytest.mark.parametrize(
    ("fills", "refused", "found"),
    [(True, False, {PERP: QTY}), (False, True, {}), (False, False, {PERP: Decimal(0)})],
)
def test_open_by_ledger_when_an_entry_was_made_then_it_is_known_what_became_of_it(
    holder: Holder, fills: bool, refused: bool, found: dict[str, Decimal]
) -> None:
    assert open_by_ledger(holder.engine, WORLD) == {}
    holder.entered(fills=fills, refused=refused)
    assert open_by_ledger(holder.engine, WORLD) == found


def test_left_alone_when_the_run_trades_that_very_account_then_nothing_is(holder: Holder) -> None:
    holder.entered()
    plan = load_plan(holder.var_dir / "run.json")
    assert left_alone(holder.engine, plan) == {WORLD: {PERP: QTY}}
    assert left_alone(holder.engine, replace(plan, execution="live")) == {}
    other = replace(plan, execution="live", world=OTHER)
    assert left_alone(holder.engine, other) == {WORLD: {PERP: QTY}}


# A start


def test_execution_when_live_is_disabled_and_something_is_open_then_it_is_live_to_close_it(
    holder: Holder,
) -> None:
    holder.enabled()
    holder.record.note("disabled", wall(), "Ada", {"why": "enough"})
    asked = ("live", holder.settings, holder.record, wall())
    assert execution_of(*asked)[0] == "paper"
    execution, why = execution_of(*asked, holds=True)
    assert (execution, "it enters nothing" in why) == ("live", True)
    holder.set(EXCHANGE_API_KEY="k" * 64)  # the account of another key does not hold it
    assert execution_of("live", holder.settings, holder.record, wall(), holds=True)[0] == "paper"
    holder.set(LIVE_MODE="false", PAPER_MODE="true")
    assert execution_of("live", holder.settings, holder.record, wall(), holds=True)[0] == "paper"


def starts(holder: Holder, **changes: Any) -> list[str]:
    """Return what is said of a start with other symbols."""
    told: list[str] = []
    plan = replace(load_plan(holder.var_dir / "run.json"), world=OTHER, **changes)
    refuse_to_leave(holder.engine, plan, holder.settings, told.append)
    return told


def test_start_when_the_symbols_are_others_and_the_exchange_holds_it_then_it_is_refused(
    holder: Holder,
) -> None:
    holder.enabled()
    holder.entered()
    assert starts(holder) == []  # somebody has closed it at the exchange
    holding(holder)
    with pytest.raises(SettingError, match=rf"{WORLD} has open 0\.010 {PERP}"):
        starts(holder)


def test_start_when_the_run_holds_it_itself_then_it_may_begin_again(holder: Holder) -> None:
    holder.enabled()
    holder.entered()  # and was closed by hand at the exchange: its ledger says so for ever
    assert starts(holder, execution="live") == []
    holder.entered(OTHER)
    holding(holder)
    assert starts(holder, execution="live") == []


def test_start_when_nobody_can_say_whether_it_is_held_then_it_is_told(holder: Holder) -> None:
    holder.entered()
    [told] = starts(holder)  # it was enabled for the key of nobody
    assert f"0.010 {PERP}" in told
    assert "this run leaves it alone" in told
    holder.enabled()
    assert len(starts(holder, source="demo")) == 1
    holder.set(EXCHANGE_URL="http://127.0.0.1:9")
    holder.enabled()
    assert "the exchange: " in starts(holder)[0]


# Disable


def test_disable_when_no_desk_runs_and_something_is_open_then_the_next_desk_is_killed(
    holder: Holder,
) -> None:
    holder.run(execution="live")
    holder.entered()
    holding(holder)
    body = holder.disables("--why", "out")
    assert holder.file.read_text() == "out\n"
    assert body["ledger"] == {WORLD: {PERP: "0.010"}}
    assert {symbol: Decimal(qty) for symbol, qty in body["exchange"].items()} == {PERP: QTY}
    assert body["file"] == str(holder.file)
    assert "conclave up --source live" in body["positions"]
    assert "closes it" in body["positions"]
    holder.disables("--keep")
    assert holder.file.read_text().startswith("freeze")


@pytest.mark.parametrize("execution", ["live", "paper"])
def test_disable_when_nothing_is_open_then_no_later_run_is_killed(
    holder: Holder, execution: str
) -> None:
    holder.run(execution=execution)
    body = holder.disables()
    assert (body["ledger"], body["exchange"], body["file"]) == ({}, {}, None)
    assert not holder.file.exists()


def test_disable_when_the_last_run_was_on_paper_then_what_is_open_is_told_all_the_same(
    holder: Holder,
) -> None:
    holder.entered()
    holder.desk_runs()
    body = holder.disables()
    assert f"0.010 {PERP}" in body["positions"]
    assert not holder.file.exists()  # its desk would close what paper holds


def test_disable_when_the_exchange_does_not_answer_then_it_says_so(holder: Holder) -> None:
    holder.entered(OTHER)
    holder.set(EXCHANGE_URL="http://127.0.0.1:9")
    body = holder.disables()
    assert body["ledger"] == {OTHER: {PERP: "0.010"}}
    assert body["exchange"] is None
    assert "is not known" in body["positions"]
    holder.set(EXCHANGE_API_KEY=None, EXCHANGE_API_SECRET=None)
    assert "EXCHANGE_API_KEY" in holder.disables()["positions"]


@pytest.mark.parametrize("execution", ["live", "paper"])
def test_disable_when_the_database_is_away_then_only_a_live_desk_is_killed(
    holder: Holder, execution: str
) -> None:
    holder.run(execution=execution)
    (holder.var_dir / "away.db").write_text("no database")
    holder.set(DATABASE_URL=f"sqlite:///{holder.var_dir / 'away.db'}")
    code, told = holder.says("live", "disable", "--why", "out")
    assert (code, "is not a SQLite database" in told) == (1, True)
    assert holder.file.exists() == (execution == "live")


# Kill


def test_kill_when_another_worlds_live_account_has_something_open_then_it_says_so(
    holder: Holder,
) -> None:
    holder.entered(OTHER)
    code, told = holder.says("kill")
    assert (code, "not closed by this" in told, f"0.010 {PERP}" in told) == (0, True, True)
