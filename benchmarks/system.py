"""Memory and CPU of the whole system: ``python -m benchmarks.system [--speed 60] [--local]``.

Memory is the proportional set size (PSS) of every process of the run, so that pages shared
between Ray's workers count once. CPU is what they used over the window, as a share of one core.
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
from collections import Counter, defaultdict
from operator import itemgetter
from pathlib import Path

import psutil

from benchmarks.live import Live, cpu_of, live_system


def main() -> None:
    """Start the system, wait until it is live, watch it, print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.system")
    parser.add_argument("--speed", default="60")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    flags = ["--speed", arguments.speed] + (["--local"] if arguments.local else [])
    with live_system(*flags) as system:
        figures: dict[str, object] = {"api_ready_s": system.api_s, "live_s": system.live_s}
        time.sleep(5)
        figures |= _watch(system, arguments.seconds)
    figures["stop_s"] = system.stop_s
    print(json.dumps(figures, indent=1))


def _watch(system: Live, seconds: float) -> dict[str, object]:
    before = system.cpu()
    time.sleep(seconds)
    memory: Counter[str] = Counter()
    cpu: defaultdict[str, float] = defaultdict(float)
    for process in system.processes():
        name = _name(process)
        memory[name] += process.memory_full_info().pss // 2**20
        cpu[name] += round(cpu_of(process) - before.get(process.pid, 0.0), 2)
    return {
        "pss_mib": sum(memory.values()),
        "cpu_percent_of_a_core": round(100 * sum(cpu.values()) / seconds, 1),
        "pss_by_process_mib": dict(memory.most_common()),
        "cpu_s_by_process": dict(heapq.nlargest(8, cpu.items(), key=itemgetter(1))),
        "seconds": seconds,
    }


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
