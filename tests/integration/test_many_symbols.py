"""Many symbols that close at one instant, at one desk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agents.host import Gathered
from data.sources.replay import ReplaySource
from domain.decision import Decision
from domain.market import MarketState
from domain.trading import ModeChange, RiskMode
from execution.funding import base_rate
from serving.bootstrap.desk import build_desk_on
from serving.commands.common import settings_from
from serving.feeds import Feed
from serving.killing import KillOrder, write_kill
from serving.opinions import Opinions
from serving.plan import RunPlan
from sim.worlds import DEMO, DEMO_START_MS, GeneratedWorld
from storage.ledger import SqlLedger

SYMBOLS = [f"C{i:02}/USDT" for i in range(80)]
BARS = 3


@dataclass
class Ordering:
    """Opinions after which somebody leaves the kill file: all still wait for their decision."""

    opinions: Opinions
    var_dir: Path
    asked: int = 0
    via: str = "in_process"

    async def ask(self, states: Sequence[MarketState]) -> Gathered:
        gathered = await self.opinions.ask(states)
        self.asked += 1
        if self.asked == BARS:
            write_kill(self.var_dir, KillOrder("told to", flatten=True))
        return gathered

    async def arrived(self, seconds: float) -> bool:
        return await self.opinions.arrived(seconds)


@pytest.fixture(scope="module")
def var_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("many")


@pytest.fixture(scope="module")
def ledger(var_dir: Path) -> SqlLedger:
    """A desk that saw three instants; in the third a kill is ordered while it decides."""
    sets = [f"VAR_DIR={var_dir}", "models.agents=climatology", "serving.monitor=false"]
    frames = [GeneratedWorld(DEMO, 7, name).bars(DEMO_START_MS, BARS) for name in SYMBOLS]
    price = {frame.symbol: float(frame.close[-1]) for frame in frames}
    feed = Feed(ReplaySource(frames), SYMBOLS, [], price, base_rate, keep_market=True)
    plan = RunPlan("replay", "many", "strict", None, local=True)
    desk = build_desk_on(plan, settings_from("strict", None, sets), feed)
    desk = replace(desk, opinions=Ordering(desk.opinions, var_dir))
    asyncio.run(desk.run())
    return desk.ledger


@pytest.mark.long
def test_desk_when_many_symbols_close_at_once_then_each_is_decided_once(ledger: SqlLedger) -> None:
    decided = [(row.as_of, row.symbol) for _, row in ledger.records(Decision)]
    assert len(decided) == len(set(decided)) == BARS * len(SYMBOLS)
    assert ledger.verify().ok


def test_desk_when_a_kill_arrives_between_many_symbols_then_it_waits_for_none_of_them(
    ledger: SqlLedger,
) -> None:
    [(killed, change)] = ledger.records(ModeChange)
    assert change.mode is RiskMode.KILLED
    last = [(seq, row.as_of) for seq, row in ledger.records(Decision)][-len(SYMBOLS) :]
    assert len({as_of for _, as_of in last}) == 1
    assert killed < last[-1][0]


def test_reports_when_many_symbols_close_at_once_then_history_has_all_and_latest_the_last(
    ledger: SqlLedger, var_dir: Path
) -> None:
    folder = var_dir / "reports" / "signals"
    lines = [
        json.loads(line)
        for path in sorted((folder / "history").iterdir())
        for line in path.read_text().splitlines()
    ]
    assert [line["id"] for line in lines] == [row.id for _, row in ledger.records(Decision)]
    assert json.loads((folder / "latest.json").read_text()) == lines[-1]
