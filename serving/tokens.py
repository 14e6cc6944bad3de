"""Named tokens with scopes: kept as SHA-256 in a file, shown once when they are made.

The file is JSON and may also be written by hand, or mounted: ``{"tokens": [{"name": "watch",
"sha256": "…", "scopes": ["read"], "created_at": "2026-11-29T12:00:00Z"}]}``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import Field, ValidationError

from domain.errors import NotFound, SettingError, UsageError
from domain.times import iso
from serving.replies import Strict
from serving.scopes import SCOPES, Scope

log = structlog.get_logger("tokens")

LOOK_SECONDS = 1.0  # how soon a token that was made or revoked is taken note of
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class NamedToken(Strict):
    """A token: who it is, what it may do, and the hash that it is known by."""

    name: Name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(min_length=1)
    created_at: str = ""
    revoked_at: str | None = None


class _Content(Strict):
    tokens: list[NamedToken] = Field(default_factory=list)


def hash_of(token: str | bytes) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).hexdigest()


class TokenFile:
    """The tokens of one file; a missing file has none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[NamedToken]:
        """Return all tokens, revoked ones too, in the order they were made.

        Raises
        ------
        SettingError : if the file cannot be read, or is none.
        """
        try:
            return _Content.model_validate_json(self.path.read_bytes()).tokens
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else f"{error.error_count()} errors"
            raise SettingError(
                "tokens_file", f"must be a readable file of tokens ({why})", str(self.path),
                "Make tokens with conclave token create.",
            ) from None  # fmt: skip

    def create(self, name: str, scopes: Collection[str], at: int) -> str:
        """Make a token and return it: this is the only time that it can be seen.

        Raises
        ------
        UsageError : if the name is taken, or was, or is no name, or a scope is none.
        SettingError : if the file cannot be written.
        """
        token = f"cv_{secrets.token_urlsafe(32)}"
        wanted = [scope for scope in SCOPES if scope in scopes]
        for scope in scopes:
            if scope not in SCOPES:
                raise UsageError("scope", f"must be one of {', '.join(SCOPES)}", scope)
        try:
            made = NamedToken(name=name, sha256=hash_of(token), scopes=wanted, created_at=iso(at))
        except ValidationError:
            rule = "needs a scope" if not wanted else "must be 1–32 of a–z, 0–9, _ and -"
            raise UsageError("token", rule, name, "Try: --scope read") from None
        with self._changing() as tokens:
            if any(known.name == name for known in tokens):
                raise UsageError(
                    "token", "has a name that is, or was, another's", name,
                    "The audit tells tokens apart by name: choose a new one.",
                )  # fmt: skip
            tokens.append(made)
        return token

    def revoke(self, name: str, at: int) -> NamedToken:
        """Make a token worthless; a running API knows within a second.

        Raises
        ------
        NotFound : if there is none of that name.
        """
        with self._changing() as tokens:
            for place, known in enumerate(tokens):
                if known.name == name:
                    if known.revoked_at is None:
                        tokens[place] = known.model_copy(update={"revoked_at": iso(at)})
                    return tokens[place]
        raise NotFound("token", "is not there", name, "conclave token list shows them.")

    @contextmanager
    def _changing(self) -> Iterator[list[NamedToken]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                tokens = self.read()
                yield tokens
                self._write(_Content(tokens=tokens))
        except OSError as error:
            raise SettingError(
                "tokens_file", f"must be a file that can be written ({error.strerror})",
                str(self.path),
            ) from None  # fmt: skip

    def _write(self, content: _Content) -> None:
        mine = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        try:
            handle = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(content.model_dump_json(indent=1) + "\n")
            mine.replace(self.path)
        finally:
            mine.unlink(missing_ok=True)


class Known:
    """The valid tokens of a file, by hash; it is looked at again once a second.

    A file that is damaged lets nobody in, and is told of once.
    """

    def __init__(self, file: TokenFile) -> None:
        self._file = file
        self._looked = -LOOK_SECONDS
        self._stamp: object = ()
        self._tokens: dict[str, NamedToken] = {}

    def tokens(self) -> dict[str, NamedToken]:
        """Return hash → token."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._tokens

    def _look(self) -> None:
        try:
            found = self._file.path.stat()
            stamp: object = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            read = self._file.read()
        except SettingError as error:
            log.error("tokens_unusable", why=str(error))
            read = []
        self._tokens = {one.sha256: one for one in read if one.revoked_at is None}
