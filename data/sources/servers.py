"""The servers by which an exchange answers over HTTP: one is asked, the next when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from data.sources.exchange_urls import moved


class Servers:
    """Those that tell the same of one exchange.

    Whoever asks says when one has failed; from then on the next is asked, until that one fails.

    Parameters
    ----------
    exchange : ccxt's, which asks them.
    addresses : scheme and host of each, the one that ``exchange`` asks by itself first; empty = it
        has no other.

    Attributes
    ----------
    received : bytes of all answers so far, as they came over the wire (TLS and heads not counted).
    """

    def __init__(self, exchange: Any, addresses: Sequence[str] = ()) -> None:
        self._exchange, self._at, self.received = exchange, 0, 0
        own = exchange.urls["api"]
        main = urlsplit(addresses[0]).netloc if addresses else ""
        self._names = [urlsplit(one).netloc for one in addresses]
        self._all = [own, *(moved(own, other, main) for other in addresses[1:])]
        if exchange.session is not None:
            exchange.session.hooks["response"].append(self._count)

    def next(self) -> str | None:
        """Ask the next one from now on and return its host; None if there is no other."""
        if len(self._all) == 1:
            return None
        self._at = (self._at + 1) % len(self._all)
        self._exchange.urls["api"] = self._all[self._at]
        return self._names[self._at]

    def _count(self, response: Any, *_: object, **__: object) -> None:
        told = str(response.headers.get("Content-Length", ""))
        self.received += int(told) if told.isdecimal() else len(response.content)
