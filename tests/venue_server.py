"""A venue on this machine for tests: in a thread, with what goes wrong as a middleware."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from aiohttp import web

from sim.venue.accounts import Account, Ledger
from sim.venue.faults.running import Faults as Running
from sim.venue.market import Markets, VenueClock
from sim.venue.server import application
from sim.venue.signing import Key
from sim.venue.trading import Passage, Trading, straight
from sim.worlds import DemoMarket, World

BTC, ETH = "BTC/USDT", "ETH/USDT"
DAYS = 40
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def wall() -> int:
    """Return the time in ms."""
    return time.time_ns() // 1_000_000


@dataclass
class Faults:
    """What goes wrong with the next requests: HTTP statuses, 0 = the line is cut.

    Attributes
    ----------
    silent_s : for so long every request is held, and then its line is cut.
    lacks : a path that it does not have, as an exchange without that offer.
    """

    next: list[int] = field(default_factory=list)
    silent_s: float = 0.0
    lacks: str = ""
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
    at: int = 0, accounts: Trading | None = None, struck: Running | None = None,
) -> Iterator[str]:  # fmt: skip
    """Serve while the block lasts, at a port or any free one; yields the address.

    ``faults`` are of the next requests, by count; ``struck`` is the venue's own.
    """
    trouble = faults or Faults()

    @web.middleware
    async def troubled(request: web.Request, handler: Handler) -> web.StreamResponse:
        trouble.seen.append(request.path_qs)
        if request.path == trouble.lacks:
            return web.json_response({"code": -1020, "msg": "no such operation"}, status=404)
        if trouble.silent_s:
            await asyncio.sleep(trouble.silent_s)
        if trouble.next or trouble.silent_s:
            status = trouble.next.pop(0) if trouble.next else 0
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            elif status != 200:
                return web.json_response({"code": -1000, "msg": "trouble"}, status=status,
                                         headers=trouble.headers)  # fmt: skip
        return await handler(request)

    app = application(made or markets(), now, accounts, struck)
    app.middlewares.append(troubled)
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), list[int]()
    runner = web.AppRunner(app, access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", at).start()
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


def key_for(account: str = "main", **may: bool) -> Key:
    """Return a key of an account of the tests."""
    return Key.made(7, account, **may)


def trading(
    made: Markets, balances: Mapping[str, str] = MappingProxyType({"USDT": "100000", "BTC": "1"}),
    now: Callable[[], int] = wall, keys: tuple[Key, ...] = (), passage: Passage = straight,
) -> Trading:  # fmt: skip
    """Return accounts for a venue; each key's has the same balances."""
    known = keys or (key_for(),)
    amounts = {asset: Decimal(amount) for asset, amount in balances.items()}
    accounts = {key.account: Account.funded(key.account, amounts, ["USDT"]) for key in known}
    return Trading(made, Ledger(accounts), known, now, passage)
