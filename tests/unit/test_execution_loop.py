"""What the loop does with decisions, bar by bar."""

from dataclasses import replace
from decimal import Decimal

import pytest

from domain.decision import Action, ExitReason, GateVerdict
from domain.errors import UsageError
from domain.opinion import Opinion, Outcome
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
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.rows import in_order
from execution.strategies import EmaCross
from storage.memory import MemoryLedger
from tests.execution_scenes import (
    FIXED,
    NO_LIMITS,
    PERP,
    SPOT,
    START,
    STEP,
    Script,
    bar,
    flat,
    loop_over,
    plain_broker,
    play,
    states_of,
    walk,
)


def trades_of(says, bars, instrument=PERP, **settings):
    ledger = MemoryLedger()
    strategy = Script(says)
    decisions = play(loop_over(ledger, strategy, instrument, **settings), bars)
    return ledger, strategy.learned, decisions


def flats(n, symbol=PERP.symbol):
    return [flat(i, symbol=symbol) for i in range(n)]


def records(ledger, kind):
    return [record for _, record in ledger.records(kind)]


def refusals(ledger):
    return [record.code for _, record in ledger.records(Refusal)]


def test_entry_when_decided_at_a_close_then_it_fills_at_the_next_open():
    bars = [flat(0), bar(1, (51_000.0, 51_100.0, 50_900.0, 51_000.0))]
    ledger, _, _ = trades_of({0: "LONG"}, bars)
    (fill,) = (record for _, record in ledger.records(Fill))
    assert fill.at == bars[1].open_ms == bars[0].close_ms
    assert fill.reference == 51_000


def test_position_when_nothing_else_happens_then_the_horizon_closes_it_after_h_bars():
    _, (trade,), _ = trades_of({0: "LONG"}, flats(10))
    assert trade.reason == "horizon"
    assert trade.opened_at == START + STEP
    assert trade.closed_at == START + STEP + 5 * STEP


def test_position_when_the_same_side_is_decided_again_then_the_horizon_moves_and_nothing_is_added():
    ledger, (trade,), _ = trades_of({0: "LONG", 3: "LONG"}, flats(12))
    assert trade.closed_at == START + 4 * STEP + 5 * STEP
    assert len(list(ledger.records(Fill))) == 2


def test_position_when_the_other_side_is_decided_then_it_turns_at_one_open():
    ledger, (trade, second), _ = trades_of({0: "LONG", 2: "SHORT"}, flats(12))
    assert (trade.side, trade.reason) == ("LONG", "opposite")
    assert (second.side, second.reason) == ("SHORT", "horizon")
    assert second.opened_at == trade.closed_at == START + 3 * STEP
    intents = [fill.intent for _, fill in ledger.records(Fill)]
    assert intents == ["entry", "opposite", "entry", "horizon"]


def test_position_when_turned_but_the_entry_is_refused_then_it_still_closes():
    tight = replace(NO_LIMITS, max_symbol_exposure=0.01)
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({0: "LONG"}))
    bars = flats(6)
    play(loop, bars[:2])
    again = loop_over(ledger, strategy := Script({2: "SHORT"}), limits=tight)
    again.resume()
    decisions = play(again, bars[2:])
    assert decisions[0].intent is Action.SHORT
    assert decisions[0].action is Action.NO_TRADE
    assert decisions[0].reasons == ("risk_veto",)
    assert decisions[0].margins["symbol_exposure"] < 0
    assert [trade.reason for trade in strategy.learned] == ["opposite"]
    assert refusals(ledger) == ["risk_veto"]


@pytest.mark.parametrize(
    ("prices", "reason", "reference"),
    [
        ((50_000.0, 50_100.0, 49_400.0, 50_000.0), "stop", 49_500),
        ((50_000.0, 50_600.0, 49_900.0, 50_000.0), "target", 50_500),
        ((50_000.0, 50_600.0, 49_400.0, 50_000.0), "stop", 49_500),  # both: the stop
        ((49_300.0, 49_500.0, 49_200.0, 49_300.0), "stop", 49_300),  # gap: the open
    ],
)
@pytest.mark.parametrize("entry_bar", [True, False])
def test_brackets_when_the_market_reaches_them_then_the_first_one_closes(
    prices, reason, reference, entry_bar
):
    if prices[0] < 50_000:
        entry_bar = False  # a gap needs a bar before it
    bars = [flat(0), bar(1, prices)] if entry_bar else [flat(0), flat(1), bar(2, prices)]
    ledger, (trade,), _ = trades_of({0: ("LONG", 49_500.0, 50_500.0)}, bars)
    assert trade.reason == reason
    last = list(ledger.records(Fill))[-1][1]
    assert last.reference == reference
    assert last.maker is (reason == "target")


