"""The operator's own state, and the modes that limits set by themselves."""

from dataclasses import replace

import pytest

from domain.operations import OperatorReport, RiskEvent
from domain.trading import Fill, ModeChange, RiskMode
from execution.limits import RiskLimits, failed
from execution.risk import RiskState
from execution.rows import in_order
from execution.sizing import SizingSettings
from storage.memory import MemoryLedger
from tests.execution_scenes import NO_LIMITS, START, STEP, Script, flat, loop_over, play, states_of
from tests.unit.test_execution_risk import marked

HOUR = 3_600_000


def report(value, at=START, source="hrv", account="paper"):
    return OperatorReport(account, at, source, value, "me", "")


def operator(state):
    return next(check for check in state.state_checks() if check.name == "operator")


def test_operator_when_nobody_reported_then_it_is_not_measured_and_stops_nothing():
    check = operator(RiskState(RiskLimits(), "paper"))
    assert (check.value, check.limit, check.margin, check.passed) == (
        "not_measured", None, None, True,
    )  # fmt: skip


@pytest.mark.parametrize(("value", "passed"), [(19.9, False), (20.0, True), (42.0, True)])
def test_operator_when_the_reading_is_at_its_limit_then_it_is_fit(value, passed):
    state = RiskState(RiskLimits(), "paper")
    state.fold(report(value))
    check = operator(state)
    assert (check.value, check.limit, check.passed) == (value, 20.0, passed)
    assert check.margin == pytest.approx(value - 20.0)
    assert check.code.value == "operator_pause"


def test_operator_when_the_time_is_over_then_the_reading_counts_no_more():
    state = RiskState(RiskLimits(), "paper")
    state.fold(report(12.0))
    marked(state, START + 4 * HOUR - 1, 10_000)
    assert not operator(state).passed
    marked(state, START + 4 * HOUR, 10_000)
    assert operator(state).value == "not_measured"


def test_operator_when_another_source_is_good_then_the_bad_one_still_pauses():
    state = RiskState(RiskLimits(), "paper")
    state.fold(report(12.0))
    state.fold(report(9.0, START + 1, "self_report"))
    state.fold(report(9.0, START + 1, "hrv", "live"))
    assert (operator(state).value, operator(state).passed) == (12.0, False)
    state.fold(report(45.0, START + 2))
    assert operator(state).passed
    assert [reading.value for reading in state.readings()] == [45.0, 9.0]
    state.fold(report(3.0, START + 3, "self_report"))
    assert (operator(state).value, operator(state).limit) == (3.0, 4.0)


def test_operator_when_not_looked_at_then_there_is_no_check():
    state = RiskState(RiskLimits(hrv_min=None, self_report_min=None), "paper")
    state.fold(report(1.0))
    assert "operator" not in [check.name for check in state.state_checks()]


def test_loop_when_the_operator_is_unfit_then_entries_pause_and_positions_run_on():
    ledger = MemoryLedger()
    says = dict.fromkeys((0, 3, 8, 12, 60), "LONG")
    loop = loop_over(ledger, strategy := Script(says), limits=NO_LIMITS)
    bars = [flat(n) for n in range(62)]
    play(loop, bars[:2])
    loop.note(report(12.0, START + 2 * STEP))
    decisions = play(loop, bars[2:10])
    assert decisions[6].reasons == ("operator_pause",)
    assert decisions[6].margins["operator"] == pytest.approx(-8.0)
    assert [trade.reason for trade in strategy.learned] == ["horizon"]
    assert strategy.learned[0].closed_at == START + 6 * STEP  # the side at bar 3 moved nothing
    loop.note(report(35.0, START + 10 * STEP))
    play(loop, bars[10:20])
    entries = [fill for _, fill in ledger.records(Fill) if fill.intent == "entry"]
    assert [(fill.at - START) // STEP for fill in entries] == [1, 13]
    again = loop_over(ledger, Script(says), limits=NO_LIMITS)
    again.resume()
    assert again.risk.readings() == loop.risk.readings()
    assert again.risk_checks() == loop.risk_checks()


def test_loop_when_told_of_an_event_then_it_is_stored_and_stops_nothing():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({1: "LONG"}))
    play(loop, [flat(0)])
    event = RiskEvent("paper", START + STEP, "external", "news", "warning", "me", {"text": "x"})
    loop.note(event)
    assert [record for _, record in ledger.records(RiskEvent)] == [event]
    play(loop, [flat(1)])
    assert len(loop.open_orders()) == 1


