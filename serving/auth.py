"""Who may change something: a bearer token, made once on loopback, never shown in logs."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from domain.errors import ConclaveError, SettingError

TOKEN_FILE = "api_token"  # noqa: S105 - a file name
PROBES = ("/health/live", "/health/ready")  # whoever keeps processes alive has no token
_LEAST = 16
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]{16,}")
_READING = ("GET", "HEAD", "OPTIONS")


class Unauthorized(ConclaveError):
    """No token, or a wrong one."""

    code, exit_code = "unauthorized", 2


def token_of(var_dir: Path, configured: str | None) -> str:
    """Return the configured token, else the one in ``VAR_DIR/api_token`` (made on first use, 0600).

    Raises
    ------
    SettingError : if the file cannot be written or read.
    """
    if configured:
        return configured
    path = var_dir / TOKEN_FILE
    try:
        if not path.exists():
            var_dir.mkdir(parents=True, exist_ok=True)
            _make(path)
        token = path.read_bytes().strip()
    except OSError as error:
        raise SettingError(
            "VAR_DIR", "must be a writable folder", str(var_dir), f"{error.strerror}."
        ) from error
    if not _TOKEN.fullmatch(token):  # an empty one would let everybody in
        raise SettingError(
            "api_token", f"must hold one word of at least {_LEAST} letters and digits", str(path),
            "Remove the file; a new one is made.",
        )  # fmt: skip
    return token.decode("ascii")


def _make(path: Path) -> None:
    """Make the file whole or not at all, whoever else is making it."""
    mine = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        with suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Door:
    """Says which requests need the token: everything that changes something, and more off loopback.

    Attributes
    ----------
    loopback : whether only this machine can reach the API; then reading is free.
    """

    token: str
    loopback: bool

    def demand(self, method: str, path: str, header: bytes) -> None:
        """Let free requests and the bearer of the token pass.

        Parameters
        ----------
        header : the value of ``Authorization``, as sent.

        Raises
        ------
        Unauthorized : without the token where it is needed.
        """
        if path in PROBES or (self.loopback and _reads(method, path)):
            return
        scheme, _, given = header.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(
            given.strip(), self.token.encode()
        ):
            raise Unauthorized(
                f"{method} {path[:80]}", "needs the API token",
                hint="Send `Authorization: Bearer …`; the token is in VAR_DIR/api_token "
                "unless API_TOKEN sets one.",
            )  # fmt: skip


def _reads(method: str, path: str) -> bool:
    return method in _READING or (method == "POST" and path == "/v1/signals")
