"""A desk whose orders go to the exchange: its ledger is the exchange's, and disable stops it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.operations import RiskEvent
from domain.trading import Fill, ModeChange, Order, Posting, Refusal
from execution.adapters.booking import read_id
from execution.books import balances
from serving.bootstrap.desk import build_desk
from serving.bootstrap.service import reading_service
from serving.bootstrap.storage import open_storage
from serving.commands.common import settings_from
from serving.desk import Desk
from serving.going_live import LiveRecord, account_of
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
    record.note("enabled", 1, "Ada", {"account": account_of(settings), "ready_at": 1, "why": ""})
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
    async def opening_only(request: Any, call: Any, take: Any) -> Any:
        if request.method == "POST" and call.query.get("reduceOnly") == "true":
            raise Refused(429, -1015, "Too many new orders.")
        return take()

    here.accounts.passage = opening_only
    settings = here.settings()
    body = {"account": account_of(settings), "ready_at": 1, "why": ""}
    here.record().note("enabled", 1, "Ada", body)
    desk = here.desk_that_is_live("execution.on_shutdown=flatten")
    lived(desk, desk.progress.decided + 10)
    assert here.accounts.exchange.ledger.accounts["main"].perp.of("BTCUSDT").qty
    [left] = desk.loop.unsent()
    [kept] = [row for _, row in here.ledger().records(RiskEvent) if row.kind == "in_flight"]
    assert (kept.subject, kept.level) == (f"{left.id} kept", "warning")
    told = [line for line in capsys.readouterr().out.splitlines() if "left_open" in line]
    assert len(told) == 1
    assert left.id in told[0]


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
    from domain.errors import SettingError

    draws = key_for("main", withdraws=True)
    here.accounts.keys._keys[draws.key] = draws
    with pytest.raises(SettingError, match="no withdrawals"):
        here.desk_that_is_live()