# Modes


def changes(ledger):
    return [
        (change.mode.value, change.by, (change.at - START) // STEP)
        for _, change in ledger.records(ModeChange)
    ]


LARGE = SizingSettings("fixed", fixed_notional=9_000, max_notional=10_000)
FALL = [flat(0), flat(1), *(flat(n, 48_000.0) for n in range(2, 5))]  # the account loses 3.6 %


def test_mode_when_the_daily_breaker_trips_then_it_is_reducing_until_the_next_day():
    limits = replace(NO_LIMITS, daily_loss=0.03)
    ledger = MemoryLedger()
    says = {0: "LONG", 4: "LONG", 288: "LONG"}
    loop = loop_over(ledger, Script(says), limits=limits, sizing=LARGE)
    decisions = play(loop, FALL)
    assert loop.mode is RiskMode.REDUCING
    assert changes(ledger) == [("REDUCING", "risk", 3)]
    # A side while open: the breaker stops it, so that it moves nothing.
    assert decisions[4].reasons == ("breaker", "risk_veto")
    assert loop.portfolio(0).positions  # REDUCING closes nothing
    last = play(loop, [flat(n, 48_000.0) for n in (*range(5, 8), 286, 287, 288)])
    assert changes(ledger)[1] == ("ACTIVE", "risk", 288)
    assert last[-1].action.value == "LONG"


def test_mode_when_no_size_is_left_then_it_is_reducing_until_equity_is_back():
    state = RiskState(RiskLimits(daily_loss=None, total_stop=None), "paper")
    marked(state, START, 10_000)
    marked(state, START + 1, 9_200)
    change = state.due_change(START + 1)
    assert (change.mode, change.by) == (RiskMode.REDUCING, "risk")
    state.fold(change)
    assert state.due_change(START + 1) is None
    marked(state, START + 2, 9_201)
    assert state.due_change(START + 2).mode is RiskMode.ACTIVE
    state.fold(state.due_change(START + 2))
    assert state.fall == pytest.approx(0.0799)  # no new high-water mark came of it


def test_mode_when_a_person_set_it_then_no_limit_lifts_it():
    state = RiskState(RiskLimits(), "paper")
    marked(state, START, 10_000)
    state.fold(ModeChange("paper", START, RiskMode.REDUCING, "me", "calm"))
    assert state.due_change(START + 1) is None


def test_mode_when_reducing_and_the_fall_goes_on_then_the_total_stop_still_halts():
    state = RiskState(RiskLimits(), "paper")
    marked(state, START, 10_000)
    marked(state, START + 1, 9_650)
    state.fold(state.due_change(START + 1))
    assert state.mode is RiskMode.REDUCING
    marked(state, START + 2, 9_200)
    assert state.due_change(START + 2).mode is RiskMode.HALTED


def test_resume_when_modes_changed_by_themselves_then_it_all_comes_back():
    limits = replace(NO_LIMITS, daily_loss=0.03)
    runs = []
    for crash in (False, True):
        ledger = MemoryLedger()
        loop = loop_over(ledger, Script({0: "LONG"}), limits=limits, sizing=LARGE)
        for state in states_of([*FALL, flat(287, 48_000.0), flat(288, 48_000.0)]):
            loop.step(state, [], {}, state.as_of)
            if crash:
                loop = loop_over(ledger, Script({0: "LONG"}), limits=limits, sizing=LARGE)
                loop.resume()
        runs.append((list(in_order(ledger)), loop.mode, loop.risk_checks()))
    assert runs[0] == runs[1]
    assert changes(ledger) == [("REDUCING", "risk", 3), ("ACTIVE", "risk", 288)]
    assert failed(runs[0][2]) == []
