"""What the venue refuses, with its own codes, and how much it lets anybody ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

MINUTE_MS = 60_000
_WARNINGS = 3  # refusals by 429 that are overheard, before a ban
_BAN_MS = 120_000


@dataclass(slots=True)
class Refused(Exception):
    """An error as Binance words it: HTTP status, code, message."""

    status: int
    code: int
    text: str
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """Return it as the venue answers."""
        body = json.dumps({"code": self.code, "msg": self.text})
        return web.Response(
            status=self.status, text=body, content_type="application/json", headers=self.headers
        )


def invalid_symbol() -> Refused:
    """Return the refusal of a symbol that is not listed."""
    return Refused(400, -1121, "Invalid symbol.")


def invalid_interval() -> Refused:
    """Return the refusal of a length of bars that there is not."""
    return Refused(400, -1120, "Invalid interval.")


def missing(name: str) -> Refused:
    """Return the refusal of a question that lacks something."""
    return Refused(
        400, -1102,
        f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.",
    )  # fmt: skip


def illegal(name: str) -> Refused:
    """Return the refusal of a value that is none."""
    return Refused(400, -1100, f"Illegal characters found in parameter '{name}'.")


def no_bars() -> Refused:
    """Return the refusal of what needs bars from before the market's first."""
    return Refused(503, -1001, "Internal error; unable to process your request. No bars there.")


@dataclass(slots=True)
class _Caller:
    minute: int = -1
    used: int = 0
    overheard: int = 0
    banned_until: int = 0


class Weights:
    """Request weights of every caller in the wall's minutes: 429 beyond the limit, then 418.

    Parameters
    ----------
    most : weight a minute.
    wall : ms.
    """

    def __init__(self, most: int, wall: Callable[[], int]) -> None:
        self.most, self._wall = most, wall
        self._callers: dict[str, _Caller] = {}

    def take(self, caller: str, weight: int) -> int:
        """Count a request and return the caller's weight in this minute.

        Raises
        ------
        Refused : 429 beyond the limit; 418 for whoever goes on asking.
        """
        now, known = self._wall(), self._callers.setdefault(caller, _Caller())
        if now < known.banned_until:
            raise self._no(418, known.banned_until - now)
        if known.minute != now // MINUTE_MS:
            known.minute, known.used, known.overheard = now // MINUTE_MS, 0, 0
        known.used += weight
        if known.used <= self.most:
            return known.used
        known.overheard += 1
        if known.overheard > _WARNINGS:
            known.banned_until = now + _BAN_MS
            raise self._no(418, _BAN_MS)
        raise self._no(429, MINUTE_MS - now % MINUTE_MS)

    def _no(self, status: int, wait_ms: int) -> Refused:
        text = f"Too much request weight used; current limit is {self.most} per 1 MINUTE."
        return Refused(status, -1003, text, {"Retry-After": str(-(-wait_ms // 1000))})
