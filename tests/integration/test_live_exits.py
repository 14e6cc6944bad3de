"""Exits that an exchange did not take at once: the position closes all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.decision import Action, Decision
from domain.market import Bar, MarketState
from domain.operations import RiskEvent
from domain.trading import Fill, ModeChange, Order, Refusal, RiskMode
from execution.adapters.ccxt_broker import CcxtBroker
from execution.loop import TradingLoop
from sim.venue.refusals import Refused
from storage.memory import MemoryLedger
from tests.live_scenes import PERP, Silence, Stage, live_loop, live_states, stage


class Once:
    """Goes long on its first bar, if it has one left; the horizon of 3 bars closes."""

    name = "once"

    def __init__(self, entries: int) -> None:
        self.entries = entries

    def prepare_state(self, state: MarketState, opinions: Any, absent: Any) -> MarketState:
        return state

    def generate_signal(self, prepared: MarketState, now: int) -> Decision:
        action = Action.LONG if self.entries else Action.NO_TRADE
        self.entries = max(self.entries - 1, 0)
        return Decision(
            prepared.symbol, prepared.timeframe, prepared.as_of, now, 3, self.name, action, action,
            (), "once", None, None, None, None, None, None, None, None, None,
        )  # fmt: skip

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None: ...

    def post_trade_update(self, trade: Any) -> None: ...


@dataclass
class Scene:
    """A loop at the exchange, which may begin again on its ledger."""

    here: Stage
    silence: Silence
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    bars: list[Bar] = field(default_factory=list)
    loop: TradingLoop = field(init=False)
    broker: CcxtBroker = field(init=False)

    def begin(self, entries: int = 0) -> None:
        self.broker = self.here.broker()
        self.loop = live_loop(self.ledger, Once(entries), self.broker, self.here)
        self.loop.resume()

    def absorb(self) -> MarketState:
        self.bars.append(self.here.next_bar())
        self.here.skew[0] += 300.0
        state = live_states(self.bars)[-1]
        self.loop.absorb(state.bars.bar(-1))
        return state

    def decide(self, state: MarketState) -> None:
        self.loop.decide(state, [], {}, self.bars[-1].close_ms)

    def play(self, bars: int) -> None:
        for _ in range(bars):
            self.decide(self.absorb())

    def fall_silent(self, *, left_alone: bool = False) -> None:
        self.silence.begin(self.broker)
        while left_alone and not self.broker._gateway.left_alone():
            self.broker.holdings()

    def answer_again(self) -> None:
        self.silence.end(self.here, self.broker)

    @property
    def held(self) -> bool:
        return bool(self.here.account.perp.of("BTCUSDT").qty)

    def events(self, kind: str) -> list[RiskEvent]:
        return [event for _, event in self.ledger.records(RiskEvent) if event.kind == kind]

    def exits(self, kind: type[Order] | type[Fill] | type[Refusal] = Order) -> list[str]:
        return [row.intent for _, row in self.ledger.records(kind) if row.intent != "entry"]

    def closed(self) -> None:
        """Demand that it is flat, at the exchange and on the ledger, by one exit, and no halt."""
        assert not self.held
        assert not self.loop.portfolio(0).positions
        assert len(self.exits(Fill)) == 1
        assert self.events("reconciliation") == []
        modes = [change.mode for _, change in self.ledger.records(ModeChange)]
        assert RiskMode.HALTED not in modes


@contextmanager
def held_long() -> Iterator[Scene]:
    """A position whose horizon is due at the close of the next bar."""
    silence = Silence()
    with stage(faults=silence) as here:
        made = Scene(here, silence)
        made.begin(entries=1)
        made.play(3)
        assert made.held
        yield made


def test_horizon_exit_when_its_request_was_lost_then_it_is_sent_again() -> None:
    with held_long() as made:
        state = made.absorb()
        made.fall_silent()
        made.decide(state)  # quote and order both wait in vain
        made.answer_again()
        made.play(4)
        made.closed()


def test_kill_when_its_request_was_lost_then_it_closes_all_the_same() -> None:
    with held_long() as made:
        made.fall_silent()
        made.loop.kill("me", "enough", made.here.at)
        made.answer_again()
        made.play(4)
        made.closed()
        assert made.exits() == ["kill"]


@pytest.mark.parametrize("kill", [True, False])
def test_exit_that_was_kept_when_the_process_begins_again_then_it_is_sent(kill: bool) -> None:
    with held_long() as made:
        state = made.absorb()
        made.fall_silent(left_alone=True)
        if kill:
            made.loop.kill("me", "enough", made.here.at)
        made.decide(state)
        assert made.loop.unsent() == made.broker.open_orders() != []
        made.answer_again()
        made.begin()
        made.play(4)
        made.closed()
        assert made.exits() == ["kill" if kill else "horizon"]


def refusing(status: int, code: int, text: str) -> Any:
    async def passage(request: Any, call: Any, take: Any) -> Any:
        if request.method == "POST":
            raise Refused(status, code, text)
        return take()

    return passage


TOO_MANY = refusing(429, -1015, "Too many new orders.")
TOO_LATE = refusing(400, -1021, "Timestamp for this request is outside of the recvWindow.")
HALTED = refusing(400, -1013, "Market is closed.")
TOO_FAR = refusing(400, -4131, "The counterparty's best price does not meet the PERCENT_PRICE.")


def test_exit_that_is_kept_when_the_exchange_is_silent_then_it_is_told_until_it_has_left() -> None:
    with held_long() as made:
        state = made.absorb()
        made.fall_silent(left_alone=True)
        with capture_logs() as logs:
            made.decide(state)
        [order] = made.loop.unsent()
        assert [line["order"] for line in logs if line["event"] == "not_sent"] == [order.id]
        [kept] = made.events("in_flight")
        assert (kept.level, kept.subject) == ("warning", f"{order.id} kept")
        made.play(1)
        assert made.loop.unsent() == [order]
        assert made.loop.shutdown(made.here.at) == []  # it is on its way already
        made.answer_again()
        made.play(1)  # it leaves
        assert made.loop.unsent() == []
        made.play(1)
        made.closed()
        assert [event.level for event in made.events("in_flight")] == ["warning", "info"]


@pytest.mark.parametrize("refusal", [TOO_MANY, TOO_LATE, HALTED, TOO_FAR])
@pytest.mark.parametrize("bars", [0, 2])
def test_kill_when_it_is_refused_then_it_is_told_and_closes_all_the_same(
    refusal: Any, bars: int
) -> None:
    with held_long() as made:
        straight = made.here.accounts.passage
        made.here.accounts.passage = refusal
        made.loop.kill("me", "enough", made.here.at)
        assert [order.intent for order in made.loop.unsent()] == ["kill"]
        made.play(bars)
        assert made.held
        made.here.accounts.passage = straight
        made.play(3)
        made.closed()
        assert made.exits() == ["kill"]
        assert made.exits(Refusal) == ["kill"]  # however often it was


@pytest.mark.parametrize("kept", [True, False])
def test_exit_that_was_refused_and_sent_again_when_the_process_begins_again_then_it_is_ours(
    kept: bool,
) -> None:
    with held_long() as made:
        state = made.absorb()
        straight = made.here.accounts.passage
        if kept:
            made.fall_silent(left_alone=True)
            made.decide(state)
            made.answer_again()
            made.here.accounts.passage = TOO_MANY
            made.play(1)
        else:
            made.here.accounts.passage = TOO_MANY
            made.decide(state)
        made.play(1)  # what is refused now is told with the next bar
        assert made.exits(Refusal)
        made.here.accounts.passage = straight
        made.play(1)  # it is sent, and fills
        assert not made.held
        made.begin()  # before any bar tells of that
        made.play(3)
        made.closed()


def test_difference_when_the_exchange_falls_silent_then_nothing_is_said_to_agree_again() -> None:
    with held_long() as made:
        made.here.client().create_order(PERP, "market", "buy", 0.003)  # by somebody else
        made.play(1)
        assert [event.level for event in made.events("reconciliation")] == ["error"]
        made.fall_silent()
        made.play(2)
        assert [event.level for event in made.events("reconciliation")] == ["error"]
