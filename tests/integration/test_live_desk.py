"""A desk on an exchange that is watched as it trades: the local one, by HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.decision import Decision
from domain.market import Bar, BookSnapshot, SeenBook
from domain.opinion import Opinion
from domain.trading import Fill, ModeChange, Order, OrderType, Refusal, RiskMode
from execution.paper import BOOK_AGE_MS
from serving.cli import run as conclave
from serving.killing import KillOrder, write_kill
from sim.venue.faults.schedule import Schedule
from sim.worlds import DEMO_START_MS
from tests.live_stage import Stage, holes, lived
from tests.venue_server import BTC, ETH, Faults, venue

pytestmark = pytest.mark.timeout(600)

PERP = f"{BTC}:USDT"
MINUTE = 60_000
EXERCISE = (
    "EXECUTION_MARKET=perp", "models.agents=climatology,microstructure",
    "feed.start_criteria=false",  # entries from the first close on
)  # fmt: skip
EAGER = (*EXERCISE, "execution.stop_atr=0.3", "execution.target_atr=0.3")
"""In and out at nearly every bar."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "var")
    made.open()
    yield made
    made.close()


def books_at_closes(stage: Stage) -> dict[int, BookSnapshot]:
    """Return what was seen at closes that were decided on live, by close."""
    closes = {one.as_of for one in stage.rows(Decision, origin="bar")}
    return {
        one.at: one.view.book
        for one in stage.rows(SeenBook, symbol=BTC) if one.at in closes and one.view.book
    }  # fmt: skip


def of_fresh_books(stage: Stage) -> list[Decision]:
    """Return decisions at whose close the newest book was a print old at most.

    Not those to which the agents, who have a quarter of a bar, were late.
    """
    books = books_at_closes(stage)
    return [
        one for one in stage.rows(Decision, origin="bar")
        if one.as_of in books and one.as_of - books[one.as_of].at <= 2_500
        and "deadline" not in one.absent.values()
    ]  # fmt: skip


def from_books(stage: Stage) -> list[Fill]:
    """Return fills of market orders that found a book of the perpetual when they arrived."""
    orders = {one.id: one for one in stage.rows(Order)}
    books = [(one.at, one.view.book.at) for one in stage.rows(SeenBook, symbol=PERP)]
    return [
        fill for fill in stage.rows(Fill)
        if orders[fill.order_id].type is OrderType.MARKET
        and any(seen <= fill.at <= at + BOOK_AGE_MS for seen, at in books)
    ]  # fmt: skip


@pytest.mark.long
def test_desk_when_an_exchange_trades_then_it_decides_every_bar_on_its_book_and_fills_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A bar each second and a half: on a busy machine, too, it decides in time to trade.
    stage = Stage(tmp_path / "var", speed=40.0)
    stage.open()
    try:
        decides_on_books_and_fills_from_them(stage, capsys)
    finally:
        stage.close()


