"""As much of the Kubernetes API as holds RayJobs: a real HTTP server over a dictionary."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BASE = "/apis/ray.io/v1/namespaces/ml/rayjobs"
TOKEN = "a-token-of-the-account"
Job = dict[str, Any]


@dataclass
class World:
    """What the cluster holds, and how its jobs end.

    ``ends`` names by step what becomes of a copy; a copy is Running for one look first.
    ``broken`` answers of the next requests are 503.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    ends: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    broken: int = 0
    requests: list[str] = field(default_factory=list)

    def look(self, name: str) -> Job | None:
        job = self.jobs.get(name)
        if job is not None and not job["spec"].get("suspend"):
            step = job["metadata"]["labels"]["conclave/step"]
            before = job.get("status", {}).get("jobDeploymentStatus")
            state, result = ("Running", "RUNNING")
            if before == "Running":
                state, result = self.ends.get(step, ("Complete", "SUCCEEDED"))
            if before in (None, "Running"):
                job["status"] = {"jobDeploymentStatus": state, "jobStatus": result}
        return job


def _handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, code: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refused(self) -> bool:
            world.requests.append(f"{self.command} {self.path}")
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._answer(401, {"message": "Unauthorized"})
                return True
            if world.broken:
                world.broken -= 1
                self._answer(503, {"message": "the server is currently unable"})
                return True
            return False

        def do_GET(self) -> None:
            if self._refused():
                return
            parts = urlsplit(self.path)
            if parts.path == BASE:
                wanted = parse_qs(parts.query)["labelSelector"][0].split("=")
                found = [
                    job for job in world.jobs.values()
                    if job["metadata"].get("labels", {}).get(wanted[0]) == wanted[1]
                ]  # fmt: skip
                self._answer(200, {"items": found})
                return
            job = world.look(parts.path.removeprefix(f"{BASE}/"))
            self._answer(*((404, {"message": "not found"}) if job is None else (200, job)))

        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self._refused():
                return
            name = job["metadata"]["name"]
            if name in world.jobs:
                self._answer(409, {"message": f'rayjobs "{name}" already exists'})
                return
            world.jobs[name] = job
            self._answer(201, job)

        def do_DELETE(self) -> None:
            if not self._refused():
                world.jobs.pop(urlsplit(self.path).path.removeprefix(f"{BASE}/"))
                self._answer(200, {"status": "Success"})

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(world: World, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Answer on a free port; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(world))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def account(folder: Path, token: str = TOKEN) -> Path:
    """Write a service account's folder as Kubernetes mounts it, here without an authority."""
    (folder / "token").write_text(f"{token}\n", encoding="ascii")
    (folder / "namespace").write_text("ml", encoding="ascii")
    return folder


def certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate for 127.0.0.1 that signs itself; its authority lies in ``ca.crt``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.fromtimestamp((folder / "namespace").stat().st_mtime, datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.crt").write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "server.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
