"""How long a start takes: ``python -m benchmarks.start [--before TREE] [--repeats 3]``.

``conclave up`` with the local exchange as its market and with the market alone (``--source demo``),
in turn, each in a folder of its own, after one start that is not counted. ``--before`` is another
checkout, started in the same turns. Times are medians of wall seconds, CPU is that of all processes
until the desk is live, memory their proportional set size (PSS) then.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.live import NOBODY, live_system
from benchmarks.scores import show

HEADING, TOOL, OUT = "Start", "benchmarks.start", Path("docs/venue.md")
KINDS = {"local exchange": ("--source", "auto"), "demo": ("--source", "demo")}
HEAD = ("market", "code", "ready, s", "of", "live, s", "CPU, s", "memory, MB")


class Begun(NamedTuple):
    """One start: seconds until the API and the desk were there, CPU seconds, MB."""

    ready: float
    live: float
    cpu: float
    memory: float


def main() -> None:
    """Start the system again and again, print and write the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--local", action="store_true", help="without Ray")
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    trees = {"this": Path.cwd()} | ({"before": told.before} if told.before else {})
    turns = [(kind, code) for kind in KINDS for code in trees]
    seen: dict[tuple[str, str], list[Begun]] = {turn: [] for turn in turns}
    extra = ("--local",) if told.local else ()
    for tree in trees.values():
        start((*KINDS["demo"], *extra), tree)
    for turn in turns * told.repeats:
        begun = start((*KINDS[turn[0]], *extra), trees[turn[1]])
        print(*turn, *(f"{x:.1f}" for x in begun), flush=True)
        seen[turn].append(begun)
    show(told.out, HEADING, TOOL, list(rows(seen)))


def start(flags: tuple[str, ...], tree: Path) -> Begun:
    """Start the code of a checkout once, and take it down."""
    with live_system(*flags, settings=[NOBODY], tree=tree) as system:
        return Begun(system.api_s, system.live_s, sum(system.cpu().values()), system.memory() / 1e6)


def rows(seen: dict[tuple[str, str], list[Begun]]) -> Iterator[str]:
    """Iterate over the lines of a table."""
    yield "| " + " | ".join(HEAD) + " |"
    yield "|" + "---|" * len(HEAD)
    for (kind, code), starts in seen.items():
        ready = sorted(one.ready for one in starts)
        cells = [
            kind, code, f"{statistics.median(ready):.1f}", f"{ready[0]:.1f}–{ready[-1]:.1f}",
            *(f"{statistics.median(one[i] for one in starts):.{1 if i == 1 else 0}f}"
              for i in range(1, len(Begun._fields))),
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{(time.monotonic() - began) / 60:.0f} minutes in all")
