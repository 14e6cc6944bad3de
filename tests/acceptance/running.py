"""A real ``conclave up`` for tests: started as a user would, looked at over HTTP, always ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.live import processes_of
from tests.command_line import COUNCIL_OF_FOUR

ROOT = Path(__file__).resolve().parents[2]
NO_LIMITS = tuple(  # one test asks more than a person would
    word for kind in ("reads", "signals", "writes") for word in ("--set", f"serving.rate_{kind}=0")
)
NO_EXCHANGE = {"SOURCE": "auto", "EXCHANGE_URL": "http://127.0.0.1:9"}  # nobody answers there
LIGHT_COUNCIL = {"CONCLAVE_MODELS__AGENTS": COUNCIL_OF_FOUR}  # a start without PyTorch is quick


@dataclass
class Running:
    """A started system and its VAR_DIR."""

    process: subprocess.Popen[bytes]
    var_dir: Path
    output: Path

    @property
    def folder(self) -> Path:
        """VAR_DIR, as whoever breaks it asks for it."""
        return self.var_dir

    @property
    def plan(self) -> dict[str, Any]:
        return dict(json.loads((self.var_dir / "run.json").read_text()))

    @property
    def url(self) -> str:
        return f"http://{self.plan['host']}:{self.plan['port']}"

    @property
    def token(self) -> str:
        return (self.var_dir / "api_token").read_text().strip()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=15.0)

    def authorised(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, timeout=15.0, headers=headers)

    def until(self, seconds: float, seen: Any, what: str) -> Any:
        """Poll ``seen()`` until it returns something true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := seen():
                    return found
            except (httpx.HTTPError, OSError, ValueError, KeyError):
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        text = self.output.read_text()[-3000:]
        raise AssertionError(f"no {what} within {seconds} s; output:\n{text}")

    def ready(self, seconds: float = 300.0) -> Running:
        """Wait until a signal can be asked for."""

        def live() -> bool:
            with self.client() as client:
                body = client.get("/health/ready").json()
            return body.get("phase") == "live"

        self.until(seconds, live, "live system")
        return self

    def processes(self) -> list[psutil.Process]:
        """Every process of this run, Ray's workers included."""
        return processes_of(self.var_dir)

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The replica processes of a deployment."""
        name = f"ServeReplica:conclave:{deployment}"
        return [p for p in self.processes() if name in " ".join(p.cmdline())]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        """End it and return the exit code; fails if it takes longer."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def start(var_dir: Path, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Running:
    """Start ``conclave up`` on free ports with its files under ``var_dir``.

    The market is made in the desk's own process unless ``env`` or a flag says otherwise: whether an
    exchange answers is no business of a test.
    """
    var_dir.mkdir(parents=True, exist_ok=True)
    output = var_dir / "up.out"
    environment = {
        **os.environ, "VAR_DIR": str(var_dir), "API_PORT": "0", "RAY_DASHBOARD_PORT": "0",
        "SOURCE": "demo", **LIGHT_COUNCIL, **(env or {}),
    }  # fmt: skip
    with output.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", "up", *arguments],
            stdout=sink, stderr=subprocess.STDOUT, env=environment, cwd=ROOT,
        )  # fmt: skip
    return Running(process, var_dir, output)


def conclave(
    var_dir: Path, *arguments: str, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run one command against the same VAR_DIR."""
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *arguments],
        capture_output=True, text=True, timeout=seconds, cwd=ROOT,
        env={**os.environ, **LIGHT_COUNCIL, "VAR_DIR": str(var_dir)},
    )  # fmt: skip
