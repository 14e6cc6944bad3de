"""The venue as a server on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from domain.errors import ServiceUnreachable
from sim.venue.market import Markets
from sim.venue.rest import routes
from sim.venue.streams import Streams


def application(markets: Markets, wall: Callable[[], int]) -> web.Application:
    """Return the server's application.

    Parameters
    ----------
    wall : ms, for the limits on requests.
    """
    app, streams = web.Application(), Streams(markets)
    app.add_routes(routes(markets, wall))
    app.add_routes(streams.routes())
    app.cleanup_ctx.append(streams.run)
    app.on_shutdown.append(streams.close)
    return app


@asynccontextmanager
async def serving(
    markets: Markets, wall: Callable[[], int], host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """Serve for as long as the block lasts; yields the port.

    Raises
    ------
    ServiceUnreachable : if the port is taken.
    """
    runner = web.AppRunner(application(markets, wall), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ServiceUnreachable(
                "venue", "needs a free port", f"{host}:{port}", "Give another one with --port."
            ) from error
        assert runner.addresses
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def for_ever() -> None:
    """Wait until the task is cancelled."""
    await asyncio.Event().wait()
