"""A desk on the local exchange, which can be taken down: by HTTP and WebSocket, as on any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from domain.market import Bar
from domain.times import parse_iso
from serving.bootstrap.desk import build_desk
from serving.bootstrap.storage import open_storage
from serving.commands.common import settings_from
from serving.desk import Desk
from serving.plan import RunPlan, VenueRun
from sim.venue.faults.running import Faults
from sim.venue.faults.schedule import Schedule
from sim.venue.market import Markets, VenueClock
from sim.worlds import DEMO_START_MS, DemoMarket
from storage.ledger import SqlLedger
from tests.relay import free_port
from tests.venue_server import BTC, venue, wall

DAY = 86_400_000
SPEED = 150.0  # a bar of a minute each four tenths of a second
PATIENCE_S = 240.0  # with a machine that has other work: what is awaited comes in a few seconds


@dataclass
class Stage:
    """A local exchange that can be taken down, and the run that listens to it."""

    var_dir: Path
    symbols: tuple[str, ...] = (BTC,)
    speed: float = SPEED
    began: int = field(default_factory=wall)
    schedule: Schedule | None = None  # of faults
    start: int = DEMO_START_MS + DAY  # market time at ``began``
    funding_hours: int = 8
    _up: ExitStack = field(default_factory=ExitStack)
    _ledger: SqlLedger | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        self.markets = Markets(
            {name: DemoMarket(7, name) for name in self.symbols},
            VenueClock(self.start, wall, self.speed, self.began), seed=7,
            funding_hours=self.funding_hours,
        )  # fmt: skip

    def open(self) -> None:
        faults = None
        if self.schedule is not None:
            faults = Faults(wall, self.markets.clock.now, self.schedule)
        self._up.enter_context(venue(made=self.markets, at=self.port, struck=faults))

    def close(self) -> None:
        self._up.close()

    def plan(self, profile: str = "exercise") -> RunPlan:
        return RunPlan(
            "demo", "demo-7", profile, self.speed, warm_up_days=1, local=True,
            exchange_url=f"http://127.0.0.1:{self.port}",
            venue=VenueRun(self.port, self.start, self.began),
        )  # fmt: skip

    def desk(self, profile: str = "exercise", *more: str) -> Desk:
        sets = [
            f"VAR_DIR={self.var_dir}", "TIMEFRAME=1m", "serving.monitor=false",
            f"SYMBOLS={','.join(self.symbols)}", "feed.silence_s=2", "feed.reconnect_s=0.5", *more,
        ]  # fmt: skip
        plan = self.plan(profile)
        plan.save(self.var_dir)
        return build_desk(plan, settings_from(profile, None, sets))

    def ledger(self) -> SqlLedger:
        """Return what reads the run's ledger, also while a desk writes it."""
        if self._ledger is None:  # opening it takes a desk's time from it, which is in this process
            settings = settings_from("exercise", None, [f"VAR_DIR={self.var_dir}"])
            self._ledger = SqlLedger(open_storage(settings), "demo-7")
        return self._ledger

    def rows(self, kind: type, **where: object) -> list:
        return [record for _, record in self.ledger().records(kind, **where)]


def lived(
    desk: Desk, n: int, between: Callable[[int], object] = lambda _: None, until_ms: int = 2**62,
    also: Callable[[], object] = lambda: True,
) -> None:  # fmt: skip
    """Let a desk decide n times live, or up to an instant of the market, then leave.

    ``between`` is told of decisions; ``also`` is asked after them, and must hold as well.
    """

    def done() -> bool:
        decided, as_of = desk.progress.decided, desk.progress.as_of
        return decided >= n or (as_of is not None and parse_iso(as_of) >= until_ms)

    async def run() -> None:
        running = asyncio.create_task(desk.run())
        seen = -1
        async with asyncio.timeout(PATIENCE_S):
            while not running.done():
                if desk.progress.decided != seen:
                    seen = desk.progress.decided
                    await asyncio.to_thread(between, seen)
                    if done() and await asyncio.to_thread(also):
                        break
                await asyncio.sleep(0.02)
        desk.leave.set()
        await running

    asyncio.run(run())


def holes(bars: list[Bar]) -> list[tuple[int, int]]:
    return [
        (one.open_ms, other.open_ms)
        for one, other in pairwise(bars) if one.close_ms != other.open_ms
    ]  # fmt: skip
