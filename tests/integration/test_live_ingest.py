"""All timeframes from the venue while lines are cut, and what a desk makes of it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, WSMsgType, web

from data.book_history import BookHistory
from data.sources.live_ingest import LiveIngest
from data.start_criteria import Criterion, unmet
from data.timeframes import TIMEFRAMES
from domain.decision import Decision
from domain.market import Bar
from domain.times import timeframe_ms
from domain.trading import ModeChange, Order, RiskMode
from serving.cli import run as conclave
from serving.commands.common import settings_from
from serving.live_feed import Place, live_ingest, watchers
from serving.settings import Settings
from sim.venue.market import Markets
from tests.live_stage import Stage, holes, lived
from tests.venue_server import BTC, ETH, Faults, markets, venue

pytestmark = pytest.mark.timeout(600)

SPEED = 240.0  # a minute each quarter of a second
PATIENCE_S = 180.0  # with a machine that has other work
SYMBOLS = (BTC, ETH)
QUICK = ("feed.silence_s=1.5", "feed.reconnect_s=0.3", "feed.books=true")
Spoil = Callable[[str, int], str | None]
"""(message, how many came before it on this line) → what is passed on; None = the line is cut."""


def settings(var_dir: Path, *more: str) -> Settings:
    return settings_from("demo", None, [f"VAR_DIR={var_dir}", *QUICK, *more])


@asynccontextmanager
async def relayed(url: str, spoil: Spoil) -> AsyncIterator[str]:
    """Stand between ingest and venue: REST as it is, streams spoiled."""

    async def rest(request: web.Request) -> web.StreamResponse:
        async with ClientSession() as asking, asking.get(f"{url}{request.path_qs}") as reply:
            return web.Response(
                body=await reply.read(), status=reply.status, content_type="application/json"
            )

    async def stream(request: web.Request) -> web.StreamResponse:
        mine = web.WebSocketResponse()
        await mine.prepare(request)
        async with ClientSession() as asking:
            theirs = await asking.ws_connect(f"{url}{request.path_qs}")
            count = 0
            async for message in theirs:
                if message.type is not WSMsgType.TEXT:
                    break
                text = spoil(message.data, count)
                count += 1
                if text is None:
                    assert request.transport is not None
                    request.transport.abort()
                    break
                if text:
                    try:
                        await mine.send_str(text)
                    except ConnectionError:  # whoever listened has gone
                        break
        return mine

    app = web.Application()
    app.router.add_get("/stream", stream)
    app.router.add_get("/fstream/{route}/stream", stream)
    app.router.add_get("/{path:.*}", rest)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def heard(
    made: Markets,
    var_dir: Path,
    until: Callable[[LiveIngest], bool],
    spoil: Spoil | None = None,
    *more: str,
) -> LiveIngest:
    """Listen until something holds, and return what did."""

    async def listen(url: str) -> LiveIngest:
        chosen = settings(var_dir, *more)
        place = Place("binance", "spot", url)
        await asyncio.to_thread(place.history.open)
        books = {symbol: BookHistory(symbol, 300_000) for symbol in SYMBOLS}
        ingest = live_ingest(
            {"spot": place}, SYMBOLS, list(SYMBOLS), chosen, made.clock, made.clock.speed,
            simulated=True,
        )  # fmt: skip
        runs = [*watchers(place, books, ingest, chosen), ingest.run]
        tasks = [asyncio.create_task(run()) for run in runs]  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not until(ingest):
                    await asyncio.sleep(0.02)
                    for task in tasks:
                        assert not task.done(), task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return ingest

    async def run(url: str) -> LiveIngest:
        if spoil is None:
            return await listen(url)
        async with relayed(url, spoil) as between:
            return await listen(between)

    with venue(made=made) as url:
        return asyncio.run(run(url))


def agree(made: Markets, ingest: LiveIngest) -> None:
    """Every bar that is kept is the market's own, and none is missing."""
    for symbol, kept in ingest.kept.items():
        tape = made.tape(made.listing("spot", symbol.replace("/", "")))
        for name, one in kept.kept.items():
            frame = one.frame
            assert (one.gaps, one.invalid, one.whole) == (0, 0, len(frame))
            own = tape.bars(name, int(frame.ts[0]), len(frame), one.close_ms + timeframe_ms(name))
            for column in ("ts", "open", "high", "low", "close"):
                np.testing.assert_array_equal(getattr(frame, column), getattr(own, column))
            np.testing.assert_allclose(frame.volume, own.volume, rtol=1e-9)


