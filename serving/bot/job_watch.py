"""Long work that begins and ends: one message each, whatever world the system runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.canonical import plain
from domain.trading import Event
from notifications.progress import SNAPSHOT
from notifications.relay import Relay
from storage.jobs import Job, Jobs
from storage.snapshots import SqlSnapshots

JOBS_WORLD = "jobs"  # of the place up to which jobs were told: all worlds share it
_KEY = "jobs"
_PAGE = 500
_GOING = ("queued", "running")


@dataclass(slots=True)
class JobWatch:
    """Tells jobs by a relay.

    Parameters
    ----------
    seen : snapshots of :data:`JOBS_WORLD`.
    """

    relay: Relay
    jobs: Jobs
    seen: SqlSnapshots

    def begin(self) -> None:
        """Start at the newest job, unless it was begun before: what is past is not told."""
        self.start(self.jobs, self.seen)

    @staticmethod
    def start(jobs: Jobs, seen: SqlSnapshots) -> None:
        """Do what :meth:`begin` does where there is no relay yet."""
        if seen.latest(SNAPSHOT, _KEY) is None:
            newest = jobs.list(limit=1)
            seen.save(SNAPSHOT, _KEY, 0, {"last": newest[0].id if newest else 0, "open": []})

    def look(self) -> None:
        """Queue a message for every job that began or ended."""
        self.begin()
        saved = self.seen.latest(SNAPSHOT, _KEY)
        known: dict[str, Any] = {"last": 0, "open": []} if saved is None else saved[1]
        watched = [self.jobs.get(number) for number in known["open"]]
        fresh = [job for job in self.jobs.list(limit=_PAGE) if job.id > known["last"]][::-1]
        for job in (*watched, *fresh):
            self._tell(job)
        going = [job.id for job in (*watched, *fresh) if job.state in _GOING]
        last = max([known["last"], *(job.id for job in fresh)])
        if (last, going) != (known["last"], known["open"]):
            self._save(last, going)

    def _save(self, last: int, going: list[int]) -> None:
        self.seen.save(SNAPSHOT, _KEY, 0, {"last": last, "open": going})

    def _tell(self, job: Job) -> None:
        if job.state == "queued":
            return
        if job.state == "running":
            self._notify(job, "running", job.created_at, {})
            return
        self._notify(job, "running", job.created_at, {})  # unless that was told: the key is known
        self._notify(job, job.state, job.updated_at, job.result)

    def _notify(self, job: Job, state: str, at: int, result: dict[str, Any]) -> None:
        figures = {**job.body, **result}
        why = str(figures.pop("error", ""))
        if state != "running":
            figures["seconds"] = round((job.updated_at - job.created_at) / 1000.0, 1)
        shown = {k: v for k, v in plain(figures).items() if not isinstance(v, dict | list)}
        body = {"name": job.kind, "state": state, "why": why, "figures": shown}
        event = Event("job", at, body, "error" if state == "failed" else "info")
        self.relay.notify(event, f"job {job.id} {state}")
