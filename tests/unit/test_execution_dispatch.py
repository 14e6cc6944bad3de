"""Orders in flight are asked after and never sent again; what differs from the broker halts."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest

from domain.decision import Reason
from domain.errors import AmbiguousOutcome, ServiceUnreachable
from domain.operations import RiskEvent
from domain.trading import Fill, Holdings, ModeChange, Order, Refusal, RiskMode
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker
from execution.rows import in_order
from storage.memory import MemoryLedger
from tests.execution_scenes import (
    FIXED,
    NO_LIMITS,
    PERP,
    Script,
    flat,
    loop_over,
    plain_broker,
    play,
    states_of,
)


class Unsure(PaperBroker):
    """A paper broker behind a line that breaks: orders get through or not, and nobody hears."""

    arrives = True
    silent = 0  # questions that find nobody
    breaks_on = "entry"

    def submit(self, order):
        self.sent[order.id] += 1
        if order.intent != self.breaks_on:
            return super().submit(order)
        if self.arrives:
            super().submit(order)
        raise AmbiguousOutcome("order", "the venue did not answer in time", order.id)

    def status(self, order_id):
        if self.silent:
            self.silent -= 1
            raise ServiceUnreachable("venue", "does not answer")
        return super().status(order_id)


def scene(says, ledger=None, *, instruments=(PERP,), limits=NO_LIMITS, **how):
    traded = {each.symbol: each for each in instruments}
    plain = plain_broker(traded)
    broker = Unsure(traded, plain._costs, venue=plain._venue)
    broker.sent = Counter()
    for name, value in how.items():
        setattr(broker, name, value)
    ledger = MemoryLedger() if ledger is None else ledger
    settings = LoopSettings({symbol: symbol for symbol in traded})
    loop = TradingLoop(Script(says), broker, ledger, traded, settings, limits=limits, sizing=FIXED)
    return loop, broker, ledger


def rows(ledger, kind):
    return [record for _, record in ledger.records(kind)]


BARS = [flat(n) for n in range(12)]


def test_send_when_the_answer_is_lost_but_the_order_arrived_then_it_fills_once():
    loop, broker, ledger = scene({2: "LONG"})
    decisions = play(loop, BARS)
    entry = next(order for order in rows(ledger, Order) if order.intent == "entry")
    fills = [fill for fill in rows(ledger, Fill) if fill.order_id == entry.id]
    assert [fill.qty for fill in fills] == [entry.qty]
    assert max(broker.sent.values()) == 1
    levels = [event.level for event in rows(ledger, RiskEvent) if entry.id in event.subject]
    assert levels == ["warning", "info"]
    assert decisions[2].action == "LONG"
    assert loop.mode is RiskMode.ACTIVE


def test_send_when_the_order_never_arrived_then_it_is_refused_and_not_sent_again():
    loop, broker, ledger = scene({2: "LONG"}, arrives=False)
    play(loop, BARS)
    (refusal,) = rows(ledger, Refusal)
    assert refusal.code == Reason.NOT_PLACED
    assert rows(ledger, Fill) == []
    assert max(broker.sent.values()) == 1


def test_entry_when_an_order_of_the_symbol_is_in_flight_then_it_waits():
    loop, broker, ledger = scene({2: "LONG", 3: "LONG", 4: "LONG"}, arrives=False, silent=1)
    decisions = play(loop, BARS)
    assert Reason.IN_FLIGHT in decisions[3].reasons  # the first question found nobody
    assert decisions[3].action == "NO_TRADE"
    assert decisions[4].action == "LONG"
    assert max(broker.sent.values()) == 1
    entries = [order for order in rows(ledger, Order) if order.intent == "entry"]
    assert len(entries) == 2


def test_entry_when_another_symbols_is_in_flight_then_its_exposure_counts():
    other = replace(PERP, symbol="ETH/USDT:USDT")
    limits = replace(NO_LIMITS, max_total_exposure=0.07)
    loop, _, ledger = scene({0: "LONG"}, instruments=(PERP, other), limits=limits, arrives=False)
    states = [states_of([flat(0, symbol=symbol)])[0] for symbol in (PERP.symbol, other.symbol)]
    for state in states:
        loop.absorb(state.bars.bar(-1))
    for state in states:
        loop.decide(state, [], {}, state.as_of)
    assert [(row.symbol, row.code) for row in rows(ledger, Refusal)] == [
        (other.symbol, Reason.RISK_VETO)
    ]


@pytest.mark.parametrize("arrives", [True, False])
def test_kill_when_an_entry_is_in_flight_then_it_is_withdrawn_and_asked_after_no_more(arrives):
    loop, broker, ledger = scene({2: "LONG"}, arrives=arrives)
    play(loop, BARS[:3])
    loop.kill("me", "lunch", BARS[2].close_ms)
    for state in states_of(BARS)[3:]:
        loop.step(state, [], {}, state.as_of)
    assert [row.code for row in rows(ledger, Refusal)] == [Reason.KILLED]
    assert (rows(ledger, Fill), broker.open_orders()) == ([], [])


def test_resume_when_an_order_was_written_but_never_sent_then_it_is_asked_after():
    loop, _, ledger = scene({2: "LONG"})
    play(loop, BARS[:3])

    class Empty(Unsure):
        """A venue that keeps its own books: it learns nothing from the ledger."""

        def restore(self, records):
            return super().restore(record for record in records if not isinstance(record, Order))

    plain = plain_broker({PERP.symbol: PERP})
    broker = Empty({PERP.symbol: PERP}, plain._costs, venue=plain._venue)
    broker.sent = Counter()
    again = TradingLoop(
        Script({}), broker, ledger, {PERP.symbol: PERP},
        LoopSettings({PERP.symbol: PERP.symbol}), limits=NO_LIMITS, sizing=FIXED,
    )  # fmt: skip
    again.resume()
    for state in states_of(BARS)[3:]:
        again.step(state, [], {}, state.as_of)
    assert [refusal.code for refusal in rows(ledger, Refusal)] == [Reason.NOT_PLACED]
    assert not broker.sent


def off_by(qty):
    class Leaky(PaperBroker):
        """Holds other quantities than it said."""

        def holdings(self):
            held = super().holdings()
            more = {symbol: amount + qty for symbol, amount in held.quantities.items()}
            return Holdings(held.cash, more)

    plain = plain_broker({PERP.symbol: PERP})
    return Leaky({PERP.symbol: PERP}, plain._costs, venue=plain._venue)


def leaky(ledger, says, qty=Decimal("0.001")):
    return TradingLoop(
        Script(says), off_by(qty), ledger, {PERP.symbol: PERP},
        LoopSettings({PERP.symbol: PERP.symbol}), limits=NO_LIMITS, sizing=FIXED,
    )  # fmt: skip


def test_reconcile_when_the_broker_holds_something_else_then_it_halts_once_and_closes_nothing():
    ledger = MemoryLedger()
    loop = leaky(ledger, {2: "LONG", 4: "LONG", 9: "LONG"})
    decisions = play(loop, BARS[:6])
    (event,) = rows(ledger, RiskEvent)
    assert (event.kind, event.level) == ("reconciliation", "error")
    held = next(iter(rows(ledger, Fill))).qty
    both = {side: Decimal(qty) for side, qty in event.body[PERP.symbol].items()}
    assert both == {"ledger": held, "broker": held + Decimal("0.001")}
    (change,) = rows(ledger, ModeChange)
    assert (change.mode, change.by) == (RiskMode.HALTED, "reconciliation")
    assert loop.portfolio(0).positions  # it is not known what there is to close
    assert [order.intent for order in rows(ledger, Order)] == ["entry"]
    assert Reason.BREAKER in decisions[4].reasons


def test_reconcile_when_the_difference_goes_then_it_says_so_and_a_person_has_to_arm():
    ledger = MemoryLedger()
    loop = leaky(ledger, {2: "LONG"})
    play(loop, BARS)  # the horizon exit makes both flat
    assert [event.level for event in rows(ledger, RiskEvent)] == ["error", "info"]
    assert loop.mode is RiskMode.HALTED


def test_reconcile_when_below_epsilon_then_nothing_is_said():
    ledger = MemoryLedger()
    play(leaky(ledger, {2: "LONG"}, Decimal("0.000000001")), BARS)
    assert rows(ledger, RiskEvent) == []


def test_reconcile_when_the_desk_was_down_meanwhile_then_it_halts_before_the_first_order():
    ledger = MemoryLedger()
    play(loop_over(ledger, Script({2: "LONG"})), BARS[:4])
    again = leaky(ledger, {4: "SHORT"})
    again.resume()
    assert again.mode is RiskMode.HALTED
    before = list(in_order(ledger))
    leaky(ledger, {}).resume()
    assert list(in_order(ledger)) == before  # the same difference is written down once


def test_kill_when_only_what_came_of_it_cannot_be_written_down_then_nothing_is_sent_twice():
    ledger = Full(MemoryLedger())
    loop, broker, _ = scene({2: "LONG"}, ledger, breaks_on="kill")
    play(loop, BARS[:4])
    ledger.after = 1  # the order itself is written down, the doubt about it is not
    with pytest.raises(ServiceUnreachable, match="locked"):
        loop.kill("me", "drill", BARS[3].close_ms)
    assert [broker.sent[order.id] for order in rows(ledger, Order) if order.intent == "kill"] == [1]


class Full:
    """A ledger that is locked from some append on."""

    def __init__(self, ledger):
        self._ledger, self.after = ledger, None  # how many more appends it takes; None = any

    def append(self, records):
        if self.after == 0:
            raise ServiceUnreachable("database", "is locked")
        self.after = None if self.after is None else self.after - 1
        return self._ledger.append(records)

    def __getattr__(self, name):
        return getattr(self._ledger, name)


def test_kill_when_nothing_can_be_written_down_then_the_exit_goes_out_all_the_same():
    ledger = Full(MemoryLedger())
    broker = plain_broker({PERP.symbol: PERP})
    loop = TradingLoop(
        Script({2: "LONG"}), broker, ledger, {PERP.symbol: PERP},
        replace(LoopSettings({PERP.symbol: PERP.symbol})), limits=NO_LIMITS, sizing=FIXED,
    )  # fmt: skip
    play(loop, BARS[:4])
    ledger.after = 0
    with pytest.raises(ServiceUnreachable, match="locked"):
        loop.kill("me", "drill", BARS[3].close_ms)
    assert [order.intent for order in broker.open_orders()] == ["kill"]
    broker.on_bar(BARS[4])
    assert not broker.holdings().quantities
