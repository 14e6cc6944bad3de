"""The desk's daily look at its own ledger: one event and one proposal a failure.

On a real database: hourly bars of a random walk, traded by EMA 10/20 in the loop. What is modelled
and what is paid are set apart so that a failure can be planted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from domain.market import BarFrame, MarketState
from domain.operations import Reflection, RiskEvent
from domain.ports import Ledger, Needs
from domain.times import DAY_MS, iso
from domain.trading import ClosedTrade, EquityMark
from execution.draws import Latency
from execution.fills import CostModel, Frictions
from execution.funding import no_funding
from execution.levels import OFF, LevelSettings
from execution.limits import EXERCISE
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker, Venue
from execution.strategies import EmaCross
from serving.asserting import Asserting, Measuring, told
from serving.asserting_setup import limits_of, session_backtest, suggesting
from serving.deciders import build_strategy
from serving.rerunning import Session as StoredSession
from serving.rerunning import marks_again
from serving.settings import load_settings
from serving.telling import Teller
from sim.assertions import ASSERTION
from sim.backtest import exercise_rules, trading_loop, unasked_states
from sim.rerun import Stage
from storage.audit import Audit
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.proposals import Proposals
from storage.queries import Reader
from storage.snapshots import SqlSnapshots
from tests.execution_scenes import FIXED, PERP, START

HOUR = 3_600_000
WORLD = "test"
CHEAP, DEAR = (
    Frictions(spread_bps=1.0, slippage_bps=slip, impact=0.0, participation=None)
    for slip in (1.0, 6.0)
)
NAMES = {"sharpe_gap", "slippage_gap", "win_rate_drift", "drawdown", "reconciliation",
         "coverage_80", "data_age", "adherence"}  # fmt: skip


def hourly(days: int, seed: int = 3) -> BarFrame:
    rng = np.random.default_rng(seed)
    n = 24 * days
    close = np.round(50_000 * np.exp(np.cumsum(rng.normal(0, 0.004, n))), 1)
    opened = np.concatenate(([50_000.0], close[:-1]))
    high, low = np.maximum(opened, close) + 20.0, np.minimum(opened, close) - 20.0
    ts = START + HOUR * np.arange(n, dtype=np.int64)
    return BarFrame(PERP.symbol, "1h", ts, opened, high, low, close, np.ones(n))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(made)
    yield made
    made.dispose()


class Session:
    """A desk's loop, teller and assertions over one database."""

    def __init__(
        self, engine: Engine, paid: Frictions = CHEAP, journal: str = "draft",
        levels: LevelSettings = OFF,
    ) -> None:  # fmt: skip
        self.engine, self.reader = engine, Reader(engine, WORLD)
        costs = CostModel.of(PERP, paid)
        venue = Venue(latency=Latency("none"))
        rules = replace(exercise_rules(), frictions=CHEAP, venue=venue, levels=levels)
        self.rules = rules
        self.loop = TradingLoop(
            EmaCross(10, 20, 5),
            PaperBroker(
                {PERP.symbol: PERP}, {PERP.symbol: costs}, venue=rules.venue, funding=no_funding
            ),
            SqlLedger(engine, WORLD), {PERP.symbol: PERP}, LoopSettings({PERP.symbol: PERP.symbol}),
            limits=EXERCISE, sizing=FIXED, journal=journal, levels=levels,
        )  # fmt: skip
        self.teller = Teller(EventLog(engine, WORLD), Proposals(engine))
        self.loop.resume()
        self.loop.witness = self.teller.hear
        settings = load_settings(
            env={}, profile="exercise", overrides={"journal.reflections": journal}
        )
        routes = {PERP.symbol: PERP.symbol}

        def loop(ledger: Ledger) -> TradingLoop:
            strategy = EmaCross(10, 20, 5)
            return trading_loop(
                routes, strategy, {PERP.symbol: PERP}, rules, ledger, funding=no_funding
            )

        def backtest(start: int, end: int) -> list[EquityMark]:
            stage = Stage(0, loop, routes, "1h", Needs(250, 1))
            return marks_again(StoredSession(engine, WORLD), [stage], start, end)

        measuring = Measuring(
            self.reader, SqlSnapshots(engine, WORLD), "paper", [PERP.symbol], "1h",
            limits_of(settings), suggesting(settings), backtest, monitored=False,
        )  # fmt: skip
        self.asserting = Asserting(measuring, self.loop.note)
        self.asserting.resume()

    def play(self, frame: BarFrame, start: int = 0, stop: int | None = None) -> None:
        asyncio.run(self._play(list(unasked_states(frame, self.rules))[start:stop]))

    async def _play(self, states: list[MarketState]) -> None:
        for state in states:
            self.loop.step(state, [], {}, state.as_of)
            await self.asserting.look(state.as_of, None)
            self.teller.tell()