def test_brackets_when_the_position_ends_otherwise_then_they_are_gone():
    loop = loop_over(MemoryLedger(), Script({0: ("LONG", 49_500.0, 50_500.0)}))
    play(loop, flats(2))
    assert [order.intent for order in loop.open_orders()] == ["stop", "target"]
    loop.flatten(START + 2 * STEP)
    loop.absorb(flat(2))
    assert loop.open_orders() == []


def test_spot_when_short_is_decided_flat_then_it_is_refused_and_with_a_long_it_closes():
    bars = flats(8, SPOT.symbol)
    ledger, (trade,), decisions = trades_of({0: "SHORT", 1: "LONG", 3: "SHORT"}, bars, SPOT)
    assert decisions[0].action is Action.NO_TRADE
    assert decisions[0].reasons == ("short_not_possible",)
    assert decisions[3].action is Action.SHORT
    assert trade.reason == "opposite"
    assert refusals(ledger) == ["short_not_possible"]


def test_entry_when_below_the_minimum_notional_then_it_is_refused_and_written_down():
    ledger, trades, (decision,) = trades_of({0: "LONG"}, [flat(0, 600_000.0)])
    assert decision.reasons == ("below_min_notional",)
    assert refusals(ledger) == ["below_min_notional"]
    assert not trades


def test_funding_when_a_position_is_open_at_the_stamp_then_it_is_booked_and_on_the_trade():
    first = 8 * 12 - 3  # three bars before 08:00
    bars = [flat(first + i) for i in range(9)]
    ledger, (trade,), _ = trades_of({first: "LONG"}, bars)
    assert trade.funding == Decimal("0.05")  # 0.010 · 50 000 · 0.01 %
    booked = [line for _, line in ledger.records(Posting) if line.book == "funding"]
    assert [line.at for line in booked] == [START + 8 * 3_600_000]
    assert trade.pnl == (trade.exit - trade.entry) * trade.qty - trade.fee - trade.funding


def test_funding_when_entered_at_the_stamp_itself_then_nothing_is_due():
    first = 8 * 12 - 1
    _, (trade,), _ = trades_of({first: "LONG"}, [flat(first + i) for i in range(8)])
    assert trade.opened_at == START + 8 * 3_600_000
    assert trade.funding == 0


def test_kill_when_a_position_is_open_then_it_is_flattened_and_entries_refused_until_armed():
    ledger = MemoryLedger()
    loop = loop_over(ledger, strategy := Script({0: "LONG", 2: "LONG", 4: "LONG"}))
    bars = flats(8)
    play(loop, bars[:2])
    assert loop.kill("me", "test", bars[1].close_ms) is not None
    assert loop.kill("me", "test", bars[1].close_ms) is None
    (decision,) = play(loop, bars[2:3])
    assert decision.reasons == ("killed",)
    assert [trade.reason for trade in strategy.learned] == ["kill"]
    assert loop.portfolio(0).positions == {}
    loop.arm("me", "again", bars[2].close_ms)
    play(loop, bars[3:])
    assert loop.mode is RiskMode.ACTIVE
    assert loop.portfolio(0).positions != {}


def test_kill_when_an_entry_is_on_its_way_then_it_never_fills():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({0: ("LONG", 49_000.0, None)}))
    play(loop, flats(1))
    loop.kill("me", "test", START + STEP)
    assert loop.absorb(flat(1)).fills == ()
    assert refusals(ledger) == ["killed"]
    assert loop.open_orders() == []


