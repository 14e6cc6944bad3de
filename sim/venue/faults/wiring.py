"""Where the faults of a venue take hold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aiohttp import web

from domain.market import Market
from sim.venue.faults import admin
from sim.venue.faults.model import Subject
from sim.venue.faults.orders import Troubled
from sim.venue.faults.reach import Reach
from sim.venue.faults.rest import middleware
from sim.venue.faults.running import Faults, Running
from sim.venue.faults.streams import Lines
from sim.venue.market import Listing, Markets
from sim.venue.streams import Streams
from sim.venue.trading import Trading
from sim.venue.user_stream import USER

_MARKETS: tuple[Market, ...] = ("spot", "perp")


def attach(
    app: web.Application, faults: Faults, markets: Markets, streams: Streams,
    trading: Trading | None,
) -> None:  # fmt: skip
    """Let faults strike everything that an application serves, and be asked for."""
    lines = Lines(faults)
    streams.laid = lines.laid
    faults.starters["disconnect"] = lines.cut
    _halt(faults, markets)
    if trading is not None:
        troubled = Troubled(faults, trading.passage)
        trading.passage, trading.exchange.fated = troubled, troubled.fated
        trading.users.laid = lines.laid
        faults.starters["listen_key"] = _expires(faults, trading)

    def whose(key: str) -> str:
        return "" if trading is None else trading.keys.account(key)

    app.middlewares.append(middleware(faults, whose, admin.PATH))
    app.add_routes(admin.routes(faults))
    app.cleanup_ctx.append(faults.run)
    app.on_shutdown.append(faults.leave)


def reach_of(app: web.Application, markets: Markets, trading: Trading | None) -> Reach:
    """Return what faults can strike of an application that has all its routes."""
    paths = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes() if route.resource is not None
    }  # fmt: skip
    return Reach(
        [(listing.market, listing.name) for listing in markets.listings.values()],
        sorted(path for path in paths if admin.PATH not in path),
        [] if trading is None else sorted(trading.exchange.ledger.accounts),
    )


def _halt(faults: Faults, markets: Markets) -> None:
    """Let symbols be halted; where market time says when, to the print."""

    def herald(fault: Running) -> None:
        if fault.fault.clock == "market":
            for listing in _meant(fault, markets):
                markets.halts.begin(listing.key, fault.starts_at, fault.ends_at)

    def start(fault: Running) -> None:
        for listing in _meant(fault, markets):
            faults.note(fault)
            if fault.fault.clock == "wall":
                markets.halts.begin(listing.key, markets.clock.now())

    def end(fault: Running) -> None:
        for listing in _meant(fault, markets):
            markets.halts.end(listing.key, markets.clock.now())

    faults.herald("halt", herald)
    faults.starters["halt"], faults.enders["halt"] = start, end


def _meant(fault: Running, markets: Markets) -> Iterator[Listing]:
    for listing in markets.listings.values():
        if fault.fault.target.covers(Subject(listing.market, listing.name)):
            yield listing


def _expires(faults: Faults, trading: Trading) -> Callable[[Running], None]:
    def expire(fault: Running) -> None:
        for market in _MARKETS:
            for account in trading.exchange.ledger.accounts:
                subject = Subject(market, "", USER, "", account)
                if faults.hits(fault, subject, f"{market} {account}"):
                    ended = trading.users.expire(market, account)
                    for _ in range(ended):
                        faults.note(fault, "keys")

    return expire
