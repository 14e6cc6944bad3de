"""A live broker at the local exchange, whose time a test lets pass; a loop that trades there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from data.sources.exchange import connect
from data.sources.listing import instrument_of
from domain.decision import Action, Decision
from domain.market import Bar, BarFrame, Instrument, MarketState
from domain.operations import RiskEvent
from domain.ports import Aside, Ledger
from domain.trading import Fill, ModeChange, Order, OrderType, Posting, Side
from execution import books
from execution.adapters.booking import read_id
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import Bounds, LastGuard
from execution.adapters.statement import News
from execution.adapters.user_stream import UserStream
from execution.adapters.waits import Waits
from execution.books import balances, unbalanced
from execution.checks import BrokerLaw
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.sizing import SizingSettings
from sim.backtest import plain_states
from sim.venue.accounts import Account
from sim.venue.signing import Key
from sim.venue.trading import Passage, Trading, straight
from storage.engine import open_database
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from tests.execution_scenes import NO_LIMITS
from tests.venue_server import BTC, Faults, key_for, markets, trading, venue, wall

PERP = f"{BTC}:USDT"
STEP = 300_000
CASH = Decimal(100_000)
WIDE = Bounds(Decimal(5_000), Decimal(5_000), Decimal(5_000), 1_000, Decimal(300))
QUICK = Waits(answer=0.0, window=6.0, pause=0.01)


@dataclass
class Stage:
    """The exchange of a test.

    Attributes
    ----------
    now : of the market, ms after its start. ``skew`` : of every wall clock, seconds.
    """

    url: str = ""
    now: list[int] = field(default_factory=lambda: [0])
    skew: list[float] = field(default_factory=lambda: [0.0])
    accounts: Trading = None  # type: ignore[assignment]

    def wall(self) -> int:
        return wall() + int(self.skew[0] * 1_000)

    def monotonic(self) -> float:
        return time.monotonic() + self.skew[0]

    def sleep(self, seconds: float) -> None:
        self.skew[0] += seconds

    @property
    def at(self) -> int:
        """Market time, ms."""
        return self.accounts.exchange.markets.clock.now()

    @property
    def account(self) -> Account:
        return self.accounts.exchange.ledger.accounts["main"]

    def pass_to(self, at: int) -> None:
        """Let the market's time pass up to an instant."""
        self.now[0] += max(at - self.at, 0)

    def next_bar(self) -> Bar:
        """Let time pass until the bar of now is over, and return it."""
        opened = self.at // STEP * STEP
        self.pass_to(opened + STEP)
        made = self.accounts.exchange.markets
        bar = made.bars(made.listing("perp", "BTCUSDT"), "5m", opened, 1).bar(0)
        return Bar(PERP, "5m", *[getattr(bar, name) for name in _COLUMNS])

    def client(self, key: Key | None = None) -> Any:
        known = key or key_for()
        made = connect("binance", "perp", self.url)
        made.apiKey, made.secret = known.key, known.secret
        made.enableRateLimit = False
        made.nonce = self.wall
        return made

    def gateway(self, key: Key | None = None) -> Gateway:
        made = Gateway(self.client(key), [PERP], "USDT", monotonic=self.monotonic)
        made.open()
        return made

    def stream(self, gateway: Gateway | None = None) -> UserStream:
        """A listener that has not started."""
        base = self.url.replace("http", "ws", 1) + "/fstream/private/ws?listenKey="
        return UserStream(gateway or self.gateway(), lambda key: base + key)

    def broker(
        self, gateway: Gateway | None = None, *, bounds: Bounds = WIDE, news: News | None = None,
        allowed: Callable[[], str] = str, waits: Waits = QUICK, account: str = "live",
    ) -> CcxtBroker:  # fmt: skip
        gateway = gateway or self.gateway()
        gateway.settle_on_one()
        return CcxtBroker(
            gateway, {PERP: self.instrument()}, LastGuard(bounds, allowed, self.monotonic),
            account=account, news=news, waits=waits, monotonic=self.monotonic, sleep=self.sleep,
        )  # fmt: skip

    def instrument(self) -> Instrument:
        client = self.client()
        client.load_markets()
        return instrument_of(client.markets[PERP])


PATIENCE_MS = 200  # of a client whose venue is silent


class Silence(Faults):
    """A venue that can be made to answer nothing for longer than its client waits."""

    def begin(self, broker: CcxtBroker) -> None:
        """Fall silent; only now is the client in a hurry, whatever else the machine does."""
        client = broker._gateway._client
        self._patience, client.timeout = client.timeout, PATIENCE_MS
        self.silent_s = 4 * PATIENCE_MS / 1e3
        self.seen.clear()

    def end(self, here: Stage, broker: CcxtBroker) -> None:
        """Answer again, and let the time pass for which nothing is asked."""
        broker._gateway._client.timeout = self._patience
        self.silent_s = 0.0
        here.skew[0] += broker._gateway.left_alone()


_COLUMNS = ("open_ms", "open", "high", "low", "close", "volume")


