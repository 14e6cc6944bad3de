"""The demo market's order book, from the world that makes it to decisions in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agents.host import Gathered, threaded
from consensus.replay import differences
from domain.decision import Decision
from domain.market import Bar, MarketState
from domain.opinion import Opinion
from domain.ports import MarketSource
from serving.bootstrap.agents import live_agents
from serving.bootstrap.desk import build_desk_on
from serving.bootstrap.service import council_service
from serving.bootstrap.storage import open_storage
from serving.desk import Desk
from serving.feeds import feed_of
from serving.opinions import Opinions
from serving.plan import RunPlan
from serving.requests import SignalRequest
from serving.settings import Settings, load_settings
from sim.worlds import DEMO_START_MS, DemoMarket, DemoSource
from storage.queries import Reader

SYMBOL, WARM_UP, LIVE = "BTC/USDT", 2, 12
NAMES = "baseline,microstructure,risk"
PLAN = RunPlan("demo", "demo-7", "demo", None, warm_up_days=WARM_UP, local=True)


@dataclass
class First:
    """The first live bars of a market."""

    source: MarketSource
    bars: int

    @property
    def label(self) -> str:
        return self.source.label

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        start = DemoSource(warm_up_days=WARM_UP).live_ms
        known = max(after_ms.get(SYMBOL, 0) // 300_000 - start // 300_000 + 1, 0)
        return islice(self.source.stream(after_ms), self.bars - known)


@dataclass
class Crashing:
    """Opinions that end the process as a crash would, between a bar and its decision."""

    opinions: Opinions
    left: int
    via: str = "in_process"

    async def ask(self, states: Sequence[MarketState]) -> Gathered:
        self.left -= 1
        if self.left < 0:
            raise KeyError("crash")
        return await self.opinions.ask(states)

    async def arrived(self, seconds: float) -> bool:
        return await self.opinions.arrived(seconds)


def settings_in(var_dir: Path, agents: str = NAMES) -> Settings:
    overrides = {"VAR_DIR": str(var_dir), "models.agents": agents, "SERVING.MONITOR": "false"}
    return load_settings(env={}, profile="demo", overrides=overrides)


def desk_in(settings: Settings, bars: int = LIVE) -> Desk:
    feed = feed_of(PLAN, settings)
    return build_desk_on(PLAN, settings, replace(feed, source=First(feed.source, bars)))


def reader_of(settings: Settings, world: str = PLAN.world) -> Reader:
    return Reader(open_storage(settings), world)


def decisions(reader: Reader) -> list[Decision]:
    return [decision for _, decision in reader.decisions(SYMBOL, limit=1000).items][::-1]


def said_at(reader: Reader, as_of: int) -> dict[str, Opinion]:
    return {opinion.agent: opinion for _, opinion in reader.opinions_at(SYMBOL, as_of)}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The ledger of a desk that has lived through warm-up and a dozen bars."""
    settings = settings_in(tmp_path_factory.mktemp("demo"))
    asyncio.run(desk_in(settings).run())
    return reader_of(settings)


@pytest.mark.long
def test_desk_when_on_the_demo_market_then_the_book_is_read_from_the_warm_up_on(
    lived: Reader,
) -> None:
    made, world = decisions(lived), DemoMarket()
    assert [decision.origin for decision in made] == ["warm_up"] * 288 * WARM_UP + ["bar"] * LIVE
    for decision in made[500:]:
        book = world.book(decision.as_of)
        opinion = said_at(lived, decision.as_of)["microstructure"]
        assert opinion.evidence["spread_bps"] == book.spread_bps
        assert opinion.evidence["ofi"] is opinion.evidence["trades"] is None
        assert decision.inputs["costs"]["spread_bps"] == book.spread_bps
        assert decision.inputs["quality"]["liquidity"] == book.liquidity()
        assert decision.margins["liquidity"] == book.liquidity() - 50_000
        assert "microstructure" in decision.weights
    assert all(decision.absent == {} for decision in made[-LIVE:])


def test_decisions_when_recomputed_from_what_is_stored_then_they_are_the_same(
    lived: Reader,
) -> None:
    for decision in decisions(lived)[-LIVE:]:
        assert differences(decision, list(said_at(lived, decision.as_of).values())) == {}


@pytest.mark.long
@pytest.mark.parametrize("asked", [0, 5])
def test_desk_when_it_dies_between_bar_and_decision_then_it_decides_as_if_it_had_not(
    lived: Reader, tmp_path: Path, asked: int
) -> None:
    broken = settings_in(tmp_path)
    desk = desk_in(broken)
    desk.opinions = Crashing(desk.opinions, asked)
    with pytest.raises(KeyError, match="crash"):
        asyncio.run(desk.run())
    assert len(decisions(reader_of(broken))) == 288 * WARM_UP + asked
    asyncio.run(desk_in(broken).run())
    assert decisions(reader_of(broken)) == decisions(lived)


@pytest.mark.long
def test_signal_when_asked_for_over_the_api_then_its_state_carries_the_same_book(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    hosted = {name: threaded(agent) for name, agent in live_agents(settings).items()}
    service = council_service(PLAN, settings, hosted)

    async def ask(desk: Desk) -> Decision:
        running = asyncio.create_task(desk.run())
        while desk.progress.phase != "live" or not desk.progress.decided:
            await asyncio.sleep(0.01)
        desk.pacer.speed = 1e-6  # the next bar is far away
        signal = await service.signal(SignalRequest(symbol=SYMBOL))
        desk.leave.set()
        await running
        return signal

    signal = asyncio.run(ask(desk_in(settings, 10_000)))
    (state,) = service.states([(SYMBOL, signal.as_of)])
    assert state.book == DemoMarket().book(signal.as_of)
    assert said_at(reader_of(settings), signal.as_of)["microstructure"].p_up is not None
    assert signal.absent == {}
    assert signal.inputs["liquidity"] == "measured"
    rows = {row["agent"]: row for row in service.weights(SYMBOL, history=20)}
    assert rows.keys() == set(NAMES.split(","))
    assert len({tuple(x["as_of"] for x in row["history"]) for row in rows.values()}) == 1
    for row in rows.values():
        stamps = [x["as_of"] for x in row["history"]]
        assert stamps == sorted(set(stamps))
        assert 19 <= len(stamps) <= 20
        assert all(0.0 <= x["weight"] <= 1.0 for x in row["history"])
    assert "history" not in service.weights(SYMBOL)[0]


@pytest.mark.long
def test_desk_when_bars_are_from_a_file_then_nobody_sees_a_book_and_the_quorum_stands(
    tmp_path: Path,
) -> None:
    frame = DemoMarket(seed=11).bars(DEMO_START_MS, 320)
    path = tmp_path / "BTCUSDT-binance-spot-5m-x.parquet"
    names = ("ts", "open", "high", "low", "close", "volume")
    pq.write_table(pa.table({name: getattr(frame, name) for name in names}), path)
    plan = RunPlan("replay", "replay-x", "demo", None, data=(str(path),), local=True)
    settings = settings_in(tmp_path)
    feed = feed_of(plan, settings)
    assert feed.books is None
    past = replace(feed, history=[frame.slice(0, 308)])
    asyncio.run(build_desk_on(plan, settings, past).run())
    made = decisions(reader_of(settings, plan.world))
    assert len(made) == 320
    for decision in made:
        assert decision.absent["microstructure"] == "no_book"
        assert decision.inputs["liquidity"] == "not_measured"
    assert [decision.inputs["quorum"] for decision in made[-12:]] == pytest.approx([1.0] * 12)
    assert not any("low_quorum" in decision.reasons for decision in made[-12:])
