"""How a live broker stands with its exchange, beside what its desk tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from execution.adapters.breaker import Reach
from execution.adapters.user_stream import StreamHealth
from serving.desk import Progress


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """What whoever asks and whoever listens keep up to date, each its own part."""

    venue: Reach
    stream: StreamHealth


@dataclass(slots=True)
class LiveProgress(Progress):
    """What a desk is doing whose orders go to an exchange."""

    broker: BrokerHealth | None = None


def progress_of(pid: int, health: BrokerHealth | None) -> Progress:
    """Return what a desk says of itself when it begins; without a health it trades on paper."""
    if health is None:
        return Progress(pid=pid)
    return LiveProgress(pid=pid, execution="live", broker=health)
