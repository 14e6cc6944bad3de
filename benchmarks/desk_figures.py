"""What a running desk tells of its own speed at ``/metrics``, and the memory of its run."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import httpx

from benchmarks.live import Live

_SAMPLE = re.compile(r"^(conclave_\w+?)(?:\{(.*)\})? (\S+)$")


class Told(NamedTuple):
    """Decisions on bars, their seconds, how many took no longer than each edge; degraded ones."""

    decisions: float
    seconds: float
    below: dict[float, float]
    degraded: float

    def since(self, before: Told) -> Told:
        """Return what came after ``before``."""
        below = {edge: count - before.below.get(edge, 0.0) for edge, count in self.below.items()}
        return Told(
            self.decisions - before.decisions, self.seconds - before.seconds, below,
            self.degraded - before.degraded,
        )  # fmt: skip

    def mean_ms(self) -> float:
        """Return the mean milliseconds from an instant's bars to a decision stored."""
        return 1e3 * self.seconds / self.decisions

    def within_ms(self, share: float) -> str:
        """Return the smallest edge in ms that so large a share did not exceed, in words."""
        wanted = share * self.decisions
        edges = sorted(edge for edge in self.below if math.isfinite(edge))
        found = next((edge for edge in edges if self.below[edge] >= wanted), None)
        return f"over {1e3 * edges[-1]:.0f}" if found is None else f"{1e3 * found:.0f}"


def told_by(system: Live) -> Told:
    """Read the desk's figures."""
    reply = httpx.get(f"{system.url}/metrics", timeout=30)
    reply.raise_for_status()
    count = seconds = degraded = 0.0
    below: dict[float, float] = {}
    for line in reply.text.splitlines():
        found = _SAMPLE.match(line)
        if found is None:
            continue
        name, labels, value = found[1], found[2] or "", float(found[3])
        if name == "conclave_decision_seconds_count":
            count = value
        elif name == "conclave_decision_seconds_sum":
            seconds = value
        elif name == "conclave_decision_seconds_bucket":
            below[float(labels.removeprefix('le="').rstrip('"'))] = value
        elif name == "conclave_decision_degraded_total":
            degraded += value
    return Told(count, seconds, below, degraded)


def memory_of(system: Live) -> float:
    """Return the MiB of a run, what processes share counted once."""
    return system.memory() / 2**20
