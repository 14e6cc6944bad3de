"""A session run again: equal where nothing differs, and every difference found and named."""

from dataclasses import replace
from decimal import Decimal
from functools import partial

import pytest

from domain.decision import Decision, ExitReason
from domain.errors import UsageError
from domain.market import Bar, BarFrame
from domain.operations import OperatorReport, Reflection
from domain.ports import Needs
from domain.trading import (
    ClosedTrade,
    EquityMark,
    Fill,
    ModeChange,
    Order,
    Posting,
    Refusal,
    RiskMode,
)
from execution.control import FEED
from execution.risk import RISK
from execution.rows import in_order
from execution.strategies import EmaCross
from sim.parity import KINDS, compare
from sim.rerun import Rerun, Stage, last_before
from storage.memory import MemoryLedger
from tests.execution_scenes import NO_LIMITS, PERP, SPOT, loop_over, states_of, walk

BARS = 160
NEEDS = Needs(250, 0)


def stage(instrument=PERP, forecast="", after=0, spans=(5, 9)):
    def loop(ledger):
        return loop_over(ledger, EmaCross(*spans), instrument, forecast=forecast)

    symbol = forecast or instrument.symbol
    return Stage(after, loop, {symbol: instrument.symbol}, "5m", NEEDS)


def interfere(loop, place, at):
    """What people do before some bars."""
    if place == 40:
        loop.kill("cli", "news", at)
    elif place in (50, 90):
        loop.arm("cli", "calm again", at)
    elif place == 70:
        loop.kill("file", "KILL", at, flatten=False)
    elif place == 80:
        loop.flatten(at, ExitReason.KILL)
    elif place == 120:
        loop.flatten(at)
    elif place == 130:
        (held,) = loop.portfolio(at).positions.values()
        words = ("paper", held.symbol, held.decision_id, at, "me", "I had seen enough of it.")
        loop.close(Reflection(*words), at)
    elif place == BARS - 1:
        loop.flatten(at, ExitReason.SHUTDOWN)


def play(ledger, made, *, first=0, last=BARS, elsewhere=None):
    """A session with interference, some of it under ``made``'s terms."""
    loop = made.loop(ledger)
    loop.resume()
    (symbol,) = made.routes
    states = states_of(list(walk(BARS, symbol=symbol).bars()))
    for place, state in enumerate(states[first:last], first):
        bar = state.bars.bar(-1)
        interfere(loop, place, bar.open_ms)
        loop.absorb(bar, None if elsewhere is None else elsewhere(bar))
        loop.decide(state, [], {}, state.as_of + 7)
        if place == 100:
            loop.decide(state, [], {}, state.as_of + 9, origin="on_demand")
    return loop


def again(ledger, stages, given=None):
    rerun = Rerun(ledger, stages, given)
    rerun.run()
    return rerun


@pytest.fixture(scope="module")
def session():
    ledger = MemoryLedger()
    play(ledger, stage())
    return ledger


def test_parity_when_people_interfered_then_it_is_equal_all_the_same(session):
    rerun = again(session, [stage()])
    found = compare(session, rerun.ledger)
    assert found.same, found.first
    assert (found.apart, found.largest_apart) == (0, 0)
    assert found.session == found.replayed
    assert list(in_order(rerun.ledger)) == list(in_order(session))
    assert rerun.inputs == {
        "bars": BARS, "mode_changes": 4, "on_demand": 1, "closed_by_hand": 4, "notes": 1,
    }  # fmt: skip
    intents = {order.intent for _, order in session.records(Order)}
    assert {"entry", "opposite", "kill", "manual", "shutdown"} <= intents
    counts = {each.kind: each.session for each in found.compared}
    quiet = {"risk_events", "drafts"}
    assert all(counts[kind] > 0 for kind in KINDS if kind not in quiet), counts


@pytest.mark.parametrize("who", ["the feed", "a person"])
def test_parity_when_a_limits_reduction_was_taken_over_then_it_is_equal(who):
    def made(ledger):
        limits = replace(NO_LIMITS, daily_loss=1e-6)
        return loop_over(ledger, EmaCross(5, 9), limits=limits)

    ledger = MemoryLedger()
    loop, states = made(ledger), states_of(list(walk(400).bars()))
    taken = []
    for state in states:
        loop.absorb(state.bars.bar(-1))
        if not taken and loop.mode is RiskMode.REDUCING:
            take_over = loop.hold_entries if who == "the feed" else partial(loop.pause, "me")
            taken.append(take_over("wait", state.as_of))
        loop.decide(state, [], {}, state.as_of)
    assert taken[0] is not None
    rerun = again(ledger, [replace(stage(), loop=made)])
    assert list(in_order(rerun.ledger)) == list(in_order(ledger))