def test_total_stop_when_equity_falls_then_the_account_halts_and_closes():
    limits = replace(NO_LIMITS, total_stop=0.01)
    bars = [flat(0), flat(1), flat(2, 38_000.0), flat(3, 38_000.0), flat(4, 38_000.0)]
    ledger = MemoryLedger()
    loop = loop_over(ledger, strategy := Script({0: "LONG", 3: "LONG"}), limits=limits)
    decisions = play(loop, bars)
    (change,) = (record for _, record in ledger.records(ModeChange))
    assert (change.mode, change.at) == (RiskMode.HALTED, bars[2].close_ms)
    assert [trade.reason for trade in strategy.learned] == ["risk"]
    assert decisions[3].reasons == ("breaker",)


@pytest.mark.parametrize(("start", "qty"), [(None, "0.113"), (0.05, "0.056")])
def test_entry_when_the_account_is_six_percent_down_then_half_the_size_is_left(start, qty):
    limits = replace(NO_LIMITS, drawdown_start=start)
    large = replace(FIXED, fixed_notional=5_000, max_notional=10_000)
    bars = [flat(0), bar(1, (50_000.0, 50_000.0, 44_000.0, 44_000.0))]
    bars += [flat(n, 44_000.0) for n in range(2, 10)]
    ledger, _, _ = trades_of({0: "LONG", 8: "LONG"}, bars, limits=limits, sizing=large)
    entries = [fill for _, fill in ledger.records(Fill) if fill.intent == "entry"]
    assert [fill.qty for fill in entries] == [Decimal("0.1"), Decimal(qty)]


def test_entry_when_the_next_bar_is_missing_then_it_is_withdrawn_unfilled():
    ledger, trades, _ = trades_of({0: "LONG"}, [flat(0), flat(5), flat(6)])
    assert refusals(ledger) == ["unfilled"]
    assert not list(ledger.records(Fill))
    assert not trades


def test_horizon_when_it_falls_into_a_gap_then_the_first_open_after_it_closes():
    _, (trade,), _ = trades_of({0: "LONG"}, [flat(0), flat(1), flat(20), flat(21)])
    assert trade.reason == "horizon"
    assert trade.closed_at == START + 20 * STEP


def test_outcome_when_a_gap_lies_inside_the_horizon_then_there_is_none():
    ledger = MemoryLedger()
    play(loop_over(ledger, Script({})), [*flats(3), *(flat(i) for i in range(10, 17))])
    due = [record.as_of for _, record in ledger.records(Outcome)]
    assert due == [START + 11 * STEP, START + 12 * STEP]


def opinion_at(state, p_up=0.6):
    return Opinion("a", "v1", state.symbol, "5m", state.as_of, 5, p_up, None)


def test_rows_when_a_forecast_falls_due_then_its_outcome_precedes_the_next_opinions():
    ledger = MemoryLedger()
    loop = loop_over(ledger, strategy := Script({}))
    for state in states_of(flats(7)):
        loop.step(state, [opinion_at(state)], {}, state.as_of)
    kinds = [type(record).__name__ for _, record in in_order(ledger)]
    outcome = kinds.index("Outcome")
    assert kinds[outcome - 1 : outcome + 2] == ["Bar", "Outcome", "Opinion"]
    assert strategy.seen == list(in_order(ledger))


def test_decide_when_asked_on_demand_then_it_is_stored_once_and_never_trades():
    ledger = MemoryLedger()
    loop = loop_over(ledger, strategy := Script({0: "LONG"}))
    (state,) = states_of(flats(1))
    loop.absorb(flat(0))
    first = loop.decide(state, [opinion_at(state)], {}, state.as_of + 5, origin="on_demand")
    again = loop.decide(state, [opinion_at(state)], {}, state.as_of + 9, origin="on_demand")
    assert first is again
    assert first.action is Action.LONG
    assert loop.open_orders() == []
    loop.decide(state, [opinion_at(state)], {}, state.as_of)
    assert len(list(ledger.records(Opinion))) == 1
    assert sum(isinstance(record, Opinion) for _, record in strategy.seen) == 1


def test_decide_when_the_state_is_not_the_last_bar_then_it_is_refused():
    loop = loop_over(MemoryLedger(), Script({}))
    (state,) = states_of(flats(1))
    with pytest.raises(UsageError, match="last absorbed close"):
        loop.decide(state, [], {}, 0)


