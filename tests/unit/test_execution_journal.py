"""The journal in the loop: drafts by hand-made bars, entries that wait, closes with their words."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from domain.decision import Action
from domain.errors import UsageError
from domain.operations import Reflection
from domain.trading import ClosedTrade, Order, Refusal, RiskMode
from execution.journal import Journal, excursion, require_text, tags_of, within
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.rows import in_order
from execution.strategies import EmaCross
from storage.memory import MemoryLedger
from tests.execution_scenes import (
    FIXED,
    NO_LIMITS,
    PERP,
    START,
    STEP,
    Script,
    bar,
    flat,
    plain_broker,
    play,
    states_of,
    walk,
)

LONG_THEN_OUT = [
    flat(0),
    bar(1, (50_000.0, 50_400.0, 49_900.0, 50_200.0)),  # entry at 50 000
    bar(2, (50_200.0, 50_800.0, 49_600.0, 50_500.0)),
    bar(3, (50_500.0, 51_200.0, 50_400.0, 51_100.0)),  # target 51 000
    flat(4, 51_100.0),
]


def loop_on(ledger: Any, strategy: Any, mode: str, **more: Any) -> TradingLoop:
    return TradingLoop(
        strategy, plain_broker({PERP.symbol: PERP}), ledger, {PERP.symbol: PERP},
        replace(LoopSettings({PERP.symbol: PERP.symbol}), **more),
        limits=NO_LIMITS, sizing=FIXED, journal=mode,
    )  # fmt: skip


def rows(ledger: Any, kind: type[Any]) -> list[Any]:
    return [record for _, record in ledger.records(kind)]


def person(trade: ClosedTrade, at: int, text: str = "What I take from it.") -> Reflection:
    return Reflection(trade.account, trade.symbol, trade.decision_id, at, "anna", text)


def test_draft_when_a_target_closes_then_it_tells_the_trade_from_the_ledger() -> None:
    ledger = MemoryLedger()
    play(loop_on(ledger, Script({0: ("LONG", 49_000.0, 51_000.0)}), "draft"), LONG_THEN_OUT)
    (trade,), (draft,) = rows(ledger, ClosedTrade), rows(ledger, Reflection)
    assert (draft.decision_id, draft.at, draft.author) == (
        trade.decision_id, trade.closed_at, "journal",
    )  # fmt: skip
    assert (draft.draft, draft.followed_plan, draft.tags) == (True, True, ())
    # 500 USDT at 50 000 is 0.01; half a bp of spread and one of slippage in: 50 007.5. Taker 5 bp
    # in, maker 2 bp out: 0.01 · (50 007.5 · 5 bp + 51 000 · 2 bp) = 0.3520375
    assert draft.text == (
        "LONG 0.01 BTC/USDT:USDT: in at 50007.5 (2025-01-01T00:05:00Z), out at 51000 "
        "(2025-01-01T00:20:00Z) by target after 15 min. Decided at 2025-01-01T00:05:00Z: "
        "As scripted. (stop 49000, target 51000). Paid fee 0.3520375, spread 0.025, "
        "slippage 0.05, funding 0. Net 9.5729625, +1.91 % of what was put in. At its best "
        "+1.98 %, at its worst -0.81 %, on 2 bars that ended before the exit. The exit was one "
        "of the plan."
    )


def test_draft_when_risk_closes_then_the_exit_was_not_of_the_plan() -> None:
    ledger = MemoryLedger()
    loop = loop_on(ledger, Script({0: "LONG"}), "draft")
    play(loop, [flat(0), flat(1)])
    loop.change_mode(RiskMode.KILLED, "test", "enough", START + 2 * STEP)
    play(loop, [flat(2)])
    (draft,) = rows(ledger, Reflection)
    assert draft.followed_plan is False
    assert "by kill" in draft.text
    assert draft.text.endswith("The exit was not one of the plan.")


def test_excursion_when_short_then_a_fall_is_favourable() -> None:
    moved = excursion("SHORT", Decimal(100), Decimal(104), Decimal(95))
    assert (moved.favourable, moved.adverse) == (pytest.approx(0.05), pytest.approx(-0.04))


def test_within_when_a_bar_holds_the_exit_then_it_is_left_out() -> None:
    ledger = MemoryLedger()
    play(loop_on(ledger, Script({0: ("LONG", 49_000.0, 51_000.0)}), "off"), LONG_THEN_OUT)
    (trade,) = rows(ledger, ClosedTrade)
    moved = within(LONG_THEN_OUT, trade)
    assert moved.favourable == pytest.approx(51_000 / 50_007.5 - 1)  # the exit, not 51 200
    assert moved.adverse == pytest.approx(49_600 / 50_007.5 - 1)


@pytest.mark.parametrize("mode", ["strict", "draft"])
def test_drafts_when_measured_live_and_from_the_bars_then_they_agree(mode: str) -> None:
    ledger = MemoryLedger()
    frame = walk(400)
    bars = [frame.bar(i) for i in range(len(frame))]
    loop = loop_on(ledger, EmaCross(10, 20, 5), mode)
    play(loop, bars)
    trades = {trade.decision_id: trade for trade in rows(ledger, ClosedTrade)}
    drafts = rows(ledger, Reflection)
    assert len(drafts) == len(trades) > 1
    for draft in drafts:
        moved = within(bars, trades[draft.decision_id])
        told = f"best {100 * moved.favourable:+.2f} %, at its worst {100 * moved.adverse:+.2f} %"
        assert told in draft.text


def test_journal_when_off_then_nothing_is_written_and_trades_are_the_same() -> None:
    frame = walk(400)
    bars = [frame.bar(i) for i in range(len(frame))]
    told = {}
    for mode in ("off", "draft"):
        ledger = MemoryLedger()
        play(loop_on(ledger, EmaCross(10, 20, 5), mode), bars)
        told[mode] = (rows(ledger, ClosedTrade), len(rows(ledger, Reflection)))
    assert told["off"][0] == told["draft"][0]
    assert told["off"][1] == 0
    assert told["draft"][1] == len(told["draft"][0]) > 5


# Entries that wait


def test_entry_when_the_last_of_its_kind_has_no_words_then_it_waits_until_there_are_some() -> None:
    ledger = MemoryLedger()
    loop = loop_on(ledger, Script({0: "LONG", 8: "LONG", 9: "SHORT", 17: "LONG"}), "strict")
    decisions = play(loop, [flat(i) for i in range(16)])
    waits, other = decisions[8], decisions[9]
    assert waits.intent is Action.LONG
    assert waits.action is Action.NO_TRADE
    assert waits.reasons == ("reflection_missing",)
    assert waits.inputs["risk"]["reflection"] == {"value": 1.0, "limit": 0.0}
    assert waits.margins["reflection"] == -1.0
    assert other.action is Action.SHORT  # its kind has nothing to wait for
    assert other.margins["reflection"] == 0.0
    assert [row.code for row in rows(ledger, Refusal)] == ["reflection_missing"]
    first = rows(ledger, ClosedTrade)[0]
    loop.note(person(first, START + 16 * STEP))
    (later,) = play(loop, [flat(16), flat(17)])[1:]
    assert later.action is Action.LONG


def test_entry_when_only_the_draft_is_there_then_it_still_waits() -> None:
    ledger = MemoryLedger()
    loop = loop_on(ledger, Script({0: "LONG", 8: "LONG"}), "strict")
    play(loop, [flat(i) for i in range(8)])
    (draft,) = rows(ledger, Reflection)
    assert draft.draft
    (decision,) = play(loop, [flat(8)])
    assert decision.reasons == ("reflection_missing",)


@pytest.mark.parametrize("mode", ["draft", "off"])
def test_entry_when_the_journal_is_not_strict_then_nothing_waits(mode: str) -> None:
    loop = loop_on(MemoryLedger(), Script({0: "LONG", 8: "LONG"}), mode)
    decision = play(loop, [flat(i) for i in range(9)])[8]
    assert decision.action is Action.LONG
    assert "reflection" not in decision.margins


def test_reversal_when_the_other_kind_waits_then_the_position_closes_all_the_same() -> None:
    ledger = MemoryLedger()
    says = {0: "LONG", 2: "SHORT", 4: "LONG"}
    decisions = play(loop_on(ledger, Script(says), "strict"), [flat(i) for i in range(7)])
    assert decisions[2].action is Action.SHORT  # the first SHORT has nothing to wait for
    assert decisions[4].reasons == ("reflection_missing",)
    assert [t.reason for t in rows(ledger, ClosedTrade)] == ["opposite", "opposite"]


def test_restart_when_the_journal_is_strict_then_everything_is_as_without_one() -> None:
    frame = walk(300)
    bars = [frame.bar(i) for i in range(len(frame))]
    whole, parts = MemoryLedger(), MemoryLedger()
    states = states_of(bars)
    told: dict[str, list[Any]] = {}
    for name, ledger, every in (("whole", whole, 10_000), ("parts", parts, 7)):
        loop = loop_on(ledger, EmaCross(10, 20, 5), "strict")
        for i, state in enumerate(states):
            if i and i % every == 0:
                loop = loop_on(ledger, EmaCross(10, 20, 5), "strict")
                loop.resume()
            loop.step(state, [], {}, state.as_of)
            if i % 40 == 39:  # a person catches up now and then
                for trade in rows(ledger, ClosedTrade):
                    if not any(r.decision_id == trade.decision_id and not r.draft
                               for r in rows(ledger, Reflection)):  # fmt: skip
                        loop.note(person(trade, state.as_of))
        told[name] = [record for _, record in in_order(ledger)]
    assert told["whole"] == told["parts"]
    codes = {row.code for row in rows(whole, Refusal)}
    assert "reflection_missing" in codes
    assert len(rows(whole, ClosedTrade)) > 5


# Closing by hand


def words(loop: TradingLoop, at: int) -> Reflection:
    position = loop.portfolio(at).positions[PERP.symbol]
    return Reflection("paper", PERP.symbol, position.decision_id, at, "anna", "The reason is gone.")


def test_manual_close_when_there_are_words_then_they_stand_before_the_order() -> None:
    ledger = MemoryLedger()
    loop = loop_on(ledger, Script({0: "LONG", 4: "LONG"}), "strict")
    play(loop, [flat(0), flat(1)])
    before, at = ledger.head()[0], START + 2 * STEP
    order = loop.close(words(loop, at), at)
    (first, said), (second, sent) = ledger.records_since(before)
    assert isinstance(said, Reflection)
    assert sent == order
    assert second == first + 1
    decisions = play(loop, [flat(2), flat(3), flat(4)])
    (trade,) = rows(ledger, ClosedTrade)
    assert trade.reason == "manual"
    assert [row.draft for row in rows(ledger, Reflection)] == [False]
    assert decisions[-1].action is Action.LONG  # it has its words


def test_manual_close_when_nothing_is_open_or_it_is_on_its_way_then_nothing_is_written() -> None:
    ledger = MemoryLedger()
    loop = loop_on(ledger, Script({0: "LONG"}), "draft")
    play(loop, [flat(0)])
    with pytest.raises(UsageError, match="open position"):
        loop.close(Reflection("paper", PERP.symbol, "x", START, "anna", "nothing"), START)
    play(loop, [flat(1)])
    said = words(loop, START + 2 * STEP)
    with pytest.raises(UsageError, match="open position"):  # of another trade
        loop.close(replace(said, decision_id="other"), said.at)
    loop.close(said, said.at)
    head = ledger.head()[0]
    with pytest.raises(UsageError, match="on its way"):
        loop.close(replace(said, at=said.at + 1), said.at)
    assert ledger.head()[0] == head
    assert sum(order.intent == "manual" for order in rows(ledger, Order)) == 1


# Texts and tags


def test_text_when_it_is_too_short_then_it_is_refused_with_the_rule() -> None:
    with pytest.raises(UsageError, match="at least 20 characters"):
        require_text("   too short          ", 20)
    assert require_text("  long enough to count  ", 20) == "long enough to count"


@pytest.mark.parametrize("bad", ["two words", "ü", "", "x" * 33, "-x"])
def test_tag_when_it_is_none_then_it_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="tag"):
        tags_of([bad])


def test_tags_when_given_then_they_are_lower_case_and_once() -> None:
    assert tags_of(["Late", "news", "late"]) == ("late", "news")
    with pytest.raises(UsageError, match=r"journal\.tags"):
        tags_of(["late"], known=["news"])
    with pytest.raises(UsageError, match="at most 10"):
        tags_of([f"t{i}" for i in range(11)])


def test_journal_when_another_account_trades_then_it_does_not_look() -> None:
    ledger = MemoryLedger()
    play(loop_on(ledger, Script({0: "LONG"}), "off"), [flat(i) for i in range(8)])
    journal = Journal("strict", "other")
    for _, record in in_order(ledger):
        journal.fold(record)
    (check,) = journal.checks(PERP.symbol, "LONG")
    assert check.passed
