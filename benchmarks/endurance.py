"""An hour of decisions: ``python -m benchmarks.endurance [--minutes 60]``.

All seven agents behind Serve, the demo market at a pace at which a bar closes every three seconds,
so that 1 200 decisions fall in an hour; fills, trades and the ledger as in use. What a desk says
of itself (``conclave_decision_seconds``): from a closed bar to the decision and its paper orders
stored and sent.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from benchmarks.desk_figures import Told, memory_of, told_by
from benchmarks.live import Live, live_system
from benchmarks.scores import show
from benchmarks.serving import ALL, FAST

HEADING, TOOL, OUT = "Hour of decisions", "benchmarks.endurance", Path("docs/serving.md")
BAR_SECONDS = 3.0
HEAD = (
    "minutes", "decisions", "orders", "mean, ms", "99 % within, ms", "all within, ms", "whole",
    "CPU-ms a decision", "memory at the start and the end, MiB", "ledger",
)  # fmt: skip


def main() -> None:
    """Run for so many minutes, print and write the figures."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    settings = (f"AGENTS={ALL}", "IN_PROCESS=climatology,technical", *FAST)
    flags = ("--source", "demo", "--speed", str(300.0 / BAR_SECONDS))
    with live_system(*flags, settings=settings) as system:
        row = lived(system, told.minutes)
    rows = [HEAD, ("---",) * len(HEAD), row]
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


def lived(system: Live, minutes: float) -> tuple[str, ...]:
    """Let the system decide for so long and return the cells of its row."""
    wait_for_whole(system)
    orders, memory, cpu = orders_of(system), memory_of(system), system.cpu()
    before, began = told_by(system), time.monotonic()
    while (gone := (time.monotonic() - began) / 60.0) < minutes:
        time.sleep(min(60.0, 60.0 * (minutes - gone)))
        print("  " + " | ".join(cells(told_by(system).since(before))), flush=True)
    told, used = told_by(system).since(before), system.cpu_since(cpu)
    verify = [sys.executable, "-m", "serving.cli", "ledger", "verify"]
    checked = subprocess.run(verify, env={**os.environ, "VAR_DIR": str(system.folder)}, check=False)
    return (
        f"{gone:.0f}", f"{told.decisions:.0f}", str(orders_of(system) - orders),
        *cells(told), f"{1e3 * used / told.decisions:.0f}",
        f"{memory:.0f}, {memory_of(system):.0f}", "BROKEN" if checked.returncode else "sound",
    )  # fmt: skip


def cells(told: Told) -> tuple[str, ...]:
    """Return mean, 99 % and all in ms, and the share of decisions that nobody missed."""
    return (
        f"{told.mean_ms():.0f}", told.within_ms(0.99), told.within_ms(1.0),
        f"{1.0 - told.degraded / told.decisions:.1%}",
    )  # fmt: skip


def wait_for_whole(system: Live, seconds: float = 180.0) -> None:
    """Return once ten decisions in a row had every agent, all models warm."""
    until, before = time.monotonic() + seconds, told_by(system)
    while time.monotonic() < until:
        time.sleep(10 * BAR_SECONDS + 5.0)
        now = told_by(system)
        if now.decisions > before.decisions and now.degraded == before.degraded:
            return
        before = now
    raise SystemExit(f"not every agent answered within {seconds:.0f} s")


def orders_of(system: Live) -> int:
    """Return how many orders are on the ledger."""
    rows: dict[str, int] = httpx.get(f"{system.url}/v1/system/health", timeout=30).json()["rows"]
    return rows["orders"]


if __name__ == "__main__":
    main()