def decides_on_books_and_fills_from_them(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    lived(
        stage.desk("exercise", *EAGER, "feed.silence_s=60"), 10,
        also=lambda: len(of_fresh_books(stage)) >= 5 and len(from_books(stage)) >= 5,
    )  # fmt: skip
    bars, made = stage.rows(Bar, symbol=BTC), stage.rows(Decision)
    assert holes(bars) == []
    assert bars[0].open_ms == DEMO_START_MS
    live = [one for one in made if one.origin == "bar"]
    assert [one.as_of for one in made] == [bar.close_ms for bar in bars]
    assert len(live) >= 10
    assert {one.source for one in live} == {"demo"}
    world = stage.markets.tape(stage.markets.listing("spot", "BTCUSDT"))
    own = world.bars("1m", bars[0].open_ms, len(bars), bars[-1].close_ms + MINUTE)
    assert [bar.close for bar in bars] == own.close.tolist()
    assert [bar.volume for bar in bars] == own.volume.tolist()

    # What was seen at a close happened before it, and is what the venue showed.
    spot = stage.markets.listing("spot", "BTCUSDT")
    for close, book in books_at_closes(stage).items():
        assert book.at < close
        theirs = stage.markets.book(spot, 20, book.at)
        assert (book.bids, book.asks) == (theirs.bids, theirs.asks)
    said = {one.as_of: one for one in stage.rows(Opinion, agent="microstructure")}
    heard = [said[one.as_of] for one in of_fresh_books(stage)]
    assert len(heard) >= 5  # on a busy machine not all are fresh
    assert all(one.p_up is not None for one in heard)
    assert sum(one.evidence["ofi"] is not None for one in heard) >= len(heard) - 1
    assert sum(one.evidence["trades"] is not None for one in heard) >= len(heard) // 2

    # Market orders paid what the perpetual's book asked for.
    offered = {
        price for one in stage.rows(SeenBook, symbol=PERP)
        for side in (one.view.book.bids, one.view.book.asks) for price, _ in side
    }  # fmt: skip
    market = from_books(stage)
    assert len(market) >= 5
    assert [float(fill.price) for fill in market if float(fill.price) not in offered] == []

    capsys.readouterr()
    code = conclave(["parity", "--json", "--set", f"VAR_DIR={stage.var_dir}"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["same"], told["exact"]) == (0, True, True)


@pytest.mark.long
def test_desk_when_the_exchange_goes_away_then_no_bar_is_lost_and_late_ones_trade_nothing(
    stage: Stage,
) -> None:
    cuts: list[int] = []

    def cut(decided: int) -> None:
        if decided >= 8 and not cuts:  # not each number is seen
            cuts.append(decided)
            stage.close()
            time.sleep(4.0)  # ten bars
            stage.open()

    lived(stage.desk("exercise", *EXERCISE), 30, cut)
    bars = stage.rows(Bar, symbol=BTC)
    assert holes(bars) == []
    assert [one.as_of for one in stage.rows(Decision)] == [bar.close_ms for bar in bars]
    executed = stage.rows(Bar, symbol=PERP)
    assert holes(executed) == []
    assert len(executed) >= 8  # the newest may still be on their way
    late = {one.id for one in stage.rows(Decision) if one.ts - one.as_of > 2 * MINUTE}
    assert len(late - {one.id for one in stage.rows(Decision, origin="warm_up")}) >= 5
    assert not late & {one.decision_id for one in stage.rows(Order) if one.intent == "entry"}
    assert {one.code for one in stage.rows(Refusal) if one.decision_id in late} <= {"stale_data"}


def test_desk_when_the_exchange_bans_it_before_its_first_bar_then_it_still_obeys_and_leaves(
    tmp_path: Path,
) -> None:
    stage, trouble = Stage(tmp_path / "var"), Faults(headers={"Retry-After": "3600"})
    others = set(threading.enumerate())
    with venue(trouble, stage.markets, at=stage.port):
        desk = stage.desk("exercise", *EXERCISE)
        trouble.next = [429] * 1_000

        async def run() -> None:
            running = asyncio.create_task(desk.run())
            async with asyncio.timeout(90):
                while desk.progress.phase != "fetching history":
                    await asyncio.sleep(0.02)
                write_kill(stage.var_dir, KillOrder("lunch"))
                while not stage.rows(ModeChange):
                    await asyncio.sleep(0.1)
                desk.leave.set()
                await running

        asyncio.run(run())
        assert trouble.seen[-1].startswith("/api/v3/")
        assert len(trouble.next) >= 990  # nobody asks on while it is told to wait
    assert [one.mode for one in stage.rows(ModeChange)] == [RiskMode.KILLED]
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("rest-"):
            thread.join(5.0)
            assert not thread.is_alive()  # or the process would not end for an hour


@pytest.mark.long
def test_desk_when_started_again_then_it_goes_on_where_it_stopped(stage: Stage) -> None:
    lived(stage.desk("exercise", *EXERCISE), 6)
    first = len(stage.rows(Decision))
    lived(stage.desk("exercise", *EXERCISE), 10)
    made, bars = stage.rows(Decision), stage.rows(Bar, symbol=BTC)
    assert len(made) >= first + 10
    assert holes(bars) == []
    assert [one.as_of for one in made] == [bar.close_ms for bar in bars]
    assert {one.origin for one in made[first:]} == {"bar"}  # a past is not learned twice
    assert stage.ledger().verify().rows == stage.ledger().head()[0]


@pytest.mark.long
def test_desk_when_it_watches_two_pairs_then_both_close_together(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "var", (BTC, ETH), 200.0)
    stage.open()
    try:
        lived(stage.desk("exercise", *EXERCISE), 30)
    finally:
        stage.close()
    for symbol in (BTC, ETH):
        bars = stage.rows(Bar, symbol=symbol)
        assert holes(bars) == []
        mine = [one.as_of for one in stage.rows(Decision, symbol=symbol)]
        assert mine == [bar.close_ms for bar in bars]


@pytest.mark.long
def test_desk_when_only_the_perpetual_is_away_then_it_decides_in_time_and_its_bars_follow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, asked = Stage(tmp_path / "var", schedule=Schedule()), list[int]()
    stage.open()
    silent = {"fault": "silence", "for_s": 4, "market": "perp"}  # ten bars

    def silence(decided: int) -> None:
        if decided >= 10 and not asked:
            url = f"http://127.0.0.1:{stage.port}/admin/faults"
            with urllib.request.urlopen(url, json.dumps(silent).encode(), timeout=30) as reply:
                asked.append(reply.status)

    def before_its_execution() -> list[int]:
        """Closes that were decided on before the perpetual's bar had come."""
        ledger = stage.ledger()
        came = {bar.close_ms: row for row, bar in ledger.records(Bar, symbol=PERP)}
        decided = {one.as_of: row for row, one in ledger.records(Decision, origin="bar")}
        return [close for close, row in decided.items() if row < came.get(close, 0)]

    try:
        desk = stage.desk("exercise", *EAGER, "feed.silence_s=10")  # the line stays
        lived(desk, 60, silence, also=lambda: len(before_its_execution()) >= 3)
    finally:
        stage.close()
    bars, executed = stage.rows(Bar, symbol=BTC), stage.rows(Bar, symbol=PERP)
    assert holes(bars) == []
    assert holes(executed) == []
    assert asked == [201]
    assert len(before_its_execution()) >= 3
    capsys.readouterr()
    code = conclave(["parity", "--json", "--set", f"VAR_DIR={stage.var_dir}"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["same"], told["exact"]) == (0, True, True)
