"""The desk as a process of its own: started and restarted by ``up``, or alone."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from domain.errors import ConclaveError, ServiceUnreachable
from serving.control import LeaseLost
from serving.desk_health import desk_health
from serving.plan import RunPlan, load_plan
from serving.planning import Wish, resolve
from serving.processes import TEMPORARY, die_with_parent
from serving.settings import Settings


def main(argv: list[str] | None = None) -> None:
    """Run the desk of a plan until its feed ends (exit 0) or SIGTERM."""
    parser = argparse.ArgumentParser(prog="serving.desk_process")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent)
    try:
        finished = asyncio.run(_supervised(arguments.plan))
    except ConclaveError as error:
        sys.stderr.write(f"error: {error}\n")
        passing = isinstance(error, ServiceUnreachable) and not isinstance(error, LeaseLost)
        sys.exit(TEMPORARY if passing else error.exit_code)
    sys.exit(0 if finished else 130)


def run_alone(wish: Wish) -> int:
    """Run the desk of a wish in the foreground until its feed ends (0) or SIGTERM (130).

    Raises
    ------
    ConclaveError : whatever keeps it from starting or going on.
    """
    from serving.bootstrap.settings import settings_wished
    from serving.logs import start_logging

    resolved = resolve(wish, partial(settings_wished, wish))
    settings = resolved.settings
    start_logging(settings, "desk", console=True)
    port = settings.serving.api_port
    plan = replace(resolved.plan((port, 0)), serve_url=settings.serving.serve_url)
    plan.save(settings.data.var_dir)
    return 0 if asyncio.run(_run(plan, settings)) else 130


async def _supervised(path: Path) -> bool:
    from serving.bootstrap.settings import settings_of
    from serving.logs import start_logging

    plan = load_plan(path)
    settings = settings_of(plan)
    start_logging(settings, "desk")
    return await _run(plan, settings)


async def _run(plan: RunPlan, settings: Settings) -> bool:
    from serving.bootstrap.desk import build_desk

    desk = build_desk(plan, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, desk.leave.set)
    serving = settings.serving
    with desk_health(serving.api_host, serving.desk_port, desk.idle, desk.counters.text):
        await desk.run()
    return desk.progress.phase == "finished"


if __name__ == "__main__":
    main()
