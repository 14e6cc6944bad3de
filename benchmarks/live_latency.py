"""How soon a live desk knows, decides and is heard: ``python -m benchmarks.live_latency``.

The local exchange in a process of its own, a desk with light agents in this one; bars of a minute,
at a speed at which one closes every ten seconds of wall time. Market time is exact on one machine:
from the moment of a print, or of a close, until the desk has it is measured by one clock. The start
(the past of all symbols, within the exchange's limits) is not measured.

- book: from the print that changed a book until the desk's copy of it can be read;
- decision: from the close of a bar until its decision, and paper orders, are on the ledger;
- order: from a decision until the exchange has answered its orders
  (:mod:`benchmarks.order_latency`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import order_latency
from benchmarks.live import cpu_of
from benchmarks.scores import show
from data.book_history import BookHistory
from data.sources.live_market import LiveMarket
from domain.decision import Decision
from domain.market import BookSnapshot, Trade
from domain.times import timeframe_ms
from serving.bootstrap.desk import build_desk
from serving.bootstrap.settings import settings_of
from serving.desk import Desk
from serving.plan import RunPlan, VenueRun
from serving.processes import choose_port
from serving.system import SystemClock
from serving.telling import Teller
from sim.worlds import DemoSource

HEADING, TOOL, OUT = "Latency of a live desk", "benchmarks.live_latency", Path("docs/venue.md")
HEAD = ("symbols", "book: n, p50, p99, ms", "decision: n, p50, p99, ms",
        "processor of desk, exchange")  # fmt: skip
TIMEFRAME, LIGHT = "1m", "climatology,technical,microstructure,risk"
BASES = [f"C{i:02d}" for i in range(48)]


def main() -> None:
    """Measure at 1 and 50 symbols, orders at 1 and 5; print and write the figures."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--order-symbols", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--minutes", type=float, default=3.0, help="of wall time, each")
    parser.add_argument("--settle", type=float, default=3.0, help="minutes before it is measured")
    parser.add_argument("--speed", type=float, default=6.0)
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    rows = [HEAD, ("---",) * len(HEAD)]
    for count in told.symbols:
        with tempfile.TemporaryDirectory() as name:
            rows.append(
                (str(count), *measured(Path(name), count, told.minutes, told.settle, told.speed))
            )
        print(" | ".join(rows[-1]), flush=True)
    table = [f"| {' | '.join(row)} |" for row in rows]
    show(told.out, HEADING, TOOL, [*table, "", *order_latency.rows(told.order_symbols)])


def measured(
    folder: Path, count: int, minutes: float, settle: float, speed: float
) -> tuple[str, ...]:
    """Return the cells of one row."""
    plan = plan_of(folder, count, speed)
    assert plan.venue is not None
    start, began = plan.venue.start_ms, plan.venue.began_ms

    def since(market_ms: int) -> float:
        """Return the wall's ms since a moment of the market."""
        return time.time() * 1e3 - began - (market_ms - start) / speed

    with venue_of(folder) as venue:
        desk = build_desk(plan, settings_of(plan))
        assert isinstance(desk.source, LiveMarket)
        books = desk.source.books
        assert isinstance(books, dict)
        step = timeframe_ms(TIMEFRAME)
        books |= {name: Timed(name, step, since) for name in books}  # its line tells these
        heard = Hearing(desk.teller, since)
        desk.teller = heard
        used = asyncio.run(lived(desk, minutes, settle, venue, [*books.values(), heard]))
    seen = [late for each in books.values() for late in each.late]
    return cell(seen), cell(heard.late), f"{used[0]:.2f}, {used[1]:.2f}"


class Timed(BookHistory):
    """Books whose age is noted when they can be read."""

    def __init__(self, symbol: str, step_ms: int, since: Callable[[int], float]) -> None:
        super().__init__(symbol, step_ms)
        self.late: list[float] = []
        self._since_ms = since

    def see(self, event: BookSnapshot | Trade) -> None:
        """Take in an event and note how late it is."""
        super().see(event)
        if isinstance(event, BookSnapshot):
            self.late.append(self._since_ms(event.at))


class Hearing(Teller):
    """A teller that notes how late decisions are on the ledger."""

    def __init__(self, teller: Teller, since: Callable[[int], float]) -> None:
        super().__init__(teller.log, teller.proposals)
        self.late: list[float] = []
        self._since_ms = since

    def hear(self, record: Any) -> None:
        """Take note of a row that was appended."""
        super().hear(record)
        if isinstance(record, Decision) and record.origin == "bar":
            self.late.append(self._since_ms(record.as_of))


async def lived(
    desk: Desk, minutes: float, settle: float, venue: psutil.Process,
    noted: Sequence[Timed | Hearing],
) -> tuple[float, float]:  # fmt: skip
    """Let a desk live, measure once it has settled; return cores used by desk and exchange."""
    running = asyncio.create_task(desk.run())
    while desk.progress.phase != "live" and not running.done():
        await asyncio.sleep(0.1)
    await asyncio.wait({running}, timeout=settle * 60.0)
    for each in noted:
        each.late.clear()
    mine = psutil.Process()
    before, began = [cpu_of(mine), cpu_of(venue)], time.monotonic()
    await asyncio.wait({running}, timeout=minutes * 60.0)
    gone = time.monotonic() - began
    after = [cpu_of(mine), cpu_of(venue)]
    desk.leave.set()
    await running
    return (after[0] - before[0]) / gone, (after[1] - before[1]) / gone


def plan_of(folder: Path, count: int, speed: float) -> RunPlan:
    """Return the plan of a run with so many symbols, and write it down."""
    symbols = ["BTC/USDT", "ETH/USDT", *(f"{base}/USDT" for base in BASES)][:count]
    overrides = (
        ("VAR_DIR", str(folder)), ("SYMBOLS", ",".join(symbols)), ("TIMEFRAME", TIMEFRAME),
        ("models.agents", LIGHT), ("serving.monitor", "false"), ("WARM_UP_DAYS", "1"),
    )  # fmt: skip
    start = DemoSource(warm_up_days=1).live_ms
    port = choose_port("127.0.0.1", 0, "port")
    plan = RunPlan(
        "demo", "demo-7", "demo", speed, warm_up_days=1, overrides=overrides, local=True,
        exchange_url=f"http://127.0.0.1:{port}",
        venue=VenueRun(port, start, SystemClock().now()),
    )  # fmt: skip
    plan.save(folder)
    return plan


@contextmanager
def venue_of(folder: Path) -> Iterator[psutil.Process]:
    """Run a plan's exchange while the block lasts."""
    words = [sys.executable, "-m", "serving.venue_process", str(folder / "run.json"),
             "--parent", str(os.getpid())]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def cell(values: list[float]) -> str:
    """Return count, median and 99th percentile."""
    half, most = np.percentile(values, (50, 99))
    return f"{len(values):,}, {half:.1f}, {most:.1f}"


if __name__ == "__main__":
    main()
