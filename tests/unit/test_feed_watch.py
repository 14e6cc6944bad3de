"""What a desk says and does while its feed is not sure, and once it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.resample import resample
from data.sources.live_ingest import LiveIngest, Wire
from data.start_criteria import Rules
from data.timeframes import TIMEFRAMES
from domain.market import BarFrame
from domain.times import DAY_MS
from domain.trading import RiskMode
from serving.feed_watch import FeedWatch
from serving.feed_words import feed_line
from sim.worlds import DEMO_START_MS, RandomWalk
from storage.memory import MemoryLedger
from tests.execution_scenes import Script, loop_over

BTC = "BTC/USDT"
BASE = RandomWalk(3, timeframe="1m").bars(DEMO_START_MS, 24 * 60)


@dataclass
class At:
    """A clock that stands."""

    at: int = DEMO_START_MS + DAY_MS

    def now(self) -> int:
        return self.at


@dataclass
class Doing:
    phase: str = "live"
    feed: dict[str, Any] | None = None


async def nothing(*words: Any) -> Any:
    raise AssertionError(words)


def watch_in(
    folder: Path, *, holds: bool = True, patience_s: float = 60.0, late: int = 0, broken: int = 0
) -> FeedWatch:
    wires = [Wire(["ws://127.0.0.1:1"], {"BTCUSDT": BTC})]
    ingest = LiveIngest(wires, nothing, nothing, At(), rules=Rules(bars=24))
    loop = loop_over(MemoryLedger(), Script({}, horizon_bars=30))
    counted = {"executed_late": late, "listeners_broken": broken}
    return FeedWatch(ingest, lambda: counted, loop, folder, At(), At(), holds, patience_s, 0.0, 0.0)


def fill(watch: FeedWatch, base: BarFrame = BASE) -> None:
    for name in TIMEFRAMES:
        watch.ingest.kept[BTC].take(resample(base, name))


def test_nothing_is_said_before_the_desk_is_live_but_what_it_decides_is_held(
    tmp_path: Path,
) -> None:
    watch, doing = watch_in(tmp_path), Doing("warming up")
    assert not watch.look(doing)
    assert doing == Doing("warming up")
    assert watch.loop.mode is RiskMode.ACTIVE
    watch.hold()  # a bar that a crash left undecided
    assert watch.loop.mode is RiskMode.REDUCING


def test_entries_wait_until_all_is_met_and_that_is_reported_once_a_day(tmp_path: Path) -> None:
    watch, doing = watch_in(tmp_path), Doing()
    assert watch.look(doing)
    assert doing.phase == "waiting: BTC/USDT 1m 0 of 24 bars"
    assert doing.feed is not None
    assert feed_line(doing.feed) == "feed: waiting: BTC/USDT 1m 0 of 24 bars"
    assert watch.loop.mode is RiskMode.ACTIVE  # nothing has been decided yet
    watch.hold()
    assert watch.loop.mode is RiskMode.REDUCING

    fill(watch)
    assert watch.look(doing)
    assert (doing.phase, doing.feed["ready"], doing.feed["late"]) == ("live", True, False)
    assert watch.loop.mode is RiskMode.ACTIVE
    watch.hold()
    assert watch.loop.mode is RiskMode.ACTIVE
    assert feed_line(doing.feed).startswith("feed: 6 timeframes, 24 bars each or more")

    assert not watch.look(doing)
    assert isinstance(watch.market, At)
    for later, count in ((DAY_MS - 1, 1), (DAY_MS, 2)):
        watch.market.at = DEMO_START_MS + DAY_MS + later
        watch.look(doing)
        assert len(list((tmp_path / "history").glob("*.json"))) == count
    body = json.loads((tmp_path / "latest.json").read_text("utf-8"))
    assert body["symbols"][0]["timeframes"][0]["bars"] == 1_000


def test_what_takes_too_long_is_told_and_entries_go_on_waiting(tmp_path: Path) -> None:
    watch, doing = watch_in(tmp_path, patience_s=0.0), Doing()
    watch.look(doing)
    assert doing.phase == "live"
    assert doing.feed is not None
    assert doing.feed["late"]
    assert "nothing is entered" in feed_line(doing.feed)
    assert watch.loop.mode is RiskMode.REDUCING
    fill(watch)
    watch.look(doing)
    assert not doing.feed["late"]
    assert watch.loop.mode is RiskMode.ACTIVE


def test_entries_that_need_not_wait_do_not_even_if_they_did_before(tmp_path: Path) -> None:
    watch, doing = watch_in(tmp_path, holds=False), Doing()
    watch.loop.hold_entries("an earlier run asked for it", DEMO_START_MS)
    watch.look(doing)
    assert watch.loop.mode is RiskMode.ACTIVE
    watch.hold()
    assert watch.loop.mode is RiskMode.ACTIVE
    assert doing.phase.startswith("waiting:")  # said all the same


def test_a_report_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    watch, doing = watch_in(tmp_path / "file"), Doing()
    fill(watch)
    watch.look(doing)
    assert doing.phase == "live"


def test_bars_that_differ_are_in_the_line(tmp_path: Path) -> None:
    watch, doing = watch_in(tmp_path), Doing()
    fill(watch)
    watch.ingest.kept[BTC].kept["3m"].different = 2
    watch.look(doing)
    assert doing.feed is not None
    assert "2 of" in feed_line(doing.feed)
    assert "are not those of 1m" in feed_line(doing.feed)


def test_what_broke_or_came_late_is_in_the_line(tmp_path: Path) -> None:
    watch, doing = watch_in(tmp_path, holds=False, late=3, broken=2), Doing()
    watch.look(doing)
    assert doing.feed is not None
    line = feed_line(doing.feed | {"ready": True})
    assert "2 listeners begun anew" in line
    assert "3 bars to execute in came late" in line
    clean, calm = watch_in(tmp_path, holds=False), Doing()
    clean.look(calm)
    assert calm.feed is not None
    assert "late" not in feed_line(calm.feed | {"ready": True})
