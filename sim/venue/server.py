"""The venue as a server on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from domain.errors import ServiceUnreachable
from sim.venue.faults.running import Faults
from sim.venue.faults.wiring import attach, reach_of
from sim.venue.market import Markets
from sim.venue.positions import POSITIONS
from sim.venue.rest import limits, routes, unknown
from sim.venue.streams import Streams
from sim.venue.trading import Trading
from sim.venue.trading_perp import PERP_ORDERS
from sim.venue.trading_spot import SPOT


def application(
    markets: Markets, wall: Callable[[], int], trading: Trading | None = None,
    faults: Faults | None = None,
) -> web.Application:  # fmt: skip
    """Return the server's application.

    Parameters
    ----------
    wall : ms, for the limits on requests.
    trading : accounts and their orders; None = market data only.
    faults : what goes wrong, which may be asked for under ``/admin/faults``; None = nothing does.
    """
    app, streams, weights = web.Application(), Streams(markets), limits(wall)
    if faults is not None:
        attach(app, faults, markets, streams, trading)
    app.middlewares.append(unknown(wall))
    app.add_routes(routes(markets, weights))
    if trading is not None:
        app.add_routes(trading.routes("spot", SPOT, weights["spot"]))
        app.add_routes(trading.routes("perp", {**PERP_ORDERS, **POSITIONS}, weights["perp"]))
        app.add_routes(trading.users.routes())
        app.cleanup_ctx.append(trading.run)
    app.add_routes(streams.routes())
    app.cleanup_ctx.append(streams.run)
    app.on_shutdown.append(streams.close)
    if faults is not None:
        faults.reach = reach_of(app, markets, trading)
    return app


@asynccontextmanager
async def serving(
    markets: Markets, wall: Callable[[], int], host: str = "127.0.0.1", port: int = 0,
    trading: Trading | None = None, faults: Faults | None = None,
) -> AsyncIterator[int]:  # fmt: skip
    """Serve for as long as the block lasts; yields the port.

    Raises
    ------
    ServiceUnreachable : if the port is taken.
    """
    runner = web.AppRunner(application(markets, wall, trading, faults), access_log=None)
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
