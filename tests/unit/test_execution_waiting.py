"""Exits of choice wait for a better book, some bars long; the others never do."""

from dataclasses import replace

import pytest

from domain.market import BookSnapshot
from domain.trading import ClosedTrade, Fill, Refusal, RiskMode
from execution.limits import RiskLimits
from execution.rows import in_order
from storage.memory import MemoryLedger
from tests.execution_scenes import NO_LIMITS, PERP, START, STEP, Script, bar, flat, loop_over
from tests.execution_scenes import states_of as plain_states_of

GOOD = ((49_999.0, 10.0), (50_001.0, 10.0))
WIDE = ((49_900.0, 10.0), (50_100.0, 10.0))  # 40 bp
THIN = ((49_999.0, 0.1), (50_001.0, 0.1))
LIMITS = replace(NO_LIMITS, max_spread_bps=10.0, min_liquidity=50_000.0)


def book(best, at):
    bid, ask = best
    return BookSnapshot(PERP.symbol, at, (bid,), (ask,))


def states(books, n=12, bars=None):
    """States with the book of each bar; no entry in ``books`` is a good one."""
    made = plain_states_of(bars or [flat(k) for k in range(n)])
    return [
        replace(state, book=book(books.get(k, GOOD), state.as_of)) for k, state in enumerate(made)
    ]


def played(says, seen, limits=LIMITS, crash=False):
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script(says), limits=limits)
    decisions = []
    for state in seen:
        loop.absorb(state.bars.bar(-1))
        decisions.append(loop.decide(state, [], {}, state.as_of))
        if crash:
            loop = loop_over(ledger, Script(says), limits=limits)
            loop.resume()
    return ledger, decisions


