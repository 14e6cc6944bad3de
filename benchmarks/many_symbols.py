"""Many symbols closing at once: ``python -m benchmarks.many_symbols [--symbols N …]``.

The demo market with N pairs, whose bars all close at the same instant. What a desk says of itself
(``conclave_decision_seconds``, at ``/metrics``): from the instant's bars to the last decision
stored. CPU and memory are those of every process of the run, over bars after the warm-up.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.desk_figures import memory_of, told_by
from benchmarks.live import Live, live_system
from benchmarks.scores import show
from benchmarks.serving import ALL, FAST, LIGHT

HEADING, TOOL, OUT = "Many symbols at once", "benchmarks.many_symbols", Path("docs/serving.md")
HEAD = (
    "how it runs", "symbols", "all decided after, ms: mean / worst below", "ms a decision",
    "whole decisions", "CPU-s per 1 000", "memory, MiB",
)  # fmt: skip
INSTANTS, SETTLING = 10, 2
PERIOD_S = {10: 5.0, 50: 5.0, 200: 10.0}  # between two closes
WARM_UP_DAYS = 1


class Way(NamedTuple):
    """A way to run the system."""

    name: str
    agents: str
    settings: tuple[str, ...]
    flags: tuple[str, ...] = ()


WAYS = (
    Way("one process, light agents", LIGHT, (f"IN_PROCESS={LIGHT}",), ("--local",)),
    Way("Serve, all seven agents", ALL, ("IN_PROCESS=climatology,technical", *FAST)),
)


def main() -> None:
    """Measure every way with every number of symbols, print and write the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, nargs="*", default=sorted(PERIOD_S))
    parser.add_argument("--ways", type=int, nargs="*", help="only these, counted from 0")
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    rows = [HEAD, ("---",) * len(HEAD)]
    for way in [WAYS[i] for i in told.ways] if told.ways else WAYS:
        for symbols in told.symbols:
            rows.append((way.name, str(symbols), *measured(way, symbols)))
            print("  " + " | ".join(rows[-1]), flush=True)
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


def measured(way: Way, symbols: int) -> tuple[str, ...]:
    """Run a system with so many symbols, and return the cells of its row."""
    period = PERIOD_S.get(symbols, 15.0)
    names = ",".join(f"C{i:03}/USDT" for i in range(symbols))
    settings = (
        f"AGENTS={way.agents}", f"SYMBOLS={names}", f"WARM_UP_DAYS={WARM_UP_DAYS}",
        *way.settings,
    )  # fmt: skip
    flags = ("--source", "demo", "--speed", str(300.0 / period), *way.flags)
    with live_system(*flags, settings=settings) as system:
        wait_for(system, SETTLING * symbols, period)
        before, cpu = told_by(system), system.cpu()
        wait_for(system, int(before.decisions) + INSTANTS * symbols, period)
        told, used, memory = told_by(system).since(before), system.cpu_since(cpu), memory_of(system)
    return (
        f"{told.mean_ms():.0f} / {told.within_ms(1.0)}", f"{told.mean_ms() / symbols:.1f}",
        f"{1.0 - told.degraded / told.decisions:.0%}", f"{1e3 * used / told.decisions:.0f}",
        f"{memory:.0f}",
    )  # fmt: skip


def wait_for(system: Live, decisions: int, period: float) -> None:
    """Return just after the desk has told of so many decisions on bars."""
    until = time.monotonic() + 60.0 + 4.0 * INSTANTS * period
    while told_by(system).decisions < decisions:
        if time.monotonic() > until:
            raise SystemExit(f"{decisions} decisions are too many for this machine")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
