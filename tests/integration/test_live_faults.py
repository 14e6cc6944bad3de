"""Orders over every class of fault: none doubled, none lost, the ledger's money is the exchange's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.decision import Action, Decision
from domain.market import Bar, MarketState
from domain.operations import RiskEvent
from domain.trading import Fill, ModeChange, Posting, Refusal, RiskMode
from execution.adapters.booking import read_id
from execution.adapters.user_stream import UserStream
from execution.adapters.waits import Waits
from execution.books import balances, unbalanced
from storage.engine import open_database
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from tests.live_faults import CLASSES, CLIENT_MS, Faulty, NoisyStream
from tests.live_scenes import PERP, Stage, live_loop, live_states, stage


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


def traded(
    here: Stage, faulty: Faulty, ledger: SqlLedger, orders: int, stream: UserStream | None
) -> None:
    """Let a loop trade until the exchange was sent so many orders, and then settle in calm."""
    gateway = here.gateway()
    gateway._client.timeout = CLIENT_MS
    waits = Waits(answer=0.0, window=6.0, pause=0.01)
    loop = live_loop(ledger, Turning(), here.broker(gateway, news=stream, waits=waits), here)
    bars: list[Bar] = []
    calm = 4
    while calm:
        bars = [*bars[-1:], here.next_bar()]
        loop.absorb(bars[-1])
        loop.decide(live_states(bars)[-1], [], {}, here.at)
        assert loop.mode is RiskMode.ACTIVE, [e for _, e in ledger.records(RiskEvent)]
        here.skew[0] += 7.0
        while faulty.pending:
            time.sleep(0.02)
        faulty.on = len(faulty.sent) < orders
        calm -= not faulty.on
    loop.absorb(here.next_bar())  # in which what was decided last has filled


def agreed(here: Stage, faulty: Faulty, ledger: SqlLedger) -> None:
    """Demand that ledger and exchange tell the same, trade by trade and to the last digit."""
    assert faulty.again == [], "was sent although the exchange had it"
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
    assert [change for _, change in ledger.records(ModeChange)] == []
    assert [e for _, e in ledger.records(RiskEvent) if e.kind == "reconciliation"] == []


def storage(tmp_path: Path) -> SqlLedger:
    engine = open_database(f"sqlite:///{tmp_path / 'ledger.db'}")
    upgrade(engine)
    return SqlLedger(engine, "local")


def played(tmp_path: Path, orders: int) -> Faulty:
    faulty = Faulty()
    with stage(passage=faulty) as here:
        noise = NoisyStream(here.accounts)
        ws = here.url.replace("http", "ws", 1)
        stream = UserStream(here.gateway(), lambda key: f"{ws}/fstream/private/ws?listenKey={key}")
        stream.start()
        try:
            ledger = storage(tmp_path)
            traded(here, faulty, ledger, orders, stream)
        finally:
            stream.stop()
        agreed(here, faulty, ledger)
        assert noise.told > 0
        assert stream.health.messages > 0
        refused = [r.code for _, r in ledger.records(Refusal)]
        print(
            len(faulty.sent),
            faulty.happened,
            noise,
            stream.health,
            {c: refused.count(c) for c in set(refused)},
            here.now,
        )
    return faulty


def test_orders_when_everything_goes_wrong_then_none_is_lost_or_doubled(tmp_path: Path) -> None:
    faulty = played(tmp_path, 60)
    assert set(faulty.happened) >= set(CLASSES)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_orders_when_everything_goes_wrong_then_none_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    faulty = played(tmp_path, 1_000)
    assert min(faulty.happened[kind] for kind in CLASSES) >= 10
