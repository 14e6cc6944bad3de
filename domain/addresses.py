"""Addresses of servers, as they may be shown and kept."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def without_user(url: str) -> str:
    """Return an address without the name and the password that it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
