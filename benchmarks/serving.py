"""Signals over HTTP: ``python -m benchmarks.serving [--quick]``.

One and eight clients ask a running system for signals about the last bars of the demo market, each
about another bar, so that nothing is answered from what was decided before. Latency is the
client's; CPU is that of every process of the run (the clients' own apart) over the signals
answered. Beside it the bare agents: the same states, asked in this process without HTTP, Ray,
council or ledger. Rate limits are off. The market runs at its own pace, so that the desk has
nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.live import Live, System, live_system
from benchmarks.scores import show
from domain.times import iso, parse_iso

HEADING, TOOL, OUT = "Signals over HTTP", "benchmarks.serving", Path("docs/serving.md")
SYMBOL, STEP, BARS = "BTC/USDT", 300_000, 1_000
LIGHT = "climatology,technical,microstructure,risk"
ALL = "climatology,technical,baseline,chronos,tft,microstructure,risk"
HEAD = (
    "how it runs", "bare, ms", "1 client: p50 / p99 ms", "CPU-ms", "8 clients: p50 / p99 ms",
    "signals/s", "CPU-ms",
)  # fmt: skip
FAST = ("THROUGHPUT_OPTIMIZED=true", "HA_PROXY=true")
PLAIN = ("THROUGHPUT_OPTIMIZED=false", "HA_PROXY=false")


class Mode(NamedTuple):
    """A way to run the system."""

    name: str
    agents: str
    in_process: str
    settings: tuple[str, ...] = PLAIN
    flags: tuple[str, ...] = ()


MODES = (
    Mode("one process, no Ray; light agents", LIGHT, LIGHT, PLAIN, ("--local",)),
    Mode("Serve as it comes; light agents in the council", LIGHT, LIGHT),
    Mode("Serve, throughput and HAProxy; light agents in the council", LIGHT, LIGHT, FAST),
    Mode("Serve, throughput and HAProxy; light agents, each its deployment", LIGHT,
         "climatology", FAST),
    Mode("Serve as it comes; all seven agents", ALL, "climatology,technical"),
    Mode("Serve, throughput and HAProxy; all seven agents", ALL, "climatology,technical", FAST),
)  # fmt: skip


class Figures(NamedTuple):
    """What clients saw: latencies in ms, signals a second, CPU-ms a signal, refusals."""

    p50: float
    p99: float
    rate: float
    cpu: float
    refused: int


def main() -> None:
    """Measure every mode, print and write the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--signals", type=int, default=300, help="for each number of clients")
    parser.add_argument("--modes", type=int, nargs="*", help="only these, counted from 0")
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    rows = [HEAD, ("---",) * len(HEAD)]
    for mode in [MODES[i] for i in told.modes] if told.modes else MODES:
        bare = bare_ms(mode.agents.split(","))
        one, eight = measured(mode, told.signals)
        rows.append((
            mode.name, f"{bare:.1f}", f"{one.p50:.0f} / {one.p99:.0f}", f"{one.cpu:.0f}",
            f"{eight.p50:.0f} / {eight.p99:.0f}", f"{eight.rate:.0f}", f"{eight.cpu:.0f}",
        ))  # fmt: skip
        print("  " + " | ".join(rows[-1]), one.refused, eight.refused, flush=True)
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


def measured(mode: Mode, signals: int) -> tuple[Figures, Figures]:
    """Start the system in a mode, and have one and then eight clients ask it."""
    settings = (
        f"AGENTS={mode.agents}", f"IN_PROCESS={mode.in_process}", "RATE_SIGNALS=0",
        *mode.settings,
    )  # fmt: skip
    with live_system("--source", "demo", "--speed", "1", *mode.flags, settings=settings) as system:
        moments = iter(closes(system))
        asyncio.run(asked(system, itertools.islice(moments, 40), 4))  # warm-up
        one = figures(system, list(itertools.islice(moments, signals)), 1)
        eight = figures(system, list(itertools.islice(moments, signals)), 8)
    return one, eight


def closes(system: System) -> list[int]:
    """Return the closes of the last bars, oldest first."""
    with httpx.Client(base_url=system.url, timeout=30) as client:
        reply = client.post("/v1/signals", json={"symbol": SYMBOL})
        reply.raise_for_status()
        last = parse_iso(reply.json()["as_of"])
    return [last - STEP * i for i in range(BARS, 0, -1)]


def figures(system: Live, moments: Sequence[int], clients: int) -> Figures:
    """Ask about each moment once, and say how it went."""
    before, began = system.cpu(), time.perf_counter()
    seconds, refused = asyncio.run(asked(system, iter(moments), clients))
    wall = time.perf_counter() - began
    p50, p99 = (1e3 * float(np.quantile(seconds, q)) for q in (0.5, 0.99))
    n = len(seconds)
    return Figures(p50, p99, n / wall, 1e3 * system.cpu_since(before) / n, refused)


async def asked(system: Live, moments: Iterator[int], clients: int) -> tuple[list[float], int]:
    """Return the seconds of each signal, and how often somebody had to come back later."""
    seconds: list[float] = []
    refused = 0

    async def client() -> None:
        nonlocal refused
        async with httpx.AsyncClient(base_url=system.url, timeout=30) as mine:
            for moment in moments:
                body = {"symbol": SYMBOL, "as_of": iso(moment)}
                began = time.perf_counter()
                while (reply := await mine.post("/v1/signals", json=body)).status_code in (
                    429,
                    503,
                ):
                    refused += 1
                    await asyncio.sleep(0.05)
                reply.raise_for_status()
                seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds, refused


def bare_ms(names: Sequence[str], states: int = 100) -> float:
    """Return the median CPU-ms that the agents need for one state, asked one by one."""
    from agents.artifacts import FolderStore
    from agents.registry import load_agent
    from data.memory import MarketMemory
    from sim.worlds import RANDOM_WALK, GeneratedWorld

    agents = [load_agent(name, FolderStore(Path("var/none")), 5).agent for name in names]
    world = GeneratedWorld(RANDOM_WALK, 7, SYMBOL, "5m")
    memory = MarketMemory(SYMBOL, "5m", keep=None)
    memory.append(world.bars(world.start_ms, 4_000))
    per_agent = [list(memory.states(bars=a.needs.bars, feature_rows=a.needs.feature_rows))[-states:]
                 for a in agents]  # fmt: skip
    took = []
    for row in zip(*per_agent, strict=True):
        began = time.process_time()
        for agent, state in zip(agents, row, strict=True):
            agent.opine([state])
        took.append(time.process_time() - began)
    return 1e3 * float(np.median(took[5:]))


if __name__ == "__main__":
    main()
