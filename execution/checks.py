"""The laws every broker and strategy keeps; run against a new one before it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal, get_args

from domain.decision import Action, Decision, GateVerdict
from domain.errors import CheckFailed
from domain.market import Bar, Instrument, MarketState
from domain.ports import Broker, Gate, Strategy
from domain.records import changed
from domain.trading import Fill, Order, OrderStatus, OrderType, Portfolio, Side

BrokerLaw = Literal[
    "fills later", "submits once", "only reduces", "cancels", "stops first", "restores", "answers",
]  # fmt: skip
BROKER_LAWS: tuple[BrokerLaw, ...] = get_args(BrokerLaw)
_STEP = 300_000
_VERBS = ("allow", "shrink", "veto", "override")


def check_broker(
    make: Callable[[], Broker], instrument: Instrument, price: float,
    laws: Sequence[BrokerLaw] = BROKER_LAWS,
) -> None:  # fmt: skip
    """Demand laws of :class:`domain.ports.Broker`.

    Parameters
    ----------
    make : returns a fresh broker without orders, with money, that trades ``instrument``; two are
        made for every law.
    price : a realistic price, quote units.
    laws : a venue fills what it is sent at once, and by its own prices: it cannot keep all.

    Raises
    ------
    CheckFailed : naming the law that is broken.
    """
    for law in laws:
        _BROKER_LAWS[law](make(), make(), _Scene(instrument, price))


class _Scene:
    def __init__(self, instrument: Instrument, price: float) -> None:
        self.instrument, self.price = instrument, price
        least = max(instrument.min_qty, 2 * instrument.min_notional / Decimal(repr(price)))
        steps = (least / instrument.step).to_integral_value(rounding="ROUND_CEILING")
        self.qty = steps * instrument.step

    def bar(self, n: int, low: float = 0.999, high: float = 1.001) -> Bar:
        p = self.price
        return Bar(self.instrument.symbol, "5m", n * _STEP, p, p * high, p * low, p, 1.0)

    def level(self, factor: float) -> Decimal:
        tick = self.instrument.tick
        return (Decimal(repr(self.price * factor)) / tick).to_integral_value() * tick

    def order(self, at: int, side: Side = Side.BUY, intent: str = "entry") -> Order:
        return Order(
            f"order-{at}-{intent}", "paper", self.instrument.symbol, side, self.qty,
            OrderType.MARKET, at * _STEP, "decision", intent, reduce_only=intent != "entry",
        )  # fmt: skip

    def enter(self, broker: Broker) -> None:
        broker.on_bar(self.bar(1))
        broker.submit(self.order(2))
        broker.on_bar(self.bar(2))


def _demand(holds: bool, law: str, value: object = None) -> None:
    if not holds:
        raise CheckFailed("broker", law, value)


def _fills_later(broker: Broker, _: Broker, scene: _Scene) -> None:
    broker.on_bar(scene.bar(1))
    _demand(broker.submit(scene.order(3)) is None, "accepts an order within the filters")
    _demand(
        broker.on_bar(scene.bar(2)) == [], "fills nothing in a bar that opened before the order"
    )
    fills = broker.on_bar(scene.bar(3))
    _demand(len(fills) == 1, "fills a market order in the next bar", fills)
    fill = fills[0]
    _demand(isinstance(fill, Fill), "refuses nothing that is within the filters", fill)
    assert isinstance(fill, Fill)
    _demand(fill.price > fill.reference, "makes a buyer pay spread and slippage")
    gap = abs(fill.price - fill.reference) * fill.qty
    _demand(fill.spread + fill.slippage == gap, "accounts for every part of the price", gap)
    _demand(broker.on_bar(scene.bar(3)) == [], "does nothing on a bar it has seen")
    _demand(broker.open_orders() == [], "keeps no order that is filled")


def _submits_once(broker: Broker, _: Broker, scene: _Scene) -> None:
    broker.on_bar(scene.bar(1))
    for _again in range(2):
        broker.submit(scene.order(2))
    _demand(len(broker.open_orders()) == 1, "takes the same id for one order")
    broker.on_bar(scene.bar(2))
    broker.submit(scene.order(3, Side.SELL, "manual"))
    broker.on_bar(scene.bar(3))
    broker.submit(scene.order(2))
    _demand(broker.on_bar(scene.bar(4)) == [], "never fills one id twice")


def _only_reduces(broker: Broker, _: Broker, scene: _Scene) -> None:
    broker.on_bar(scene.bar(1))
    broker.submit(scene.order(2, Side.SELL, "kill"))
    _demand(broker.on_bar(scene.bar(2)) == [], "opens nothing with a reduce-only order")


def _cancels(broker: Broker, _: Broker, scene: _Scene) -> None:
    broker.cancel("unknown")
    broker.on_bar(scene.bar(1))
    broker.submit(scene.order(2))
    broker.cancel(scene.order(2).id)
    _demand(broker.on_bar(scene.bar(2)) == [], "fills nothing that was cancelled")


def _stops_first(broker: Broker, _: Broker, scene: _Scene) -> None:
    scene.enter(broker)
    exit_ = scene.order(2, Side.SELL, "stop")
    broker.submit(replace(exit_, type=OrderType.STOP, trigger=scene.level(0.98)))
    limit = replace(exit_, id="target", intent="target", type=OrderType.LIMIT)
    broker.submit(replace(limit, price=scene.level(1.02)))
    fills = broker.on_bar(scene.bar(3, low=0.97, high=1.03))
    _demand([fill.intent for fill in fills] == ["stop"], "stops before it takes profit", fills)
    _demand(broker.open_orders() == [], "drops the brackets with the position")


def _restores(broker: Broker, again: Broker, scene: _Scene) -> None:
    entry, leave = scene.order(2), scene.order(3, Side.SELL, "manual")
    broker.on_bar(scene.bar(1))
    broker.submit(entry)
    filled = broker.on_bar(scene.bar(2))
    broker.submit(leave)
    again.restore([scene.bar(1), entry, scene.bar(2), *filled])
    again.restore([leave])
    _demand(again.open_orders() == broker.open_orders(), "restores its working orders")
    expected = broker.on_bar(scene.bar(3))
    _demand(
        again.on_bar(scene.bar(3)) == expected, "fills after a restart as without one", expected
    )


def _answers(broker: Broker, _: Broker, scene: _Scene) -> None:
    broker.on_bar(scene.bar(1))
    order = scene.order(2)
    _demand(broker.status(order.id) is OrderStatus.UNKNOWN, "has never seen what was not sent")
    broker.submit(order)
    at_work = (OrderStatus.WORKING, OrderStatus.FILLED)  # a venue may have filled it at once
    _demand(broker.status(order.id) in at_work, "knows what it works on")
    _demand(not any(broker.holdings().quantities.values()), "holds nothing before a fill")
    cash = broker.holdings().cash
    fills = [fill for fill in broker.on_bar(scene.bar(2)) if isinstance(fill, Fill)]
    _demand(broker.status(order.id) is OrderStatus.DONE, "knows what it has done")
    held = broker.holdings()
    bought = sum(fill.qty for fill in fills)
    _demand(held.quantities[order.symbol] == bought, "holds what it bought", held.quantities)
    if cash is not None and held.cash is not None:
        _demand(held.cash < cash, "pays for what it bought", held.cash)


_BROKER_LAWS: Mapping[BrokerLaw, Callable[[Broker, Broker, _Scene], None]] = {
    "fills later": _fills_later, "submits once": _submits_once, "only reduces": _only_reduces,
    "cancels": _cancels, "stops first": _stops_first, "restores": _restores, "answers": _answers,
}  # fmt: skip


def check_strategy(make: Callable[[], Strategy], states: Sequence[MarketState]) -> None:
    """Demand every law of a strategy that decides from the bars alone.

    Parameters
    ----------
    make : returns a fresh strategy.
    states : of one symbol, in order, from the first bar on; some of them are traded.

    Raises
    ------
    CheckFailed : naming the law that is broken.
    """
    strategy, said = make(), {}
    for state in states:
        decision = said[state.as_of] = _decided(strategy, state)
        _lawful(decision, state)
    sides = sum(decision.intent is not Action.NO_TRADE for decision in said.values())
    _keep(sides > 0, "takes a side somewhere", sides)
    for state in states[:: max(1, len(states) // 20)]:
        again = _decided(make(), state)
        _keep(again == said[state.as_of], "decides after a restart as without one", state.as_of)


def _decided(strategy: Strategy, state: MarketState) -> Decision:
    return strategy.generate_signal(strategy.prepare_state(state, [], {}), state.as_of)


def _lawful(decision: Decision, state: MarketState) -> None:
    place = (decision.symbol, decision.timeframe, decision.as_of)
    _keep(place == (state.symbol, state.timeframe, state.as_of), "decides on its state", place)
    none = decision.intent is Action.NO_TRADE
    _keep(decision.action is decision.intent, "leaves the action to gate and risk", decision.action)
    _keep(bool(decision.reasons) is none, "gives reasons for NO_TRADE only", decision.reasons)
    close, sign = float(state.bars.close[-1]), decision.intent.sign
    for name, level, side in (("stop", decision.stop, -1), ("target", decision.target, 1)):
        beyond = level is None or (level > 0.0 and (level - close) * side * sign > 0.0)
        _keep(beyond and not (none and level is not None), f"puts its {name} on its side", level)


def _keep(holds: bool, law: str, value: object = None) -> None:
    if not holds:
        raise CheckFailed("strategy", law, value)


def check_gate(
    make: Callable[[], Gate], moments: Sequence[tuple[MarketState, Decision]], portfolio: Portfolio
) -> None:
    """Demand every law of :class:`domain.ports.Gate`.

    Parameters
    ----------
    make : returns a fresh gate.
    moments : states in order with what a strategy decided on them; some take a side.

    Raises
    ------
    CheckFailed : naming the law that is broken.
    """
    gate, rows = make(), list[tuple[int, Any]]()
    sided = [moment for moment in moments if moment[1].intent is not Action.NO_TRADE]
    _let(bool(sided), "is shown a side to judge")
    for state, decision in moments:
        bar = (len(rows) + 1, state.bars.bar(-1))
        _observed(gate, [bar])
        rows.append(bar)
        verdict = decision.gate
        if decision.intent is not Action.NO_TRADE:
            verdict = _judged(gate, decision, state, portfolio)
            again = _judged(gate, decision, state, portfolio)
            _let(again == verdict, "says the same when asked again", again)
        made = (len(rows) + 1, changed(decision, gate=verdict))
        _observed(gate, [made])
        rows.append(made)
    state, decision = sided[-1]
    later = make()
    _observed(later, rows)
    expected = _judged(gate, decision, state, portfolio)
    found = _judged(later, decision, state, portfolio)
    _let(found == expected, "judges after a restart as without one", found)
    strange = changed(
        state, features=replace(state.features, values=state.features.values * math.nan)
    )
    _judged(gate, decision, strange, portfolio)


def _observed(gate: Gate, rows: Sequence[tuple[int, Any]]) -> None:
    try:
        gate.observe(rows)
    except Exception as error:
        raise CheckFailed("gate", "never raises", repr(error)) from error


def _judged(
    gate: Gate, decision: Decision, state: MarketState, portfolio: Portfolio
) -> GateVerdict:
    try:
        verdict = gate.judge(decision, state, portfolio)
    except Exception as error:
        raise CheckFailed("gate", "never raises", repr(error)) from error
    _let(0.0 <= verdict.size_factor <= 1.0, "leaves a part in [0, 1]", verdict.size_factor)
    _let(0.0 <= verdict.confidence <= 1.0, "is sure with a probability", verdict.confidence)
    _let(verdict.would in _VERBS, "says what it would do", verdict.would)
    done = verdict.action in (verdict.would, "shadow")
    _let(done, "does what it says", verdict.action)
    _let(verdict.would != "veto" or verdict.size_factor == 0.0, "leaves nothing by a veto",
         verdict.size_factor)  # fmt: skip
    _let(verdict.would != "allow" or verdict.size_factor == 1.0, "allows the whole",
         verdict.size_factor)  # fmt: skip
    part = verdict.would != "shrink" or 0.0 < verdict.size_factor < 1.0
    _let(part, "leaves a part where it shrinks", verdict.size_factor)
    _let(bool(verdict.reason), "gives a reason")
    _let(verdict.input_decision is decision.intent, "names what it judged", verdict.input_decision)
    return verdict


def _let(holds: bool, law: str, value: object = None) -> None:
    if not holds:
        raise CheckFailed("gate", law, value)