def trades(ledger):
    return [(t.reason, (t.closed_at - START) // STEP) for _, t in ledger.records(ClosedTrade)]


def put_off(ledger):
    return [
        (r.intent, r.code, (r.at - START) // STEP)
        for _, r in ledger.records(Refusal)
        if r.intent != "entry"
    ]


@pytest.mark.parametrize(("best", "code"), [(WIDE, "wide_spread"), (THIN, "thin_book")])
def test_horizon_when_the_book_stays_bad_then_it_waits_its_patience_and_leaves(best, code):
    ledger, decisions = played({0: "LONG"}, states(dict.fromkeys(range(4, 12), best)))
    # Due at the close of bar 5, that is at the open of bar 6; two bars later it goes anyway.
    assert put_off(ledger) == [("horizon", code, 6), ("horizon", code, 7)]
    assert trades(ledger) == [("horizon", 8)]
    assert decisions[5].reasons == (code,)
    assert decisions[5].margins["exit_spread_bps" if best is WIDE else "exit_liquidity"] < 0
    assert decisions[7].reasons == ()


def test_horizon_when_the_book_gets_better_then_it_leaves_at_once():
    ledger, _ = played({0: "LONG"}, states({5: WIDE}))
    assert put_off(ledger) == [("horizon", "wide_spread", 6)]
    assert trades(ledger) == [("horizon", 7)]


def test_horizon_when_nobody_is_patient_or_the_filter_is_off_then_it_never_waits():
    books = dict.fromkeys(range(1, 12), WIDE)
    for limits in (replace(LIMITS, exit_patience=0), NO_LIMITS):
        ledger, _ = played({0: "LONG"}, states(books), limits)
        assert trades(ledger) == [("horizon", 6)]
        assert put_off(ledger) == []


def test_horizon_when_the_book_is_old_or_has_one_side_then_it_never_waits():
    seen = states(dict.fromkeys(range(1, 12), WIDE))
    old = [replace(s, book=replace(s.book, at=s.as_of - LIMITS.book_age_ms - 1)) for s in seen[1:]]
    lame = [replace(s, book=replace(s.book, asks=())) for s in seen[1:]]
    for more in (old, lame):
        ledger, _ = played({0: "LONG"}, [states({})[0], *more])
        assert trades(ledger) == [("horizon", 6)]


def test_opposite_when_it_waits_then_it_leaves_though_nothing_more_is_said():
    ledger, decisions = played({0: "LONG", 2: "SHORT"}, states({2: WIDE}))
    assert put_off(ledger) == [("opposite", "wide_spread", 3)]
    assert decisions[2].action.value == "NO_TRADE"
    assert decisions[2].reasons == ("wide_spread",)
    assert trades(ledger) == [("opposite", 4)]


def test_opposite_when_the_side_is_taken_again_then_the_exit_is_forgotten():
    ledger, _ = played({0: "LONG", 2: "SHORT", 3: "LONG"}, states({2: WIDE}))
    assert trades(ledger) == [("horizon", 9)]


def test_opposite_when_it_is_said_again_then_it_turns_and_patience_is_counted_once():
    says = {0: "LONG", 2: "SHORT", 3: "SHORT", 4: "SHORT"}
    ledger, _ = played(says, states(dict.fromkeys((2, 3, 4), WIDE)))
    assert [row[2] for row in put_off(ledger)] == [3, 4]
    assert trades(ledger) == [("opposite", 5)]  # the entry of the other side stays refused
    ledger, _ = played(says, states(dict.fromkeys((2, 3), WIDE)))
    assert [fill.intent for _, fill in ledger.records(Fill)][:3] == ["entry", "opposite", "entry"]


def test_wait_when_the_next_decision_is_never_made_then_the_exit_goes_out_by_itself():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({0: "LONG"}), limits=LIMITS)
    for k, state in enumerate(states({5: WIDE})):
        loop.absorb(state.bars.bar(-1))
        if k <= 5:
            loop.decide(state, [], {}, state.as_of)
    assert trades(ledger) == [("horizon", 7)]


def test_stop_when_the_book_is_bad_then_it_does_not_wait():
    bars = [flat(0), flat(1), bar(2, (50_000.0, 50_000.0, 49_000.0, 49_000.0)), flat(3)]
    seen = states(dict.fromkeys(range(1, 4), WIDE), bars=bars)
    ledger, _ = played({0: ("LONG", 49_500.0, None)}, seen)
    assert trades(ledger) == [("stop", 3)]  # within bar 2


def test_kill_when_an_exit_waits_then_it_does_not_wait():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({0: "LONG"}), limits=LIMITS)
    for k, state in enumerate(states(dict.fromkeys(range(1, 12), WIDE), n=8)):
        loop.absorb(state.bars.bar(-1))
        loop.decide(state, [], {}, state.as_of)
        if k == 5:
            loop.kill("me", "now", state.as_of)
    assert loop.mode is RiskMode.KILLED
    assert trades(ledger) == [("kill", 6)]


def test_resume_when_an_exit_waits_then_it_is_put_off_and_leaves_as_without_a_crash():
    says = {0: "LONG", 2: "SHORT", 9: "SHORT"}
    books = dict.fromkeys((2, 3, 14, 15), WIDE)
    calm, expected = played(says, states(books, n=20))
    shaken, seen = played(says, states(books, n=20), crash=True)
    assert list(in_order(shaken)) == list(in_order(calm))
    assert seen == expected
    assert len(put_off(calm)) == 4
    assert [row[0] for row in trades(calm)] == ["opposite", "horizon"]


@pytest.mark.parametrize(
    ("given", "value", "margin"),
    [
        (None, "no_book", -5_000),
        (BookSnapshot(PERP.symbol, START, ((1.0, 1.0),), ()), "one_sided", -5_000),
        (book(GOOD, START + STEP - 5_001), 5_001, -1),
        (book(GOOD, START + STEP - 5_000), 5_000, 0),
    ],
)
def test_entry_when_the_source_is_live_then_it_needs_a_fresh_book_of_two_sides(
    given, value, margin
):
    limits = RiskLimits(needs_book=True)
    (state,) = plain_states_of([flat(0)])
    _, (decision,) = played({0: "LONG"}, [replace(state, book=given)], limits)
    assert decision.inputs["risk"]["book_age"] == {"value": value, "limit": 5_000}
    assert decision.margins["book_age"] == margin
    assert ("thin_book" in decision.reasons) is (margin < 0)
