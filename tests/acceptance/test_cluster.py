"""Several nodes: agents spread over them, one is lost under load, and nobody notices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.running import ROOT
from tests.command_line import COUNCIL_OF_FOUR

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(420)]

DRIVER = """
import json
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client
from serving.app import BuildArgs, build

ray.init(address=cluster.address, namespace="conclave", log_to_driver=False)
serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1])))
args = BuildArgs(source="demo", remote=["baseline", "risk"], agent_cpus=0.1, replicas=2)
serve.run(build(args), name="conclave", route_prefix="/")


def places():
    details = _get_global_client().get_serve_details()
    return {
        name: len({each["node_id"] for each in one["replicas"] if each["state"] == "RUNNING"})
        for name, one in details["applications"]["conclave"]["deployments"].items()
    }


for line in sys.stdin:
    if line.strip() == "places":
        print("> " + json.dumps(places()), flush=True)
    elif line.strip() == "kill":
        cluster.remove_node(nodes[1], allow_graceful=False)
        print("> {}", flush=True)
    elif line.strip() == "add":
        cluster.add_node(num_cpus=2)
        print("> {}", flush=True)
    else:
        break
serve.shutdown()
ray.shutdown()
cluster.shutdown()
"""


class Nodes:
    """A head and two workers with the application on them, in a process of their own."""

    def __init__(self, env: dict[str, str], port: int, log: Path) -> None:
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(port)], env=env, cwd=ROOT, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
            )  # fmt: skip

    def ask(self, word: str) -> dict[str, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("> "):  # Ray prints there too
                return dict(json.loads(line[2:]))
        raise AssertionError(f"the nodes are gone: {self.process.wait(10)}")

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("leave\n")
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ, "VAR_DIR": str(tmp_path), "SOURCE": "demo", "API_TOKEN": "a" * 32,
        "CONCLAVE_MODELS__AGENTS": COUNCIL_OF_FOUR, "RAY_USAGE_STATS_ENABLED": "0",
        "CONCLAVE_WARM_UP_DAYS": "7", "CONCLAVE_RATE_SIGNALS": "0",
    }  # fmt: skip


@pytest.fixture
def port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def nodes(env: dict[str, str], port: int, tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(env, port, tmp_path / "nodes.log")
    yield made
    made.stop()


@pytest.fixture
def desk(env: dict[str, str], port: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {**env, "SERVE_URL": f"http://127.0.0.1:{port}"}
    with (tmp_path / "desk.log").open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", "desk"], env=env, cwd=ROOT, stdout=sink,
            stderr=sink,
        )  # fmt: skip
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130


def test_cluster_when_a_node_is_killed_under_load_then_no_signal_is_lost(
    nodes: Nodes, desk: subprocess.Popen[bytes], port: int
) -> None:
    url = f"http://127.0.0.1:{port}"
    client = httpx.Client(base_url=url, timeout=20, headers={"Authorization": f"Bearer {'a' * 32}"})

    def health() -> dict[str, object]:
        try:
            return dict(client.get("/v1/system/health").json()["desk"])
        except (httpx.HTTPError, ValueError, KeyError):
            return {}

    def until(seen: object, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not seen():  # type: ignore[operator]
            assert desk.poll() is None
            assert time.monotonic() < end
            time.sleep(0.5)

    until(lambda: health().get("via") == "serve" and health().get("phase") == "live", 200)
    assert nodes.ask("places") == {"council": 2, "baseline": 2, "risk": 2}

    answers, refused = [], 0
    decided = int(str(health()["decided"]))
    end = time.monotonic() + 30
    killed = False
    while time.monotonic() < end:
        if not killed and end - time.monotonic() < 22:
            nodes.ask("kill")
            killed = True
        reply = client.post("/v1/signals", json={"symbol": "BTC/USDT"})
        if reply.status_code == 503 and "retry-after" in reply.headers:
            refused += 1
            time.sleep(0.2)
            continue
        answers.append(reply.status_code)
        time.sleep(0.05)
    assert set(answers) == {200}
    assert len(answers) > 50
    assert refused <= len(answers) // 10
    until(lambda: int(str(health()["decided"])) > decided + 3, 60)  # bars went on being decided
    until(lambda: health().get("via") == "serve", 60)

    nodes.ask("add")
    until(lambda: nodes.ask("places") == {"council": 2, "baseline": 2, "risk": 2}, 120)


LINE = """
import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve

from agents.host import HandleAgent
from serving.replica import AgentReplica


class Slow:
    def __init__(self):
        self.passes = []

    def opine(self, states):
        self.passes.append(list(states))
        time.sleep(1.0)
        return list(states)


class Replica(AgentReplica):
    def __init__(self):
        self._agent, self._thread = Slow(), ThreadPoolExecutor(1)

    async def passes(self):
        return self._agent.passes


async def scene(handle):
    agent = HandleAgent("slow", handle)
    first = asyncio.ensure_future(agent.opine(["first"]))
    await asyncio.sleep(0.3)
    late = [asyncio.ensure_future(agent.opine([f"late {i}"])) for i in range(4)]
    kept = [asyncio.ensure_future(agent.opine([f"kept {i}"])) for i in range(3)]
    await asyncio.sleep(0.3)
    for one in late:
        one.cancel()
    await asyncio.gather(first, *kept)
    await asyncio.sleep(1.5)
    return await handle.passes.remote()


ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=1)
deployment = serve.deployment(Replica).options(max_ongoing_requests=64, user_config=None)
print(">", asyncio.run(scene(serve.run(deployment.bind()))))
serve.shutdown()
ray.shutdown()
"""


def test_replica_when_questions_wait_then_they_go_together_and_what_is_late_is_not_computed(
    env: dict[str, str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LINE], env=env, cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    [line] = [line for line in done.stdout.splitlines() if line.startswith("> ")] or [done.stderr]
    assert line == "> [['first'], ['kept 0', 'kept 1', 'kept 2']]"
