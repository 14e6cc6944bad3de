"""What perpetuals' funding stamps pay, asked for as soon as each is over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from data.files import Funding
from data.sources.waiting import backoff
from domain.errors import ConclaveError
from domain.times import HOUR_MS, iso

log = structlog.get_logger("feed")

_FIRST_S, _LONGEST_S = 1.0, 30.0  # between two questions for a rate that is not told yet
_LOOK_S = 60.0  # at least this often the clock is looked at
Ask = Callable[[str, int], Awaitable[Funding]]
"""(symbol, first ms) → what settled from there to now."""


class LiveFunding:
    """The settlements of some perpetuals.

    Parameters
    ----------
    every_ms : between two stamps, which are its multiples, by perpetual.
    ask : of the exchange; once, it may fail.
    now : market time, UTC ms. ``speed`` : market seconds a second.
    """

    def __init__(
        self, every_ms: Mapping[str, int], ask: Ask, now: Callable[[], int], speed: float,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self._ask, self._now, self._speed, self._every = ask, now, speed, dict(every_ms)
        self._rates: dict[tuple[str, int], float] = {}
        self._known = dict.fromkeys(self._every, 0)  # stamps up to here are known, or nobody's
        self._begun, self._changed = 0, set[str]()
        self._rng = random.Random(seed)  # noqa: S311 - spreads questions only

    def published(self, symbol: str, stamp: int) -> float | None:
        """Return what a stamp (ms) pays, fraction of notional; None where it is not known."""
        return self._rates.get((symbol, stamp))

    async def catch_up(self, after_ms: Mapping[str, int], patience_s: float = 20.0) -> None:
        """Ask for the stamps after the last bar known of each symbol (its open, ms).

        The bars since then come at once, and what is not known by then is charged by guess: so it
        is waited for, but not for ever.
        """
        self._begun = self._now()
        self._known = {symbol: after_ms.get(symbol, self._begun) for symbol in self._known}
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._ask_until_known()

    async def run(self) -> None:
        """Ask for every stamp once it is over, for ever."""
        while True:
            await self._ask_until_known()
            now = self._now()
            left = min(every - now % every for every in self._every.values())
            await asyncio.sleep(min(left / 1e3 / self._speed, _LOOK_S))

    async def _ask_until_known(self) -> None:
        failures = 0
        while not await self._look():
            failures += 1
            await asyncio.sleep(backoff(failures, _FIRST_S, _LONGEST_S, self._rng))

    async def _look(self) -> bool:
        """Ask for what is missing; return whether nothing is."""
        now = self._now()
        over = {symbol: now // every * every for symbol, every in self._every.items()}
        missing = [symbol for symbol, known in self._known.items() if known < over[symbol]]
        for symbol in missing:
            try:
                found = await self._ask(symbol, self._known[symbol] + 1)
            except ConclaveError as error:
                stamp = iso(over[symbol])
                log.warning("funding_unknown", symbol=symbol, stamp=stamp, why=error.message)
                continue
            hours = found.ts // HOUR_MS * HOUR_MS  # some are stamped a little late
            told = dict(zip(hours.tolist(), found.rate.tolist(), strict=True))
            self._rates |= {(symbol, stamp): rate for stamp, rate in told.items()}
            self._compare(symbol, told)
            self._known[symbol] = max(self._known[symbol], *told, 0)
        return all(known >= over[symbol] for symbol, known in self._known.items())

    def _compare(self, symbol: str, told: Mapping[int, float]) -> None:
        """Say once that a contract is settled at other hours than when it was listed."""
        every, after = self._every[symbol], max(self._known[symbol], self._begun)
        expected = range((after // every + 1) * every, max(told, default=0) + 1, every)
        others = {stamp for stamp in told if stamp > after}.symmetric_difference(expected)
        if others and symbol not in self._changed:
            self._changed.add(symbol)
            log.warning("funding_interval_changed", symbol=symbol, stamp=iso(min(others)),
                        what="charged at the old hours until the next start")  # fmt: skip