def closes(ingest: LiveIngest, name: str = "1m") -> int:
    return min(kept.kept[name].close_ms for kept in ingest.kept.values())


@pytest.fixture
def made() -> Markets:
    return markets(speed=SPEED)


@pytest.fixture
def calm() -> Markets:
    """A market slow enough that stamps are within two seconds beside other work."""
    return markets(speed=60.0)


@pytest.mark.long
def test_six_timeframes_are_there_at_once_and_go_on(made: Markets, tmp_path: Path) -> None:
    start = made.clock.now()

    def there(one: LiveIngest) -> bool:
        return closes(one) > start + 60 * 60_000 and all(
            row["n"] >= 100 for row in one.report()["spreads"]
        )

    # Whether all of it is in time at this speed is the machine's matter; ``calm`` is for that. So
    # is a second without a message, which must not end a line here.
    ingest = heard(made, tmp_path, there, None, "feed.silence_s=30")
    agree(made, ingest)
    figures = ingest.figures()
    assert figures["different"] == 0
    assert figures["compared"] > 2 * (333 + 200 + 66 + 33 + 16)  # and those that closed meanwhile
    assert figures["reconnects"] == figures["garbage"] == 0
    assert {len(kept.kept["1m"].frame) for kept in ingest.kept.values()} == {1_000}
    report = ingest.report()
    assert [row["n"] for row in report["spreads"]] == [100, 100]
    assert all(0.5 < row["mean_bps"] < 3.0 for row in report["spreads"])


