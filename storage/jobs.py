"""Long work that was asked for: training, evaluation, backtests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update

from domain.errors import NotFound, UsageError
from storage.engine import read, write
from storage.numbering import next_id
from storage.schema import jobs

STATES = ("queued", "running", "done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Job:
    """A job; times are ms, ``result`` is empty until there is one."""

    id: int
    kind: str
    state: str
    body: dict[str, Any]
    result: dict[str, Any]
    created_at: int
    updated_at: int


class Jobs:
    """The queue of jobs, shared by all worlds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, kind: str, body: Mapping[str, Any], at: int) -> Job:
        """Queue a job at ``at`` (ms) and return it."""
        return self._insert("queued", kind, body, at)

    def begin(self, kind: str, body: Mapping[str, Any], at: int) -> Job:
        """Note a job that its caller carries out at once, and return it."""
        return self._insert("running", kind, body, at)

    def _insert(self, state: str, kind: str, body: Mapping[str, Any], at: int) -> Job:
        with write(self._engine) as connection:
            number = next_id(connection, jobs)
            row = {
                "id": number, "kind": kind, "state": state,
                "body": dict(body), "result": {}, "created_at": at, "updated_at": at,
            }  # fmt: skip
            connection.execute(insert(jobs), row)
            return _get(connection, number)

    def get(self, job_id: int) -> Job:
        """Return a job. Raises NotFound."""
        with read(self._engine) as connection:
            return _get(connection, job_id)

    def list(
        self, *, state: str | None = None, limit: int = 100, before_id: int | None = None
    ) -> list[Job]:
        """Return jobs, newest first."""
        query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(jobs.c.state == _known(state))
        if before_id is not None:
            query = query.where(jobs.c.id < before_id)
        with read(self._engine) as connection:
            return [_job(row) for row in connection.execute(query)]

    def claim(self, at: int) -> Job | None:
        """Set the oldest queued job running and return it, or None; no job goes to two callers."""
        oldest = select(jobs.c.id).where(jobs.c.state == "queued").order_by(jobs.c.id).limit(1)
        with write(self._engine) as connection:
            job_id = connection.execute(oldest).scalar()
            if job_id is None:
                return None
            change = update(jobs).where(jobs.c.id == job_id)
            connection.execute(change.values(state="running", updated_at=at))
            return _get(connection, job_id)

    def set_state(
        self, job_id: int, state: str, at: int, result: Mapping[str, Any] | None = None
    ) -> Job:
        """Change a job's state, and its result if one is given.

        Raises
        ------
        NotFound : if there is no such job.
        UsageError : if there is no such state, or the job has ended and may not change.
        """
        values: dict[str, Any] = {"state": _known(state), "updated_at": at}
        if result is not None:
            values["result"] = dict(result)
        with write(self._engine) as connection:
            job = _get(connection, job_id)
            if job.state not in ("queued", "running"):
                raise UsageError(f"job {job_id}", f"has ended as {job.state}", state)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            return _get(connection, job_id)


def _known(state: str) -> str:
    if state not in STATES:
        raise UsageError("job state", f"must be one of {', '.join(STATES)}", state)
    return state


def _get(connection: Connection, job_id: int) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound("job", "is not there", job_id)
    return _job(row)


def _job(row: Row[Any]) -> Job:
    return Job(row.id, row.kind, row.state, row.body, row.result, row.created_at, row.updated_at)
