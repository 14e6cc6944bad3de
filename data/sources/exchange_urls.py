"""Addresses of an exchange at another server of its protocol."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit


def moved(value: Any, url: str, only: str | None = None) -> Any:
    """Return addresses on the host of ``url``; of perpetuals' streams under ``/fstream``.

    Parameters
    ----------
    value : an address, or a table of such, as ccxt has them.
    only : host whose addresses are meant; None = all.
    """
    if isinstance(value, dict):
        return {name: moved(part, url, only) for name, part in value.items()}
    parts, there = urlsplit(str(value)), urlsplit(url)
    if not parts.netloc or only not in (None, parts.netloc):
        return value
    scheme, path = there.scheme, parts.path
    if parts.scheme in ("ws", "wss"):
        scheme = "wss" if there.scheme == "https" else "ws"
        path = f"/fstream{path}" if parts.netloc.startswith("fstream.") else path
    return urlunsplit((scheme, there.netloc, path, parts.query, ""))
