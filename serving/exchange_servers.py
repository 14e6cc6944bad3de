"""Where an exchange is heard and asked: its own servers, or those that settings name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from domain.errors import SettingError
from domain.market import Market
from serving.settings import Settings

Route = Literal["public", "market"]
"""Where perpetuals tell of books, and where of all else; elsewhere the latter are silent."""

# The main address and those that Binance documents beside it: of perpetuals there is none.
_STREAMS: Mapping[Market, tuple[str, ...]] = {
    "spot": ("wss://stream.binance.com:9443", "wss://stream.binance.com:443"),
    "perp": ("wss://fstream.binance.com",),
}
_HTTP: Mapping[Market, tuple[str, ...]] = {
    "spot": ("https://api.binance.com", "https://api-gcp.binance.com"),
    "perp": ("https://fapi.binance.com",),
}
_OWN = re.compile(r"\.binance\.(com|vision)(:\d+)?$")  # hosts of the exchange itself
_FSTREAM = "/fstream"  # where another server has the streams of perpetuals


def streams_at(
    market: Market, url: str | None, backup: str | None, names: str, route: Route
) -> list[str]:
    """Return the addresses of a line that carries streams, the main one first.

    Parameters
    ----------
    url : of another server of the exchange's protocol; None = the exchange's own.
    backup : a WebSocket's address up to its path, instead of the exchange's own backup.
    names : of the streams, as a combined line's address ends with them.
    """
    bases = _STREAMS[market] if url is None else (url.replace("http", "ws", 1),)
    if backup is not None:
        bases = (bases[0], backup)
    path = ""
    if market == "perp":
        path = f"{'' if url is None else _FSTREAM}/{route}"
    return [f"{base}{path}/stream?streams={names}" for base in bases]


def http_at(exchange: str, market: Market, url: str | None, backup: str | None) -> tuple[str, ...]:
    """Return the addresses that questions are put to, the main one first; empty = ccxt knows it.

    Parameters
    ----------
    url, backup : as for :func:`streams_at`; beside another server, the backup answers questions
        as well.
    """
    if url is None:
        return _HTTP[market] if exchange == "binance" else ()
    return (url,) if backup is None else (url, backup.replace("ws", "http", 1))


def backup_of(settings: Settings, market: Market) -> str | None:
    """Return where a market's streams are heard when their own server fails, as settings say.

    Raises
    ------
    SettingError : if it is the exchange's own, and the main one is another server's.
    """
    feed = settings.feed
    name, backup = "backup_url", feed.backup_url
    if market == "perp":
        name, backup = "perp_backup_url", feed.perp_backup_url
    if settings.data.exchange_url is not None and backup is not None and _OWN.search(backup):
        raise SettingError(
            f"feed.{name}", "must be of the market that EXCHANGE_URL has, and not of Binance's own",
            backup, "Unset it, or EXCHANGE_URL: bars of two markets must not be mixed.",
        )  # fmt: skip
    return backup
