"""A person's pause: entries wait until the same hand, or another, allows them again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.errors import UsageError
from domain.trading import Fill, ModeChange, Refusal, RiskMode
from execution.control import FEED
from execution.loop import TradingLoop
from execution.risk import RISK
from execution.sizing import SizingSettings
from storage.memory import MemoryLedger
from tests.execution_scenes import NO_LIMITS, START, STEP, Script, flat, loop_over, play


def scene(says: dict[int, str] | None = None) -> tuple[TradingLoop, MemoryLedger]:
    ledger = MemoryLedger()
    return loop_over(ledger, Script(says or {}, horizon_bars=30)), ledger


def at(n: int) -> int:
    return START + n * STEP


def entries(ledger: MemoryLedger) -> list[int]:
    return [(f.at - START) // STEP for _, f in ledger.records(Fill) if f.intent == "entry"]


def test_pause_when_a_position_is_open_then_it_runs_on_and_nothing_new_is_entered() -> None:
    loop, ledger = scene({0: "LONG", 6: "SHORT", 10: "LONG", 14: "LONG"})
    play(loop, [flat(n) for n in range(3)])
    change = loop.pause("telegram Ada (42)", "lunch", at(3))
    assert change is not None
    assert (change.mode, change.by, change.why) == (
        RiskMode.REDUCING, "telegram Ada (42)", "lunch",
    )  # fmt: skip
    assert loop.portfolio(at(3)).positions
    play(loop, [flat(n) for n in range(3, 13)])
    assert not loop.portfolio(at(13)).positions  # the opposite side closed it
    assert entries(ledger) == [1]  # and neither side was entered
    assert loop.resume_entries("telegram Ada (42)", "back", at(13)) is not None
    play(loop, [flat(n) for n in range(13, 17)])
    assert entries(ledger) == [1, 15]


def test_pause_when_an_entry_is_on_its_way_then_it_is_withdrawn() -> None:
    loop, ledger = scene({0: "LONG"})
    play(loop, [flat(0)])
    assert loop.open_orders()
    loop.pause("me", "wait", at(1))
    assert not loop.open_orders()
    assert [record.intent for _, record in ledger.records(Refusal)] == ["entry"]


def test_pause_when_told_to_flatten_then_what_is_open_is_closed_at_the_market() -> None:
    loop, _ = scene({0: "LONG"})
    play(loop, [flat(n) for n in range(3)])
    loop.pause("me", "stop", at(3), flatten=True)
    play(loop, [flat(3), flat(4)])
    assert not loop.portfolio(at(5)).positions


def test_pause_when_given_twice_then_the_second_changes_nothing() -> None:
    loop, ledger = scene()
    play(loop, [flat(0)])
    assert loop.pause("me", "once", at(1)) is not None
    assert loop.pause("you", "twice", at(2)) is None
    assert len(list(ledger.records(ModeChange))) == 1


def test_pause_when_a_limit_has_reduced_then_it_becomes_a_persons_and_stays() -> None:
    loop, ledger = scene({8: "LONG"})
    play(loop, [flat(0)])
    loop.change_mode(RiskMode.REDUCING, RISK, "loss of the day", at(1))
    with pytest.raises(UsageError, match="lifts by itself"):
        loop.resume_entries("me", "go", at(2))
    assert loop.pause("me", "mine now", at(2)) is not None
    play(loop, [flat(n) for n in range(1, 12)])  # no breaker is tripped: a limit's would lift
    assert loop.mode is RiskMode.REDUCING
    assert entries(ledger) == []
    assert loop.resume_entries("me", "go", at(12)) is not None
    assert loop.mode is RiskMode.ACTIVE


def test_reduced_by_a_limit_when_nobody_pauses_then_it_lifts_by_itself() -> None:
    loop, _ = scene()
    play(loop, [flat(0)])
    loop.change_mode(RiskMode.REDUCING, RISK, "loss of the day", at(1))
    play(loop, [flat(n) for n in range(1, 4)])
    assert loop.mode is RiskMode.ACTIVE


@pytest.mark.parametrize("mode", [RiskMode.HALTED, RiskMode.KILLED])
def test_resume_when_more_is_stopped_then_it_takes_arming(mode: RiskMode) -> None:
    loop, _ = scene()
    play(loop, [flat(0)])
    loop.change_mode(mode, "somebody", "why", at(1))
    assert loop.pause("me", "too", at(2)) is None  # nor does a pause make it less
    assert loop.mode is mode
    with pytest.raises(UsageError, match="arm it"):
        loop.resume_entries("me", "go", at(2))


def test_pause_when_the_system_starts_again_then_it_is_still_paused() -> None:
    loop, ledger = scene()
    play(loop, [flat(0)])
    loop.pause("me", "overnight", at(1))
    again = loop_over(ledger, Script({}))
    again.resume()
    assert again.mode is RiskMode.REDUCING
    assert again.resume_entries("me", "morning", at(2)) is not None


def test_hold_when_the_feed_is_not_sure_then_nothing_is_entered_until_it_lets_go() -> None:
    loop, ledger = scene({0: "LONG", 4: "LONG"})
    assert loop.hold_entries("no bars yet", at(0)) is not None
    assert loop.hold_entries("no bars yet", at(1)) is None
    play(loop, [flat(n) for n in range(3)])
    assert entries(ledger) == []
    change = loop.release_entries("all is there", at(3))
    assert change is not None
    assert (change.mode, change.by) == (RiskMode.ACTIVE, FEED)
    play(loop, [flat(n) for n in range(3, 7)])
    assert entries(ledger) == [5]
    assert loop.release_entries("again", at(8)) is None


def test_hold_when_a_person_pauses_meanwhile_then_the_feed_does_not_undo_it() -> None:
    loop, _ = scene()
    loop.hold_entries("no bars yet", at(0))
    assert loop.pause("me", "lunch", at(1)) is not None
    assert loop.release_entries("all is there", at(2)) is None
    assert loop.mode is RiskMode.REDUCING
    assert loop.resume_entries("me", "back", at(3)) is not None


def test_hold_when_more_is_stopped_already_then_it_stays_with_whoever_did() -> None:
    loop, ledger = scene()
    loop.pause("me", "lunch", at(0))
    assert loop.hold_entries("no bars yet", at(1)) is None
    assert loop.release_entries("all is there", at(2)) is None
    loop.kill("me", "enough", at(3))
    assert loop.hold_entries("no bars yet", at(4)) is None
    assert [change.by for _, change in ledger.records(ModeChange)] == ["me", "me"]


def test_hold_when_resumed_from_the_ledger_then_the_feed_can_still_let_go() -> None:
    loop, ledger = scene()
    play(loop, [flat(0)])
    loop.hold_entries("no bars yet", at(1))
    again = loop_over(ledger, Script({}, horizon_bars=30))
    again.resume()
    assert again.mode is RiskMode.REDUCING
    assert again.release_entries("all is there", at(2)) is not None


def test_hold_when_a_limit_lifts_within_a_decision_then_nothing_is_entered_all_the_same() -> None:
    loop, ledger = scene({3: "LONG", 8: "LONG"})
    play(loop, [flat(0)])
    loop.change_mode(RiskMode.REDUCING, RISK, "loss of the day", at(1))
    assert loop.hold_entries("no bars yet", at(1)) is not None
    play(loop, [flat(n) for n in range(1, 6)])  # no breaker is tripped: the limit's would lift
    assert loop.mode is RiskMode.REDUCING
    assert entries(ledger) == []
    assert loop.release_entries("all is there", at(6)) is not None
    play(loop, [flat(n) for n in range(6, 11)])
    assert entries(ledger) == [9]


def test_hold_when_the_feed_lets_go_while_a_limit_is_broken_then_the_limit_has_it_back() -> None:
    ledger = MemoryLedger()
    large = SizingSettings(mode="fixed", fixed_notional=5_000.0, max_notional=5_000.0)
    loop = loop_over(
        ledger, Script({0: "LONG"}), limits=replace(NO_LIMITS, daily_loss=0.001), sizing=large
    )
    play(loop, [flat(0), flat(1), flat(2, 48_000.0)])
    assert loop.mode is RiskMode.REDUCING
    broken = loop.risk.breaker
    assert loop.hold_entries("no bars yet", at(3)) is not None
    change = loop.release_entries("all is there", at(3))
    assert change is not None
    assert (change.mode, change.by, change.why) == (RiskMode.REDUCING, RISK, broken)
    play(loop, [flat(n, 48_000.0) for n in (3, 288, 289)])
    assert loop.mode is RiskMode.ACTIVE  # it still lifts by itself, the next day


@pytest.mark.parametrize("stopped", [RiskMode.REDUCING, RiskMode.HALTED])
def test_hold_when_a_person_lets_entries_in_meanwhile_then_the_feed_still_holds_them(
    stopped: RiskMode,
) -> None:
    loop, ledger = scene({1: "LONG"})
    play(loop, [flat(0)])
    loop.change_mode(stopped, "me", "wait", at(1))
    assert loop.hold_entries("no bars yet", at(1)) is None
    let_in = loop.arm if stopped is RiskMode.HALTED else loop.resume_entries
    change = let_in("me", "go", at(1))
    assert change is not None
    assert change.mode is RiskMode.ACTIVE
    assert loop.mode is RiskMode.REDUCING  # between two symbols of a bar, say
    play(loop, [flat(n) for n in range(1, 4)])
    assert entries(ledger) == []
    with pytest.raises(UsageError, match="waits for the feed"):
        loop.resume_entries("me", "go", at(4))
    assert loop.release_entries("all is there", at(4)) is not None
    assert [row.by for _, row in ledger.records(ModeChange)] == ["me", "me", FEED, FEED]
