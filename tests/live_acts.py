"""What the tests of the live executor do: a loop with one trade, lost answers, what is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from domain.decision import Action, Decision
from domain.market import Bar, MarketState
from domain.operations import RiskEvent
from domain.ports import Aside
from domain.trading import Fill, ModeChange, Order, OrderType, Refusal, RiskMode, Side
from execution import books
from execution.adapters.ccxt_broker import CcxtBroker
from execution.loop import TradingLoop
from sim.venue.refusals import Refused
from storage.memory import MemoryLedger
from tests.live_scenes import (
    CASH,
    PERP,
    STEP,
    Silence,
    Stage,
    Turning,
    live_loop,
    live_states,
    order_at,
    stage,
)


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
    aside: Aside | None = None
    loop: TradingLoop = field(init=False)
    broker: CcxtBroker = field(init=False)

    def begin(self, entries: int = 0) -> None:
        self.broker = self.here.broker()
        self.loop = live_loop(self.ledger, Once(entries), self.broker, self.here, self.aside)
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
def held_long(aside: Aside | None = None) -> Iterator[Scene]:
    """A position whose horizon is due at the close of the next bar."""
    silence = Silence()
    with stage(faults=silence) as here:
        made = Scene(here, silence, aside=aside)
        made.begin(entries=1)
        made.play(3)
        assert made.held
        yield made


@dataclass
class Late:
    """Loses the answers to orders, which arrive when a test says so.

    Attributes
    ----------
    lost : client ids whose request is held back; ``*`` = the next one's, whatever its id.
    quantities : that are taken of an order instead of its own, by client id.
    """

    lost: set[str] = field(default_factory=set)
    held: list[Callable[[], Any]] = field(default_factory=list)
    quantities: dict[str, str] = field(default_factory=dict)

    async def __call__(self, request: Any, call: Any, take: Any) -> Any:
        name = call.query.get("newClientOrderId") or call.query.get("clientAlgoId")
        if request.method == "POST" and name in self.quantities:
            call.query["quantity"] = self.quantities[name]
        if request.method == "POST" and name and self.lost & {name, "*"}:
            self.lost -= {name, "*"}
            self.held.append(take)
            raise Refused(503, -1007, "Timeout waiting for response from backend server.")
        return take()

    def arrive(self) -> None:
        """Let the venue take what was held back."""
        while self.held:
            self.held.pop()()


@contextmanager
def at_a_late_venue() -> Iterator[tuple[Stage, Late]]:
    late = Late()
    with stage(passage=late) as here:
        yield here, late


def opened(here: Stage, broker: CcxtBroker | None = None) -> CcxtBroker:
    broker = broker or here.broker()
    broker.restore(books.opening("live", "USDT", CASH, here.at))
    broker.on_bar(here.next_bar())
    return broker


def held(here: Stage) -> Decimal:
    return here.account.perp.of("BTCUSDT").qty


def resting(here: Stage) -> list[str]:
    return [order.client_id for order in here.account.open_orders()]


def stop_at(here: Stage, broker: CcxtBroker, name: str, side: Side, decision: str) -> Order:
    """A stop far from the market."""
    last = Decimal(str(broker._last[PERP].close)).quantize(Decimal("0.1"))
    trigger = last - 3_000 if side is Side.SELL else last + 3_000
    return order_at(
        here, name, side, "stop", type=OrderType.STOP, trigger=trigger, decision=decision
    )


def decided(here: Stage, broker: CcxtBroker, ledger: MemoryLedger, turn: int = 0) -> Any:
    """A loop that has entered at its first bar; ``turn`` 0 = without stop and target, 2 = both."""
    loop = live_loop(ledger, Turning(), broker, here)
    while (here.at // STEP + 1) % 4 != turn:
        here.next_bar()
    bar = here.next_bar()
    loop.absorb(bar)
    loop.decide(live_states([bar])[-1], [], {}, here.at)
    return loop


def refusing(status: int, code: int, text: str) -> Any:
    async def passage(request: Any, call: Any, take: Any) -> Any:
        if request.method == "POST":
            raise Refused(status, code, text)
        return take()

    return passage


TOO_MANY = refusing(429, -1015, "Too many new orders.")
