"""A listener's way from its queue to its socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, Protocol

from aiohttp import WSMsgType, web

from domain.market import Market

HEARTBEAT_S = 20.0  # between two pings of the server
_QUEUE = 4_096  # messages that a slow listener may be behind before it is cut off
_PATIENCE_S = 1.0  # with a message half sent on a line that is over
GOING_AWAY, TOO_SLOW = 1001, 1008  # codes of a WebSocket's close


class Said(NamedTuple):
    """A message on its way.

    Attributes
    ----------
    stream : that it is of; empty = an answer. ``at`` : the loop's time when it was said, s.
    """

    stream: str
    text: str
    at: float


class Line(Protocol):
    """What a connection's messages go through."""

    def carried(self, said: Said) -> AsyncIterator[str]:
        """Yield what arrives, when it does."""

    def answers_pings(self) -> bool:
        """Return whether pings are answered now."""
        ...

    def closed(self) -> None:
        """Hear that the connection is over."""


class Straight:
    """Everything arrives as it is."""

    async def carried(self, said: Said) -> AsyncIterator[str]:
        """Yield it."""
        yield said.text

    def answers_pings(self) -> bool:
        """Return that they are."""
        return True

    def closed(self) -> None:
        """Do nothing."""


class Listener:
    """One connection: what waits to be sent to it.

    Attributes
    ----------
    account : whose events it hears; empty = public streams. ``sends`` : a message is being sent.
    """

    def __init__(self, market: Market, combined: bool = False) -> None:
        self.market, self.combined, self.account = market, combined, ""
        self.queue: asyncio.Queue[Said | None] = asyncio.Queue(_QUEUE)
        self.closes: int | None = None  # the code with which it is to be cut off
        self.sends = False

    def names(self) -> list[str]:
        """Return the names of what it listens to."""
        return []

    def tell(self, stream: str, body: str) -> None:
        """Queue a message; whoever is too far behind is cut off."""
        text = f'{{"stream":"{stream}","data":{body}}}' if self.combined else body
        self.put(stream, text)

    def put(self, stream: str, text: str) -> None:
        """Queue a text as it is; ``stream`` empty = an answer."""
        try:
            self.queue.put_nowait(Said(stream, text, asyncio.get_running_loop().time()))
        except asyncio.QueueFull:
            self.closes = TOO_SLOW

    def end(self, code: int) -> None:
        """Cut it off after what waits."""
        self.closes = code
        with contextlib.suppress(asyncio.QueueFull):
            self.queue.put_nowait(None)

    async def send(self, socket: web.WebSocketResponse, line: Line) -> None:
        """Send what is queued until it is cut off."""
        while self.closes != TOO_SLOW:
            said = await self.queue.get()
            if said is None:
                break
            async for text in line.carried(said):
                self.sends = True
                await socket.send_str(text)
                self.sends = False
        await socket.close(code=self.closes or GOING_AWAY)


Laid = Callable[[web.Request, web.WebSocketResponse, Listener], Line]


def straight(request: web.Request, socket: web.WebSocketResponse, listener: Listener) -> Line:
    """Lay a line on which everything arrives as it is."""
    del request, socket, listener
    return Straight()


async def converse(
    request: web.Request, listener: Listener, answer: Callable[[str], str], laid: Laid,
    begin: Callable[[], Any], end: Callable[[], Any],
) -> web.WebSocketResponse:  # fmt: skip
    """Serve one connection until it is over.

    Parameters
    ----------
    answer : to a text of the client. ``laid`` : the line that it gets.
    begin, end : called once it stands, and when it is over.
    """
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, autoping=False)
    await socket.prepare(request)
    line = laid(request, socket, listener)
    begin()
    sending = asyncio.create_task(listener.send(socket, line))
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                listener.put("", answer(message.data))
            elif message.type is WSMsgType.PING and line.answers_pings():
                await socket.pong(message.data)
    finally:
        end()
        line.closed()
        if not listener.sends:  # a message half sent fails by itself
            sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, TimeoutError):
            await asyncio.wait_for(sending, _PATIENCE_S)
    return socket
