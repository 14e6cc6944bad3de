"""A Ray cluster of one node for tests, and trainings that are submitted to it as jobs."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from serving.processes import choose_port, stop

_RAY = Path(sys.executable).with_name("ray")
_SECONDS = 500.0


@dataclass(frozen=True, slots=True)
class RayCluster:
    """What a client of the cluster needs.

    Attributes
    ----------
    env : its address and token, beside the process's own environment.
    """

    env: Mapping[str, str]

    def train(self, root: Path, *words: str | Path) -> tuple[int, str]:
        """Submit ``conclave train`` with VAR_DIR ``root`` and wait; returns exit code and log."""
        return self._job("submit", *_CPU, "--", *_train(root, *words))

    def begin(self, job: str, root: Path, *words: str | Path) -> None:
        """Submit the same under a name of its own, and do not wait."""
        flags = ("--submission-id", job, "--no-wait", *_CPU)
        code, told = self._job("submit", *flags, "--", *_train(root, *words))
        assert code == 0, told

    def stop(self, job: str) -> str:
        """Stop a job as people do; returns what is said once it has stopped."""
        return self._job("stop", job)[1]

    def log(self, job: str) -> str:
        """What a job has printed."""
        return self._job("logs", job)[1]

    def _job(self, verb: str, *words: str | Path) -> tuple[int, str]:
        done = subprocess.run(
            [_RAY, "job", verb, *words], capture_output=True, text=True,
            env={**os.environ, **self.env}, timeout=_SECONDS, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


_CPU = ("--entrypoint-num-cpus", "1")


def _train(root: Path, *words: str | Path) -> tuple[str, ...]:
    told = ("--set", f"VAR_DIR={root}", "--set", f"TRIALS_LOG={root / 'trials.csv'}")
    return ("conclave", "train", *map(str, words), *told)


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a cluster with its dashboard, on ports and in a folder of its own; stop it at the end.

    The folder's name is short: sockets lie deep inside.
    """
    port, dashboard = (choose_port("127.0.0.1", 0, "port") for _ in range(2))
    env = {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
        "PATH": f"{_RAY.parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [_RAY, "start", "--head", "--block", "--port", str(port), "--num-cpus", "2",
             "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard),
             "--object-store-memory", str(200 * 2**20), "--temp-dir", folder,
             "--disable-usage-stats"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **env},
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{dashboard}"
            _wait_until_it_answers(address, env["RAY_AUTH_TOKEN"])
            yield RayCluster({**env, "RAY_API_SERVER_ADDRESS": address})
        finally:
            stop(head, 30)


def _wait_until_it_answers(address: str, token: str) -> None:
    for _ in range(240):
        try:
            headers = {"Authorization": f"Bearer {token}"}
            if httpx.get(f"{address}/api/version", headers=headers).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(address)