def events(engine: Engine) -> list[RiskEvent]:
    ledger = SqlLedger(engine, WORLD)
    return [event for _, event in ledger.records(RiskEvent) if event.kind == ASSERTION]


def verdicts(session: Session) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in told(session.asserting.measuring.snapshots)["items"]}


def test_assertions_when_a_day_ends_then_all_are_told_and_none_before(engine: Engine) -> None:
    session = Session(engine, journal="off")
    frame = hourly(2)
    session.play(frame, 0, 23)
    assert told(session.asserting.measuring.snapshots) == {"at": None, "items": []}
    session.play(frame, 23, 24)  # the bar that closes at 00:00
    assert told(session.asserting.measuring.snapshots)["at"] == iso(START + DAY_MS)
    found = verdicts(session)
    assert set(found) == NAMES
    assert found["reconciliation"]["passed"] is True
    assert found["drawdown"]["passed"] is True
    for name in ("sharpe_gap", "win_rate_drift", "coverage_80", "data_age", "adherence"):
        assert found[name]["passed"] is None
        assert found[name]["why"]
    assert events(engine) == []


@pytest.mark.long
def test_assertion_when_it_fails_day_after_day_then_there_is_one_event_and_one_proposal(
    engine: Engine,
) -> None:
    session = Session(engine, DEAR, "off")
    session.play(hourly(12))
    (event,) = events(engine)
    assert (event.subject, event.level, event.by) == ("slippage_gap", "warning", "assertions")
    assert event.at % DAY_MS == 0
    (proposal,) = Proposals(engine).list()
    assert (proposal.kind, proposal.state, proposal.created_at) == (ASSERTION, "open", event.at)
    assert proposal.body["what"].startswith("slippage_gap does not hold: 6.5")
    figures = proposal.body["figures"]
    assert figures["value"] == pytest.approx(5.0, abs=0.1)
    assert (figures["limit"], figures["n"]) == (2.0, event.body["n"])
    change = proposal.body["change"]
    assert (change["setting"], change["now"]) == ("execution.slippage_bps", 1.0)
    assert change["to"] == pytest.approx(6.0, abs=0.1)
    log = [one for _, one in EventLog(engine, WORLD).after(limit=1000) if one.kind == "risk"]
    assert [one.body["subject"] for one in log] == ["slippage_gap"]
    assert verdicts(session)["slippage_gap"]["passed"] is False


@pytest.mark.long
def test_assertion_when_it_holds_again_then_the_ledger_says_so_and_a_new_failure_asks_again(
    engine: Engine,
) -> None:
    session = Session(engine, DEAR, "off")
    frame = hourly(20)
    session.play(frame, 0, 24 * 10)
    limits = session.asserting.measuring.limits
    session.asserting.measuring.limits = replace(limits, modelled_bps=6.5)
    session.play(frame, 24 * 10, 24 * 12)
    session.asserting.measuring.limits = limits
    session.play(frame, 24 * 12, 24 * 14)
    assert [event.level for event in events(engine)] == ["warning", "info", "warning"]
    assert len(Proposals(engine).list()) == 1  # the first is not decided yet

    (proposal,) = Proposals(engine).list()
    done = Proposals(engine).decide(proposal.id, accept=True, by="anna", at=5, why="measured twice")
    assert (done.state, done.decided_by, done.decided_at) == ("accepted", "anna", 5)
    assert done.body["decided_why"] == "measured twice"
    (act,) = Audit(engine).list()
    assert (act.actor, act.action, act.body["why"]) == (
        "anna", "proposal accepted", "measured twice",
    )  # fmt: skip
    session.play(frame, 24 * 14, 24 * 15)
    assert len(Proposals(engine).list()) == 1  # decided: the same failure does not ask again
    session.asserting.measuring.limits = replace(limits, modelled_bps=6.5)
    session.play(frame, 24 * 15, 24 * 16)
    session.asserting.measuring.limits = limits
    session.play(frame, 24 * 16, 24 * 18)
    assert [one.state for one in Proposals(engine).list()] == ["open", "accepted"]


@pytest.mark.long
def test_assertions_when_restarted_then_the_ledger_is_as_without_a_restart(
    tmp_path: Path,
) -> None:
    frame, rows = hourly(9), {}
    for name, every in (("whole", 10_000), ("parts", 5)):
        engine = open_database(sqlite_url(tmp_path / f"{name}.db"))
        upgrade(engine)
        for start in range(0, len(frame), every):
            Session(engine, DEAR).play(frame, start, start + every)
        rows[name] = list(SqlLedger(engine, WORLD).records_since())
        assert len(events(engine)) >= 2  # slippage and adherence
        assert len(Proposals(engine).list()) == len(events(engine))
        engine.dispose()
    assert rows["whole"] == rows["parts"]