def test_absorb_when_the_symbol_has_no_route_then_it_is_refused():
    with pytest.raises(UsageError, match="route"):
        loop_over(MemoryLedger(), Script({})).absorb(flat(0, symbol="ETH/USDT"))


def test_execution_when_on_another_market_then_prices_and_stops_are_that_markets():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({0: ("LONG", 49_500.0, None)}), forecast=SPOT.symbol)
    spot = states_of(flats(2, SPOT.symbol))
    loop.step(spot[0], [], {}, spot[0].as_of, exec_bar=flat(0, 50_500.0))
    loop.step(spot[1], [], {}, spot[1].as_of, exec_bar=flat(1, 50_600.0))
    (fill,) = (record for _, record in ledger.records(Fill))
    assert (fill.symbol, fill.reference) == (PERP.symbol, 50_600)
    (stop,) = loop.open_orders()
    assert stop.trigger == Decimal("49995.0")  # 49 500 · 50 500 / 50 000


def test_execution_when_the_other_markets_bar_is_missing_then_nothing_is_entered():
    loop = loop_over(MemoryLedger(), Script({0: "LONG"}), forecast=SPOT.symbol)
    (state,) = states_of(flats(1, SPOT.symbol))
    assert loop.step(state, [], {}, state.as_of).reasons == ("stale_data",)


def test_step_when_repeated_then_nothing_changes():
    frame = walk(120)
    ledger = MemoryLedger()
    loop = loop_over(ledger, EmaCross(5, 9))
    for state in states_of(list(frame.bars())):
        first = loop.step(state, [], {}, state.as_of)
        head, equity = ledger.head(), loop.portfolio(state.as_of).equity
        assert loop.absorb(state.bars.bar(-1)).repeated
        assert loop.decide(state, [], {}, state.as_of + 1) is first
        assert ledger.head() == head
        assert loop.portfolio(state.as_of).equity == equity
    assert len(list(ledger.records(Fill))) > 10


def test_warm_up_when_over_history_then_it_is_scored_in_order_and_never_traded():
    states = states_of(list(walk(300).bars()))
    ledger = MemoryLedger()
    loop = loop_over(ledger, strategy := Script(dict.fromkeys(range(300), "LONG")))
    asked = [(state, [opinion_at(state)], {}) for state in states]
    assert loop.warm_up(asked[:200], batch=64) == 200
    assert loop.warm_up(asked, batch=64) == 100
    decisions = [d for d in (loop.last_decision(PERP.symbol),) if d]
    assert decisions[0].reasons == ("warm_up",)
    assert decisions[0].intent is Action.LONG
    assert not list(ledger.records(Order))
    assert len(list(ledger.records(Outcome))) == 295
    assert strategy.seen == list(in_order(ledger))
    plain = MemoryLedger()
    slow = loop_over(plain, Script(dict.fromkeys(range(300), "LONG")))
    for state, opinions, absent in asked:
        slow.absorb(state.bars.bar(-1))
        slow.decide(state, opinions, absent, state.as_of, origin="warm_up")
    assert list(in_order(plain)) == list(in_order(ledger))


@pytest.mark.parametrize(("keep", "closes"), [("keep", 0), ("flatten", 1)])
def test_shutdown_when_a_position_is_open_then_the_setting_decides(keep, closes):
    loop = loop_over(MemoryLedger(), Script({0: "LONG"}), on_shutdown=keep)
    play(loop, flats(2))
    orders = loop.shutdown(START + 2 * STEP)
    assert [order.intent for order in orders] == [ExitReason.SHUTDOWN.value] * closes


def test_kill_when_changed_back_and_forth_in_one_instant_then_the_ledger_tells_them_apart():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({}))
    for _ in range(2):
        loop.kill("me", "drill", START)
        loop.arm("me", "over", START)
    loop.kill("me", "drill", START)
    assert len(list(ledger.records(ModeChange))) == 5
    again = loop_over(ledger, Script({}))
    again.resume()
    assert again.mode is loop.mode is RiskMode.KILLED


