"""The process that holds the Ray head and deploys the Serve application; restarted by ``up``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from serving.plan import load_plan
from serving.processes import die_with_parent


def main(argv: list[str] | None = None) -> None:
    """Start Ray and Serve on loopback, wait for SIGTERM, take both down."""
    parser = argparse.ArgumentParser(prog="serving.ray_host")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent)

    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())

    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from serving.app import APP_NAME, BuildArgs, build
    from serving.bootstrap.settings import settings_of

    plan = load_plan(arguments.plan)
    settings = settings_of(plan)
    ray.init(
        address="local",
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=plan.ray_dashboard_port,
        object_store_memory=settings.serving.object_store_mb * 1024 * 1024,
        log_to_driver=False,
        namespace=APP_NAME,
    )
    try:
        serve.start(http_options=HTTPOptions(host=plan.host, port=plan.port))
        app = build(BuildArgs(plan=str(arguments.plan)))
        serve.run(app, name=APP_NAME, route_prefix="/")
        while not leave.wait(0.5):
            if not ray.is_initialized():
                sys.exit(1)
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