def test_parity_when_the_feed_lets_go_while_a_limit_is_broken_then_it_is_the_limits_again():
    def made(ledger):
        limits = replace(NO_LIMITS, daily_loss=1e-6)
        return loop_over(ledger, EmaCross(5, 9), limits=limits)

    ledger = MemoryLedger()
    loop, held, given = made(ledger), [], []
    for state in states_of(list(walk(400).bars())):
        if held and not given:
            given.append(loop.release_entries("all is there", state.as_of))
        loop.absorb(state.bars.bar(-1))
        loop.decide(state, [], {}, state.as_of)
        if not held and loop.mode is RiskMode.REDUCING:
            held.append(loop.hold_entries("no bars yet", state.as_of))
    assert (given[0].mode, given[0].by) == (RiskMode.REDUCING, RISK)
    assert "loss of the day" in given[0].why
    changes = [(row.mode, row.by) for _, row in ledger.records(ModeChange)]
    assert changes[:3] == [(RiskMode.REDUCING, by) for by in (RISK, FEED, RISK)]
    assert changes[3] == (RiskMode.ACTIVE, RISK)  # the next day
    rerun = again(ledger, [replace(stage(), loop=made)])
    assert list(in_order(rerun.ledger)) == list(in_order(ledger))


def test_parity_when_traded_on_another_market_then_its_bars_are_taken_too():
    made = stage(PERP, forecast=SPOT.symbol)
    ledger = MemoryLedger()

    def perp(bar):
        dearer = [price + 25.0 for price in (bar.open, bar.high, bar.low, bar.close)]
        missing = bar.open_ms % 1_500_000 == 0
        return None if missing else Bar(PERP.symbol, "5m", bar.open_ms, *dearer, bar.volume)

    play(ledger, made, elsewhere=perp)
    found = compare(ledger, again(ledger, [made]).ledger)
    assert found.same, found.first
    assert len(list(ledger.records(Fill))) > 10


def test_parity_when_the_terms_changed_on_the_way_then_each_holds_for_its_rows():
    ledger, slow = MemoryLedger(), (10, 20)
    play(ledger, stage(), last=100)
    after = ledger.head()[0]
    play(ledger, stage(spans=slow), first=100)
    assert compare(ledger, again(ledger, [stage(), stage(after=after, spans=slow)]).ledger).same
    found = compare(ledger, again(ledger, [stage()]).ledger)
    assert found.first.kind == "decisions"
    assert found.first.at > states_of(list(walk(100).bars()))[-1].as_of


@pytest.mark.parametrize("place", [45, 75, 100, 128])
def test_rerun_when_it_begins_in_the_middle_then_the_rest_is_equal(session, place):
    start = states_of(list(walk(BARS).bars()))[place].as_of
    after = last_before(session, start)
    rerun = Rerun(session, [stage()], after=after)
    rerun.run()
    assert 0 < after < session.head()[0]
    assert list(in_order(rerun.ledger)) == list(in_order(session))
    assert rerun.ledger.head()[0] == session.head()[0]
    assert rerun.inputs["bars"] == BARS - place - 1


def test_rerun_when_it_begins_in_the_middle_then_the_terms_of_then_hold():
    ledger, slow = MemoryLedger(), (10, 20)
    play(ledger, stage(), last=60)
    changed = ledger.head()[0]
    play(ledger, stage(after=changed, spans=slow), first=60)
    stages = [stage(), stage(after=changed, spans=slow)]
    for place in (40, 80):
        after = last_before(ledger, states_of(list(walk(BARS).bars()))[place].as_of)
        assert compare(ledger, Rerun(ledger, stages, after=after).run()).same


def stored(records):
    ledger = MemoryLedger()
    ledger.append(list(records))
    return ledger


def altered(ledger, kind, change, which=5):
    """The same ledger with one record told otherwise, or not at all."""
    rows, places = [record for _, record in in_order(ledger)], []
    for i, record in enumerate(rows):
        if isinstance(record, kind):
            places.append(i)
    rows[places[which - 1]] = change(rows[places[which - 1]])
    return stored(record for record in rows if record is not None)


