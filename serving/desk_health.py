"""The desk's own door for whoever keeps processes alive: is it moving, and what has it counted?

A thread beside the desk's event loop, because it must answer when that loop hangs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from domain.errors import SettingError

STILL_SECONDS = 60.0  # a desk that has not looked at its inbox for so long hangs


@contextmanager
def desk_health(
    host: str, port: int | None, idle: Callable[[], float], figures: Callable[[], str]
) -> Iterator[str | None]:
    """Answer GET /health/live and /metrics while the context lasts; yields the address.

    Parameters
    ----------
    port : 0 = any free one, None = no door.
    idle : seconds since the desk last moved.
    figures : text in Prometheus's format.

    Raises
    ------
    SettingError : if the port cannot be had.
    """
    if port is None:
        yield None
        return
    try:
        server = _Server((host, port), idle, figures)
    except OSError as error:
        raise SettingError(
            "DESK_PORT", f"cannot be listened on ({error.strerror})", port, "Choose another one."
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], idle: Callable[[], float], figures: Callable[[], str]
    ) -> None:
        super().__init__(address, _Handler)
        self.idle, self.figures = idle, figures


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5.0  # a slow caller holds one thread, and not for long
    server_version, sys_version = "conclave", ""

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._reply(200, CONTENT_TYPE_LATEST, self.server.figures())
        elif self.path == "/health/live":
            idle = self.server.idle()
            moving = idle < STILL_SECONDS
            body = {"status": "ok" if moving else "still", "idle_seconds": round(idle, 1)}
            self._reply(200 if moving else 503, "application/json", json.dumps(body))
        else:
            self._reply(404, "application/json", json.dumps({"status": "unknown path"}))

    def _reply(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "2")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Write nothing: a probe every few seconds would drown the rest."""
