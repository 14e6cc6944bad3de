"""The desk as a process of its own; started and restarted by ``up``."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from domain.errors import ConclaveError, ServiceUnreachable
from serving.control import LeaseLost
from serving.plan import load_plan
from serving.processes import TEMPORARY, die_with_parent


def main(argv: list[str] | None = None) -> None:
    """Run the desk of a plan until its feed ends (exit 0) or SIGTERM."""
    parser = argparse.ArgumentParser(prog="serving.desk_process")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent)
    try:
        finished = asyncio.run(_run(arguments.plan))
    except ConclaveError as error:
        sys.stderr.write(f"error: {error}\n")
        passing = isinstance(error, ServiceUnreachable) and not isinstance(error, LeaseLost)
        sys.exit(TEMPORARY if passing else error.exit_code)
    sys.exit(0 if finished else 130)


async def _run(path: Path) -> bool:
    from serving.bootstrap import build_desk, settings_of
    from serving.logs import start_logging

    plan = load_plan(path)
    settings = settings_of(plan)
    start_logging(settings, "desk")
    desk = build_desk(plan, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, desk.leave.set)
    await desk.run()
    return desk.progress.phase == "finished"


if __name__ == "__main__":
    main()
