"""A venue on this machine for tests: in a thread, with what goes wrong as a middleware."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from sim.venue.market import Markets, VenueClock
from sim.venue.server import application
from sim.venue.trading import Trading
from sim.worlds import DemoMarket, World

BTC, ETH = "BTC/USDT", "ETH/USDT"
DAYS = 40
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def wall() -> int:
    """Return the time in ms."""
    return time.time_ns() // 1_000_000


@dataclass
class Faults:
    """What goes wrong with the next requests: HTTP statuses, 0 = the line is cut."""

    next: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


def markets(days: int = DAYS, now: Callable[[], int] = wall, speed: float = 0.0) -> Markets:
    """Return two pairs of the simulated market, ``days`` after its first bar.

    At speed 0 time stands still.
    """
    worlds: dict[str, World] = {name: DemoMarket(7, name) for name in (BTC, ETH)}
    start = DemoMarket().start_ms + days * 86_400_000 + 123_456
    return Markets(worlds, VenueClock(start, now, speed), seed=7)


@contextmanager
def venue(
    faults: Faults | None = None, made: Markets | None = None, now: Callable[[], int] = wall,
    trading: Trading | None = None,
) -> Iterator[str]:  # fmt: skip
    """Serve while the block lasts; yields the address."""
    trouble = faults or Faults()

    @web.middleware
    async def troubled(request: web.Request, handler: Handler) -> web.StreamResponse:
        trouble.seen.append(request.path_qs)
        if trouble.next:
            status = trouble.next.pop(0)
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            elif status != 200:
                return web.json_response({"code": -1000, "msg": "trouble"}, status=status,
                                         headers=trouble.headers)  # fmt: skip
        return await handler(request)

    app = application(made or markets(), now, trading)
    app.middlewares.append(troubled)
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), list[int]()
    runner = web.AppRunner(app, access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.append(runner.addresses[0][1])
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