CASES = {
    "fills": (Fill, lambda fill: replace(fill, price=fill.price + Decimal("0.1")), "price"),
    "trades": (ClosedTrade, lambda trade: replace(trade, pnl=trade.pnl + 1), "pnl"),
    "orders": (Order, lambda order: replace(order, qty=order.qty * 2), "qty"),
    "decisions": (Decision, lambda made: replace(made, reason="Because."), "reason"),
    "equity": (EquityMark, lambda mark: replace(mark, equity=mark.equity + 3), "equity"),
    "refusals": (Refusal, lambda _: None, None),
    "mode_changes": (ModeChange, lambda change: replace(change, by="risk"), None),
}


@pytest.mark.parametrize("kind", CASES)
def test_compare_when_one_record_differs_then_it_is_counted_and_told_in_full(session, kind):
    of, change, name = CASES[kind]
    which = min(5, len(list(session.records(of))))
    found = compare(altered(session, of, change, which), session)
    row = next(each for each in found.compared if each.kind == kind)
    assert row.different == (2 if kind == "mode_changes" else 1)
    assert found.first == row.first
    assert str(found.first).startswith(f"{kind} at 2025-01-01T")
    if name is not None:
        assert row.first.fields == (name,)
        assert row.first.session[name] != row.first.replayed[name]
    assert [each.kind for each in found.compared if each.different] == [kind]


def test_compare_when_a_booking_is_missing_then_it_is_told_as_funding_or_posting(session):
    paid = {line.entry for _, line in session.records(Posting) if line.book == "funding"}
    assert paid
    rest = (
        record
        for _, record in in_order(session)
        if not (isinstance(record, Posting) and record.entry in paid)
    )
    found = compare(stored(rest), session)
    different = {each.kind: each.different for each in found.compared if each.different}
    assert different == {"funding": len(paid), "postings": len(paid)}
    assert found.first.kind == "funding"
    assert found.first.session is None


def test_compare_when_equity_differs_then_the_distance_is_in_satoshi(session):
    marks = [mark for _, mark in session.records(EquityMark)]

    def shifted(mark):
        return replace(mark, equity=mark.equity - Decimal("0.000000021"))

    found = compare(altered(session, EquityMark, shifted, 9), session)
    assert (found.apart, found.largest_apart) == (0, 3)
    assert found.first.at == marks[8].at


def test_compare_when_floats_are_of_another_machine_then_a_tolerance_forgives_the_last_bits(
    session,
):
    def nudged(decision):
        gap = decision.inputs["gap"]
        return replace(decision, inputs={**decision.inputs, "gap": gap * (1 + 1e-15)})

    other = altered(session, Decision, nudged, 60)
    assert not compare(other, session).same
    assert compare(other, session, tolerance=1e-12).same


def test_rerun_when_bars_are_given_then_a_bar_that_differs_is_named(session):
    frame = walk(BARS)
    assert compare(session, again(session, [stage()], {PERP.symbol: frame}).ledger).same
    frame.high[90] += 50.0
    found = compare(session, again(session, [stage()], {PERP.symbol: frame}).ledger)
    assert (found.first.kind, found.first.fields) == ("bars", ("high",))
    assert found.first.at == int(frame.ts[90]) + frame.step_ms


def test_rerun_when_bars_are_given_then_holes_on_either_side_are_named(session):
    frame, keep = walk(BARS), [i for i in range(BARS) if i != 30]
    columns = (frame.ts, frame.open, frame.high, frame.low, frame.close, frame.volume)
    holed = BarFrame(frame.symbol, "5m", *(column[keep] for column in columns))
    found = compare(session, again(session, [stage()], {PERP.symbol: holed}).ledger)
    assert found.first.kind == "bars"
    assert found.first.replayed is None
    missed = MemoryLedger()
    loop = stage().loop(missed)
    for place, state in enumerate(states_of(list(frame.bars()))):
        if place != 30:
            loop.absorb(state.bars.bar(-1))
            loop.decide(state, [], {}, state.as_of)
    found = compare(missed, again(missed, [stage()], {PERP.symbol: frame}).ledger)
    assert found.first.kind == "bars"
    assert found.first.session is None


def test_rerun_when_the_operator_reported_then_the_report_is_kept(session):
    report = OperatorReport("paper", 1, "hrv", 20.0, "me")
    ledger = stored([*(record for _, record in in_order(session)), report])
    rerun = again(ledger, [stage()])
    assert [record for _, record in rerun.ledger.records(OperatorReport)] == [report]
    assert rerun.inputs["notes"] == 2


def test_rerun_when_nobody_knows_the_terms_then_it_refuses():
    with pytest.raises(UsageError, match="terms"):
        Rerun(MemoryLedger(), [])
