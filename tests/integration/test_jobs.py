"""Jobs: only what is on the list, run by a worker in a process of its own, with a result."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from domain.errors import NotFound, ServiceUnreachable, UsageError
from serving.bootstrap.jobs import job_worker
from serving.bootstrap.storage import open_storage
from serving.job_kinds import ARGS, command_of, file_in
from serving.jobs import JOBS_LEASE, MOST_QUEUED, cancelled, job_of, queued
from serving.processes import alive
from serving.settings import Settings
from serving.system import SystemClock
from storage.jobs import Job, Jobs
from storage.leases import Lease
from tests.api_world import settings_in
from tests.command_line import perp

NOW = 1_735_689_600_000
BACKTEST = {"data": "BTCUSDT-binance-perp-5m-made.parquet", "profile": "exercise"}
HASH = "0123456789ab"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path / "var")
    made.data.raw_dir.mkdir(parents=True)
    path = perp(tmp_path)
    path.rename(made.data.raw_dir / f"{HASH}-{path.name}")
    return made


@pytest.fixture
def jobs(settings: Settings) -> Jobs:
    return Jobs(open_storage(settings))


def asked(jobs: Jobs, settings: Settings, kind: str, args: Mapping[str, Any]) -> Job:
    return queued(jobs, settings.data.raw_dir, kind, args, "anna", NOW)


def ended(jobs: Jobs, job: Job, seconds: float = 120.0) -> Job:
    until = time.monotonic() + seconds
    while (now := jobs.get(job.id)).state in ("queued", "running"):
        assert time.monotonic() < until, now
        time.sleep(0.05)
    return now


@pytest.mark.long
def test_job_when_worked_on_then_its_row_has_exit_code_result_and_log(
    jobs: Jobs, settings: Settings
) -> None:
    good = asked(jobs, settings, "backtest", BACKTEST)
    bad = asked(jobs, settings, "backtest", {**BACKTEST, "timerange": "20300101-20300102"})
    assert job_worker(settings, lambda: False).run(once=True) == 2

    done = job_of(jobs.get(good.id))
    assert (done["state"], done["by"], done["result"]["exit_code"]) == ("done", "anna", 0)
    assert done["result"]["output"]["trades"] > 20
    assert done["result"]["output"]["data"]["symbol"] == "BTC/USDT:USDT"
    folder = settings.data.var_dir / "jobs"
    log = (folder / done["result"]["log"]).read_text()
    assert "EXECUTION_MARKET=perp is ignored" in log
    assert (settings.data.var_dir / "reports" / "backtest" / "latest.html").is_file()

    failed = job_of(jobs.get(bad.id))
    assert (failed["state"], failed["result"]["exit_code"]) == ("failed", 3)
    assert "error:" in failed["result"]["error"]
    assert "Traceback" not in failed["result"]["error"]


@pytest.mark.long
def test_job_when_cancelled_while_it_runs_then_its_processes_end_and_the_next_one_starts(
    jobs: Jobs, settings: Settings
) -> None:
    long = asked(jobs, settings, "lookahead", {"data": BACKTEST["data"], "rows": 5000})
    leave = threading.Event()
    worker = threading.Thread(target=job_worker(settings, leave.is_set).run)
    worker.start()
    try:
        while jobs.get(long.id).state == "queued":
            time.sleep(0.02)
        _until(_children)
        time.sleep(1.0)  # for it to be at work
        children = _children()
        assert children
        jobs.set_state(long.id, "cancelled", NOW + 1)
        _until(lambda: not any(map(alive, children)))
        assert ended(jobs, long).state == "cancelled"
        assert ended(jobs, asked(jobs, settings, "backtest", BACKTEST)).state == "done"
    finally:
        leave.set()
        worker.join(30)


def _until(seen: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def _children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(os.getpid()).children(recursive=True)]


def test_worker_when_it_died_over_a_job_then_the_next_one_says_so_and_goes_on(
    jobs: Jobs, settings: Settings
) -> None:
    lost = asked(jobs, settings, "backtest", BACKTEST)
    assert jobs.claim(NOW) is not None
    noted = jobs.put("training", {"model": "tft"}, NOW)  # somebody's own, in a terminal
    assert jobs.claim(NOW) is not None
    assert job_worker(settings, lambda: False).run(once=True) == 0
    assert jobs.get(noted.id).state == "running"
    with pytest.raises(UsageError, match="runs in a terminal"):
        cancelled(jobs, noted.id, NOW)
    row = jobs.get(lost.id)
    assert (row.state, row.result["error"]) == (
        "failed",
        "its worker ended before it did; ask again",
    )


def test_worker_when_there_is_one_already_then_a_second_is_refused(
    jobs: Jobs, settings: Settings
) -> None:
    leave = threading.Event()
    first = threading.Thread(target=job_worker(settings, leave.is_set).run)
    first.start()
    try:
        lease = Lease(open_storage(settings), JOBS_LEASE, "who looks", 1, SystemClock())
        _until(lease.holder)
        with pytest.raises(ServiceUnreachable, match="have a worker already"):
            job_worker(settings, lambda: False).run(once=True)
    finally:
        leave.set()
        first.join(30)


def test_worker_when_a_row_was_tampered_with_then_it_runs_nothing_that_is_not_on_the_list(
    jobs: Jobs, settings: Settings, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    for kind, args in (
        ("shell", {"data": "x"}),
        ("backtest", {"data": f"$(touch {mark}).parquet"}),
        ("backtest", {**BACKTEST, "timerange": f"20250101-; touch {mark}"}),
        ("backtest", {**BACKTEST, "html": str(mark)}),
        ("lookahead", {"data": BACKTEST["data"], "agents": ["os:getcwd"]}),
    ):
        jobs.put(kind, {"args": args, "by": "x"}, NOW)
    assert job_worker(settings, lambda: False).run(once=True) == 5
    assert {job.state for job in jobs.list()} == {"failed"}
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["../api_token.parquet", "/etc/passwd", "a/b.parquet", ".hidden.parquet", "--help.parquet",
     "x.parquet\n", "x.sh", "", "x.parquet;ls"],
)  # fmt: skip
@pytest.mark.parametrize("kind", sorted(ARGS))
def test_job_when_a_file_is_no_plain_name_then_it_is_refused(kind: str, name: str) -> None:
    extra = {"target": "trend"} if kind == "train" else {}
    with pytest.raises(ValidationError):
        command_of(kind, {"data": name, **extra})


def test_file_when_it_leads_out_of_its_folder_or_is_ambiguous_then_it_is_not_there(
    settings: Settings, tmp_path: Path
) -> None:
    raw = settings.data.raw_dir
    outside = tmp_path / "secret.parquet"
    outside.write_bytes(b"x")
    (raw / "link.parquet").symlink_to(outside)
    with pytest.raises(NotFound):
        file_in(raw, "link.parquet")
    assert file_in(raw, BACKTEST["data"]).name == f"{HASH}-{BACKTEST['data']}"
    assert file_in(raw, f"{HASH}-{BACKTEST['data']}").is_file()
    (raw / f"{'f' * 12}-{BACKTEST['data']}").write_bytes(b"y")
    with pytest.raises(NotFound, match="more than once"):
        file_in(raw, BACKTEST["data"])


def test_queue_when_it_is_full_then_nothing_more_is_taken(jobs: Jobs, settings: Settings) -> None:
    for _ in range(MOST_QUEUED):
        jobs.put("backtest", {"args": BACKTEST, "by": "x"}, NOW)
    with pytest.raises(UsageError, match="may wait 100 at a time"):
        asked(jobs, settings, "backtest", BACKTEST)


@pytest.mark.parametrize(
    ("kind", "args", "words"),
    [
        ("train", {"target": "return", "model": "tft", "data": "a.csv", "also": ["b.csv"],
                   "end": "2025-01-01", "steps": 5},
         "train return --data a.csv --seed 7 --model tft --also b.csv --end=2025-01-01 --steps=5"),
        ("train", {"target": "chronos", "data": "a.csv", "size": "nano"},
         "train chronos --data a.csv --seed 7 --size nano"),
        ("train", {"target": "volatility", "data": "a.csv"},
         "train volatility --data a.csv --seed 7"),
        ("train", {"target": "gate", "data": "a.csv", "strategy": "ema_cross", "steps": 2_000_000},
         "train gate --data a.csv --seed 7 --strategy=ema_cross --steps=2000000"),
        ("evaluate", {"data": "a.csv", "agents": ["risk"], "refit": True},
         "evaluate --data a.csv --agents=risk --refit"),
        ("lookahead", {"data": "a.csv", "rows": 9}, "lookahead --data a.csv --rows 9 --seed 7"),
    ],
)  # fmt: skip
def test_command_when_made_then_the_command_line_knows_every_word_of_it(
    kind: str, args: dict[str, Any], words: str
) -> None:
    from serving.cli import run

    made = command_of(kind, args)
    assert made == [*words.split(), "--json"]
    assert run(made) == 3  # every flag is known; the file is not there


def test_command_when_a_gate_is_given_further_symbols_then_it_is_refused() -> None:
    args = {"target": "gate", "data": "a.csv", "also": ["b.csv"]}
    with pytest.raises(ValidationError, match="gate learns from one symbol"):
        command_of("train", args)


def test_worker_when_told_to_leave_then_what_waits_stays_on_the_list(
    jobs: Jobs, settings: Settings
) -> None:
    asked(jobs, settings, "backtest", BACKTEST)
    assert job_worker(settings, lambda: True).run() == 0
    assert jobs.list()[0].state == "queued"
