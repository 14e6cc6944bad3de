"""What the processes of a run have in common: token, deadline, memories, a name for a lease."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable

from data.memory import MarketMemory
from domain.ports import BookSource
from domain.times import timeframe_ms
from serving.auth import token_of
from serving.plan import RunPlan
from serving.settings import Settings


def api_token(settings: Settings) -> str:
    """Return the API's token, making one in VAR_DIR if none is configured."""
    configured = settings.serving.api_token
    return token_of(
        settings.data.var_dir, None if configured is None else configured.get_secret_value()
    )


def deadline(plan: RunPlan, settings: Settings) -> float:
    """Return how long the agents have, wall-clock seconds: min(2 s, a quarter of a bar)."""
    if plan.speed is None:
        return settings.serving.agent_deadline_s
    bar = timeframe_ms(settings.data.timeframe) / 1000.0 / plan.speed
    return min(settings.serving.agent_deadline_s, bar / 4.0)


def memories_of(
    symbols: Iterable[str], timeframe: str, books: BookSource | None
) -> dict[str, MarketMemory]:
    """Return an empty memory for every symbol; ``books`` is what agents are shown."""
    return {symbol: MarketMemory(symbol, timeframe, books=books) for symbol in symbols}


def owner() -> str:
    """Return a name for whoever takes a lease, another at each start."""
    # Two containers may both be pid 1: host and chance tell them apart.
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
