"""Opinions through Serve, and what remains when Serve does not answer. The server is a real one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from agents.host import LocalAgent
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Needs
from domain.quantiles import Quantiles
from serving.opinions import InProcessOpinions, ServeOpinions
from serving.wire import opinion_from, opinion_to
from sim.backtest import plain_states
from sim.worlds import DEMO_START_MS, DemoMarket

STATE = list(plain_states(DemoMarket().bars(DEMO_START_MS, 20), bars=5))[-1]
SAID = Opinion(
    "technical", "v", STATE.symbol, STATE.timeframe, STATE.as_of, 5, 0.1 + 0.2,
    Quantiles((0.1, 0.5, 0.9), (-1 / 3, 1e-17, 2 / 7)), rationale="é", evidence={"a": [1, 0.1]},
)  # fmt: skip


class Light:
    """An agent in this process."""

    name, version, needs = "climatology", "v", Needs()

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [
            Opinion(self.name, self.version, s.symbol, s.timeframe, s.as_of, 5, 0.5, None)
            for s in states
        ]


@contextmanager
def server(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", asked
        finally:
            httpd.shutdown()
            thread.join()


def ask(url: str) -> tuple[Any, str]:
    async def run() -> tuple[Any, str]:
        async with httpx.AsyncClient(base_url=url) as client:
            here = InProcessOpinions({"climatology": LocalAgent(Light())}, 1.0)
            opinions = ServeOpinions(client, here, 1.0)
            return await opinions.ask([STATE]), opinions.via

    return asyncio.run(run())


def test_wire_when_an_opinion_travels_then_every_bit_arrives() -> None:
    assert opinion_from(json.loads(json.dumps(opinion_to(SAID)))) == SAID


def test_serve_opinions_when_serve_answers_then_its_opinions_are_used() -> None:
    reply = {"opinions": [[opinion_to(SAID)]], "absent": {"baseline": "deadline"}}
    with server(200, json.dumps(reply).encode()) as (url, asked):
        gathered, via = ask(url)
    assert via == "serve"
    assert dict(gathered.opinions[0]) == {"technical": SAID}
    assert gathered.absent == {"baseline": "deadline"}
    assert asked == [{"items": [{"symbol": STATE.symbol, "as_of": STATE.as_of}]}]


def test_serve_opinions_when_serve_fails_in_any_way_then_the_light_agents_here_answer() -> None:
    for status, body in (
        (503, b"{}"),
        (200, b"not json"),
        (200, b'{"opinions": [[{}]]}'),
        (200, b'{"opinions": [], "absent": {}}'),
    ):
        with server(status, body) as (url, _):
            gathered, via = ask(url)
        assert via == "in_process"
        assert set(gathered.opinions[0]) == {"climatology"}


def test_serve_opinions_when_nobody_listens_then_the_light_agents_here_answer() -> None:
    gathered, via = ask("http://127.0.0.1:9")
    assert via == "in_process"
    assert set(gathered.opinions[0]) == {"climatology"}
