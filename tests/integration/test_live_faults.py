"""Orders over every class of fault: none doubled, none lost, the ledger's money the exchange's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from domain.market import Bar
from domain.operations import RiskEvent
from domain.trading import Refusal, RiskMode
from execution.adapters.user_stream import UserStream
from execution.adapters.waits import Waits
from storage.ledger import SqlLedger
from tests.live_faults import CLASSES, CLIENT_MS, Faulty, NoisyStream
from tests.live_scenes import Stage, Turning, agreed, live_loop, live_states, stage, storage


def traded(
    here: Stage, faulty: Faulty, ledger: SqlLedger, orders: int, stream: UserStream | None
) -> None:
    """Let a loop trade until the exchange was sent so many orders, and then settle in calm."""
    gateway = here.gateway()
    patience, gateway._client.timeout = gateway._client.timeout, CLIENT_MS
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
        if not faulty.on:  # nor does a busy machine disturb the calm
            gateway._client.timeout = patience
            calm -= 1
    loop.absorb(here.next_bar())  # in which what was decided last has filled


def played(tmp_path: Path, orders: int) -> Faulty:
    faulty = Faulty()
    with stage(passage=faulty) as here:
        noise = NoisyStream(here.accounts)
        stream = here.stream()
        stream.start()
        try:
            ledger = storage(tmp_path)
            traded(here, faulty, ledger, orders, stream)
        finally:
            stream.stop()
        assert faulty.again == [], "was sent although the exchange had it"
        agreed(here, ledger)
        assert noise.told > 0
        assert stream.health.messages > 0
        refused = {refusal.code for _, refusal in ledger.records(Refusal)}
        assert refused >= {"not_placed", "insufficient_margin", "in_flight"}
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
