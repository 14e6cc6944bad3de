"""The worker of jobs as a process of its own, beside ``up`` where the settings want one."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from domain.errors import ConclaveError, ServiceUnreachable
from serving.plan import load_plan
from serving.processes import TEMPORARY, die_with_parent


def main(argv: list[str] | None = None) -> None:
    """Work on jobs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="serving.job_process")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args(argv)
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    die_with_parent(arguments.parent)

    from serving.bootstrap.jobs import job_worker
    from serving.bootstrap.settings import settings_of
    from serving.logs import start_logging

    try:
        settings = settings_of(load_plan(arguments.plan))
        start_logging(settings, "jobs")
        job_worker(settings, leave.is_set).run()
    except ConclaveError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(TEMPORARY if isinstance(error, ServiceUnreachable) else error.exit_code)


if __name__ == "__main__":
    main()
