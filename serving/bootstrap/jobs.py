"""The worker of jobs."""

from __future__ import annotations

from collections.abc import Callable

from serving.bootstrap.common import owner
from serving.bootstrap.storage import open_storage
from serving.control import LEASE_TTL_MS
from serving.jobs import JOBS_LEASE, Worker
from serving.settings import Settings
from serving.settings.names import Key, from_environment
from serving.system import SystemClock, environment
from storage.jobs import Jobs
from storage.leases import Lease


def job_worker(settings: Settings, leaving: Callable[[], bool]) -> Worker:
    """Wire the worker of jobs."""
    engine, clock, data = open_storage(settings), SystemClock(), settings.data
    places = {
        "VAR_DIR": data.var_dir, "DATA_DIR_RAW": data.raw_dir, "MODELS_DIR": data.models_dir,
        "DATA_DIR_PROCESSED": data.processed_dir, "LOGS_DIR": data.logs_dir,
    }  # fmt: skip
    shared = {"MODELS_URL": data.models_url, "CONCLAVE_MODELS_ENDPOINT": data.models_endpoint}
    store = {name: told for name, told in shared.items() if told is not None}
    store["CONCLAVE_MODELS_REGION"] = data.models_region
    # The worker's own row is what people are told of: the process must not note the work again.
    token = Key("notify", "telegram_bot_token")
    names = {
        "TELEGRAM_BOT_TOKEN",
        *(name for name in environment() if from_environment(name) == token),
    }
    silent = dict.fromkeys(names, "none")
    return Worker(
        Jobs(engine),
        Lease(engine, JOBS_LEASE, owner(), LEASE_TTL_MS, clock),
        clock,
        data.raw_dir,
        data.var_dir.absolute() / "jobs",
        {
            **environment(),
            **store,
            **silent,
            **{name: str(path.absolute()) for name, path in places.items()},
        },
        leaving,
    )
