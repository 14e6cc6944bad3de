"""The venue's WebSockets: subscriptions, and every print told to whoever asked for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Any

from aiohttp import WSMsgType, web

from domain.errors import DataRefused
from domain.market import Market
from sim.venue.market import Markets
from sim.venue.messages import Stream, said, stream_of
from sim.venue.tape import STEP_MS

HEARTBEAT_S = 20.0  # between two pings of the server
_QUEUE = 4_096  # messages that a slow listener may be behind before it is cut off
_MOST_STREAMS = 1_024  # of one connection
GOING_AWAY, TOO_SLOW = 1001, 1008  # codes of a WebSocket's close
_PREFIXES: dict[Market, tuple[str, ...]] = {
    "spot": ("",), "perp": ("/fstream", "/fstream/public", "/fstream/market"),
}  # fmt: skip


class Listener:
    """One connection: what it wants to hear, and what waits to be sent to it."""

    def __init__(self, market: Market, combined: bool) -> None:
        self.market, self.combined = market, combined
        self.streams: dict[str, Stream] = {}
        self.queue: asyncio.Queue[str] = asyncio.Queue(_QUEUE)
        self.closes: int | None = None  # the code with which it is to be cut off

    def tell(self, name: str, body: str) -> None:
        """Queue a message; whoever is too far behind is cut off."""
        self.answer(f'{{"stream":"{name}","data":{body}}}' if self.combined else body)

    def answer(self, text: str) -> None:
        """Queue a text as it is."""
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            self.closes = TOO_SLOW

    def end(self, code: int) -> None:
        """Cut it off after what waits."""
        self.closes = code
        with contextlib.suppress(asyncio.QueueFull):
            self.queue.put_nowait("")

    async def send(self, socket: web.WebSocketResponse) -> None:
        """Send what is queued until it is cut off."""
        while self.closes != TOO_SLOW:
            text = await self.queue.get()
            if not text:
                break
            await socket.send_str(text)
        await socket.close(code=self.closes or GOING_AWAY)


class Streams:
    """All connections, and the pump that tells them of every print in its turn.

    No print is left out: where the machine is late, they come late.
    """

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._listeners: set[Listener] = set()
        self._pump: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of both markets."""
        found = []
        served = [(market, prefix) for market, all_ in _PREFIXES.items() for prefix in all_]
        for market, prefix in served:
            found += [
                web.get(f"{prefix}/ws", self._single(market)),
                web.get(f"{prefix}/ws/{{names:.+}}", self._single(market)),
                web.get(f"{prefix}/stream", self._combined(market)),
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
        clock = self._markets.clock
        next_at = (clock.now() // STEP_MS + 1) * STEP_MS
        while True:
            wait_ms = (next_at - clock.now()) / max(clock.speed, 1e-9)
            await asyncio.sleep(min(max(wait_ms / 1000.0, 0.0), 1.0))
            if clock.now() < next_at:
                continue
            if self._over(next_at):  # the bars are, and with them the market
                for listener in self._listeners:
                    listener.end(GOING_AWAY)
                return
            self._tell_of(next_at)
            next_at += STEP_MS
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
        return [json.dumps(body, separators=(",", ":")) for body in bodies]

    def _over(self, at: int) -> bool:
        ends = self._markets.ends_ms
        return ends is not None and at >= ends

    def _single(self, market: Market) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            names = [name for name in request.match_info.get("names", "").split("/") if name]
            return await self._serve(request, Listener(market, combined=False), names)

        return handle

    def _combined(self, market: Market) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            names = [name for name in request.query.get("streams", "").split("/") if name]
            return await self._serve(request, Listener(market, combined=True), names)

        return handle

    async def _serve(
        self, request: web.Request, listener: Listener, names: Iterable[str]
    ) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S)
        await socket.prepare(request)
        self._subscribe(listener, names)
        self._listeners.add(listener)
        if self._over(self._markets.clock.now()):
            listener.end(GOING_AWAY)
        sending = asyncio.create_task(listener.send(socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    listener.answer(json.dumps(self._answer(listener, message.data)))
        finally:
            self._listeners.discard(listener)
            sending.cancel()
        return socket

    def _subscribe(self, listener: Listener, names: Iterable[str]) -> None:
        # a name that is no stream is silent, as on the exchange
        for name in names:
            stream = stream_of(name, listener.market, self._markets)
            if stream is not None and len(listener.streams) < _MOST_STREAMS:
                listener.streams[name] = stream

    def _answer(self, listener: Listener, text: str) -> Any:
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
