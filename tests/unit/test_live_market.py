"""Closes of several symbols put together: what is late, what is early, and what breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from data.sources.live_market import LiveMarket
from domain.errors import UsageError
from domain.market import Bar, BarFrame, Instant

SPOT, PERP, OTHER = "BTC/USDT", "BTC/USDT:USDT", "ETH/USDT"
MINUTE = 60_000


def bar(symbol: str, minute: int) -> Bar:
    return Bar(symbol, "1m", minute * MINUTE, 100.0, 101.0, 99.0, 100.5, 1.0)


@dataclass(frozen=True)
class Gone:
    """A wait until so many closes have gone out."""

    n: int


class Script:
    """A feed that says what is written: bars, waits in seconds or for closes, and errors."""

    found: Sequence[Instant] = ()  # closes that have gone out

    def __init__(self, symbol: str, *said: int | float | Gone | Exception) -> None:
        self.symbols = {symbol.replace("/", ""): symbol}
        self.symbol, self.said = symbol, list(said)
        self.last: dict[Any, int] = {}

    async def bars(self) -> AsyncGenerator[Bar]:
        while self.said:
            one = self.said.pop(0)
            if isinstance(one, Exception):
                raise one
            if isinstance(one, float):
                await asyncio.sleep(one)
            elif isinstance(one, Gone):
                while len(self.found) < one.n:
                    await asyncio.sleep(0.005)
            else:
                yield bar(self.symbol, one)
        await asyncio.Event().wait()


async def nothing(symbol: str, first: int) -> BarFrame:
    return BarFrame.join(symbol, "1m", [])


def told(
    *feeds: Script, routes: dict[str, str], n: int, patience: float = 0.2
) -> tuple[list[Instant], LiveMarket]:
    market = LiveMarket("x", "1m", 0, routes, feeds, [], {}, nothing, patience)  # type: ignore[arg-type]

    async def run() -> list[Instant]:
        found: list[Instant] = []
        for feed in feeds:
            feed.found = found
        after = dict.fromkeys(routes, -MINUTE)
        async with asyncio.timeout(60), aclosing(market.instants(after)) as coming:
            async for instant in coming:
                found.append(instant)
                if len(found) == n:
                    break
        return found

    return asyncio.run(run()), market


def minutes(found: Sequence[Instant]) -> list[tuple[list[int], list[int]]]:
    return [
        ([one.open_ms // MINUTE for one in each.bars],
         [one.open_ms // MINUTE for one in each.executed.values()])
        for each in found
    ]  # fmt: skip


def test_closes_when_both_markets_tell_in_any_order_then_they_go_out_together() -> None:
    found, market = told(
        Script(SPOT, 0, 0.02, 1, 2), Script(PERP, 0.01, 0, 1, 0.03, 2),
        routes={SPOT: PERP}, n=3, patience=5.0,
    )  # fmt: skip
    assert minutes(found) == [([0], [0]), ([1], [1]), ([2], [2])]
    assert market.late == 0


def test_closes_when_the_executing_market_is_away_then_they_go_out_and_its_bars_follow() -> None:
    found, market = told(
        Script(SPOT, 0, 1, Gone(3), 2), Script(PERP, 0, Gone(2), 1, Gone(3), 2),
        routes={SPOT: PERP}, n=4,
    )  # fmt: skip
    assert minutes(found) == [([0], [0]), ([1], []), ([], [1]), ([2], [2])]
    assert market.late == 1


def test_closes_when_the_forecast_market_is_away_then_what_it_is_executed_in_waits() -> None:
    found, market = told(
        Script(SPOT, 0, 0.6, 1, 2), Script(PERP, 0, 1, 2), routes={SPOT: PERP}, n=3,
    )  # fmt: skip
    assert minutes(found) == [([0], [0]), ([1], [1]), ([2], [2])]
    assert market.late == 0


def test_closes_when_one_pair_is_away_then_the_other_waits_no_longer_than_the_patience() -> None:
    found, _ = told(
        Script(SPOT, 0, 1), Script(OTHER, 0, Gone(2), 1), routes={SPOT: SPOT, OTHER: OTHER}, n=3,
    )  # fmt: skip
    assert [[one.symbol for one in each.bars] for each in found] == [[SPOT, OTHER], [SPOT], [OTHER]]


def test_feed_when_it_breaks_then_it_is_begun_anew_where_it_was() -> None:
    found, market = told(
        Script(SPOT, 0, TypeError("int()"), 1), Script(PERP, 0, 1), routes={SPOT: PERP}, n=2,
        patience=5.0,
    )  # fmt: skip
    assert minutes(found) == [([0], [0]), ([1], [1])]
    assert market.broken == 1


def test_feed_when_its_address_is_none_then_that_is_told() -> None:
    with pytest.raises(UsageError, match="needs an address"):
        told(Script(SPOT, UsageError("feed", "needs an address")), routes={SPOT: SPOT}, n=1)


def test_closes_when_the_forecast_market_has_a_hole_then_the_next_has_its_own_execution() -> None:
    found, _ = told(
        Script(SPOT, 0, 0.05, 2), Script(PERP, 0, 1, 2), routes={SPOT: PERP}, n=3,
    )  # fmt: skip
    assert minutes(found) == [([0], [0]), ([], [1]), ([2], [2])]
