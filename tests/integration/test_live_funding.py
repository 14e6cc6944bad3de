"""Funding of a live market: asked of the venue, kept on the ledger, charged, and charged again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from data.files import Funding
from data.sources.live_funding import LiveFunding
from domain.market import Bar, SettledFunding
from domain.times import iso
from domain.trading import Fill, Posting
from execution.funding import BASE_RATE, INTERVAL_MS, settled
from execution.money import money
from serving.cli import run as conclave
from serving.live_feed import Place
from sim.venue.market import Markets, VenueClock
from sim.worlds import DEMO_START_MS, DemoMarket
from tests.live_stage import Stage, lived
from tests.venue_server import BTC, ETH, Faults, venue, wall

PERP = f"{BTC}:USDT"
DAY, MINUTE = 86_400_000, 60_000
STAMP = DEMO_START_MS + DAY + INTERVAL_MS
HELD = (
    "EXECUTION_MARKET=perp", "models.agents=climatology,microstructure",
    "feed.start_criteria=false", "PRED_HORIZON_STEPS=48",
    "execution.stop_atr=50", "execution.target_atr=50",  # held until the horizon, or turned
)  # fmt: skip


def worlds(speed: float, start: int) -> Markets:
    return Markets(
        {name: DemoMarket(7, name) for name in (BTC, ETH)}, VenueClock(start, wall, speed), seed=7
    )


def watched(market: Markets, url: str, speed: float) -> tuple[Place, LiveFunding]:
    place = Place("binance", "perp", url, market.clock)
    now = market.clock.now
    return place, LiveFunding({PERP: INTERVAL_MS}, place.settled, now, speed)


def their_rate(market: Markets, stamp: int) -> float:
    return market.funding_rate(market.listing("perp", "BTCUSDT"), stamp)


def test_stamps_since_the_last_bar_are_asked_for_at_once_and_later_ones_as_they_pass() -> None:
    speed = INTERVAL_MS / 1e3 / 1.5  # a stamp every second and a half
    market = worlds(speed, DEMO_START_MS + 4 * DAY + INTERVAL_MS // 2)
    with venue(made=market) as url:
        place, funding = watched(market, url, speed)
        first = market.clock.now() // INTERVAL_MS * INTERVAL_MS

        async def listen() -> int:
            await funding.catch_up({PERP: first - 2 * INTERVAL_MS})
            assert funding.published(PERP, first) == their_rate(market, first)
            assert funding.published(PERP, first - INTERVAL_MS) is not None
            assert funding.published(PERP, first - 2 * INTERVAL_MS) is None  # it had been charged
            running = asyncio.create_task(funding.run())
            last = first + 2 * INTERVAL_MS
            async with asyncio.timeout(60):
                while funding.published(PERP, last) is None:
                    await asyncio.sleep(0.02)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            return last

        last = asyncio.run(listen())
        place.let_go()
        stamps = range(first, last + 1, INTERVAL_MS)
        told = [funding.published(PERP, stamp) for stamp in stamps]
        assert told == [their_rate(market, stamp) for stamp in stamps]
        assert len(set(told)) > 1


def test_stamps_of_bars_that_were_missed_are_known_before_them_though_a_question_failed() -> None:
    market = worlds(0.0, DEMO_START_MS + 4 * DAY + 1)
    trouble = Faults()
    with venue(trouble, market) as url:
        place, funding = watched(market, url, 1.0)
        place.history.open()
        stamp = market.clock.now() // INTERVAL_MS * INTERVAL_MS
        trouble.next = [500, 0]
        asyncio.run(funding.catch_up({PERP: stamp - 3 * INTERVAL_MS}))
        place.let_go()
    rows = settled(PERP, stamp - 3 * INTERVAL_MS, stamp, funding.published)
    assert [row.rate for row in rows] == [their_rate(market, row.at) for row in rows]


def test_a_venue_that_does_not_answer_is_asked_again() -> None:
    market = worlds(0.0, DEMO_START_MS + 4 * DAY + 1)
    trouble = Faults()
    with venue(trouble, market) as url:
        place, funding = watched(market, url, 1.0)
        place.history.open()
        stamp = market.clock.now() // INTERVAL_MS * INTERVAL_MS
        trouble.next = [500, 0]

        async def listen() -> None:
            await funding.catch_up({PERP: stamp - 1}, patience_s=0.5)  # no bar waits for ever
            assert funding.published(PERP, stamp) is None
            running = asyncio.create_task(funding.run())
            async with asyncio.timeout(60):
                while funding.published(PERP, stamp) is None:
                    assert not running.done()
                    await asyncio.sleep(0.02)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

        asyncio.run(listen())
        place.let_go()
        assert funding.published(PERP, stamp) == their_rate(market, stamp)
        asked = [path for path in trouble.seen if f"startTime={stamp}&" in path]
        assert len(asked) == 3


def begun_before(tmp_path: Path, stamp: int, **more: Any) -> Stage:
    """A market half a minute of the wall before a stamp: time to start, and to decide in time."""
    return Stage(tmp_path / "var", speed=40.0, start=stamp - 20 * MINUTE, **more)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = begun_before(tmp_path, STAMP)
    made.open()
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.parametrize("forecast", [BTC, pytest.param(PERP, marks=pytest.mark.slow)])
def test_desk_pays_what_the_venue_published_and_parity_pays_it_again(
    stage: Stage, capsys: pytest.CaptureFixture[str], forecast: str
) -> None:
    pays(stage, STAMP, capsys, f"SYMBOLS={forecast}")


@pytest.mark.long
def test_desk_when_a_contract_is_settled_every_four_hours_then_it_pays_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = STAMP + INTERVAL_MS // 2
    stage = begun_before(tmp_path, stamp, funding_hours=4)
    stage.open()
    try:
        pays(stage, stamp, capsys)
    finally:
        stage.close()


def pays(stage: Stage, stamp: int, capsys: pytest.CaptureFixture[str], *more: str) -> None:
    """Live over a stamp: what the venue published is on the ledger, paid, and paid again."""
    lived(
        stage.desk("exercise", *HELD, *more), 1_000, until_ms=stamp + 2 * MINUTE,
        also=lambda: stage.rows(Posting, book="funding"),
    )  # fmt: skip
    rate = their_rate(stage.markets, stamp)
    assert rate != BASE_RATE
    assert stage.rows(SettledFunding) == [SettledFunding(PERP, stamp, rate)]
    bars = {one.open_ms: one for one in stage.rows(Bar, symbol=PERP)}
    paid = list(stage.rows(Posting, book="funding"))
    assert {row.at for row in paid} == {stamp}
    before = sum(fill.qty * fill.side.sign for fill in stage.rows(Fill) if fill.at < stamp)
    mark = Decimal(str(bars[stamp].open))
    assert sum(row.amount for row in paid) == money(mark * before * Decimal(str(rate)))
    capsys.readouterr()
    code = conclave(["parity", "--json", "--set", f"VAR_DIR={stage.var_dir}"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["same"], told["exact"]) == (0, True, True)


@pytest.mark.parametrize(
    ("listed", "settles", "told_of"), [(4, 4, None), (8, 8, None), (4, 8, 12), (8, 4, 12)]
)
def test_hours_that_change_meanwhile_are_told(
    listed: int, settles: int, told_of: int | None
) -> None:
    hour, day = 3_600_000, DEMO_START_MS + 4 * DAY
    now = [day + 11 * hour]

    async def settled_since(symbol: str, first: int) -> Funding:
        every = settles * hour if now[0] > day + 11 * hour else 8 * hour  # as it was before
        stamps = np.array([at for at in range(0, now[0] + 1, every) if at >= first], np.int64)
        return Funding(symbol, stamps, np.full(len(stamps), 1e-4))

    async def live() -> None:
        funding = LiveFunding({PERP: listed * hour}, settled_since, lambda: now[0], 1e7)
        await funding.catch_up({PERP: day - 1})
        running = asyncio.create_task(funding.run())
        now[0] = day + 16 * hour + 1
        async with asyncio.timeout(60):
            while funding.published(PERP, day + 16 * hour) is None:
                await asyncio.sleep(0.01)
        running.cancel()

    with capture_logs() as logs:
        asyncio.run(live())
    told = [one["stamp"] for one in logs if one["event"] == "funding_interval_changed"]
    assert told == ([] if told_of is None else [iso(day + told_of * hour)])
