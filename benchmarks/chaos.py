"""Faults under load: ``python -m benchmarks.chaos [--faults KEY …] [--json]``.

A whole system on the demo market decides a bar every few seconds while clients ask for signals
about earlier bars. One fault after the other is done to it, and the load goes on until all is well
again: three bar decisions in a row in which nobody is absent, ``status`` ok. Recovery is counted
from the fault (a locked database: from the lock) to the first of the three. Lost is a question that
was never answered, or a closed bar without its one decision.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.faults import CLUSTER_FAULTS, Fault, faults, proxy_faults
from benchmarks.live import System, live_system
from benchmarks.load import Load, Question
from benchmarks.nodes import has_redis, three_nodes
from benchmarks.scores import write
from benchmarks.serving import ALL, FAST, OUT, PLAIN, STEP, SYMBOL, closes
from storage.engine import open_database, sqlite_url
from storage.queries import Reader
from storage.verify import verify_chain

HEADING, TOOL = "When something breaks", "benchmarks.chaos"
SPEED = "120"  # a five-minute bar in 2.5 s
WHOLE = 3  # bar decisions in a row
CALM_SECONDS = 240.0  # patience with one fault
HEAD = (
    "fault", "asked", "answered", "told to come back", "other errors", "connection lost",
    "failed for good", "answers without somebody", "decisions without somebody", "status not ok, s",
    "bars lost", "recovery, s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault did; times in seconds.

    Attributes
    ----------
    later : tries answered 429 or 503 with Retry-After; ``broken``: by any other error;
        ``dropped``: not at all. Each was tried again.
    degraded : answers that named somebody absent; ``decided_without``: such decisions on bars.
    unwell_s : for how long ``status`` was not ok, or did not answer.
    lost : bars without a decision, or with two.
    """

    fault: str
    asked: int
    answered: int
    later: int
    broken: int
    dropped: int
    failed: int
    degraded: int
    decided_without: int
    unwell_s: float
    lost: int
    recovery_s: float
    kinds: dict[str, int]

    def cells(self) -> list[str]:
        """Return the row of the table."""
        recovery = f"{self.recovery_s:.0f}" if self.recovery_s < CALM_SECONDS else "never"
        return [
            self.fault, *(str(n) for n in (self.asked, self.answered, self.later, self.broken,
            self.dropped, self.failed, self.degraded, self.decided_without)),
            f"{self.unwell_s:.0f}", str(self.lost), recovery,
        ]  # fmt: skip


def main() -> None:
    """Do every fault in turn; print each row, and write it into the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", nargs="*", help="only these")
    parser.add_argument("--speed", default=SPEED, help="market seconds per second")
    parser.add_argument("--json", action="store_true", help="print JSON, write no document")
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    groups = (
        (faults(), partial(one_machine, told.speed, PLAIN)),
        (proxy_faults(), partial(one_machine, told.speed, FAST)),
        (CLUSTER_FAULTS, several_machines),
    )
    known = [fault.key for group, _ in groups for fault in group]
    if unknown := set(told.faults or ()) - set(known):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    rows: list[Row] = []
    order = [fault.name for group, _ in groups for fault in group]
    for group, opened in groups:
        chosen = [fault for fault in group if not told.faults or fault.key in told.faults]
        for row in suffered(chosen, opened(), quiet=told.json) if chosen else ():
            rows.append(row)
            if not told.json:
                keep(told.out, order, row)
    if told.json:
        print(json.dumps({"faults": [asdict(row) for row in rows]}))


def keep(path: Path, order: Sequence[str], row: Row) -> None:
    """Put a row into the document's table; those of other faults stay as they were measured."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    _, _, rest = text.partition(f"<!-- by python -m {TOOL} -->")
    lines = [line for line in rest.partition("<!-- end -->")[0].splitlines() if line]
    known = {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:]}
    known[row.fault] = f"| {' | '.join(row.cells())} |"
    head = [f"| {' | '.join(cells)} |" for cells in (HEAD, ("---",) * len(HEAD))]
    table = [*head, *(known[name] for name in order if name in known)]
    write(path, HEADING, TOOL, ["", *table, ""])


def one_machine(speed: str, mode: Sequence[str]) -> AbstractContextManager[System]:
    """Return a system with all seven agents, yet to be started."""
    settings = (
        f"AGENTS={ALL}", "IN_PROCESS=climatology,technical", "WARM_UP_DAYS=7",
        *(f"RATE_{kind}=0" for kind in ("SIGNALS", "READS")), *mode,
    )  # fmt: skip
    return live_system("--source", "demo", "--speed", speed, settings=settings)


