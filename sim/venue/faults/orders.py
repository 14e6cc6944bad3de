"""Faults of orders: on their way in, and in what becomes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from sim.venue.accounts import Account
from sim.venue.fates import USUAL, Fate
from sim.venue.faults.model import Subject
from sim.venue.faults.running import Faults
from sim.venue.orders import Order
from sim.venue.refusals import Refused
from sim.venue.trading import Call, Passage, Take

_UNKNOWN = {
    -1006: (500, "An unexpected response was received from the message bus. Execution status "
                 "unknown."),
    -1007: (408, "Timeout waiting for response from backend server. Send status unknown; execution "
                 "status unknown."),
}  # fmt: skip
_REFUSED = {
    -1001: (500, "Internal error; unable to process your request. Please try again."),
    -1015: (429, "Too many new orders; current limit is 50 orders per 10 SECOND."),
}


class Troubled:
    """The passage of all orders, and their fates.

    Parameters
    ----------
    inner : the passage that there was.
    """

    def __init__(self, faults: Faults, inner: Passage) -> None:
        self._faults, self._inner = faults, inner
        self._path = ""  # of the request that is taken now

    async def __call__(self, request: web.Request, call: Call, take: Take) -> Any:
        """Let a request through, or only its effect, or nothing."""
        path = f"{request.method} {request.path}"
        subject = Subject(call.market, call.query.get("symbol", ""), "", path, call.account.name)

        def taken() -> Any:
            self._path = path
            return take()

        if (fault := self._faults.strike("refused", subject)) is not None:
            code = int(fault.value("code"))
            raise Refused(_REFUSED[code][0], code, _REFUSED[code][1])
        if (fault := self._faults.strike("unknown_status", subject)) is not None:
            await self._unheard(request, call, taken, effect=bool(fault.value("effect")))
            code = int(fault.value("code"))
            raise Refused(_UNKNOWN[code][0], code, _UNKNOWN[code][1])
        if (fault := self._faults.strike("no_answer", subject)) is not None:
            await self._unheard(request, call, taken, effect=bool(fault.value("effect")))
            await self._faults.hold(float(fault.value("seconds")))
            if request.transport is not None:
                request.transport.abort()
            return {}
        return await self._inner(request, call, taken)

    async def _unheard(self, request: web.Request, call: Call, take: Take, *, effect: bool) -> None:
        if effect:
            with contextlib.suppress(Refused):  # nobody hears why
                await self._inner(request, call, take)

    def fated(self, account: Account, order: Order) -> Fate:
        """Return what becomes of a new order."""
        subject = Subject(order.market, order.name, "", self._path, account.name)
        strike: Callable[..., Any] = self._faults.strike
        if (fault := strike("expire", subject)) is not None:
            return Fate(after_ms=int(fault.value("after_ms")), expires=True)
        if (fault := strike("late_fill", subject)) is not None:
            return Fate(after_ms=int(fault.value("after_ms")))
        if (fault := strike("partial", subject)) is not None:
            return Fate(part=Decimal(str(fault.value("part"))))
        return USUAL