@contextmanager
def stage(
    passage: Passage = straight, keys: tuple[Key, ...] = (), faults: Faults | None = None
) -> Iterator[Stage]:
    """An exchange for as long as the block lasts; its bars begin on the next five minutes."""
    made = Stage()
    made_markets = markets(now=lambda: made.now[0], speed=1.0)
    made.accounts = trading(made_markets, now=made.wall, keys=keys, passage=passage)
    made.pass_to((made.at // STEP + 1) * STEP)
    with venue(faults, made_markets, now=made.wall, accounts=made.accounts) as url:
        made.url = url
        yield made


def order_at(
    stage: Stage, name: str, side: Side = Side.BUY, intent: str = "entry", **more: Any
) -> Order:
    """An order of now at the market, 0.01 base units."""
    qty = more.pop("qty", Decimal("0.010"))
    return Order(
        name, "live", PERP, side, qty, more.pop("type", OrderType.MARKET), stage.at,
        more.pop("decision", "d1"), intent, reduce_only=intent != "entry", **more,
    )  # fmt: skip


def wait_for(told: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < until
        time.sleep(0.02)


def live_loop(
    ledger: Ledger, strategy: Any, broker: CcxtBroker, stage: Stage, aside: Aside | None = None
) -> TradingLoop:
    """A loop that trades 1 000 USDT at a time at the exchange."""
    return TradingLoop(
        strategy, broker, ledger, {PERP: stage.instrument()},
        LoopSettings({PERP: PERP}, account="live", initial_cash=CASH), limits=NO_LIMITS,
        sizing=SizingSettings(mode="fixed", fixed_notional=1_000.0, max_notional=2_000.0),
        aside=aside,
    )  # fmt: skip


def live_states(bars: Sequence[Bar]) -> list[MarketState]:
    return list(plain_states(BarFrame.of(bars)))


class Turning:
    """Turns its side at every bar, with stop and target near by at every other."""

    name = "turning"

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Any], absent: Mapping[str, str]
    ) -> MarketState:
        return state

    def generate_signal(self, prepared: MarketState, now: int) -> Decision:
        turn = prepared.as_of // 300_000
        action = Action.LONG if turn % 2 else Action.SHORT
        close = float(prepared.bars.close[-1])
        near = None if turn % 4 < 2 else 0.0006 * close * action.sign
        return Decision(
            prepared.symbol, prepared.timeframe, prepared.as_of, now, 3, self.name, action, action,
            (), "As it turns.", None, None, None, None, None, None, None,
            None if near is None else close - near, None if near is None else close + near,
        )  # fmt: skip

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None: ...

    def post_trade_update(self, trade: Any) -> None: ...


def agreed(here: Stage, ledger: Ledger, modes: Sequence[str] = ()) -> None:
    """Demand that ledger and exchange tell the same, trade by trade and to the last digit."""
    fills = [fill for _, fill in ledger.records(Fill)]
    assert {
        read_id(fill.id)[0]: (fill.side, fill.qty, fill.price, fill.fee, fill.at) for fill in fills
    } == {
        trade.number: (trade.side, trade.qty, trade.price, trade.fee, trade.at)
        for trade in here.account.trades
    }  # fmt: skip
    assert len(fills) == len(here.account.trades)
    postings = [line for _, line in ledger.records(Posting)]
    assert unbalanced(postings) == {}
    sums = balances(postings)
    assert sums["cash", "USDT"] == here.account.perp.balances["USDT"]
    assert sums.get(("position", PERP), 0) == here.account.perp.of("BTCUSDT").qty
    assert [change.mode for _, change in ledger.records(ModeChange)] == list(modes)
    assert [e for _, e in ledger.records(RiskEvent) if e.kind == "reconciliation"] == []
    # Whatever rests at the exchange is of the position that is held there.
    orders = {order.id: order for _, order in ledger.records(Order)}
    entries = [fill.order_id for fill in fills if fill.intent == "entry"]
    held = {orders[entries[-1]].decision_id} if here.account.perp.of("BTCUSDT").qty else set()
    resting = [order.client_id for order in here.account.open_orders()]
    assert {orders[name if name in orders else name.rpartition("-")[0]].decision_id
            for name in resting} <= held  # fmt: skip


def storage(tmp_path: Path) -> SqlLedger:
    engine = open_database(f"sqlite:///{tmp_path / 'ledger.db'}")
    upgrade(engine)
    return SqlLedger(engine, "local")


class InStageTime:
    """A live broker whose bars and orders are in the checker's time; time passes as they tell."""

    def __init__(self, here: Stage, broker: CcxtBroker) -> None:
        self._here, self._broker = here, broker
        self._zero = here.at

    def submit(self, order: Order) -> Any:
        self._here.pass_to(self._zero + order.created_at)
        return self._broker.submit(self._moved(order))

    def on_bar(self, bar: Bar) -> list[Any]:
        self._here.pass_to(self._zero + bar.close_ms)
        return self._broker.on_bar(replace(bar, open_ms=self._zero + bar.open_ms))

    def restore(self, records: Sequence[Any]) -> list[Any]:
        return self._broker.restore([self._moved(record) for record in records])

    def open_orders(self) -> list[Order]:
        return [
            replace(order, created_at=order.created_at - self._zero)
            for order in self._broker.open_orders()
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def _moved(self, record: Any) -> Any:
        if isinstance(record, Order):
            return replace(record, created_at=self._zero + record.created_at)
        if isinstance(record, Bar):
            return replace(record, open_ms=self._zero + record.open_ms)
        return record


KEPT: tuple[BrokerLaw, ...] = ("fills later", "submits once", "only reduces", "answers")
"""Not: an order at the market is filled before it could be cancelled, the market goes where it
goes, and the middle of the book when an order was sent is not known after a restart."""


@contextmanager
def live_checks() -> Iterator[tuple[Callable[[], Any], Instrument, float, Sequence[BrokerLaw]]]:
    """What :func:`execution.checks.check_broker` needs: each broker has an exchange of its own."""
    with ExitStack() as kept:

        def make() -> Any:
            here = kept.enter_context(stage())
            broker = here.broker(bounds=replace(WIDE, band_bps=Decimal(2_000)), account="paper")
            broker.restore(books.opening("paper", "USDT", CASH, here.at))
            return InStageTime(here, broker)

        first = kept.enter_context(stage())
        price = float(first.gateway().quote(PERP).mid)
        yield make, first.instrument(), price, KEPT
