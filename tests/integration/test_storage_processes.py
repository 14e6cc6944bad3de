"""Several processes on one database file: one unbroken chain, whoever writes and whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domain.opinion import Opinion
from storage.checks import examples
from storage.engine import open_database, sqlite_url
from storage.leases import Lease
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.queries import worlds

STEPS = 30


def _write(url: str, world: str, first: int) -> None:
    ledger = SqlLedger(open_database(url), world)
    for step in range(first, first + STEPS):
        ledger.append(examples(step))


def _migrate(url: str) -> None:
    upgrade(open_database(url))


@pytest.mark.long
def test_ledger_when_two_processes_append_at_once_then_the_chain_is_unbroken(
    tmp_path: Path,
) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    upgrade(open_database(url))
    spawn = multiprocessing.get_context("spawn")
    # two share a world and half of their records, the third has a world of its own
    tasks = [(url, "binance", 0), (url, "binance", STEPS // 2), (url, "demo-7", 0)]
    processes = [spawn.Process(target=_write, args=task) for task in tasks]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    engine = open_database(url)
    report = SqlLedger(engine, "binance").verify()
    assert report.ok, report.problem
    assert report.rows == (STEPS + STEPS // 2 + STEPS) * len(examples(0))
    assert len(list(SqlLedger(engine, "binance").records(Opinion))) == 2 * (STEPS + STEPS // 2)


def test_ledger_when_threads_of_two_engines_append_at_once_then_the_chain_is_unbroken(
    tmp_path: Path,
) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    engines = [open_database(url), open_database(url)]
    upgrade(engines[0])

    def work(thread: int) -> None:
        ledger = SqlLedger(engines[thread % 2], f"w{thread}")
        for step in range(10):
            ledger.append(examples(step))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))  # raises what a thread raised
    report = SqlLedger(engines[0], "w0").verify()
    assert report.ok, report.problem
    assert sorted(world.rows for world in worlds(engines[0])) == [10 * len(examples(0))] * 4


@pytest.mark.long
def test_upgrade_when_two_processes_start_at_once_then_both_find_the_schema(
    tmp_path: Path,
) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_migrate, args=(url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert SqlLedger(open_database(url), "w").append(examples(0))


# Appends without end; with "inside", dies between the statements of its last transaction.
CHILD = """
import os, signal, sys
from sqlalchemy import event
from storage.checks import examples
from storage.engine import open_database
from storage.ledger import SqlLedger

engine = open_database(sys.argv[1])
ledger = SqlLedger(engine, "binance")
seen = 0

@event.listens_for(engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    global seen
    if sys.argv[2] == "inside" and statement.startswith("INSERT INTO fills"):
        seen += 1
        if seen == 5:
            os.kill(os.getpid(), signal.SIGKILL)

for step in range(100_000):
    ledger.append(examples(step))
    print(step, flush=True)
"""


@pytest.mark.parametrize("where", ["inside", "anywhere"])
def test_ledger_when_its_process_is_killed_while_appending_then_the_chain_is_whole(
    tmp_path: Path, where: str
) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    upgrade(open_database(url))
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, where],
        stdout=subprocess.PIPE, text=True, cwd=root,
    )  # fmt: skip
    assert child.stdout is not None
    told = 0
    for line in child.stdout:
        told = int(line) + 1
        if where == "anywhere" and told == 7:
            os.kill(child.pid, signal.SIGKILL)
    assert child.wait(timeout=30) == -signal.SIGKILL
    child.stdout.close()
    ledger = SqlLedger(open_database(url), "binance")
    report = ledger.verify()
    assert report.ok, report.problem
    steps, rest = divmod(report.rows, len(examples(0)))
    assert rest == 0, "a step is stored whole or not at all"
    assert steps >= told, "what was acknowledged is kept"
    if where == "inside":
        assert steps == told == 4
    again = ledger.append([record for step in range(steps + 1) for record in examples(step)])
    assert again == list(range(1, len(examples(0)) * (steps + 1) + 1))
    assert ledger.verify().ok


def _acquire(url: str, owner: str, won: multiprocessing.Queue[str]) -> None:
    class Frozen:
        def now(self) -> int:
            return 1000

    if Lease(open_database(url), "desk", owner, 5000, Frozen()).acquire():
        won.put(owner)


@pytest.mark.long
def test_lease_when_processes_race_for_it_then_one_gets_it(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    upgrade(open_database(url))
    spawn = multiprocessing.get_context("spawn")
    won: multiprocessing.Queue[str] = spawn.Queue()
    racers = [spawn.Process(target=_acquire, args=(url, f"p{i}", won)) for i in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=60)
        assert racer.exitcode == 0
    winner = won.get(timeout=5)
    assert winner in {"p0", "p1", "p2"}
    assert won.empty()
