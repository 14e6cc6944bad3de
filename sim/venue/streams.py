"""The venue's WebSockets: subscriptions, and every print told to whoever asked for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from domain.errors import DataRefused
from domain.market import Market
from sim.venue.lines import GOING_AWAY, Laid, Listener, converse, straight
from sim.venue.market import Markets
from sim.venue.messages import KINDS, Stream, said, stream_of

_MOST_STREAMS = 1_024  # of one connection
# Of perpetuals one address tells books, another all else; one that names neither tells books.
# https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Important-WebSocket-Change-Notice
_BOOKS = frozenset(("depth", "bookTicker", "trade"))
_PREFIXES: dict[str, tuple[Market, frozenset[str]]] = {
    "": ("spot", KINDS),
    "/fstream": ("perp", _BOOKS),
    "/fstream/public": ("perp", _BOOKS),
    "/fstream/market": ("perp", KINDS - _BOOKS),
}


class _Public(Listener):
    """One connection and what it wants to hear.

    Parameters
    ----------
    kinds : of streams that are told at its address.
    """

    def __init__(self, market: Market, kinds: frozenset[str], combined: bool) -> None:
        super().__init__(market, combined)
        self.kinds = kinds
        self.streams: dict[str, Stream] = {}

    def names(self) -> list[str]:
        return list(self.streams)


class Streams:
    """All connections, and the pump that tells them of every print in its turn.

    No print is left out: where the machine is late, they come late.
    """

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._listeners: set[_Public] = set()
        self.laid: Laid = straight
        self._broken: set[str] = set()  # names of streams that could not be told
        self._pump: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of both markets."""
        found = []
        for prefix, (market, kinds) in _PREFIXES.items():
            found += [
                web.get(f"{prefix}/ws", self._single(market, kinds)),
                web.get(f"{prefix}/ws/{{names:.+}}", self._single(market, kinds)),
                web.get(f"{prefix}/stream", self._combined(market, kinds)),
            ]
        return found

    async def run(self, app: web.Application) -> Any:
        """Pump for as long as the server lives (an aiohttp clean-up context)."""
        del app
        self._pump = asyncio.create_task(self._tell_all())
        yield
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump

    async def close(self, app: web.Application) -> None:
        """Tell everybody that the server goes away."""
        del app
        for listener in self._listeners:
            listener.end(GOING_AWAY)

    async def _tell_all(self) -> None:
        clock, step_ms = self._markets.clock, self._markets.step_ms
        next_at = (clock.now() // step_ms + 1) * step_ms
        while True:
            wait_ms = (next_at - clock.now()) / max(clock.speed, 1e-9)
            await asyncio.sleep(min(max(wait_ms / 1000.0, 0.0), 1.0))
            if clock.now() < next_at:
                continue
            self._tell_of(next_at)
            next_at += step_ms
            await asyncio.sleep(0)  # whoever asks or listens gets a turn, however late this is

    def _tell_of(self, at: int) -> None:
        told: dict[tuple[Market, str], list[str]] = {}
        for listener in list(self._listeners):
            for name, stream in listener.streams.items():
                key = (listener.market, name)
                if key not in told:
                    told[key] = self._said(stream, at)
                for body in told[key]:
                    listener.tell(name, body)

    def _said(self, stream: Stream, at: int) -> list[str]:
        try:
            bodies = said(stream, self._markets, at)
        except DataRefused:  # a bar that began before the market did
            return []
        except Exception:  # one stream's fault must not end all of them
            if stream.name not in self._broken:
                self._broken.add(stream.name)
                logging.getLogger(__name__).exception("no words for the stream %s", stream.name)
            return []
        return [json.dumps(body, separators=(",", ":")) for body in bodies]

    def _single(self, market: Market, kinds: frozenset[str]) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            names = [name for name in request.match_info.get("names", "").split("/") if name]
            return await self._serve(request, _Public(market, kinds, combined=False), names)

        return handle

    def _combined(self, market: Market, kinds: frozenset[str]) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            names = [name for name in request.query.get("streams", "").split("/") if name]
            return await self._serve(request, _Public(market, kinds, combined=True), names)

        return handle

    async def _serve(
        self, request: web.Request, listener: _Public, names: Iterable[str]
    ) -> web.StreamResponse:
        self._subscribe(listener, names)

        return await converse(
            request, listener, lambda text: json.dumps(self._answer(listener, text)), self.laid,
            lambda: self._listeners.add(listener), lambda: self._listeners.discard(listener),
        )  # fmt: skip

    def _subscribe(self, listener: _Public, names: Iterable[str]) -> None:
        # a name that is no stream, or is told elsewhere, is silent, as on the exchange
        for name in names:
            stream = stream_of(name, listener.market, self._markets)
            told = stream is not None and stream.kind in listener.kinds
            if stream is not None and told and len(listener.streams) < _MOST_STREAMS:
                listener.streams[name] = stream

    def _answer(self, listener: _Public, text: str) -> Any:
        try:
            asked = json.loads(text)
            method, number = asked["method"], asked.get("id")
            names = asked.get("params", [])
        except (ValueError, KeyError, TypeError, AttributeError):
            return {"error": {"code": 3, "msg": "Invalid JSON: expected an object with a method"}}
        if method == "SUBSCRIBE" and isinstance(names, list):
            self._subscribe(listener, [str(name) for name in names])
        elif method == "UNSUBSCRIBE" and isinstance(names, list):
            for name in names:
                listener.streams.pop(str(name), None)
        elif method == "LIST_SUBSCRIPTIONS":
            return {"result": sorted(listener.streams), "id": number}
        else:
            return {"error": {"code": 2, "msg": "Invalid request: unknown method"}, "id": number}
        return {"result": None, "id": number}
