"""What protects and what closes is at the exchange as soon as that takes it, bars or no bars."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from domain.errors import ServiceUnreachable
from domain.trading import Fill, Refusal, RiskMode, Side
from execution.adapters.ccxt_broker import CcxtBroker
from execution.sizing import SizingSettings
from sim.venue.fates import Fate
from sim.venue.refusals import Refused
from storage.memory import MemoryLedger
from tests.live_acts import TOO_MANY, decided, held, held_long, opened, refusing, resting, stop_at
from tests.live_scenes import PERP, STEP, Stage, Turning, live_loop, live_states, order_at, stage

LONG = Decimal("0.010")


def house(one: Any, here: Stage, seconds: float) -> None:
    """Let a loop or broker tend, as the desk does every two seconds; no bar closes."""
    for _ in range(round(seconds / 2)):
        here.skew[0] += 2.0
        one.tend()


def stops(here: Stage) -> list[Any]:
    return [order for order in here.account.open_orders() if order.algo]


def test_kill_when_it_is_refused_once_then_no_bar_is_waited_for() -> None:
    with held_long() as made:
        straight, made.here.accounts.passage = made.here.accounts.passage, TOO_MANY
        made.loop.kill("me", "enough", made.here.at)
        made.here.accounts.passage = straight
        assert made.held
        house(made.loop, made.here, 4)
        assert not made.held


def test_kill_when_its_exit_could_not_leave_then_no_bar_is_waited_for() -> None:
    with held_long() as made:
        made.fall_silent(left_alone=True)
        made.loop.kill("me", "enough", made.here.at)
        made.answer_again()
        house(made.loop, made.here, 60)
        assert not made.held


@pytest.mark.parametrize("ahead_ms", [12_000, -12_000])
def test_kill_when_this_machines_clock_has_gone_wrong_then_it_leaves_all_the_same(
    ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_long() as made:
        client = made.broker._gateway._client
        monkeypatch.delattr(client, "nonce")  # ccxt's own: milliseconds less timeDifference
        monkeypatch.setattr(client, "milliseconds", lambda: made.here.wall() + ahead_ms)
        made.loop.kill("me", "enough", made.here.at)
        assert made.held
        for _ in range(2):
            made.here.pass_to(made.here.at + 2_000)  # its clock goes on as well
            house(made.loop, made.here, 2)
        assert not made.held
        made.play(2)
        made.closed()


def test_kill_when_there_is_said_to_be_nothing_though_something_is_held_then_it_goes_on() -> None:
    with held_long() as made:
        straight = made.here.accounts.passage
        made.here.accounts.passage = refusing(400, -2022, "ReduceOnly Order is rejected.")
        made.loop.kill("me", "enough", made.here.at)
        made.here.accounts.passage = straight
        house(made.loop, made.here, 4)
        assert not made.held
        made.play(2)
        made.closed()


def test_kill_when_nobody_tells_of_the_stop_then_the_exit_leaves_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stage() as here:
        broker = with_stop(here)
        straight, here.accounts.passage = here.accounts.passage, TOO_MANY
        broker.submit(order_at(here, "k", Side.SELL, "kill"))
        here.accounts.passage = straight
        find = broker._gateway.find

        def partly(symbol: str, client_id: str, *, conditional: bool) -> Any:
            if conditional:  # what a 503 of the service of conditional orders becomes
                raise ServiceUnreachable("binance", "refused", "503")
            return find(symbol, client_id, conditional=conditional)

        monkeypatch.setattr(broker._gateway, "find", partly)
        here.skew[0] += 300.0
        broker.on_bar(here.next_bar())
        assert not held(here)


def with_stop(here: Stage) -> CcxtBroker:
    broker = opened(here)
    broker.submit(order_at(here, "e"))
    broker.submit(stop_at(here, broker, "s", Side.SELL, "d1"))
    broker.on_bar(here.next_bar())
    assert (held(here), resting(here)) == (LONG, ["s"])
    return broker


def test_stop_when_it_is_refused_once_then_no_bar_is_waited_for() -> None:
    with stage() as here:
        broker = opened(here)
        broker.submit(order_at(here, "e"))
        straight, here.accounts.passage = here.accounts.passage, TOO_MANY
        broker.submit(stop_at(here, broker, "s", Side.SELL, "d1"))
        here.accounts.passage = straight
        assert (held(here), resting(here)) == (LONG, [])
        house(broker, here, 4)
        assert (held(here), resting(here)) == (LONG, ["s"])


def acknowledged(here: Stage) -> CcxtBroker:
    """A broker with an entry that is acknowledged and fills a second later, and its stop."""
    broker = opened(here)
    here.accounts.exchange.fated = lambda account, order: Fate(after_ms=1_000)
    broker.submit(order_at(here, "e1"))
    here.accounts.exchange.fated = lambda account, order: Fate()
    broker.submit(stop_at(here, broker, "s1", Side.SELL, "d1"))
    return broker


def fills(here: Stage) -> None:
    """Let what was acknowledged fill."""
    here.pass_to(here.at + 5_000)
    here.accounts.exchange.now()
    assert held(here)


def test_stop_when_its_entry_fills_after_it_was_acknowledged_then_no_bar_is_waited_for() -> None:
    with stage() as here:
        broker = acknowledged(here)
        house(broker, here, 2)
        fills(here)
        house(broker, here, 6)
        assert resting(here) == ["s1"]


def test_stop_when_it_is_refused_for_good_then_nothing_is_held_without_one() -> None:
    asked: list[float] = []

    async def passage(request: Any, call: Any, take: Any) -> Any:
        if request.method == "POST" and call.query.get("clientAlgoId"):
            asked.append(here.skew[0])
            raise Refused(400, -4045, "Reach max stop order limit.")
        return take()

    with stage(passage=passage) as here:
        broker = opened(here)
        broker.submit(order_at(here, "e"))
        began = here.skew[0]
        broker.submit(stop_at(here, broker, "s", Side.SELL, "d1"))
        house(broker, here, 60)
        assert held(here) == LONG
        house(broker, here, 4)
        assert not held(here)
        assert [at - began for at in asked] == [0.0, 2.0, 6.0, 14.0, 30.0]
        rows = broker.on_bar(here.next_bar())
        assert [row.intent for row in rows if isinstance(row, Fill)] == ["entry", "risk"]
        [refused] = [row for row in rows if isinstance(row, Refusal)]
        assert refused.value == "-4045"
        assert broker.open_orders() == []


def test_stop_when_nobody_answered_for_long_then_its_position_is_not_closed_for_that() -> None:
    with held_long() as made:
        here, broker = made.here, made.broker
        position = made.loop.portfolio(0).positions[PERP]
        made.fall_silent(left_alone=True)
        broker.submit(stop_at(here, broker, "s", Side.SELL, position.decision_id))
        house(broker, here, 600)
        made.answer_again()
        house(broker, here, 120)
        assert made.held
        assert resting(here) == ["s"]


def test_kill_when_the_rest_is_refused_then_the_stop_has_not_been_taken_off_before() -> None:
    banned = False

    async def passage(request: Any, call: Any, take: Any) -> Any:
        nonlocal banned
        if banned:
            raise Refused(418, -1003, "Way too many requests; IP banned.")
        answer = take()
        banned = request.method == "DELETE"
        return answer

    with stage(passage=passage) as here:
        loop = decided(here, here.broker(), MemoryLedger(), turn=2)
        assert (bool(held(here)), len(resting(here))) == (True, 2)
        loop.kill("me", "enough", here.at + 1)
        house(loop, here, 60)
        assert not held(here) or stops(here)
        banned = False
        here.accounts.passage = lambda request, call, take: passage_once(take)
        house(loop, here, 120)
        assert (held(here), resting(here)) == (0, [])


async def passage_once(take: Any) -> Any:
    return take()


def test_entry_when_it_cannot_be_closed_again_then_that_is_tried_ever_less_often() -> None:
    tried: list[float] = []

    async def passage(request: Any, call: Any, take: Any) -> Any:
        if request.method == "POST" and "-x" in call.query.get("newClientOrderId", ""):
            tried.append(here.skew[0])
            raise Refused(400, -4131, "The counterparty's best price does not meet PERCENT_PRICE.")
        return take()

    with stage(passage=passage) as here:
        loop = decided(here, here.broker(), MemoryLedger())
        loop.kill("me", "enough", here.at + 1)
        house(loop, here, 600)
        assert 10 <= len(tried) <= 16  # 2, 4, 8, 16, 32 s, then every minute
        here.accounts.passage = lambda request, call, take: passage_once(take)
        house(loop, here, 62)
        assert not held(here)


@pytest.mark.parametrize("how", ["freeze", "pause", "feed"])
def test_what_keeps_positions_when_one_was_entered_within_the_bar_then_it_stays(how: str) -> None:
    with stage() as here:
        ledger = MemoryLedger()
        loop = decided(here, here.broker(), ledger, turn=2)
        assert (bool(held(here)), len(resting(here))) == (True, 2)
        if how == "freeze":
            loop.kill("me", "enough", here.at + 1, flatten=False)
        elif how == "pause":
            loop.pause("me", "lunch", here.at + 1)
        else:
            loop.hold_entries("it is not sure", here.at + 1)
        house(loop, here, 60)
        assert (bool(held(here)), len(resting(here))) == (True, 2)
        loop.absorb(here.next_bar())
        if held(here):  # else its stop or target was met
            assert loop.portfolio(0).positions[PERP].qty == held(here)
            loop.kill("me", "enough", here.at)
            assert not held(here)


@pytest.mark.parametrize("as_large", [True, False])
def test_entry_when_the_ledger_holds_what_the_exchange_does_not_then_none_leaves(
    as_large: bool,
) -> None:
    """A person has closed it by hand and armed the desk: its fill would close a phantom."""
    with stage() as here:
        ledger = MemoryLedger()
        loop = decided(here, here.broker(), ledger, turn=1)
        qty, bar = held(here), here.next_bar()
        loop.absorb(bar)
        assert loop.portfolio(0).positions
        here.client().create_order(PERP, "market", "sell", float(qty), None, {"reduceOnly": True})
        bars = [bar]
        while (here.at // STEP + 1) % 4 != 2:
            bars.append(here.next_bar())
            loop.absorb(bars[-1])
        bars.append(here.next_bar())
        loop.absorb(bars[-1])
        assert loop.mode is RiskMode.HALTED
        loop.arm("me", "seen to", here.at)
        if not as_large:
            loop._planner._sizing = SizingSettings(
                mode="fixed", fixed_notional=1_300.0, max_notional=2_000.0
            )
        loop.decide(live_states([bars[-1]])[-1], [], {}, here.at)
        assert not held(here)
        for _ in range(3):  # and no desk falls over it, whenever it begins again
            bar = here.next_bar()
            here.skew[0] += 300.0
            loop.absorb(bar)
            loop = live_loop(ledger, Turning(), here.broker(), here)
            loop.resume()
            house(loop, here, 20)
        assert not held(here)


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_flatten_when_an_entry_was_made_within_the_bar_then_that_is_closed_too(how: str) -> None:
    with stage() as here:
        loop = decided(here, here.broker(), MemoryLedger())
        assert held(here)
        if how == "pause":
            loop.pause("me", "out", here.at + 1, flatten=True)
        else:
            loop.kill("me", "lunch", here.at + 1, flatten=False)
            assert held(here)
            loop.kill("me", "close all", here.at + 2)
        house(loop, here, 4)
        assert not held(here)
        loop.absorb(here.next_bar())
        assert not loop.portfolio(here.at).positions


def test_kill_when_its_entry_was_asked_after_in_vain_then_it_closes_at_once() -> None:
    with stage() as here:
        broker = acknowledged(here)
        house(broker, here, 34)
        fills(here)
        broker.cancel("e1")
        house(broker, here, 2)
        assert not held(here)


def test_freeze_when_an_entry_filled_after_it_was_acknowledged_then_it_stays() -> None:
    with stage() as here:
        here.accounts.exchange.fated = lambda account, order: Fate(after_ms=1_000)
        loop = decided(here, here.broker(), MemoryLedger())
        here.accounts.exchange.fated = lambda account, order: Fate()
        here.pass_to(here.at + 5_000)
        here.accounts.exchange.now()
        house(loop, here, 4)
        assert held(here)
        loop.kill("me", "lunch", here.at, flatten=False)
        assert held(here)


def test_stop_when_it_filled_after_the_close_of_its_bar_then_that_bar_costs_no_questions() -> None:
    asked = 0

    async def passage(request: Any, call: Any, take: Any) -> Any:
        nonlocal asked
        asked += 1
        return take()

    with stage(passage=passage) as here:
        broker = opened(here)
        broker.submit(order_at(here, "e2", decision="d2"))
        broker.on_bar(here.next_bar())
        bar = here.next_bar()
        near = Decimal(str(bar.close)).quantize(Decimal("0.1")) - 5
        broker.submit(replace(stop_at(here, broker, "s2", Side.SELL, "d2"), trigger=near))
        for _ in range(280):  # the desk is some seconds behind the close
            here.pass_to(here.at + 1_000)
            here.accounts.exchange.now()
            if not held(here):
                break
        assert not held(here)
        broker.on_bar(bar)
        asked = 0
        house(broker, here, 240)
        assert asked < 5
        fills = [row for row in broker.on_bar(here.next_bar()) if isinstance(row, Fill)]
        assert [fill.intent for fill in fills] == ["stop"]
        assert broker.open_orders() == []


def test_stop_when_it_never_arrives_then_nothing_is_held_without_one() -> None:
    async def passage(request: Any, call: Any, take: Any) -> Any:
        if request.method == "POST" and call.query.get("clientAlgoId"):
            raise Refused(503, -1007, "Timeout waiting for response from backend server.")
        return take()

    with stage(passage=passage) as here:
        broker = opened(here)
        broker.submit(order_at(here, "e"))
        broker.submit(stop_at(here, broker, "s", Side.SELL, "d1"))
        house(broker, here, 20)
        assert held(here)
        house(broker, here, 60)
        assert not held(here)


def test_stop_when_bars_are_caught_up_with_then_it_is_not_given_up_for_that() -> None:
    with stage() as here:
        broker = opened(here)
        broker.submit(order_at(here, "e"))
        straight, here.accounts.passage = here.accounts.passage, TOO_MANY
        broker.submit(stop_at(here, broker, "s", Side.SELL, "d1"))
        for bar in [here.next_bar() for _ in range(6)]:
            broker.on_bar(bar)
        here.accounts.passage = straight
        house(broker, here, 4)
        assert (held(here), resting(here)) == (LONG, ["s"])


def test_kill_when_the_exchange_is_away_for_longer_than_a_request_lives_then_it_is_sent_again() -> (
    None
):
    with held_long() as made:
        made.fall_silent()
        made.loop.kill("me", "enough", made.here.at)  # it may or may not have arrived
        house(made.loop, made.here, 20)
        made.answer_again()
        house(made.loop, made.here, 62)
        assert not made.held


def test_stop_when_nobody_could_say_for_longer_than_a_request_lives_then_it_is_sent_again() -> None:
    lost = True

    async def passage(request: Any, call: Any, take: Any) -> Any:
        if lost and request.method == "POST" and call.query.get("clientAlgoId"):
            raise Refused(503, -1007, "Timeout waiting for response from backend server.")
        return take()

    with stage(passage=passage) as here:
        broker = opened(here)
        broker.submit(order_at(here, "e"))
        broker.submit(stop_at(here, broker, "s", Side.SELL, "d1"))
        lost = False
        here.skew[0] += 20.0  # two questions were waited for in vain
        house(broker, here, 4)
        assert (held(here), resting(here)) == (LONG, ["s"])


def test_kill_when_the_exchange_answers_again_then_it_waits_no_longer_than_that_is_left_alone() -> (
    None
):
    with held_long() as made:
        made.fall_silent(left_alone=True)
        made.loop.kill("me", "enough", made.here.at)
        house(made.loop, made.here, 400)
        made.answer_again()
        made.broker.holdings()
        assert not made.broker._gateway.left_alone()
        house(made.loop, made.here, 4)
        assert not made.held
