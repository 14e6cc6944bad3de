"""Who may change something: a bearer token, made once on loopback, never shown in logs."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from domain.errors import ConclaveError, SettingError

TOKEN_FILE = "api_token"  # noqa: S105 - a file name


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
        var_dir.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text(encoding="ascii").strip()
        with os.fdopen(handle, "w", encoding="ascii") as file:
            token = secrets.token_urlsafe(32)
            file.write(token + "\n")
        return token
    except OSError as error:
        raise SettingError(
            "VAR_DIR", "must be a writable folder", str(var_dir), f"{error.strerror}."
        ) from error


def demand(header: str | None, token: str) -> None:
    """Let the bearer of ``token`` pass.

    Raises
    ------
    Unauthorized : without it.
    """
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        given.strip().encode(), token.encode()
    ):
        raise Unauthorized(
            "this route", "needs the API token",
            hint="Send `Authorization: Bearer …`; the token is in VAR_DIR/api_token.",
        )  # fmt: skip
