"""Streams heard at another server while their own refuses: two local venues of one market."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import pytest

from domain.errors import SettingError
from domain.market import Instant
from domain.ports import LiveSource
from serving.commands.common import settings_from
from serving.feeds import Feed
from serving.live_feed import Place, live_feed
from serving.plan import RunPlan, VenueRun
from serving.settings import Settings
from sim.venue.faults.running import Faults
from sim.venue.faults.schedule import schedule_of
from sim.venue.market import Markets
from tests.venue_server import BTC, markets, venue, wall

SPEED = 60.0  # a minute each second
PERP = f"{BTC}:USDT"


@pytest.fixture
def made() -> Markets:
    return markets(speed=SPEED)


@pytest.fixture
def main(made: Markets) -> Iterator[str]:
    """Serve a venue whose perpetuals are cut off after two seconds and never told again."""
    cut = [{"fault": "refuse", "from_s": 2}, {"fault": "disconnect", "from_s": 2.1}]
    schedule = schedule_of({"faults": [{**one, "market": "perp"} for one in cut]}, "faults")
    with venue(made=made, struck=Faults(wall, made.clock.now, schedule)) as url:
        yield url


def chosen(folder: Path, url: str, *more: str) -> Settings:
    sets = [f"VAR_DIR={folder}", "TIMEFRAME=1m", f"EXCHANGE_URL={url}", "EXECUTION_MARKET=perp",
            "feed.reconnect_s=1", "feed.close_patience_s=2", *more]  # fmt: skip
    return settings_from("exercise", None, sets)


def plan(url: str, made: Markets) -> RunPlan:
    return RunPlan("live", "test", "exercise", SPEED, warm_up_days=1, exchange_url=url,
                   market=made.name)  # fmt: skip


def lived(feed: Feed, made: Markets, n: int) -> list[Instant]:
    """Return the next n closes."""
    source = feed.source
    assert isinstance(source, LiveSource)

    async def run() -> list[Instant]:
        found: list[Instant] = []
        after = {BTC: made.clock.now() // 60_000 * 60_000 - 60_000}
        async with asyncio.timeout(60), aclosing(source.instants(after)) as coming:
            async for instant in coming:
                found.append(instant)
                if len(found) == n:
                    break
        return found

    try:
        return asyncio.run(run())
    finally:
        feed.let_go()


def test_perpetuals_when_their_server_refuses_then_the_backup_tells_bars_books_and_trades(
    made: Markets, main: str, tmp_path: Path
) -> None:
    with venue(made=made) as backup:
        there = backup.replace("http", "ws")
        settings = chosen(tmp_path, main, f"feed.perp_backup_url={there}")
        feed = live_feed(plan(main, made), settings)
        found = lived(feed, made, 10)
    opens = [one.open_ms for each in found for one in each.executed.values()]
    assert [later - before for before, later in pairwise(opens)] == [60_000] * (len(opens) - 1)
    # the close in which it was cut may have gone out without it, and its bar followed
    assert [(len(each.bars), [*each.executed]) for each in found[-4:]] == [(1, [BTC])] * 4
    assert feed.ingest is not None
    assert feed.ingest.problem == ""
    source = feed.source
    history = source.books[PERP]  # type: ignore[union-attr]
    last = found[-1].bars[0].close_ms
    seen = history.at_close(last)
    assert seen is not None
    assert seen.view.book is not None
    assert last - seen.view.book.at < 30_000
    assert seen.view.trades
    assert last - seen.view.trades[-1].at < 30_000


def test_perpetuals_when_there_is_no_backup_then_closes_go_out_without_them(
    made: Markets, main: str, tmp_path: Path
) -> None:
    feed = live_feed(plan(main, made), chosen(tmp_path, main))
    found = lived(feed, made, 8)
    assert [[*each.executed] for each in found][-2:] == [[], []]


def test_the_local_exchange_of_a_run_when_a_backup_is_set_then_it_is_not_asked(
    made: Markets, main: str, tmp_path: Path
) -> None:
    port = int(main.rpartition(":")[2])
    own = RunPlan("demo", "demo-7", "exercise", SPEED, warm_up_days=1, exchange_url=main,
                  venue=VenueRun(port, made.clock.now(), wall()))  # fmt: skip
    settings = settings_from(
        "exercise", None, [f"VAR_DIR={tmp_path}", "TIMEFRAME=1m",
                           "feed.backup_url=wss://stream.binance.com:443"],
    )  # fmt: skip
    feed = live_feed(own, settings)
    feed.let_go()
    for one in feed.source.feeds:  # type: ignore[union-attr]
        assert len(one.urls) == 1


def test_addresses_are_those_that_the_exchange_documents_and_the_settings_say() -> None:
    def hosts(place: Place) -> list[str]:
        place.let_go()
        return [url.partition("?")[0] for url in place.streams("btcusdt@kline_1m", "market")]

    assert hosts(Place("binance", "spot", None)) == [
        "wss://stream.binance.com:9443/stream", "wss://stream.binance.com:443/stream",
    ]  # fmt: skip
    assert hosts(Place("binance", "perp", None)) == ["wss://fstream.binance.com/market/stream"]
    there = "wss://relay.example"
    assert hosts(Place("binance", "spot", None, backup=there))[1] == f"{there}/stream"
    assert hosts(Place("binance", "perp", None, backup=there))[1] == f"{there}/market/stream"
    local = "http://127.0.0.1:8089"
    assert hosts(Place("binance", "spot", local)) == ["ws://127.0.0.1:8089/stream"]
    assert hosts(Place("binance", "perp", local, backup="ws://127.0.0.1:8090")) == [
        "ws://127.0.0.1:8089/fstream/market/stream", "ws://127.0.0.1:8090/fstream/market/stream",
    ]  # fmt: skip


def test_backup_when_it_is_the_exchange_s_own_beside_another_server_then_it_is_refused(
    made: Markets, tmp_path: Path
) -> None:
    with venue(made=made) as url:
        settings = chosen(tmp_path, url, "feed.backup_url=wss://stream.binance.com:443")
        with pytest.raises(SettingError, match=r"feed.backup_url: must be of the market"):
            live_feed(plan(url, made), settings)
