"""Memory and CPU of the whole system: ``python -m benchmarks.system [--speed 60] [--local]``.

Memory is the proportional set size (PSS) of every process of the run, so that pages shared
between Ray's workers count once. CPU is what they used over the window, as a share of one core.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from operator import itemgetter
from pathlib import Path

import httpx
import psutil


def main() -> None:
    """Start the system, wait until it is live, watch it, print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.system")
    parser.add_argument("--speed", default="60")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "VAR_DIR": folder, "API_PORT": "0", "RAY_DASHBOARD_PORT": "0"}
        flags = ["--speed", arguments.speed] + (["--local"] if arguments.local else [])
        began = time.monotonic()
        with (Path(folder) / "up.out").open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "up", *flags],
                env=env, stdout=sink, stderr=sink,
            )  # fmt: skip
        try:
            api, live = _wait(Path(folder))
            figures: dict[str, object] = {"api_ready_s": api - began, "live_s": live - began}
            time.sleep(5)
            figures |= _watch(folder, arguments.seconds)
        finally:
            process.send_signal(signal.SIGINT)
            stopped = time.monotonic()
            process.wait(60)
        figures["stop_s"] = time.monotonic() - stopped
        print(json.dumps(figures, indent=1))


def _wait(folder: Path) -> tuple[float, float]:
    api = 0.0
    while True:
        try:
            plan = json.loads((folder / "run.json").read_text())
            body = httpx.get(f"http://{plan['host']}:{plan['port']}/health/ready").json()
            api = api or time.monotonic()
            if body.get("phase") == "live":
                return api, time.monotonic()
        except (OSError, ValueError, httpx.HTTPError):
            pass
        time.sleep(0.1)


def _processes(folder: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("VAR_DIR") == folder:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _watch(folder: str, seconds: float) -> dict[str, object]:
    before = {p.pid: _cpu(p) for p in _processes(folder)}
    time.sleep(seconds)
    memory: Counter[str] = Counter()
    cpu: defaultdict[str, float] = defaultdict(float)
    for process in _processes(folder):
        name = _name(process)
        memory[name] += process.memory_full_info().pss // 2**20
        cpu[name] += round(_cpu(process) - before.get(process.pid, 0.0), 2)
    return {
        "pss_mib": sum(memory.values()),
        "cpu_percent_of_a_core": round(100 * sum(cpu.values()) / seconds, 1),
        "pss_by_process_mib": dict(memory.most_common()),
        "cpu_s_by_process": dict(heapq.nlargest(8, cpu.items(), key=itemgetter(1))),
        "seconds": seconds,
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _name(process: psutil.Process) -> str:
    line = process.cmdline()
    text = " ".join(line)
    for known in ("serving.cli", "serving.desk_process", "serving.ray_host"):
        if known in line:
            return known
    if text.startswith("ray::"):
        return text.split()[0]
    for part in ("gcs_server", "raylet", "dashboard", "log_monitor", "monitor.py", "ray-"):
        if part in text:
            return f"ray {part.strip('-')}"
    return Path(line[0]).name if line else str(process.pid)


if __name__ == "__main__":
    main()
