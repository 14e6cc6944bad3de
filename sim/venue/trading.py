"""Signed questions: who asks, what it weighs, and the one passage that every order goes through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from aiohttp import web

from domain.errors import DataRefused, NotFound
from domain.market import Market
from sim.venue import refusals
from sim.venue.accounts import Account, Ledger
from sim.venue.asked import Asked
from sim.venue.market import Markets
from sim.venue.matching import Exchange
from sim.venue.moments import LAG_MS
from sim.venue.orders import Order
from sim.venue.placing import order_of
from sim.venue.refusals import Refused, Weights
from sim.venue.signing import Key, KeyRing, Question
from sim.venue.user_stream import UserStreams

Take = Callable[[], Any]


class Passage(Protocol):
    """What every order and every cancellation goes through, on its way in and out."""

    async def __call__(self, request: web.Request, call: Call, take: Take) -> Any:
        """Return the answer; ``take()`` is what makes the request take effect."""


async def straight(request: web.Request, call: Call, take: Take) -> Any:  # noqa: ARG001
    """Let it pass as it is."""
    return take()


class Call(Asked):
    """One question of an account, with everything before it already happened.

    Attributes
    ----------
    at : market time, ms.
    """

    def __init__(
        self, market: Market, params: Mapping[str, str], exchange: Exchange, users: UserStreams,
        key: Key,
    ) -> None:  # fmt: skip
        super().__init__(market, params, exchange.markets)
        self.exchange, self.users, self.key = exchange, users, key
        self.at = exchange.now()

    @property
    def account(self) -> Account:
        """Whose question it is."""
        return self.exchange.ledger.accounts[self.key.account]

    def placed(self, *, algo: bool = False, test: bool = False) -> Order:
        """Place the order that is asked for, or only check it.

        Raises
        ------
        Refused : if it may not be placed.
        """
        order = order_of(self, self.exchange.next_number(), self.at, algo=algo)
        self.exchange.place(self.account, order, test=test)
        return order

    def order(self, missing: Refused, *, algo: bool = False) -> Order:
        """Return the order that is asked about by number or by client id.

        Raises
        ------
        Refused : without either, or if there is none.
        """
        by_number, by_client = (
            ("algoId", "clientAlgoId") if algo else ("orderId", "origClientOrderId")
        )
        number, client_id = self.number(by_number), self.query.get(by_client)
        if number is None and not client_id:
            raise refusals.missing(by_number)
        if number is not None:
            order = self.account.orders.get(number)
        else:
            order = self.account.by_client(self.market, str(client_id), algo=algo)
        if order is None or (order.market, order.algo) != (self.market, algo):
            raise missing
        if LAG_MS.get() and order.placed_at > self.markets.clock.now():
            # whoever answers has not heard of it yet
            raise missing
        if not algo and order.name != self.listing().name:
            raise missing
        return order

    def within(self, at: int, most_ms: int | None = None) -> bool:
        """Return whether an instant lies between startTime and endTime, at most so far apart."""
        start, end = self.number("startTime"), self.number("endTime")
        if start is not None and most_ms is not None:
            end = min(start + most_ms, start + most_ms if end is None else end)
        return (start is None or at >= start) and (end is None or at <= end)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a question is answered.

    Attributes
    ----------
    need : ``key`` alone, a signature to ``read``, or to ``trade``.
    counts : as an order.
    """

    answer: Callable[[Call], Any]
    weight: int = 1
    need: Literal["key", "read", "trade"] = "read"
    counts: bool = False


Endpoints = Mapping[tuple[str, str], Endpoint]  # (method, path)


class Trading:
    """Everything of the venue that belongs to accounts.

    Parameters
    ----------
    keys : of accounts in the ledger.
    wall : ms.
    """

    def __init__(
        self, markets: Markets, ledger: Ledger, keys: tuple[Key, ...], wall: Callable[[], int],
        passage: Passage = straight,
    ) -> None:  # fmt: skip
        for key in keys:
            if key.account not in ledger.accounts:
                raise NotFound("account", "a key must be of one that the venue has", key.account)
        self.keys = KeyRing(keys, wall, markets.clock.now)
        self.users = UserStreams(markets, self.keys, wall)
        self.exchange = Exchange(markets, ledger, self.users)
        self.passage = passage

    def routes(self, market: Market, endpoints: Endpoints, weights: Weights) -> list[web.RouteDef]:
        """Return routes whose requests weigh on ``weights``."""
        return [
            web.route(method, path, self._handler(market, endpoint, weights))
            for (method, path), endpoint in endpoints.items()
        ]

    def _handler(
        self, market: Market, endpoint: Endpoint, weights: Weights
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            headers: dict[str, str] = {}
            try:
                used = weights.take(request.remote or "", endpoint.weight)
                headers["X-MBX-USED-WEIGHT-1M"] = str(used)
                question = await _question(request)
                key = self._admitted(question, endpoint)
                if endpoint.counts:
                    headers |= self.keys.count_order(key.account)
                call = Call(market, question.params, self.exchange, self.users, key)

                def take() -> Any:
                    call.at = self.exchange.now()  # the passage may have taken its time
                    return endpoint.answer(call)

                if endpoint.need == "trade":
                    body = await self.passage(request, call, take)
                else:
                    body = take()
            except Refused as refused:
                refused.headers = headers | refused.headers
                return refused.response()
            except DataRefused:  # before the first of a file's bars
                return refusals.no_bars().response()
            return web.json_response(body, headers=headers)

        return handle

    def _admitted(self, question: Question, endpoint: Endpoint) -> Key:
        if endpoint.need == "key":
            return self.keys.known(question.key)
        return self.keys.signed(question, trades=endpoint.need == "trade")

    async def run(self, app: web.Application) -> Any:
        """Let time pass for as long as the server lives (an aiohttp clean-up context)."""
        del app
        passing = asyncio.create_task(self._pass())
        yield
        passing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await passing

    async def _pass(self) -> None:
        clock, step_ms = self.exchange.markets.clock, self.exchange.markets.step_ms
        while True:
            self.exchange.now()
            wait_ms = (step_ms - clock.now() % step_ms) / max(clock.speed, 1e-9)
            await asyncio.sleep(min(max(wait_ms / 1000.0, 0.001), 1.0))


async def _question(request: web.Request) -> Question:
    body = (await request.read()).decode("utf-8", "replace")
    query = request.raw_path.partition("?")[2]
    return Question.sent(request.headers.get("X-MBX-APIKEY", ""), query, body)
