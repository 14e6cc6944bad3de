"""Waiting for whoever may say nothing: nothing is lost, and there is a look at the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from data.sources.waiting import ticking

left: list[str] = []


async def said(*things: float | str) -> AsyncGenerator[str, None]:
    """Say the texts and wait for so many seconds in between."""
    try:
        for one in things:
            if isinstance(one, str):
                yield one
            else:
                await asyncio.sleep(one)
    finally:
        left.append("said")


async def heard(*things: float | str, n: int = 100) -> list[str | None]:
    found: list[str | None] = []
    async with aclosing(said(*things)) as one, aclosing(ticking(one, 0.05)) as told:
        async for each in told:
            found.append(each)
            if len(found) == n:
                break
    return found


def test_ticking_when_something_is_said_then_all_of_it_comes_in_order_and_none_in_between() -> None:
    found = asyncio.run(heard("a", "b", 0.2, "c", 0.2, "d"))
    assert [one for one in found if one is not None] == ["a", "b", "c", "d"]
    assert None in found[found.index("b") : found.index("c")]


def test_ticking_when_much_is_said_then_the_clock_is_looked_at_all_the_same() -> None:
    found = asyncio.run(heard(*["x", 0.01] * 20))
    assert found.count("x") == 20
    assert found.count(None) >= 2


def test_ticking_when_it_is_left_while_it_waits_then_what_it_listened_to_can_be_left() -> None:
    left.clear()
    assert asyncio.run(heard("a", 60.0, n=2)) == ["a", None]
    assert left == ["said"]


def test_ticking_when_what_is_heard_breaks_then_that_is_raised() -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "a"
        raise ConnectionResetError("cut")

    async def run() -> None:
        async with aclosing(broken()) as one, aclosing(ticking(one, 0.05)) as told:
            async for _ in told:
                pass

    with pytest.raises(ConnectionResetError):
        asyncio.run(run())


def test_ticking_when_its_reader_is_cancelled_then_that_is_all() -> None:
    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await heard(60.0)

    left.clear()
    asyncio.run(run())
    assert left == ["said"]
