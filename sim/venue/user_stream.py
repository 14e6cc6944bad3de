"""Streams of what happens to an account, by listen key or by a signed subscription."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from domain.market import Market
from sim.venue import order_refusals as refuse
from sim.venue.accounts import Account
from sim.venue.lines import GOING_AWAY, Laid, Listener, converse, straight
from sim.venue.market import Listing, Markets
from sim.venue.orders import Order, Trade
from sim.venue.refusals import Refused
from sim.venue.reports import Body
from sim.venue.signing import KeyRing, Question
from sim.venue.user_events import algo_report, perp_account, perp_report, spot_balances, spot_report

USER = "user"  # the name of all these streams
KEY_MS = 3_600_000  # a listen key lives so long without being renewed, of the wall's time
_PATHS: dict[Market, tuple[str, ...]] = {
    "spot": ("/ws/{key:[0-9A-Za-z]{64}}",),
    "perp": ("/fstream/ws/{key:[0-9A-Za-z]{64}}", "/fstream/private/ws",
             "/fstream/private/ws/{key:[0-9A-Za-z]{64}}"),
}  # fmt: skip


class UserStreams:
    """All who listen to accounts; a :class:`sim.venue.settling.Teller`.

    Parameters
    ----------
    wall : ms, for the life of listen keys.
    """

    def __init__(self, markets: Markets, keys: KeyRing, wall: Callable[[], int]) -> None:
        self._markets, self._keys, self._wall = markets, keys, wall
        self._listen: dict[str, tuple[Market, str, int]] = {}  # key → market, account, renewed at
        self._keys_made = 0
        self._heard: dict[tuple[Market, str], set[_User]] = {}
        self.laid: Laid = straight

    # Listen keys

    def opened(self, market: Market, account: str) -> str:
        """Return an account's listen key, a new one or the one it has, renewed."""
        now = self._wall()
        for key, (of, name, _) in self._listen.items():
            if (of, name) == (market, account) and self._lives(key):
                self._listen[key] = market, account, now
                return key
        self._keys_made += 1
        key = hashlib.sha256(f"{market} {account} {now} {self._keys_made}".encode()).hexdigest()
        self._listen[key] = market, account, now
        return key

    def renewed(self, market: Market, account: str, key: str | None) -> str:
        """Renew a listen key; None = the account's.

        Raises
        ------
        Refused : if there is none.
        """
        for known, (of, name, _) in self._listen.items():
            if (of, name) == (market, account) and key in (None, known) and self._lives(known):
                self._listen[known] = market, account, self._wall()
                return known
        raise Refused(400, -1125, "This listenKey does not exist.")

    def closed(self, market: Market, account: str, key: str | None) -> None:
        """Give a listen key up; who listens by it is cut off.

        Raises
        ------
        Refused : if there is none.
        """
        known = self.renewed(market, account, key)
        del self._listen[known]
        for user in list(self._heard.get((market, account), ())):
            if user.key == known:
                user.end(GOING_AWAY)

    def expire(self, market: Market, account: str) -> int:
        """Let an account's listen keys end, and return how many; listeners are told and cut off."""
        of_account = (market, account)
        found = [key for key, (of, name, _) in self._listen.items() if (of, name) == of_account]
        for key in found:
            del self._listen[key]
        for user in list(self._heard.get((market, account), ())):
            if user.key in found:
                at = self._markets.clock.now()
                user.hear({"e": "listenKeyExpired", "E": at, "listenKey": user.key})
                user.end(GOING_AWAY)
        return len(found)

    def listening(self, market: Market, account: str) -> int:
        """Return how many connections hear of an account."""
        return len(self._heard.get((market, account), ()))

    def _lives(self, key: str) -> bool:
        return key in self._listen and self._wall() - self._listen[key][2] < KEY_MS

    # What happens

    def order(
        self, account: Account, order: Order, what: str, at: int, trade: Trade | None = None
    ) -> None:
        """Tell of an order."""
        if order.algo:
            body = algo_report(order, account.orders.get(order.child), at)
        else:
            told = spot_report if order.market == "spot" else perp_report
            body = told(order, what, at, trade)
        self.tell(order.market, account.name, body)

    def wallet(self, account: Account, market: Market, listing: Listing, why: str, at: int) -> None:
        """Tell what a symbol's assets and position have become."""
        if market == "spot":
            body = spot_balances(account, listing, at)
        else:
            body = perp_account(self._markets, account, listing, why, at)
        self.tell(market, account.name, body)

    def tell(self, market: Market, account: str, body: Body) -> None:
        """Tell an account's listeners; all that they hear goes through here."""
        for user in list(self._heard.get((market, account), ())):
            if user.key and not self._lives(user.key):
                user.end(GOING_AWAY)
            else:
                user.hear(body)

    # Sockets

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; they go before those of the public streams."""
        found = [
            web.get(path, self._by_key(market))
            for market, paths in _PATHS.items()
            for path in paths
        ]
        return [*found, web.get("/ws-api/v3", self._by_signature)]

    def _by_key(self, market: Market) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            key = request.match_info.get("key") or request.query.get("listenKey", "")
            of, account, _ = self._listen.get(key, (market, "", 0))
            if not self._lives(key) or of != market:
                return Refused(400, -1125, "This listenKey does not exist.").response()
            user = _User(market, key)
            return await self._serve(request, user, account)

        return handle

    async def _by_signature(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, _User("spot", ""), None)

    async def _serve(
        self, request: web.Request, user: _User, account: str | None
    ) -> web.StreamResponse:
        def begin() -> None:
            if account is not None:
                self._join(user, account)

        return await converse(
            request, user, lambda text: json.dumps(self._answer(user, text)), self.laid, begin,
            lambda: self._leave(user),
        )  # fmt: skip

    def _join(self, user: _User, account: str) -> None:
        user.account = account
        self._heard.setdefault((user.market, account), set()).add(user)

    def _leave(self, user: _User) -> None:
        for heard in self._heard.values():
            heard.discard(user)

    def _answer(self, user: _User, text: str) -> Body:
        number: Any = None
        try:
            asked = json.loads(text)
            number, method = asked.get("id"), asked["method"]
            params = {str(k): str(v) for k, v in (asked.get("params") or {}).items()}
            result = self._done(user, method, params)
        except (ValueError, KeyError, TypeError, AttributeError):
            refused = Refused(400, -1100, "Illegal characters found in request.")
        except Refused as error:
            refused = error
        else:
            return {"id": number, "status": 200, "result": result}
        told = {"code": refused.code, "msg": refused.text}
        return {"id": number, "status": refused.status, "error": told}

    def _done(self, user: _User, method: str, params: dict[str, str]) -> Body:
        if method == "ping":
            return {}
        if method == "time":
            return {"serverTime": self._markets.clock.now()}
        if user.key or method not in _METHODS:
            raise Refused(400, -1000, f"Unknown method '{method}'.")
        if method == "userDataStream.unsubscribe":
            self._leave(user)
            return {}
        signature = params.pop("signature", "")
        text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        question = Question(params.get("apiKey", ""), text, signature, params)
        if not question.key:
            raise refuse.bad_key()
        self._join(user, self._keys.signed(question).account)
        return {"subscriptionId": 0}


_METHODS = ("userDataStream.subscribe.signature", "userDataStream.unsubscribe")


class _User(Listener):
    """One connection; without a listen key it subscribes by a signature."""

    def __init__(self, market: Market, key: str) -> None:
        super().__init__(market)
        self.key = key

    def names(self) -> list[str]:
        return [USER]

    def hear(self, body: Body) -> None:
        told = body if self.key else {"subscriptionId": 0, "event": body}
        self.put(USER, json.dumps(told, separators=(",", ":")))
