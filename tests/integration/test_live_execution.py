"""A desk whose orders go to the exchange: its ledger is the exchange's, and disable stops it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.errors import SettingError
from domain.operations import RiskEvent
from domain.trading import Fill, ModeChange, Order, OrderType, Posting, Refusal, RiskMode, Side
from execution.adapters.booking import read_id
from execution.books import balances
from serving.bootstrap.desk import build_desk
from serving.bootstrap.service import reading_service
from serving.bootstrap.storage import open_storage
from serving.commands.common import settings_from
from serving.desk import Desk
from serving.going_live import LiveRecord, account_of, execution_of
from serving.going_live_open import open_by_ledger
from serving.killing import KillOrder, write_kill
from serving.sessions import terms_of
from sim.venue.refusals import Refused
from sim.venue.trading import Trading
from storage.events import EventLog
from tests.integration.test_live_desk import EAGER, Stage, lived
from tests.venue_server import BTC, key_for, trading, venue

BOUNDS = (
    "live.live_order_notional=1000", "live.live_symbol_notional=1000",
    "live.live_account_notional=1000", "live.clock_skew_ms=5000", "live.live_band_bps=500",
    "live.answer_patience_s=0.1",
)  # fmt: skip


class LiveStage(Stage):
    """An exchange with an account, and a run that trades there."""

    accounts: Trading

    def open(self) -> None:
        self.accounts = trading(self.markets, {"USDT": "5000"})
        self._up.enter_context(venue(made=self.markets, at=self.port, accounts=self.accounts))

    def settings(self, *more: str):
        url = f"http://127.0.0.1:{self.port}"
        sets = [
            f"VAR_DIR={self.var_dir}", "TIMEFRAME=1m", "serving.monitor=false", *EAGER, *BOUNDS,
            "feed.silence_s=2", "feed.reconnect_s=0.5", "LIVE_MODE=true", "PAPER_MODE=false",
            f"EXCHANGE_URL={url}", *more,
        ]  # fmt: skip
        return settings_from("exercise", None, sets)

    def desk_that_is_live(self, *more: str) -> Desk:
        plan = replace(self.plan(), execution="live")
        plan.save(self.var_dir)
        return build_desk(plan, self.settings(*more))

    def record(self) -> LiveRecord:
        return LiveRecord(open_storage(self.settings()), "demo-7")

    def enable(self) -> None:
        body = {"account": account_of(self.settings()), "ready_at": 1, "why": ""}
        self.record().note("enabled", 1, "Ada", body)


async def opening_only(request: Any, call: Any, take: Any) -> Any:
    """What an exchange does that takes nothing which closes."""
    if request.method == "POST" and call.query.get("reduceOnly") == "true":
        raise Refused(429, -1015, "Too many new orders.")
    return take()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EXCHANGE_API_KEY", key_for().key)
    monkeypatch.setenv("EXCHANGE_API_SECRET", key_for().secret)
    made = LiveStage(tmp_path / "var", speed=60.0)
    made.open()
    yield made
    made.close()


@pytest.mark.slow
def test_desk_when_live_then_its_ledger_is_the_exchanges_and_disable_lets_nothing_in(
    here: LiveStage, capsys: pytest.CaptureFixture[str]
) -> None:
    record, settings = here.record(), here.settings()
    here.enable()
    desk = here.desk_that_is_live()
    begun = desk.progress.decided

    plan, told = replace(here.plan(), execution="live"), list[dict[str, Any]]()

    def between(done: int) -> None:
        if done - begun >= 8 and record.standing(settings, 2).state == "on":
            record.note("disabled", 2, "Ada", {"why": "enough"})
            told.append(reading_service(plan, settings).health())

    lived(desk, begun + 14, between)
    account = here.accounts.exchange.ledger.accounts["main"]
    ledger = here.ledger()
    fills = [fill for _, fill in ledger.records(Fill)]
    assert len(fills) > 1
    assert {fill.account for fill in fills} == {"live"}
    there = {trade.number: (trade.qty, trade.price, trade.fee) for trade in account.trades}
    ours = {read_id(fill.id)[0]: (fill.qty, fill.price, fill.fee) for fill in fills}
    assert ours == {number: row for number, row in there.items() if number in ours}
    assert len(there) - len(ours) <= 2  # of the last bar
    capital = balances(line for _, line in ledger.records(Posting))["capital", "USDT"]
    assert capital == Decimal(-5000)
    assert [row for _, row in ledger.records(RiskEvent) if row.kind == "reconciliation"] == []
    assert [row for _, row in ledger.records(ModeChange)] == []
    refused = [row for _, row in ledger.records(Refusal) if "enabled" in row.rule]
    assert refused
    assert {row.intent for row in refused} == {"entry"}
    last = max(order.created_at for _, order in ledger.records(Order) if order.intent == "entry")
    assert last >= refused[0].at
    service = reading_service(plan, settings)
    assert service.health()["execution"] == "live"
    assert told[0]["broker"]["venue"] == {
        "open": False, "opened": 0, "in_vain": 0, "problem": "",
    }  # fmt: skip
    assert told[0]["broker"]["stream"]["problem"] == ""
    assert told[0]["broker"]["stream"]["messages"] > 0
    assert service.portfolio()["account"] == "live"
    assert key_for().secret not in capsys.readouterr().out


@pytest.mark.slow
def test_desk_when_it_leaves_with_an_exit_that_the_exchange_did_not_take_then_it_says_so(
    here: LiveStage, capsys: pytest.CaptureFixture[str]
) -> None:
    here.accounts.passage = opening_only
    here.enable()
    desk = here.desk_that_is_live("execution.on_shutdown=flatten")
    with capture_logs() as logs:
        lived(desk, desk.progress.decided + 10)
    assert here.accounts.exchange.ledger.accounts["main"].perp.of("BTCUSDT").qty
    [left] = desk.loop.unsent()
    [kept] = [row for _, row in here.ledger().records(RiskEvent) if row.kind == "in_flight"]
    assert (kept.subject, kept.level) == (f"{left.id} kept", "warning")
    assert [line["order"] for line in logs if line["event"] == "left_open"] == [left.id]


@pytest.mark.slow
def test_desk_when_live_was_disabled_with_a_position_then_the_next_start_closes_it_and_no_more(
    here: LiveStage,
) -> None:
    here.enable()
    straight, here.accounts.passage = here.accounts.passage, opening_only
    desk = here.desk_that_is_live()
    perp = here.accounts.exchange.ledger.accounts["main"].perp
    lived(desk, desk.progress.decided + 1, also=lambda: perp.of("BTCUSDT").qty)
    entries = len(here.rows(Order, intent="entry"))
    here.record().note("disabled", 2, "Ada", {"why": "enough"})
    here.accounts.passage = straight
    engine = open_storage(here.settings())
    assert open_by_ledger(engine, "demo-7")
    asked = ("live", here.settings(), here.record(), 3)
    assert execution_of(*asked, holds=True)[0] == "live"
    write_kill(here.var_dir, KillOrder("enough"))
    desk = here.desk_that_is_live()
    lived(desk, desk.progress.decided + 3, also=lambda: not open_by_ledger(engine, "demo-7"))
    assert not perp.of("BTCUSDT").qty
    assert [row.mode for row in here.rows(ModeChange)] == [RiskMode.KILLED]
    assert len(here.rows(Order, intent="entry")) == entries
    assert not [row for row in here.rows(RiskEvent) if row.kind == "reconciliation"]


@pytest.mark.long
def test_desk_when_live_and_what_is_open_is_followed_no_more_then_it_does_not_start(
    here: LiveStage,
) -> None:
    ledger, eth = here.ledger(), "ETH/USDT:USDT"
    qty = Decimal("0.1")
    ledger.append([Order("e", "live", eth, Side.BUY, qty, OrderType.MARKET, 1, "d", "entry")])
    with pytest.raises(SettingError, match=f"all that the live account has open.*{eth}"):
        here.desk_that_is_live()


@pytest.mark.long
def test_desk_when_live_then_it_reckons_with_the_fees_of_its_account(here: LiveStage) -> None:
    listed = here.markets.listings
    for market in ("spot", "perp"):  # what nobody trades on is not asked for
        listing = listed[market, "BTCUSDT"]
        vip = replace(listing.instrument, maker_bps=1.2, taker_bps=3.2)
        listed[market, "BTCUSDT"] = replace(listing, instrument=vip)
    desk = here.desk_that_is_live()
    desk.session.begin()
    for end in desk.let_go:
        end()
    engine = open_storage(here.settings())
    [(_, terms)] = terms_of(EventLog(engine, "demo-7"))
    assert terms.listed is not None
    fees = {symbol: each.taker_bps for symbol, each in terms.listed.items()}
    assert fees == {BTC: 10.0, f"{BTC}:USDT": 3.2}


def test_desk_when_live_and_the_key_may_withdraw_then_it_does_not_start(
    here: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = key_for("main", withdraws=True)
    here.accounts.keys._keys[draws.key] = draws
    with pytest.raises(SettingError, match="no withdrawals"):
        here.desk_that_is_live()
