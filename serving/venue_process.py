"""The local exchange of a run, as a process of its own; restarted by ``up``."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import structlog

from domain.errors import ConclaveError
from serving.plan import RunPlan, load_plan
from serving.processes import die_with_parent
from serving.settings import Settings
from serving.system import SystemClock

log = structlog.get_logger("venue")


def main(argv: list[str] | None = None) -> None:
    """Serve the simulated market of a plan until SIGTERM."""
    parser = argparse.ArgumentParser(prog="serving.venue_process")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent)

    from serving.bootstrap.settings import settings_of
    from serving.logs import start_logging

    plan = load_plan(arguments.plan)
    settings = settings_of(plan)
    start_logging(settings, "venue")
    try:
        asyncio.run(serve(plan, settings))
    except ConclaveError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


async def serve(plan: RunPlan, settings: Settings) -> None:
    """Serve until somebody asks to leave."""
    from serving.venue_faults import read_schedule
    from serving.venue_time import venue_clock
    from sim.venue.faults.running import Faults
    from sim.venue.market import Markets
    from sim.venue.server import serving
    from sim.worlds import DemoSource

    assert plan.venue is not None
    clock = venue_clock(plan.venue, plan.speed)
    demo = DemoSource(settings.data.symbols, settings.data.timeframe, plan.seed)
    name = f"demo-{plan.seed}"
    markets = Markets(dict(demo.worlds), clock, seed=plan.seed, name=name)
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    wall, faults = SystemClock().now, None
    if settings.feed.faults is not None:
        faults = Faults(wall, clock.now, read_schedule(settings.feed.faults))
    async with serving(markets, wall, port=plan.venue.port, faults=faults):
        for error in () if faults is None else faults.in_vain():
            log.warning("fault_in_vain", why=str(error))
        await leave.wait()


if __name__ == "__main__":
    main()
