"""A whole system of its own to measure: started, waited for, taken down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import psutil

PATIENCE_SECONDS = 900.0  # a start beside other work
NOBODY = "EXCHANGE_URL=http://127.0.0.1:9"  # a setting: the local exchange is the market then


class System(Protocol):
    """A running system: its files, its address, its processes."""

    @property
    def folder(self) -> Path:
        """VAR_DIR."""
        ...

    @property
    def url(self) -> str:
        """Where the API answers."""
        ...

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this run, whoever started them."""
        ...


@dataclass(slots=True)
class Live:
    """A running system.

    Attributes
    ----------
    api_s, live_s : seconds from the start until the API answered, and until the desk was live.
    stop_s : seconds that ending took, once it has ended.
    """

    folder: Path
    url: str
    api_s: float
    live_s: float
    stop_s: float = 0.0

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this run, whoever started them."""
        return processes_of(self.folder)

    def cpu(self) -> dict[int, float]:
        """Return the CPU seconds of every process so far, by pid."""
        found = {}
        for process in self.processes():
            try:
                found[process.pid] = cpu_of(process)
            except psutil.Error:
                continue
        return found

    def memory(self) -> int:
        """Return the proportional set size (PSS) of all processes, bytes."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total

    def cpu_since(self, before: Mapping[int, float]) -> float:
        """Return the CPU seconds that all processes used since :meth:`cpu`."""
        return sum(now - before.get(pid, 0.0) for pid, now in self.cpu().items())


@contextmanager
def live_system(
    *flags: str, settings: Sequence[str] = (), tree: Path | None = None
) -> Iterator[Live]:
    """Start ``conclave up`` in a folder of its own, on free ports; ends with the context.

    Parameters
    ----------
    settings : ``NAME=VALUE``, each passed by ``--set``.
    tree : the checkout whose code runs; None = this one.
    """
    sets = [word for text in settings for word in ("--set", text)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {**os.environ, "VAR_DIR": name, "API_PORT": "0", "RAY_DASHBOARD_PORT": "0"}
        if tree is not None:
            env["PYTHONPATH"] = str(tree)
        began = time.monotonic()
        with (folder / "up.out").open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "up", *flags, *sets],
                env=env, stdout=sink, stderr=sink, cwd=tree,
            )  # fmt: skip
        system = Live(folder, "", 0.0, 0.0)
        try:
            _wait(system, process, began)
            yield system
        finally:
            process.send_signal(signal.SIGINT)
            stopped = time.monotonic()
            process.wait(60)
            system.stop_s = time.monotonic() - stopped


def _wait(system: Live, process: subprocess.Popen[bytes], began: float) -> None:
    while time.monotonic() - began < PATIENCE_SECONDS:
        if process.poll() is not None:
            raise SystemExit((system.folder / "up.out").read_text())
        try:
            plan = json.loads((system.folder / "run.json").read_text())
            system.url = f"http://{plan['host']}:{plan['port']}"
            body = httpx.get(f"{system.url}/health/ready").json()
            system.api_s = system.api_s or time.monotonic() - began
            if body.get("phase") == "live":
                system.live_s = time.monotonic() - began
                return
        except (OSError, ValueError, httpx.HTTPError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"not live after {PATIENCE_SECONDS:.0f} s")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that have this VAR_DIR."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("VAR_DIR") == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)
