"""How a live broker stands with its exchange, as its desk tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a desk on paper does not wait for an exchange's client
    from execution.adapters.breaker import Reach
    from execution.adapters.user_stream import StreamHealth


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """What whoever asks and whoever listens keep up to date, each its own part."""

    venue: Reach
    stream: StreamHealth