@pytest.mark.long
def test_sharpe_gap_when_a_monday_comes_after_30_days_then_the_session_is_traded_again(
    engine: Engine,
) -> None:
    session = Session(engine, journal="off")
    frame = hourly(33)  # Wednesday, 1 January to Monday, 3 February at 00:00
    session.play(frame)
    found = verdicts(session)["sharpe_gap"]
    assert found["n"] == 30
    assert found["passed"] is True
    assert found["value"] == 0.0  # what it held when the 30 days began included
    assert abs(found["evidence"]["paper"]) > 0.1


@pytest.mark.long
def test_sharpe_gap_when_stops_follow_atr_and_regime_then_the_backtest_has_them_too(
    engine: Engine,
) -> None:
    session = Session(engine, journal="off", levels=LevelSettings(0.5, 1.0))
    session.play(hourly(33))
    reasons = Counter(trade.reason for _, trade in SqlLedger(engine, WORLD).records(ClosedTrade))
    assert min(reasons["stop"], reasons["target"]) > 10
    found = verdicts(session)["sharpe_gap"]
    assert found["passed"] is True
    assert found["value"] == 0.0


@pytest.mark.long
def test_sharpe_gap_when_the_session_pays_more_than_the_backtest_then_it_fails(
    engine: Engine,
) -> None:
    dear = replace(DEAR, slippage_bps=40.0)
    session = Session(engine, dear, "off")
    session.play(hourly(33))
    found = verdicts(session)["sharpe_gap"]
    assert found["passed"] is False
    assert found["evidence"]["paper"] < found["evidence"]["backtest"] - 0.5


@pytest.mark.long
def test_sharpe_gap_when_it_is_asked_for_within_a_day_then_30_whole_days_are_compared(
    engine: Engine,
) -> None:
    session = Session(engine, journal="off")
    session.play(hourly(32), 0, 24 * 31 + 7)
    asyncio.run(session.asserting.now(START + 31 * DAY_MS + 7 * HOUR, None))
    found = verdicts(session)["sharpe_gap"]
    assert (found["n"], found["passed"], found["value"]) == (30, True, 0.0)


@pytest.mark.long
def test_sharpe_gap_when_nobody_knows_the_sessions_terms_then_it_is_not_measured_and_says_why(
    engine: Engine,
) -> None:
    session = Session(engine, journal="off")
    session.play(hourly(31))
    session.asserting.measuring.backtest = session_backtest(engine, WORLD, build_strategy)
    asyncio.run(session.asserting.now(START + 31 * DAY_MS, None))
    found = verdicts(session)["sharpe_gap"]
    assert found["passed"] is None
    assert "must say what it was run with" in found["why"]


@pytest.mark.long
def test_adherence_when_people_write_within_a_day_then_it_holds(engine: Engine) -> None:
    session = Session(engine)
    frame = hourly(8)
    for day in range(8):
        session.play(frame, 24 * day, 24 * day + 20)
        for trade in (trade for _, trade in session.reader.trades(limit=1000).items):
            known = session.reader.reflections([trade.decision_id])[trade.decision_id]
            if all(one.draft for one in known):
                session.loop.note(written(trade, START + DAY_MS * day + 20 * HOUR))
        session.play(frame, 24 * day + 20, 24 * day + 24)
    found = verdicts(session)["adherence"]
    assert (found["passed"], found["value"]) == (True, 1.0)
    assert found["n"] > 5
    assert events(engine) == []


def written(trade: ClosedTrade, at: int) -> Reflection:
    return Reflection("paper", trade.symbol, trade.decision_id, at, "anna", "What I make of it.")


def test_reconciliation_when_the_broker_differed_last_then_it_fails(engine: Engine) -> None:
    session = Session(engine, journal="off")
    frame = hourly(3)
    session.play(frame, 0, 30)
    apart = {"USDT": {"ledger": "1", "broker": "2"}}
    at = START + 30 * HOUR
    session.loop.note(RiskEvent("paper", at, "reconciliation", "1 ≠ 2", "error", "loop", apart))
    session.play(frame, 30, 48)
    assert verdicts(session)["reconciliation"]["passed"] is False
    assert [event.subject for event in events(engine)] == ["reconciliation"]
    session.loop.note(RiskEvent("paper", at + 1, "reconciliation", "agree again", "info", "loop"))
    session.play(frame, 48, 72)
    assert verdicts(session)["reconciliation"]["passed"] is True


@pytest.mark.long
def test_assertions_when_measuring_breaks_then_decisions_go_on(engine: Engine) -> None:
    session = Session(engine, journal="off")

    def broken(start: int, end: int) -> Any:
        raise RuntimeError("no such luck")

    session.asserting.measuring.backtest = broken
    with capture_logs() as logs:
        session.play(hourly(34))
    assert session.loop.decided_up_to(PERP.symbol) == START + 34 * DAY_MS
    failed = [entry for entry in logs if entry["event"] == "assertions_failed"]
    assert [entry["error"] for entry in failed] == ["RuntimeError: no such luck"]  # that Monday
    assert told(session.asserting.measuring.snapshots)["at"] == iso(START + 34 * DAY_MS)
