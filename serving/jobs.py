"""Long work that was asked for: put on a list, taken off it one by one by a worker.

The worker runs ``conclave …`` in a process of its own, with its output in a file. What it runs is
made from :mod:`serving.job_kinds` anew, from what was asked: a row of the table is no command line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from data.files import plain_name
from domain.errors import ConclaveError, ServiceUnreachable, UsageError
from domain.ports import Clock
from domain.times import iso
from serving.job_kinds import command_of, file_in
from storage.jobs import Job, Jobs
from storage.leases import Lease

log = structlog.get_logger("jobs")

JOBS_LEASE = "jobs"
MOST_QUEUED = 100
LOOK_SECONDS = 0.5
END_SECONDS = 10.0  # for a job that is cancelled to leave
MOST_OUTPUT = 64 * 1024  # of the JSON that a job prints, kept in its row
LOG_TAIL = 2000  # characters of the log in the row of a job that failed


def queued(jobs: Jobs, raw_dir: Path, kind: str, args: Mapping[str, Any], by: str, at: int) -> Job:
    """Put work on the list.

    Parameters
    ----------
    raw_dir : where the files lie that ``args`` names.
    at : ms, wall time.

    Raises
    ------
    NotFound : if a file is not there.
    UsageError : if too much is waiting already.
    """
    command_of(kind, dict(args), lambda name: str(file_in(raw_dir, name)))
    if len(jobs.list(state="queued", limit=MOST_QUEUED)) >= MOST_QUEUED:
        rule = f"may wait {MOST_QUEUED} at a time"
        raise UsageError("jobs", rule, hint="Cancel some, or start conclave jobs run.")
    return jobs.put(kind, {"args": dict(args), "by": by}, at)


def cancelled(jobs: Jobs, job_id: int, at: int) -> Job:
    """Cancel a job of the list; the worker ends it if it runs.

    Raises
    ------
    NotFound : if there is no such job.
    UsageError : if it has ended, or somebody else carries it out.
    """
    if not ours(jobs.get(job_id)):
        raise UsageError(f"job {job_id}", "runs in a terminal", hint="Stop it there.")
    return jobs.set_state(job_id, "cancelled", at)


def ours(job: Job) -> bool:
    """Whether a job came off the list; others are only noted in the table."""
    return "args" in job.body


def job_of(job: Job) -> dict[str, Any]:
    """Return the public form of a job."""
    args = dict(job.body.get("args", {}))
    try:
        command = command_of(job.kind, args)
    except (ConclaveError, ValidationError):  # of an older or newer version
        command = []
    return {
        "id": job.id, "kind": job.kind, "state": job.state, "args": args,
        "by": str(job.body.get("by", "")), "command": command, "result": job.result,
        "created_at": iso(job.created_at), "updated_at": iso(job.updated_at),
    }  # fmt: skip


@dataclass(slots=True)
class Worker:
    """Takes jobs off the list, oldest first, one at a time.

    Attributes
    ----------
    folder : gets a folder for each job, with its log and links to its files.
    env : of the processes.
    leaving : says when to stop taking jobs.
    """

    jobs: Jobs
    lease: Lease
    clock: Clock
    raw_dir: Path
    folder: Path
    env: Mapping[str, str]
    leaving: Callable[[], bool] = lambda: False

    def run(self, *, once: bool = False) -> int:
        """Work until asked to leave, or until the list is empty; return the jobs done.

        Raises
        ------
        ServiceUnreachable : if another worker is at it.
        """
        if not self.lease.acquire({"pid": os.getpid()}):
            raise ServiceUnreachable(
                "jobs", "have a worker already", hint="One at a time: the machine is shared."
            )
        done = 0
        try:
            self._bury()
            while not self.leaving():
                job = self.jobs.claim(self.clock.now())
                if job is not None:
                    self._work(job)
                    done += 1
                elif once:
                    break
                else:
                    self._keep()
                    time.sleep(LOOK_SECONDS)
        finally:
            self.lease.release()
        return done

    def _keep(self) -> None:
        if not self.lease.renew({"pid": os.getpid()}):
            self.lease.acquire({"pid": os.getpid()})

    def _bury(self) -> None:
        """Whatever runs while no worker does has lost its own."""
        for job in filter(ours, self.jobs.list(state="running", limit=1000)):
            result = {"error": "its worker ended before it did; ask again"}
            self.jobs.set_state(job.id, "failed", self.clock.now(), result)

    def _work(self, job: Job) -> None:
        log.info("job_started", job=job.id, kind=job.kind)
        started = time.monotonic()
        place = self.folder / str(job.id)
        try:
            command = self._command(job, place)
            code = self._follow(job, command, place)
        except (ConclaveError, ValidationError, OSError) as error:
            result: dict[str, Any] = {"error": str(error)[:LOG_TAIL]}
            state = "failed"
        else:
            output = _output(place / "output.json")
            result = {"exit_code": code, "output": output, "log": f"{job.id}/log.txt"}
            state = "done" if code == 0 else "failed"
            if code != 0:
                result["error"] = _tail(place / "log.txt")
        result["seconds"] = round(time.monotonic() - started, 3)
        with suppress(UsageError):  # it was cancelled meanwhile
            self.jobs.set_state(job.id, state, self.clock.now(), result)
        log.info("job_ended", job=job.id, state=self.jobs.get(job.id).state)

    def _command(self, job: Job, place: Path) -> list[str]:
        place.mkdir(parents=True, exist_ok=True)

        def linked(name: str) -> str:
            source = file_in(self.raw_dir, name)
            link = place.resolve() / plain_name(source)  # symbol and market stand in its name
            if not link.exists():
                link.symlink_to(source.resolve())
            return str(link)

        return command_of(job.kind, dict(job.body.get("args", {})), linked)

    def _follow(self, job: Job, command: list[str], place: Path) -> int:
        """Run a command to its end, or to that of the job."""
        with (place / "log.txt").open("wb") as log_file, (place / "output.json").open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, arguments from a list
                [sys.executable, "-m", "serving.cli", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=log_file, env=dict(self.env),
                start_new_session=True,
            )  # fmt: skip
            try:
                while True:
                    try:
                        return process.wait(LOOK_SECONDS)
                    except subprocess.TimeoutExpired:
                        self._keep()
                    if self.leaving() or self.jobs.get(job.id).state == "cancelled":
                        _end(process)
            finally:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def _output(path: Path) -> Any:
    """Return the JSON that a command printed; None if it is none, or too much for a row."""
    if path.stat().st_size > MOST_OUTPUT:
        return None
    try:
        return json.loads(path.read_bytes() or b"null")
    except ValueError:
        return None


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:].replace("\x00", "")