@contextmanager
def several_machines() -> Iterator[System]:
    """Run three nodes and a desk, the head's tables in Redis."""
    if not has_redis():
        raise SystemExit("redis-server: is not installed, and a head cannot be lost without it")
    with tempfile.TemporaryDirectory() as name, three_nodes(Path(name), redis=True) as nodes:
        yield nodes


def suffered(
    chosen: Sequence[Fault], opened: AbstractContextManager[System], *, quiet: bool
) -> Iterator[Row]:
    """Start a system, do these faults to it under load, and hold its ledger against the bars."""
    with opened as system:
        watch = Watch(system)
        watch.calm(lambda: True, time.monotonic())
        with Load(system.url, SYMBOL, closes(system)[-400:]).running() as load:
            for fault in chosen:
                row = done_to(system, fault, watch, load)
                if not quiet:
                    print(f"  {' | '.join(row.cells())}  {row.kinds}", flush=True)
                yield row
        if missing := lost([as_of for as_of, _ in watch.decided(0)]):
            raise SystemExit(f"{missing} bars between the faults were lost, or decided twice")
        report = verify_chain(watch.engine)
        if not report.ok:
            raise SystemExit(f"the ledger does not verify: {report.problem}")
        watch.engine.dispose()


def done_to(system: System, fault: Fault, watch: Watch, load: Load) -> Row:
    """Do a fault, wait until all is well again, and say what it did."""
    began, before = time.monotonic(), watch.newest()
    back = fault.inject(system)
    recovery, unwell = watch.calm(back, began, before)
    questions = load.settled(began - 1.0)  # those that were under way too
    told = watch.decided(before)
    return Row(
        fault.name, len(questions), sum(q.answered for q in questions),
        sum(q.later for q in questions), sum(len(q.broken) for q in questions),
        sum(len(q.dropped) for q in questions), sum(not q.answered for q in questions),
        sum(q.degraded for q in questions), sum(bool(absent) for _, absent in told), unwell,
        lost([as_of for as_of, _ in told]), recovery, kinds(questions),
    )  # fmt: skip


def lost(instants: Sequence[int]) -> int:
    """Return how many bars have no decision, plus how many decisions are one too many."""
    once = set(instants)
    if not once:
        return 1
    wanted = (max(once) - min(once)) // STEP + 1
    return wanted - len(once) + len(instants) - len(once)


def kinds(questions: Sequence[Question]) -> dict[str, int]:
    """Count the errors by their words."""
    return dict(Counter(word for q in questions for word in (*q.broken, *q.dropped)))


class Watch:
    """Looks at a system from beside it: its ledger file and its status."""

    def __init__(self, system: System) -> None:
        self._system = system
        world = json.loads((system.folder / "run.json").read_text())["world"]
        self.engine = open_database(sqlite_url(system.folder / "ledger.db"))
        self._reader = Reader(self.engine, world)
        self._client = httpx.Client(base_url=system.url, timeout=2.0)

    def newest(self) -> int:
        """Return the instant of the newest decision on a bar, 0 if there is none."""
        found = self._reader.latest_decision(SYMBOL, origin="bar")
        return 0 if found is None else found[1].as_of

    def decided(self, since: int) -> list[tuple[int, dict[str, str]]]:
        """Return (as_of, who was absent) of each decision on a bar from an instant on."""
        items = self._reader.decisions(SYMBOL, limit=1000, origin="bar").items
        return [(d.as_of, dict(d.absent)) for _, d in reversed(items) if d.as_of >= since]

    def well(self) -> bool:
        """Whether ``status`` says ok and the agents answer the desk through Serve."""
        try:
            body: dict[str, Any] = self._client.get("/v1/system/health").json()
            return bool(body["status"] == "ok" and body["desk"]["via"] == "serve")
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def calm(self, back: Callable[[], bool], began: float, before: int = 0) -> tuple[float, float]:
        """Wait until all is well again; return the seconds that took, and those unwell."""
        first, unwell, looked, seen = None, 0.0, began, max(before, self.newest())
        since = seen
        while time.monotonic() - began < CALM_SECONDS:
            well = self.well()
            now = time.monotonic()
            unwell, looked = unwell + (0.0 if well else now - looked), now
            fresh = [absent for as_of, absent in self.decided(since + 1)]
            if any(fresh) or not well or not back():
                first, since = None, self.newest()
            elif fresh and first is None:
                first = now - began
            if first is not None and len(fresh) >= WHOLE:
                return first, unwell
            time.sleep(0.2)
        return CALM_SECONDS, unwell


if __name__ == "__main__":
    main()
