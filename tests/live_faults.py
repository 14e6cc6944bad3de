"""What goes wrong with orders on their way to the local exchange, by class, and what was sent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sim.venue.refusals import Refused
from sim.venue.trading import Call, Take, Trading

LATE_S = 0.6  # after which an order takes effect whose client has given up
CLIENT_MS = 250  # patience of the client
CLASSES = (
    "lost answer", "-1006 done", "-1006 not done", "-1007 not done", "502 done", "502 not done",
    "cut before", "cut after", "late", "garbage", "429", "-2019", "partial",
)  # fmt: skip


@dataclass
class Faulty:
    """A passage of the exchange.

    Attributes
    ----------
    share : of the requests that something happens to.
    sent : client ids of orders, as they came. ``again`` : those that came after they took effect.
    """

    seed: int = 7
    share: float = 0.4
    on: bool = True
    sent: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    happened: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    _turn: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    async def __call__(self, request: web.Request, call: Call, take: Take) -> Any:
        client_id = call.query.get("newClientOrderId") or call.query.get("clientAlgoId", "")
        if request.method != "POST" or not client_id:
            return take()
        self.sent.append(client_id)
        if client_id in self.taken:
            self.again.append(client_id)

        def taking() -> Any:
            answer = take()
            self.taken.add(client_id)
            return answer

        return await self._passed(request, call, taking)

    async def _passed(self, request: web.Request, call: Call, take: Take) -> Any:
        if not self.on or self._rng.random() >= self.share:
            return take()
        kind = CLASSES[self._turn % len(CLASSES)]
        self._turn += 1
        self.happened[kind] += 1
        return await self._fail(kind, request, call, take)

    async def _fail(self, kind: str, request: web.Request, call: Call, take: Take) -> Any:
        if kind in ("lost answer", "-1006 done", "502 done", "cut after", "garbage"):
            take()
        if kind in ("cut before", "cut after"):
            assert request.transport is not None
            request.transport.abort()
            return {}
        if kind == "late":
            self.pending += 1
            try:
                await asyncio.shield(self._later(take))
            finally:
                self.pending -= 1
            return {}
        if kind == "garbage":
            raise Garbage()
        if kind == "partial":
            return self._partly(call, take)
        raise _ANSWERS[kind]

    async def _later(self, take: Take) -> None:
        await asyncio.sleep(LATE_S)
        with_effect = take
        try:
            with_effect()
        except Refused:
            self.happened["late, refused"] += 1

    def _partly(self, call: Call, take: Take) -> Any:
        """Let the exchange fill a half and end the rest, as where a book is thin."""
        if call.query.get("type") != "MARKET":
            return take()
        whole = call.query["quantity"]
        half = f"{float(whole) / 2:.3f}"
        assert isinstance(call.query, dict)
        call.query["quantity"] = half if float(half) > 0 else whole
        return take()


class Garbage(Refused):
    """An answer that nobody can read."""

    def __init__(self) -> None:
        super().__init__(200, 0, "")

    def response(self) -> web.Response:
        return web.Response(text="<html>oops", content_type="text/html")


_ANSWERS = {
    "lost answer": Refused(503, -1007, "Timeout waiting for response from backend server."),
    "-1006 done": Refused(500, -1006, "An unexpected response was received from the message bus."),
    "-1006 not done": Refused(500, -1006, "An unexpected response was received."),
    "-1007 not done": Refused(503, -1007, "Timeout waiting for response from backend server."),
    "502 done": Refused(502, -1000, "bad gateway"),
    "502 not done": Refused(502, -1000, "bad gateway"),
    "429": Refused(429, -1003, "Too many requests; current limit is 2400 per 1 MINUTE."),
    "-2019": Refused(400, -2019, "Margin is insufficient."),
}


@dataclass
class NoisyStream:
    """User events that come twice, and a stream that is cut now and then."""

    accounts: Trading
    seed: int = 7
    told: int = 0
    cuts: int = 0

    def __post_init__(self) -> None:
        rng, users = random.Random(self.seed), self.accounts.users
        straight = users.tell

        def tell(market: Any, account: str, body: Any) -> None:
            self.told += 1
            straight(market, account, body)
            if rng.random() < 0.5:
                straight(market, account, body)
            if rng.random() < 0.05:
                self.cuts += 1
                for user in list(users._heard.get((market, account), ())):
                    user.end(1001)

        users.tell = tell  # type: ignore[method-assign]
