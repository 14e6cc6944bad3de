"""A real desk on a real database, in processes that SIGKILL ends, until one reaches the last bar.

``python -m tests.crash_driver VAR_DIR BARS calm|boundaries|random KILLS [SEED]``: tells who died.
Each life is a process of its own that knows nothing but the database. ``boundaries`` ends a life at
the first boundary at which none has ended yet (only one in KILLS of them), ``random`` at any
instant, KILLS times.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from data.sources.replay import ReplaySource
from domain.market import Bar, BarFrame
from execution.funding import base_rate
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker
from serving.bootstrap.desk import build_desk_on
from serving.control import DESK_LEASE, Control
from serving.desk import Desk
from serving.feeds import Feed
from serving.plan import RunPlan
from serving.rules import market_for, risk_limits, sizing, venue
from serving.settings import load_settings
from serving.system import SystemClock
from storage.inbox import Inbox
from storage.leases import Lease
from tests.crash_scenes import Boundaries, WatchedBroker, WatchedLedger, exercised_bars

WORLD = "replay-crashes"
PLAN = RunPlan("replay", WORLD, "exercise", None, local=True)
KILL_AT, ARM_AT = 36, 41  # bars
LEASE_MS = 20  # the lease of a dead life is soon over
LONGEST = 0.25  # seconds at work of a life that ends at random


@dataclass
class Drilled:
    """A feed during which somebody kills and arms: at the same bars in every life."""

    source: ReplaySource
    loop: TradingLoop
    label: str = "replay"

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        first = exercised_bars(1)[0]
        for bar in self.source.stream(after_ms):
            place = (bar.open_ms - first.open_ms) // (bar.close_ms - bar.open_ms)
            if place == KILL_AT:
                self.loop.kill("driver", "drill", bar.open_ms)
            if place == ARM_AT:
                self.loop.arm("driver", "drill over", bar.open_ms)
            yield bar


def desk_of(var_dir: Path, bars: int, at: Callable[[str], None]) -> Desk:
    """The desk of the exercise profile, with a boundary around everything that changes anything."""
    overrides = {
        "VAR_DIR": str(var_dir),
        "models.agents": "climatology",
        "serving.monitor": "false",
    }
    settings = load_settings(env={}, profile="exercise", overrides=overrides)
    frame = BarFrame.of(exercised_bars(bars))
    price = {frame.symbol: float(frame.close[-1])}
    source = ReplaySource([frame])
    desk = build_desk_on(PLAN, settings, Feed(source, [frame.symbol], [], price, base_rate, True))
    market = market_for(settings, [frame.symbol], price, keep_market=True)
    broker = PaperBroker(market.instruments, market.costs, venue=venue(settings))
    boundaries = Boundaries(at)
    loop = TradingLoop(
        desk.fold.strategy, WatchedBroker(broker, boundaries),
        WatchedLedger(desk.ledger, boundaries), market.instruments,
        LoopSettings(
            market.routes, spread_bps=dict.fromkeys(market.instruments, 1.0),
            initial_cash=Decimal(10_000), git_commit="crashes",
        ),
        limits=risk_limits(settings), sizing=sizing(settings),
    )  # fmt: skip
    engine = desk.ledger.engine
    lease = Lease(engine, DESK_LEASE, f"life {os.getpid()}", LEASE_MS, SystemClock())
    control = Control(lease, Inbox(engine, WORLD), var_dir / "KILL")
    return replace(desk, loop=loop, control=control, source=Drilled(source, loop))


def live(var_dir: Path, bars: int, at: Callable[[str], None]) -> int:
    """Start a life and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        log = os.open(var_dir / "lives.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        asyncio.run(desk_of(var_dir, bars, at).run())
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is, a life must not become its parent
        traceback.print_exc()
        os._exit(1)


def ended(pid: int) -> bool:
    """Wait for a life; True if it was killed, False if it reached the end."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("a life failed: see lives.log")
    return False


def kill_at_boundaries(var_dir: Path, bars: int, one_in: int) -> int:
    died = var_dir / "died"
    died.touch()
    while True:
        known = set(died.read_text().splitlines())

        def at(name: str, known: set[str] = known) -> None:
            if name not in known and zlib.crc32(name.encode()) % one_in == 0:
                with died.open("a") as file:
                    file.write(name + "\n")
                os.kill(os.getpid(), signal.SIGKILL)

        if not ended(live(var_dir, bars, at)):
            return len(known)


def kill_at_random(var_dir: Path, bars: int, kills: int, seed: int) -> int:
    chance, done = random.Random(seed), 0
    while True:
        hears, tells = os.pipe()
        pid = live(var_dir, bars, lambda _, tells=tells: os.write(tells, b"."))
        os.close(tells)
        if done < kills:
            if done % 5:  # the others may die before they have begun
                os.read(hears, 1)
            time.sleep(LONGEST * chance.random())
            os.kill(pid, signal.SIGKILL)
        killed = ended(pid)
        os.close(hears)
        if not killed:
            return done
        done += 1


def main(folder: str, bars: str, mode: str, number: str, seed: str = "11") -> None:
    var_dir = Path(folder)
    var_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as first:  # what one life has imported, the others need not
        asyncio.run(desk_of(Path(first), 3, lambda _: None).run())
    began = time.monotonic()
    if mode == "boundaries":
        kills = kill_at_boundaries(var_dir, int(bars), int(number))
    else:
        kills = kill_at_random(
            var_dir, int(bars), int(number) if mode == "random" else 0, int(seed)
        )
    sys.stdout.flush()
    print(json.dumps({"kills": kills, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
