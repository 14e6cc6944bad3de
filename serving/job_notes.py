"""Work of the command line that people want to hear of: noted as a job, and told where a bot is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from domain.errors import ConclaveError
from domain.ports import Clock
from serving.settings import Settings
from serving.system import SystemClock
from storage.engine import open_database
from storage.jobs import Jobs
from storage.migrate import upgrade

log = structlog.get_logger("jobs")

_BEGIN_SECONDS, _END_SECONDS = 3.0, 10.0


@contextmanager
def noted(
    settings: Settings, kind: str, body: Mapping[str, Any], clock: Clock | None = None
) -> Iterator[dict[str, Any]]:
    """Note that work began, and how it ended; yields the figures to be told with the end.

    Without a bot nothing is noted. A bot or a database that fails never stops the work.
    """
    figures: dict[str, Any] = {}
    note = _begin(settings, kind, body, clock or SystemClock())
    try:
        yield figures
    except KeyboardInterrupt:
        _end(note, "cancelled", figures, "interrupted")
        raise
    except Exception as error:
        text = error.message if isinstance(error, ConclaveError) else type(error).__name__
        _end(note, "failed", figures, text)
        raise
    _end(note, "done", figures, "")


class _Note:
    def __init__(self, settings: Settings, jobs: Jobs, number: int, clock: Clock) -> None:
        self.settings, self.jobs, self.number, self.clock = settings, jobs, number, clock


def _begin(settings: Settings, kind: str, body: Mapping[str, Any], clock: Clock) -> _Note | None:
    if not settings.notify.wanted:
        return None
    from serving.notifier import begin_jobs

    try:
        engine = open_database(settings.database_url())
        upgrade(engine)
        begin_jobs(engine)
        jobs = Jobs(engine)
        note = _Note(settings, jobs, jobs.begin(kind, body, clock.now()).id, clock)
    except ConclaveError as error:
        log.warning("job_not_noted", why=str(error))
        return None
    _tell(settings, _BEGIN_SECONDS)
    return note


def _end(note: _Note | None, state: str, figures: Mapping[str, Any], why: str) -> None:
    if note is None:
        return
    result = {**figures, **({"error": why} if why else {})}
    try:
        note.jobs.set_state(note.number, state, note.clock.now(), result)
    except ConclaveError as error:
        log.warning("job_not_noted", why=str(error))
        return
    _tell(note.settings, _END_SECONDS)


def _tell(settings: Settings, seconds: float) -> None:
    from serving.notifier import tell_jobs

    try:
        asyncio.run(tell_jobs(settings, seconds))
    except Exception as error:  # noqa: BLE001 - the work is what counts
        log.warning("job_not_told", error=f"{type(error).__name__}: {error}")
