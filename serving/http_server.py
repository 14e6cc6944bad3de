"""uvicorn, made patient for so long and no longer: what it does not bound by itself.

A request's head must arrive within some seconds and some kilobytes, connections are counted, and a
stop does not wait for streams. What breaks HTTP is answered in the shape all errors have.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.envelope import ASGI
from serving.refusals import SECURITY

MOST_CONNECTIONS = 1000
MOST_HEAD_BYTES = 32 * 1024
CLOSE_SECONDS = 2.0  # for a reply to leave a connection that is being closed
LAST_SECONDS = 30.0  # for a whole reply that ends its connection
STOP_SECONDS = 2


def http_server(
    app: ASGI | Any, host: str, port: int, head_seconds: float = 10.0
) -> uvicorn.Server:
    """Return a server that is not started yet.

    Parameters
    ----------
    head_seconds : patience with request line and headers.
    """

    class Bounded(BoundedProtocol):
        patience = head_seconds

    return uvicorn.Server(
        uvicorn.Config(
            app, host=host, port=port, http=Bounded, ws="none", log_config=None, access_log=False,
            server_header=False, timeout_graceful_shutdown=STOP_SECONDS,
            proxy_headers=False,  # or whoever is on loopback says who they are
        )
    )  # fmt: skip


class BoundedProtocol(HttpToolsProtocol):
    """One connection, with bounds on the head of each request."""

    patience = 10.0
    _head: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or hang up if there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(503, "overloaded", "has too many connections", "retry-after: 1\r\n")
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head; take in the rest as it comes."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head is None:
                self._wait_for_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(431, "head_too_large", f"must be at most {MOST_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """Start the request, unless its headers came in one piece that is too large."""
        self._head_is_there()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MOST_HEAD_BYTES:
            self._refuse(431, "head_too_large", f"must be at most {MOST_HEAD_BYTES} bytes")
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the head of the next request."""
        if self.cycle is not None:
            super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body, unless its request was refused."""
        if self.cycle is not None:
            super().on_body(body)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        async def bounded(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:  # the server stops, and waited long enough
                cycle.disconnected = True
                self.transport.abort()
            finally:  # closing waits for a reader who may take nothing any more
                self.loop.call_later(LAST_SECONDS, self._end_if_closing)

        super()._start_asgi_task(cycle, bounded)

    def _end_if_closing(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, "bad_request", "is no HTTP that can be understood" if msg else "")

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(self.patience, self._too_slow)

    def _head_is_there(self) -> None:
        self._in_head = False
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._head = None
        if self._head_bytes:
            self._refuse(408, "head_too_slow", f"must arrive within {self.patience:g} s")
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _refuse(self, status: int, code: str, rule: str, more: str = "") -> None:
        if self.transport.is_closing():
            return
        self.transport.write(refusal(status, code, rule, more))
        self.transport.close()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)  # a reader may never take it


def refusal(status: int, code: str, rule: str, more: str = "") -> bytes:
    """Return a whole reply in the shape all errors have.

    Parameters
    ----------
    rule : what the request breaks. ``more`` : header lines.
    """
    number = secrets.token_hex(8)
    error = {"code": code, "message": f"request: {rule}", "hint": "", "request_id": number}
    body = json.dumps({"error": error}).encode()
    security = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in SECURITY)
    phrase = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large",
              503: "Service Unavailable"}[status]  # fmt: skip
    head = (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\nx-request-id: {number}\r\n"
        f"{security}{more}\r\n"
    )
    return head.encode("ascii") + body
