"""Desk and API in the one process of ``conclave up --local``, without Ray."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from agents.host import threaded
from serving.api import create_api
from serving.beside import Beside
from serving.bootstrap.agents import live_agents
from serving.bootstrap.desk import build_desk
from serving.bootstrap.service import council_service
from serving.http_server import http_server
from serving.plan import RunPlan
from serving.promotion import Refresher
from serving.settings import Settings


async def run_here(plan: RunPlan, settings: Settings, tick: Callable[[], None]) -> int:
    """Run until the desk has finished or is asked to leave; return the exit code.

    Parameters
    ----------
    tick : looks after the screen and the accounting; called twice a second, in a thread.
    """
    desk = build_desk(plan, settings)
    mine = live_agents(settings, plan=plan)
    agents = {name: threaded(agent) for name, agent in mine.items()}
    app = create_api(council_service(plan, settings, agents))
    server = http_server(app, plan.host, plan.port, settings.serving.patience_s)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, desk.leave.set)
    serving = asyncio.create_task(server._serve())
    watching = asyncio.create_task(_watch(tick))
    try:
        with Refresher(mine.values()), Beside(plan, settings):
            await desk.run()
    finally:
        watching.cancel()
        server.should_exit = True
        await serving
    return 0 if desk.progress.phase == "finished" else 130


async def _watch(tick: Callable[[], None]) -> None:
    while True:
        await asyncio.to_thread(tick)
        await asyncio.sleep(0.5)