def test_reducing_when_set_then_positions_run_on_and_nothing_is_entered():
    loop = loop_over(MemoryLedger(), strategy := Script({0: "LONG", 3: "LONG", 8: "LONG"}))
    play(loop, flats(2))
    loop.change_mode(RiskMode.REDUCING, "me", "calm", START + 2 * STEP)
    decisions = play(loop, flats(10)[2:])
    assert [trade.reason for trade in strategy.learned] == ["horizon"]
    assert strategy.learned[0].closed_at == START + 6 * STEP  # the side at bar 3 moved nothing
    assert decisions[6].reasons == ("risk_veto",)


class Judge:
    def __init__(self, verdict):
        self.verdict = verdict

    def judge(self, decision, state, portfolio):
        return self.verdict

    def observe(self, rows):
        """Learn nothing."""


@pytest.mark.parametrize(
    ("verdict", "action", "qty"),
    [
        (GateVerdict("allow"), "LONG", "0.010"),
        (GateVerdict("shrink", size_factor=0.5), "LONG", "0.005"),
        (GateVerdict("veto", reason="no"), "NO_TRADE", None),
        (GateVerdict("override"), "SHORT", "0.010"),
    ],
    ids=lambda value: getattr(value, "action", None),
)
def test_gate_when_it_judges_then_it_shrinks_vetoes_or_turns(verdict, action, qty):
    ledger = MemoryLedger()
    broker = plain_broker({PERP.symbol: PERP})
    settings = LoopSettings({PERP.symbol: PERP.symbol})
    loop = TradingLoop(
        Script({0: "LONG"}), broker, ledger, {PERP.symbol: PERP}, settings,
        limits=NO_LIMITS, sizing=FIXED, gate=Judge(verdict),
    )  # fmt: skip
    (decision,) = play(loop, flats(1))
    assert decision.action.value == action
    assert decision.gate == verdict
    orders = loop.open_orders()
    assert [order.qty for order in orders] == ([Decimal(qty)] if qty else [])
    assert refusals(ledger) == ([] if qty else ["gate_veto"])


def test_account_when_two_symbols_trade_then_one_mark_and_both_exposures_count():
    other = replace(PERP, symbol="ETH/USDT:USDT")
    both = {PERP.symbol: PERP, other.symbol: other}
    ledger = MemoryLedger()
    limits = replace(NO_LIMITS, max_total_exposure=0.07)
    loop = TradingLoop(
        Script({0: "LONG"}), plain_broker(both), ledger, both,
        LoopSettings({symbol: symbol for symbol in both}), limits=limits, sizing=FIXED,
    )  # fmt: skip
    states = [states_of(flats(3, symbol)) for symbol in both]
    for pair in zip(*states, strict=True):
        for state in pair:
            loop.absorb(state.bars.bar(-1))
        for state in pair:
            loop.decide(state, [], {}, state.as_of)
    assert len(list(ledger.records(EquityMark))) == 3
    assert list(loop.portfolio(0).positions) == [PERP.symbol]
    assert refusals(ledger) == ["risk_veto"]  # the first entry, still on its way, counts


def test_kill_when_it_freezes_then_the_position_stays_past_its_horizon_with_its_stop():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({2: ("LONG", 49_000.0, None), 8: "SHORT"}))
    play(loop, [flat(n) for n in range(4)])
    loop.kill("me", "lunch", START + 4 * STEP - 1, flatten=False)
    for state in states_of([flat(n) for n in range(14)])[4:]:
        loop.step(state, [], {}, state.as_of)
    assert [order.intent for order in records(ledger, Order)] == ["entry", "stop"]
    assert loop.portfolio(0).positions
    fall = bar(14, (50_000.0, 50_000.0, 48_900.0, 48_950.0))
    state = states_of([flat(13), fall])[-1]
    loop.step(state, [], {}, state.as_of)
    assert [trade.reason for trade in records(ledger, ClosedTrade)] == ["stop"]


def test_kill_when_frozen_before_then_another_with_flatten_closes():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({2: "LONG"}))
    play(loop, [flat(n) for n in range(4)])
    at = START + 4 * STEP - 1
    assert loop.kill("me", "lunch", at, flatten=False) is not None
    assert loop.kill("me", "now", at) is None
    loop.absorb(flat(4))
    assert [trade.reason for trade in records(ledger, ClosedTrade)] == ["kill"]
    assert len(records(ledger, ModeChange)) == 1
