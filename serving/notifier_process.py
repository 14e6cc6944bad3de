"""The notifier as a process of its own; started and restarted by ``up`` where there is a bot."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from domain.errors import ConclaveError, ServiceUnreachable
from serving.plan import load_plan
from serving.processes import TEMPORARY, die_with_parent


def main(argv: list[str] | None = None) -> None:
    """Run the notifier of a plan until SIGTERM."""
    parser = argparse.ArgumentParser(prog="serving.notifier_process")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent)
    try:
        asyncio.run(_run(arguments.plan))
    except ConclaveError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(TEMPORARY if isinstance(error, ServiceUnreachable) else error.exit_code)


async def _run(path: Path) -> None:
    from serving.bootstrap.settings import settings_of
    from serving.logs import start_logging
    from serving.notifier import build_notifier

    plan = load_plan(path)
    settings = settings_of(plan)
    start_logging(settings, "notifier")
    notifier = build_notifier(plan, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, notifier.leave.set)
    await notifier.run()


if __name__ == "__main__":
    main()
