"""A full disk, a locked database, a clock that jumps, a feed in disorder: nothing is lost."""

from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from data.sources.replay import ReplaySource
from domain.errors import ConclaveError, LedgerError, ServiceUnreachable
from domain.market import Bar, BarFrame
from domain.ports import MarketSource
from domain.trading import ClosedTrade, Fill
from execution.funding import base_rate
from execution.loop import TradingLoop
from execution.rows import in_order
from serving.bootstrap.desk import build_desk_on
from serving.commands.common import settings_from
from serving.feeds import Feed
from serving.market_clock import MarketClock
from serving.plan import RunPlan
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.verify import verify_chain
from tests.crash_scenes import Boundaries, Scene, exercised_bars

WORLD, BARS = "replay-disorder", 60
SCENE = Scene(exercised_bars(BARS))


def opened(folder: Path, busy_ms: int = 100) -> SqlLedger:
    engine = open_database(sqlite_url(folder / "ledger.db"), busy_ms=busy_ms)
    upgrade(engine)
    return SqlLedger(engine, WORLD)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    ledger = opened(tmp_path_factory.mktemp("calm"))
    loop = SCENE.loop(ledger, Boundaries())
    SCENE.go_on(loop)
    assert len(list(ledger.records(ClosedTrade))) > 4
    return (*SCENE.end(loop, ledger), ledger.head())


def stumbling(
    ledger: SqlLedger, trouble: Callable[[str], None], kind: type[ConclaveError], words: str
) -> tuple[tuple[Any, ...], int]:
    """Go on after every failure as a restarted desk does: with a fresh loop over the ledger."""
    failures: list[ConclaveError] = []
    while True:
        loop = SCENE.loop(ledger, Boundaries(trouble))
        loop.resume()
        try:
            SCENE.go_on(loop)
        except ConclaveError as error:
            failures.append(error)
            trouble("between two lives")
            continue
        assert all(isinstance(error, kind) and words in error.message for error in failures)
        assert verify_chain(ledger.engine).ok
        return (*SCENE.end(loop, ledger), ledger.head()), len(failures)


@contextmanager
def no_larger(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_loop_when_the_disk_is_full_now_and_then_then_nothing_is_lost_or_doubled(tmp_path, calm):
    ledger = opened(tmp_path)
    store, full = ledger.append, random.Random(3)

    def append(records: Any) -> list[int]:
        if full.random() < 0.1:  # not one more byte, in the journal or in the file
            with no_larger(1):
                return store(records)
        return store(records)

    ledger.append = append  # type: ignore[method-assign]
    ended, failures = stumbling(ledger, lambda _: None, LedgerError, "disk")
    assert failures > 5
    assert ended == calm


@pytest.mark.long
def test_loop_when_others_lock_the_database_for_too_long_then_nothing_is_lost_or_doubled(
    tmp_path, calm
):
    ledger, chance = opened(tmp_path, busy_ms=20), random.Random(4)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)

    def trouble(name: str) -> None:
        if other.in_transaction:
            other.execute("ROLLBACK")
        elif name.startswith("before append") and chance.random() < 0.1:
            other.execute("BEGIN IMMEDIATE")

    ended, failures = stumbling(ledger, trouble, ServiceUnreachable, "locked")
    other.close()
    assert failures > 5
    assert ended == calm


@dataclass
class Disorderly:
    """A feed that says bars twice, late and in the wrong order."""

    source: MarketSource
    chance: random.Random
    label: str = "replay"

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        told: list[Bar] = []
        for bar in self.source.stream(after_ms):
            told.append(bar)
            yield bar
            for _ in range(self.chance.choice((0, 0, 1, 2))):
                old = self.chance.choice(told[-20:])
                yield (
                    replace(old, close=old.open, volume=9.0) if self.chance.random() < 0.5 else old
                )


@dataclass
class Jumping:
    """A wall clock that is set back and forth."""

    chance: random.Random
    at: int

    def now(self) -> int:
        self.at += self.chance.choice((0, 5_000, -3_600_000, 7_200_000, -7_200_000))
        return self.at


def lived(var_dir: Path, *, disorder: bool = False, clock: Jumping | None = None) -> SqlLedger:
    """A desk of the exercise profile from the first bar to the last."""
    sets = [f"VAR_DIR={var_dir}", "models.agents=climatology", "serving.monitor=false"]
    settings = settings_from("exercise", None, sets)
    frame = BarFrame.of(exercised_bars(180))
    price = {frame.symbol: float(frame.close[-1])}
    feed = Feed(ReplaySource([frame]), [frame.symbol], [], price, base_rate, keep_market=True)
    plan = RunPlan("replay", WORLD, "exercise", None, local=True)
    desk = build_desk_on(plan, settings, feed)
    if disorder:
        desk = replace(desk, source=Disorderly(feed.source, random.Random(5)))
    if clock is not None:
        desk = replace(desk, market_clock=MarketClock(wall=clock))
    asyncio.run(desk.run())
    return desk.ledger


@pytest.fixture(scope="module")
def orderly(tmp_path_factory: pytest.TempPathFactory) -> SqlLedger:
    ledger = lived(tmp_path_factory.mktemp("orderly"))
    assert len(list(ledger.records(Fill))) > 8
    return ledger


@pytest.mark.long
def test_desk_when_bars_come_twice_late_and_changed_then_the_ledger_is_the_same(tmp_path, orderly):
    disorderly = lived(tmp_path, disorder=True)
    assert list(in_order(disorderly)) == list(in_order(orderly))
    assert disorderly.head() == orderly.head()


@pytest.mark.long
def test_desk_when_the_wall_clock_jumps_then_orders_and_fills_are_the_same(tmp_path, orderly):
    start = exercised_bars(1)[0].close_ms
    jumped = lived(tmp_path, clock=Jumping(random.Random(6), start))
    rows = [
        [row for _, row in ledger.records(of)]
        for ledger in (jumped, orderly)
        for of in (Bar, Fill, ClosedTrade)
    ]
    assert rows[:3] == rows[3:]


def test_desk_when_the_feed_leaves_bars_out_then_nothing_is_invented(tmp_path):
    bars = [bar for i, bar in enumerate(exercised_bars(180)) if i % 37 != 36]
    ledger = opened(tmp_path)
    loop: TradingLoop = replace(SCENE, bars=bars).loop(ledger, Boundaries())
    replace(SCENE, bars=bars).go_on(loop)
    stored = [bar for _, bar in ledger.records(Bar)]
    assert stored == bars
    fills = [fill for _, fill in ledger.records(Fill)]
    assert len(fills) > 20
    assert all(any(b.open_ms <= fill.at < b.close_ms for b in bars) for fill in fills)
    assert len({fill.id for fill in fills}) == len(fills)
