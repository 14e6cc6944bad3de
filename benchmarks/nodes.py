"""Several Ray nodes on this machine, each a tree of processes of its own that can be lost whole.

The application runs on two workers beside a head without CPUs; the desk runs apart. Given a Redis
the head keeps there what it must know, so that it may be lost and started again.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.live import processes_of

ROOT = Path(__file__).resolve().parents[1]
LIGHT = "climatology,technical,baseline,risk"
WHOLE = {"council": 2, "baseline": 2, "risk": 2}
PATIENCE_SECONDS = 240.0
START_SECONDS, STOP_SECONDS = 90.0, 30.0

DRIVER = """
import sys

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from serving.app import BuildArgs, build

ray.init(address=sys.argv[1], namespace="conclave", log_to_driver=False)
place = {"host": "127.0.0.1", "port": int(sys.argv[2])}  # every proxy listens there
serve.start(proxy_location="EveryNode", http_options=HTTPOptions(**place))
args = BuildArgs(source="demo", remote=["baseline", "risk"], agent_cpus=0.1, replicas=2)
serve.run(build(args), name="conclave", route_prefix="/")
"""


@dataclass(slots=True)
class Nodes:
    """A head and workers with the application on them, and a desk.

    Attributes
    ----------
    folder : VAR_DIR of all of them.
    port : of the API, on every node.
    redis : port of the Redis in which the head keeps its tables, None without one.
    """

    folder: Path
    port: int
    redis: int | None = None
    speed: str = "60"
    head: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    # Short, as sockets' paths must be; not Ray's own, in which the machine's cluster is noted.
    _ray_folder: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="ray"))
    _gcs: int = field(default_factory=lambda: free_port())
    _started: int = 0
    _desk: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process here."""
        more = {} if self.redis is None else {"RAY_REDIS_ADDRESS": f"127.0.0.1:{self.redis}"}
        return {
            **os.environ, "VAR_DIR": str(self.folder), "SOURCE": "demo", "API_TOKEN": "a" * 32,
            "CONCLAVE_MODELS__AGENTS": LIGHT, "RAY_USAGE_STATS_ENABLED": "0",
            "CONCLAVE_WARM_UP_DAYS": "7", "CONCLAVE_RATE_SIGNALS": "0", "SERVE_URL": self.url,
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32,
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.proxy_replies.middlewares",
            **more,
        }  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this run, whoever started them."""
        return processes_of(self.folder)

    def start_head(self) -> None:
        """Start the head, or start it again where it was."""
        # Noted there by a head that was killed: Ray would take it for one that runs.
        Path(self._ray_folder, "ray_current_cluster").unlink(missing_ok=True)
        flags = ("--head", f"--port={self._gcs}", "--num-cpus=0", "--include-dashboard=false",
                 f"--temp-dir={self._ray_folder}")  # fmt: skip
        self.head = self._ray(*flags, f"--ray-client-server-port={free_port()}")

    def start_worker(self) -> None:
        """Add a node."""
        self.workers.append(self._ray(f"--address=127.0.0.1:{self._gcs}", "--num-cpus=2"))

    def lose_head(self) -> None:
        """Kill −9 everything on the head's node."""
        assert self.head is not None
        lose(self.head)

    def lose_worker(self) -> None:
        """Kill −9 everything on the newest worker's node."""
        lose(self.workers.pop())

    def deploy(self) -> None:
        """Put the application on the nodes, and start the desk."""
        driver = [sys.executable, "-c", DRIVER, f"127.0.0.1:{self._gcs}", str(self.port)]
        with self._log("driver").open("ab") as sink:
            done = subprocess.run(
                driver, env=self.env, cwd=ROOT, stdout=sink, stderr=sink,
                timeout=PATIENCE_SECONDS, check=False,
            )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"the application did not start; see {self._log('driver')}")
        desk = [sys.executable, "-m", "serving.cli", "desk", "--speed", self.speed]
        with self._log("desk").open("ab") as sink:
            self._desk = subprocess.Popen(desk, env=self.env, cwd=ROOT, stdout=sink, stderr=sink)

    def places(self) -> dict[str, int]:
        """Return on how many nodes each deployment has a running replica."""
        found: dict[str, set[int]] = {name: set() for name in WHOLE}
        for process in self.processes():
            with suppress(psutil.Error):
                words = " ".join(process.cmdline()).rpartition("ServeReplica:conclave:")[2]
                name = words.partition(".")[0].strip()  # behind it a call under way, or padding
                if name in found:
                    found[name].add(process.ppid())  # the raylet of its node
        return {name: len(raylets) for name, raylets in found.items()}

    def ready(self) -> Nodes:
        """Wait until everything is in place and the desk hears the agents through Serve."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._served() or self.places() != WHOLE:
            if time.monotonic() > end or (self._desk is not None and self._desk.poll() is not None):
                raise SystemExit(f"no cluster within {PATIENCE_SECONDS:.0f} s; see {self.folder}")
            time.sleep(0.5)
        return self

    def stop(self) -> int | None:
        """End everything, the desk first; return the desk's exit code."""
        code = None
        if self._desk is not None:
            self._desk.send_signal(signal.SIGTERM)
            code = self._desk.wait(STOP_SECONDS)
        for process in (*self.workers, self.head):
            if process is not None:
                lose(process)
        shutil.rmtree(self._ray_folder, ignore_errors=True)
        return code

    def _served(self) -> bool:
        with suppress(httpx.HTTPError, ValueError, KeyError):
            desk = httpx.get(f"{self.url}/v1/system/health", timeout=5.0).json()["desk"]
            return bool(desk["via"] == "serve" and desk["phase"] == "live")
        return False

    def _ray(self, *flags: str) -> subprocess.Popen[bytes]:
        common = ("--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000",
                  "--node-ip-address=127.0.0.1", "--dashboard-agent-listen-port=0",
                  "--disable-usage-stats", "--block")  # fmt: skip
        self._started += 1
        log = self._log(f"node-{self._started}")
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *flags, *common],
                env=self.env, cwd=ROOT, stdout=sink, stderr=sink, start_new_session=True,
            )  # fmt: skip
        # One by one: nodes that start together on one machine take each other's sockets.
        until = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                lose(process)
                raise SystemExit(f"a node did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        return process

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.out"


def lose(process: subprocess.Popen[bytes]) -> None:
    """Kill −9 a process that has not ended, and everything that it started."""
    if process.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
        for one in (psutil.Process(process.pid), *tree):
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait(STOP_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a Redis of one's own; yields its port."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    process = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def has_redis() -> bool:
    """Whether this machine can run a Redis."""
    return shutil.which("redis-server") is not None


@contextmanager
def three_nodes(folder: Path, *, redis: bool = False, speed: str = "60") -> Iterator[Nodes]:
    """Start a head, two workers, the application and a desk; ends with the context."""
    with ExitStack() as stack:
        port = stack.enter_context(redis_server(folder)) if redis else None
        nodes = Nodes(folder, free_port(), port, speed)
        stack.callback(nodes.stop)
        nodes.start_head()
        for _ in range(2):
            nodes.start_worker()
        nodes.deploy()
        yield nodes.ready()
