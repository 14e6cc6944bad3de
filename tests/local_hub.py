"""A model hub on this machine: enough of Hugging Face's HTTP interface to download a model from.

A repository's files come from a folder; the others are answered as a hub in trouble would.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "a" * 40


class LocalHub(ThreadingHTTPServer):
    """Serves ``folders``: repository → folder, or what is wrong with it.

    ``missing`` answers 404, ``broken`` 500, and ``cut`` closes the connection in the weights.
    """

    daemon_threads = True

    def __init__(self, folders: dict[str, Path], wrong: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders, self.wrong = folders, wrong
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[LocalHub]:
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        if path == "/":
            return self._answer(200, b"")
        repository = path.removeprefix("/api/models").strip("/").split("/")[:2]
        name = "/".join(repository)
        wrong = self.server.wrong.get(name)
        if wrong == "broken":
            return self._answer(500, b"out of order")
        folder = self.server.folders.get(name)
        if wrong == "missing" or folder is None:
            return self._answer(404, b'{"error": "not found"}', {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/models/"):
            return self._listing(path, folder)
        return self._file(folder / path.split("/")[-1], cut=wrong == "cut")

    do_HEAD = do_GET  # noqa: N815

    def _listing(self, path: str, folder: Path) -> None:
        if "/tree/" in path:
            body: object = [
                {"type": "file", "path": file.name, "size": file.stat().st_size,
                 "oid": hashlib.sha1(file.read_bytes()).hexdigest()}
                for file in sorted(folder.iterdir())
            ]  # fmt: skip
        else:
            body = {"id": "x", "sha": COMMIT, "siblings": []}
        self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, file: Path, cut: bool) -> None:
        body = file.read_bytes()
        tag = hashlib.sha1(body).hexdigest()
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
        stops = cut and self.command == "GET" and file.suffix == ".safetensors"
        self._answer(200, body[: len(body) // 2] if stops else body, headers, len(body))
        self.close_connection = stops

    def _answer(
        self, code: int, body: bytes, headers: dict[str, str] | None = None, length: int = -1
    ) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
