"""Who may do what: bearer tokens; the owner's is made once on loopback. None is ever logged."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from domain.errors import ConclaveError, SettingError
from serving.scopes import ALL, READING, asks_signal, scope_of
from serving.settings.model import is_loopback
from serving.tokens import Known, hash_of

TOKEN_FILE = "api_token"  # noqa: S105 - a file name
PROBES = ("/health/live", "/health/ready")  # whoever keeps processes alive has no token
_LEAST = 16
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]{16,}")


class Unauthorized(ConclaveError):
    """No token, or a wrong one."""

    code, exit_code = "unauthorized", 2


class Forbidden(ConclaveError):
    """A token that is good, but not for this; ``who`` showed it."""

    code, exit_code = "forbidden", 2
    who: Principal | None = None


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
class Principal:
    """Who a request comes from: a token's name, or nobody in particular."""

    name: str
    scopes: frozenset[str] = frozenset()
    token: bool = True


ANYBODY = Principal("anonymous", token=False)
OWNER = "api"  # whoever has the token of VAR_DIR, or API_TOKEN


class ForeignHost(ConclaveError):
    """A request that means another machine's name: a page elsewhere may have sent it."""

    code, exit_code = "forbidden", 2


def demand_own_host(header: bytes, allowed: Collection[str]) -> None:
    """Let requests pass that name this machine, or nobody.

    What is free on loopback must not be read by a page whose name was pointed at loopback.

    Parameters
    ----------
    header : the value of ``Host``, as sent. ``allowed`` : further names, in lower case.

    Raises
    ------
    ForeignHost : for any other name.
    """
    name = header.decode("latin-1").strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name and not is_loopback(name) and name not in allowed:
        raise ForeignHost(
            "Host", "must be this machine's name, as the API listens on loopback", name[:80],
            "Use localhost, or add the name of your proxy to serving.allowed_hosts.",
        )  # fmt: skip


class Door:
    """Says which requests need a token: everything that changes something, and more off loopback.

    Parameters
    ----------
    token : the owner's, with all scopes.
    loopback : whether only this machine can reach the API; then reading is free.
    named : further tokens, looked up anew for each request.
    """

    def __init__(self, token: str, loopback: bool, named: Known | None = None) -> None:
        self._owner = hash_of(token)
        self._loopback = loopback
        self._named = named

    def demand(self, method: str, path: str, header: bytes) -> Principal:
        """Return who asks; let free requests and bearers of a fitting token pass.

        Parameters
        ----------
        header : the value of ``Authorization``, as sent.

        Raises
        ------
        Unauthorized : without a token where it is needed.
        Forbidden : if the token lacks the scope.
        """
        free = path in PROBES or (
            self._loopback and (method in READING or asks_signal(method, path))
        )
        who = self._bearer(header)
        if who is None:
            if free:
                return ANYBODY
            raise Unauthorized(
                f"{method} {path[:80]}", "needs the API token",
                hint="Send `Authorization: Bearer …`; the token is in VAR_DIR/api_token "
                "unless API_TOKEN sets one.",
            )  # fmt: skip
        needed = scope_of(method, path)
        if not free and needed not in who.scopes:
            refusal = Forbidden(
                f"{method} {path[:80]}", f"needs a token with the scope {needed}",
                ", ".join(sorted(who.scopes)), f"conclave token create NAME --scope {needed}",
            )  # fmt: skip
            refusal.who = who
            raise refusal
        return who

    def _bearer(self, header: bytes) -> Principal | None:
        """Compare hashes, each in the same time, so that the clock tells nothing of a token."""
        scheme, _, given = header.partition(b" ")
        if scheme.lower() != b"bearer" or not given.strip():
            return None
        said, found = hash_of(given.strip()), None
        for known, token in {} if self._named is None else self._named.tokens().items():
            if hmac.compare_digest(said, known):
                found = Principal(token.name, frozenset(token.scopes))
        if hmac.compare_digest(said, self._owner):
            found = Principal(OWNER, ALL)
        return found
