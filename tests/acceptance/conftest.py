"""One real system on Ray for the whole session; every test that needs Ray shares it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.running import Running, start

SPEED = "150"  # a five-minute bar every two seconds


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """``conclave up`` on the demo market: Ray, Serve, agents, desk, API."""
    var_dir = tmp_path_factory.mktemp("system") / "var"
    running = start(var_dir, ["--speed", SPEED, "--set", "WARM_UP_DAYS=8"])
    try:
        yield running.ready()
    finally:
        running.stop()
