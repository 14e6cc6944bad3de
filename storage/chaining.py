"""The formula of the chain, shared by those who write it and those who check it."""

from __future__ import annotations

import hashlib

from domain.errors import LedgerError

GENESIS = "0" * 64


def link(previous: str, kind: str, world: str, body: str) -> str:
    """Return SHA-256(previous ⏎ kind ⏎ world ⏎ body) as 64 hexadecimal digits.

    Raises
    ------
    LedgerError : if the text cannot be written as UTF-8.
    """
    try:
        return hashlib.sha256(f"{previous}\n{kind}\n{world}\n{body}".encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise LedgerError(kind, f"holds text that is not Unicode ({error.reason})") from error
