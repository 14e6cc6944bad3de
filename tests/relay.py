"""What stands between a feed and the venue, and spoils what passes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

Relay = Callable[[int, ServerConnection, str], Awaitable[bool]]
"""(connection number, who listens, message) → whether the line goes on."""


async def between(source_url: str, relay: Relay, port: int) -> None:
    """Pass on what a stream says as long as the relay lets it."""
    count = 0

    async def handle(listener: ServerConnection) -> None:
        nonlocal count
        count += 1
        number = count
        async with connect(source_url, max_queue=None) as source:
            async for message in source:
                if not await relay(number, listener, str(message)):
                    listener.transport.abort()
                    return

    async with serve(handle, "127.0.0.1", port):
        await asyncio.Event().wait()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
