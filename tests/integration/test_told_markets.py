"""A server that tells which market it has and how fast it goes, and what becomes of that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data.sources.exchange import connect
from data.sources.market_time import NAME, SPEED, market_time
from domain.errors import DataRefused
from serving.live_feed import clock_of
from serving.plan import RunPlan
from serving.settings import Settings, load_settings
from sim.venue.market import Markets
from tests.venue_server import markets, venue, wall


def running(name: str = "demo-7", speed: float = 60.0) -> Markets:
    made = markets(speed=speed)
    made.name = name
    return made


def settings(folder: Path, url: str) -> Settings:
    return load_settings(env={"VAR_DIR": str(folder), "EXCHANGE_URL": url}, profile=None)


def plan(url: str, speed: float = 60.0) -> RunPlan:
    return RunPlan("live", "w", "strict", speed, exchange_url=url, market="demo-7")


@contextmanager
def server(headers: dict[str, str]) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps({"serverTime": wall()}).encode())

        def log_message(self, *_: object) -> None:
            return

    made = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        made.server_close()


def test_a_venue_tells_its_time_its_speed_and_its_name() -> None:
    made = running()
    with venue(made=made) as url:
        began = wall()
        told = market_time(connect("binance", "spot", url), wall)
        assert 0 <= told.took <= wall() - began
        before = made.clock.now()
        ours = told.at + 60.0 * (wall() - told.wall)
        after = made.clock.now()
    assert (told.speed, told.market) == (60.0, "demo-7")
    unsure = 60 * (told.took + 2)  # of the answer, while it was on its way, and of rounding
    assert before - unsure <= ours <= after + unsure


def test_an_exchange_tells_its_time_only() -> None:
    with server({}) as url:
        told = market_time(connect("binance", "spot", url), wall)
    assert (told.speed, told.market) == (None, "")
    assert abs(told.at - told.wall) <= told.took + 1


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "fast", "100000"])
def test_a_speed_that_is_none_is_refused(speed: str) -> None:
    with server({SPEED: speed, NAME: "x"}) as url, pytest.raises(DataRefused, match=SPEED):
        market_time(connect("binance", "spot", url), wall)


def test_the_clock_of_a_run_follows_its_market_and_no_other(tmp_path: Path) -> None:
    made = running()
    with venue(made=made) as url:
        began = wall()
        clock = clock_of(plan(url), settings(tmp_path, url))
        unsure = 60 * (wall() - began + 2)
        before, ours, after = made.clock.now(), clock.now(), made.clock.now()
        assert before - unsure <= ours <= after + unsure
        with pytest.raises(DataRefused, match=r"began with, demo-7 at ×6.0 .*demo-7 at ×60"):
            clock_of(plan(url, speed=6.0), settings(tmp_path, url))
    with venue(made=running("demo-8")) as url, pytest.raises(DataRefused, match="demo-8 at ×60"):
        clock_of(plan(url), settings(tmp_path, url))
    with server({}) as url, pytest.raises(DataRefused, match="one that does not tell"):
        clock_of(plan(url), settings(tmp_path, url))