@pytest.mark.long
def test_lines_that_are_cut_lose_no_bar_of_any_timeframe_and_repeat_none(
    made: Markets, tmp_path: Path
) -> None:
    def spoil(text: str, count: int) -> str | None:
        if '"x":true' in text and re.search(r'"i":"(5m|30m)"', text):
            return ""  # lost on the way
        return None if count > 700 else text

    def mended(one: LiveIngest) -> bool:
        if closes(one) <= start + 60 * 60_000:
            return False
        figures = one.figures()  # a machine with other work may not have passed on enough yet
        return figures["reconnects"] >= 4 and figures["filled"] > 2 * (60 // 5 - 2)

    start = made.clock.now()
    ingest = heard(made, tmp_path, mended, spoil)
    agree(made, ingest)
    figures = ingest.figures()
    assert figures["different"] == 0


@pytest.mark.long
def test_a_bar_that_is_not_what_its_minutes_make_is_counted_and_told(
    calm: Markets, tmp_path: Path
) -> None:
    def spoil(text: str, count: int) -> str:
        if '"x":true' in text and '"i":"3m"' in text:
            body = json.loads(text)
            told = body["data"]["k"]
            told["h"] = str(float(told["h"]) + 1.0)
            return json.dumps(body)
        return text

    # A stream that is late is asked instead, and what it tells then is known: hence a calm one.
    ingest = heard(calm, tmp_path, lambda one: one.kept[BTC].different >= 3, spoil)
    kept = ingest.kept[BTC].kept
    assert kept["3m"].first is not None
    assert {name for name in TIMEFRAMES if kept[name].different} == {"3m"}


@pytest.mark.long
@pytest.mark.slow
def test_messages_that_are_lost_are_counted_and_keep_the_criteria_from_being_met(
    tmp_path: Path,
) -> None:
    made, wrong = markets(speed=120.0), list[Criterion]()

    def spoil(text: str, count: int) -> str:
        return "" if "@depth" in text and count // 40 % 5 == 0 else text

    def settled(one: LiveIngest) -> bool:
        wrong[:] = unmet(one.criteria())
        return [each.name for each in wrong] == ["messages"] and wrong[0].value is not None

    # a window of 240 prints: of two books and their trades, 200 messages in a row
    ingest = heard(made, tmp_path, settled, spoil, "feed.start_listen_s=600")
    assert not ingest.met
    assert wrong[0].value is not None
    assert 0.5 < wrong[0].value < 0.95
    assert "book updates" in wrong[0].said


@pytest.mark.long
def test_an_exchange_that_does_not_answer_is_asked_again_and_meanwhile_said(
    made: Markets, tmp_path: Path
) -> None:
    """Only REST fails; what is wrong is said, and all is there in the end."""
    problems: set[str] = set()
    trouble = Faults()

    async def listen(url: str) -> LiveIngest:
        place = Place("binance", "spot", url)
        await asyncio.to_thread(place.history.open)
        chosen = settings(tmp_path)
        ingest = live_ingest(
            {"spot": place}, (BTC,), [], chosen, made.clock, made.clock.speed, simulated=True
        )
        trouble.next = [0, 503, 0, 200, 503]
        task = asyncio.create_task(ingest.run())
        async with asyncio.timeout(PATIENCE_S):
            while not ingest.met:
                problems.add(ingest.problem)
                await asyncio.sleep(0.01)
        task.cancel()
        return ingest

    with venue(trouble, made=made) as url:
        ingest = asyncio.run(listen(url))
    agree(made, ingest)
    assert any("did not answer" in text for text in problems)
    # nobody watches books here: what they would tell is not measured, and stops nothing
    found: Mapping[str, Any] = {one.name: one.met for one in ingest.criteria()}
    assert found == {"bars": True, "messages": None, "stamps": None, "spread": None}


# The desk


@pytest.mark.long
def test_desk_when_the_feed_is_not_sure_then_it_decides_and_enters_nothing_until_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A bar each second: on a busy machine, too, it decides in time to enter once it may.
    stage = Stage(tmp_path / "var", speed=60.0)
    stage.open()
    exercise = ("EXECUTION_MARKET=perp", "models.agents=climatology")
    try:
        # it listens for six minutes of the market: 6 s
        desk = stage.desk("exercise", *exercise, "feed.start_listen_s=360")
        phases: list[str] = []

        def entered() -> bool:
            sure = desk.progress.feed is not None and desk.progress.feed["ready"]
            return sure and any(one.intent == "entry" for one in stage.rows(Order))

        lived(desk, 12, lambda _: phases.append(desk.progress.phase), also=entered)
        feed = desk.progress.feed
    finally:
        stage.close()
    assert any(re.fullmatch(r"waiting: .+ of \d+ (bars|s)", phase) for phase in phases)
    assert desk.progress.phase == "live"
    assert feed is not None
    assert feed["ready"]
    assert feed["different"] == feed["gaps"] == 0

    # By row, not by instant: beside other work a desk decides bars that closed a minute ago.
    ledger = stage.ledger()
    changes = list(ledger.records(ModeChange))
    assert [(one.mode, one.by) for _, one in changes] == [
        (RiskMode.REDUCING, "feed"), (RiskMode.ACTIVE, "feed"),
    ]  # fmt: skip
    held_at, let_in_at = (row for row, _ in changes)
    assert holes(stage.rows(Bar, symbol=BTC)) == []
    held = [
        one
        for row, one in ledger.records(Decision)
        if one.origin == "bar" and held_at < row < let_in_at
    ]
    # What is decided more than two bars late is refused for that alone.
    assert all({"risk_veto", "stale_data"} & set(one.reasons) for one in held)
    assert any("risk_veto" in one.reasons for one in held)
    entries = [row for row, one in ledger.records(Order) if one.intent == "entry"]
    assert entries
    assert min(entries) > let_in_at

    reports = sorted((stage.var_dir / "reports" / "ingest" / "history").glob("*.json"))
    assert len(reports) == 1
    body = json.loads(reports[0].read_text("utf-8"))
    assert [one["symbol"] for one in body["symbols"]] == [BTC]
    assert {one["name"]: one["met"] for one in body["criteria"]} == dict.fromkeys(
        ("bars", "messages", "stamps", "spread"), True
    )

    # What held entries is on the ledger: whoever trades the session again holds them as well.
    capsys.readouterr()
    code = conclave(["parity", "--json", "--set", f"VAR_DIR={stage.var_dir}"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["same"], told["inputs"]["mode_changes"]) == (0, True, 2)


@pytest.mark.long
@pytest.mark.slow
def test_desk_when_that_takes_too_long_then_it_says_so_and_goes_on_without_entries(
    tmp_path: Path,
) -> None:
    stage, spread = Stage(tmp_path / "var"), re.compile(r"BTC/USDT\S* \d+\.\d\d bps")
    stage.open()
    try:
        desk = stage.desk(
            "exercise", "EXECUTION_MARKET=perp", "models.agents=climatology",
            "feed.start_spread_bps=0.001", "feed.start_patience_min=0.03",
        )  # fmt: skip

        def told() -> bool:
            feed = desk.progress.feed
            return feed is not None and feed["late"] and spread.search(feed["waiting"])

        lived(desk, 30, also=told)
        feed = desk.progress.feed
    finally:
        stage.close()
    assert desk.progress.phase == "live"
    assert feed is not None
    assert (feed["late"], feed["ready"]) == (True, False)
    assert spread.search(feed["waiting"])
    assert [one.by for one in stage.rows(ModeChange)] == ["feed"]
    assert not [one for one in stage.rows(Order) if one.intent == "entry"]
    body = json.loads((stage.var_dir / "reports" / "ingest" / "latest.json").read_text("utf-8"))
    assert {one["name"]: one["met"] for one in body["criteria"]}["spread"] is False


# The command


def listened(made: Markets, var_dir: Path, *more: str) -> int:
    sets = [f"VAR_DIR={var_dir}", f"SYMBOLS={BTC},{ETH}:USDT"]
    words = ["data", "listen", "--seconds", "60"]
    with venue(made=made) as url:
        for one in (*sets, f"EXCHANGE_URL={url}"):
            words += ["--set", one]
        return conclave([*words, *more])


@pytest.mark.long
def test_listen_when_all_is_met_then_tables_say_so(
    calm: Markets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert listened(calm, tmp_path) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^ (bars|messages|stamps|spread) +(\w+)", told, re.MULTILINE) == [
        ("bars", "yes"), ("messages", "yes"), ("stamps", "yes"), ("spread", "yes"),
    ]  # fmt: skip
    assert told.count("volatility a day") == 2
    assert f"{ETH}:USDT, mean spread 1." in told


@pytest.mark.long
def test_listen_when_a_criterion_is_not_met_then_it_exits_1_and_names_it(
    calm: Markets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("--set", "START_SPREAD_BPS=0.001", "--set", "START_PATIENCE_MIN=0.06")
    assert listened(calm, tmp_path, "--json", *limits) == 1
    body = json.loads(capsys.readouterr().out)
    assert body["met"] is False
    assert "spread" in {one["name"] for one in body["criteria"] if one["met"] is False}
    assert {one["symbol"] for one in body["symbols"]} == {BTC, f"{ETH}:USDT"}


def test_listen_when_the_exchange_lacks_the_symbol_then_that_is_said(tmp_path: Path) -> None:
    words = ["data", "listen", "--set", f"VAR_DIR={tmp_path}", "--symbol", "NO/SUCH"]
    with venue() as url:
        assert conclave([*words, "--set", f"EXCHANGE_URL={url}"]) == 2


@pytest.mark.long
def test_up_when_the_exchange_keeps_another_time_then_that_is_said(tmp_path: Path) -> None:
    sets = (f"VAR_DIR={tmp_path}", "API_PORT=0")
    with venue() as url:
        words = ["up", "--source", "live", "--local", "--set", f"EXCHANGE_URL={url}"]
        done = subprocess.run(
            [sys.executable, "-m", "serving.cli", *words,
             *(word for one in sets for word in ("--set", one))],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert "must keep this machine's time" in done.stderr + done.stdout
