"""Callers who mean no good, over real sockets: each is bounded, and others go on being served."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serving.http_server import MOST_CONNECTIONS, MOST_HEAD_BYTES
from serving.logs import configure_logging
from tests.api_world import PLAN, api_of, asking, run, served, settings_in, stand_still

PATIENCE = 1.0
HEAD = b"POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return patient(tmp_path, PATIENCE)


def patient(tmp_path: Path, seconds: float) -> FastAPI:
    """The API, with so much patience with bodies."""
    overrides = {
        "serving.patience_s": str(seconds), "serving.rate_reads": "0", "serving.rate_signals": "0",
    }  # fmt: skip
    return api_of(PLAN, settings_in(tmp_path, overrides=overrides))


class Raw:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def opened(cls, port: int, first: bytes = b"") -> Raw:
        raw = cls(*await asyncio.open_connection("127.0.0.1", port))
        raw.writer.write(first)
        return raw

    async def answer(self, seconds: float = 10.0) -> bytes:
        """Everything until the other side hangs up."""
        async with asyncio.timeout(seconds):
            return await self.reader.read(-1)

    def close(self) -> None:
        self.writer.close()


def refusal(answer: bytes) -> tuple[int, str]:
    """Status and code of a refusal, after checking that it looks as all errors do."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "hint", "request_id"}
    for name in (b"x-request-id", b"x-content-type-options: nosniff", b"connection: close"):
        assert name in head.lower()
    return status, error["code"]


def over_http(app: FastAPI, scene: Callable[[int], Any], patience: float = PATIENCE) -> None:
    async def played() -> None:
        async with served(app, patience) as port:
            await scene(port)

    run(played)


def test_server_when_a_head_or_body_does_not_arrive_then_408_within_the_patience(
    app: FastAPI,
) -> None:
    async def scene(port: int) -> None:
        begun = time.monotonic()
        slow = [
            await Raw.opened(port, b"GET /health/live HTT"),
            await Raw.opened(port, HEAD),
            await Raw.opened(port, HEAD + b"Content-Length: 20\r\n\r\n{"),
            await Raw.opened(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"),
        ]
        answers = [refusal(await raw.answer()) for raw in slow]
        assert answers == [
            (408, "head_too_slow"), (408, "head_too_slow"), (408, "body_too_slow"),
            (408, "body_too_slow"),
        ]  # fmt: skip
        assert PATIENCE <= time.monotonic() - begun < 9.0  # the usual patience is 10
        silent = await Raw.opened(port)
        assert await silent.answer(9.0) == b""

    over_http(app, scene)


@pytest.mark.long
def test_server_when_hundreds_drip_bytes_then_others_are_served_as_before(app: FastAPI) -> None:
    async def scene(port: int) -> None:
        async def latencies(count: int) -> list[float]:
            taken = []
            base = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=base, timeout=30.0) as client:
                for _ in range(count):
                    begun = time.monotonic()
                    assert (await client.get("/health/live")).status_code == 200
                    taken.append(time.monotonic() - begun)
            return taken

        before = statistics.median(await latencies(40))
        drips = [
            await Raw.opened(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n") for _ in range(300)
        ]

        async def drip() -> None:
            while True:
                for raw in drips:
                    raw.writer.write(b"X-A: b\r\n")
                await asyncio.sleep(0.2)

        dripping = asyncio.create_task(drip())
        during = await latencies(40)
        assert statistics.median(during) < max(0.1, 10 * before)
        assert max(during) < 10.0
        ended = await asyncio.gather(*(raw.answer() for raw in drips), return_exceptions=True)
        dripping.cancel()
        told = {refusal(answer) for answer in ended if isinstance(answer, bytes)}
        assert told <= {(408, "head_too_slow")}
        for one in ended:  # who still writes may lose the answer, and the connection all the same
            assert isinstance(one, bytes | ConnectionError)

    over_http(app, scene)


def test_server_when_a_head_is_too_large_then_431_however_it_comes(app: FastAPI) -> None:
    async def scene(port: int) -> None:
        line = b"X-Big: " + b"a" * 1000 + b"\r\n"
        whole = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + line * 40
        url = (
            b"GET /health/live?"
            + b"a" * (MOST_HEAD_BYTES + 1)
            + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        endless = (
            b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 2 * MOST_HEAD_BYTES
        )
        for sent in (whole + b"\r\n", whole, url, endless):
            raw = await Raw.opened(port, sent)
            assert refusal(await raw.answer()) == (431, "head_too_large")
        fits = (
            b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            + line * 20
            + b"\r\n"
        )
        assert (await (await Raw.opened(port, fits)).answer()).startswith(b"HTTP/1.1 200 ")

    over_http(app, scene)


def test_server_when_it_is_no_http_then_400_in_the_shape_all_errors_have(app: FastAPI) -> None:
    async def scene(port: int) -> None:
        for sent in (
            b"\x16\x03\x01 this is no HTTP\r\n\r\n", HEAD + b"Content-Length: -5\r\n\r\n",
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\nX-C: d\x00\r\n\r\n", b"GET\r\n\r\n",
        ):  # fmt: skip
            raw = await Raw.opened(port, sent)
            answer = await raw.answer()
            assert b"\r\n\r\n" in answer, (sent, answer)
            status, code = refusal(answer)
            assert (status, code) == (400, "bad_request"), sent
        upgrade = (
            b"GET /v1/stream2 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await (await Raw.opened(port, upgrade)).answer()
        assert answer.startswith(b"HTTP/1.1 404 ")

    over_http(app, scene)


def test_server_when_connections_are_kept_and_pipelined_then_each_request_is_answered(
    tmp_path: Path,
) -> None:
    long = 10.0  # nothing here is to be late

    async def scene(port: int) -> None:
        one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
        raw = await Raw.opened(port, (one + b"\r\n") * 3)
        await asyncio.sleep(0.5)
        raw.writer.write(one + b"Connection: close\r\n\r\n")
        assert (await raw.answer()).count(b"HTTP/1.1 200 OK") == 4
        body = b'{"symbol": "BTC/USDT", "more": 1}'
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        kept = await Raw.opened(port, HEAD + length + body)
        await asyncio.sleep(0.3)
        kept.writer.write(HEAD + b"Connection: close\r\n" + length[:9])
        await asyncio.sleep(0.2)
        kept.writer.write(length[9:] + body)
        assert (await kept.answer()).count(b"HTTP/1.1 422 ") == 2

    over_http(patient(tmp_path, long), scene, long)


@pytest.mark.long
def test_server_when_connections_are_too_many_then_the_next_is_told_so_and_a_free_one_serves(
    app: FastAPI,
) -> None:
    async def scene(port: int) -> None:
        some = [await Raw.opened(port, b"G") for _ in range(MOST_CONNECTIONS)]
        more = await Raw.opened(port)
        answer = await more.answer()
        assert refusal(answer) == (503, "overloaded")
        assert b"retry-after: 1" in answer.lower()
        for raw in some:
            raw.close()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for _ in range(100):
                try:
                    if (await client.get("/health/live")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError("nobody is served any more")

    over_http(app, scene, patience=60.0)  # all of them are still there when the next one comes


@pytest.mark.long
@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/v1/signals/../../../etc/passwd", "/v1/signals/%2e%2e%2f%2e%2e%2fapi",
     "//etc/passwd", "/v1/symbols/..%2f..%2fapi_token", "/v1/system/jobs/..", "/docs/../api_token",
     "/v1/signals/..%5c..%5capi_token", "/%00/api_token", "/v1/trades/....//....//api_token"],
)  # fmt: skip
def test_path_when_it_climbs_then_nothing_of_the_machine_is_told(
    app: FastAPI, tmp_path: Path, path: str
) -> None:
    token = (tmp_path / "api_token").read_text().strip()

    async def scene(port: int) -> None:
        raw = await Raw.opened(
            port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await raw.answer()
        assert re.match(rb"HTTP/1\.1 4(04|22|00) ", answer)
        assert token.encode() not in answer
        assert b"root:" not in answer

    over_http(app, scene)


def test_names_in_a_request_when_they_hold_line_breaks_then_no_header_and_no_log_line_is_forged(
    app: FastAPI, tmp_path: Path
) -> None:
    stop = configure_logging(tmp_path / "logs", "api", console=False)
    forged = "x\r\nX-Forged: yes\r\n\r\nlevel=error forged"

    async def scene(port: int) -> None:
        from urllib.parse import quote

        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for reply in (
                await client.get(f"/v1/signals/{quote(forged)}"),
                await client.get(f"/{quote(forged)}"),
                await client.get("/v1/signals", params={"symbol": forged, "cursor": forged}),
                await client.post("/v1/signals", json={"symbol": forged}),
            ):
                assert reply.status_code in (404, 422)
                assert "x-forged" not in reply.headers
        raw = await Raw.opened(
            port,
            b"GET /nope HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\tb\r\n"
            b"Connection: close\r\n\r\n",
        )
        assert re.search(rb"x-request-id: [0-9a-f]{16}\r\n", await raw.answer())

    over_http(app, scene)
    stop()
    for line in (tmp_path / "logs" / "api.jsonl").read_text().splitlines():
        assert json.loads(line)["process"] == "api"  # each line is one whole record


def test_limits_when_one_caller_asks_too_much_then_429_says_when_and_others_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(monkeypatch)
    overrides = {f"serving.rate_{kind}": "1" for kind in ("reads", "signals", "writes")}
    settings = settings_in(tmp_path, overrides=overrides)

    async def scene() -> None:
        async with asking(api_of(PLAN, settings), tmp_path) as world:
            ask = {
                "read": ("GET", "/v1/symbols", None),
                "signal": ("POST", "/v1/signals", {"symbol": "?"}),
                "write": ("POST", "/v1/symbols", {"symbol": "?"}),
            }
            for kind, (method, path, body) in ask.items():
                replies = [await world.ask(method, path, body) for _ in range(4)]
                codes = [reply.status_code for reply in replies]
                assert codes[:2] == [codes[0]] * 2
                assert 429 not in codes[:2]
                assert codes[2:] == [429, 429]
                error = replies[-1].json()["error"]
                assert error["code"] == "rate_limited"
                assert error["message"].startswith(f"{kind} requests: are limited to 1 a second")
                assert replies[-1].headers["retry-after"] == "1"
            codes = [
                (await world.ask(method, "/v1/symbols", token=token)).status_code
                for method, token in [("GET", None)] * 3 + [("POST", "wrong")] * 2
            ]
            assert codes[:3] == [200, 200, 429]
            assert codes[3:] == [429, 429]  # guessing is limited too
            assert (await world.ask("GET", "/health/live", token=None)).status_code == 200
            kills = [await world.ask("POST", "/v1/risk/kill", {"why": 5}) for _ in range(5)]
            assert {reply.status_code for reply in kills} == {422}  # never one too many

    run(scene)


def test_limits_when_more_ask_at_once_than_are_worked_on_then_503_says_when(
    tmp_path: Path,
) -> None:
    async def scene(port: int) -> None:
        waiting = [
            await Raw.opened(port, HEAD + b"Content-Length: 20\r\n\r\n{") for _ in range(156)
        ]
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=30.0) as client:
            async with asyncio.timeout(20):  # until it has read the heads of all of them
                while (reply := await client.get("/v1/symbols")).status_code == 200:
                    await asyncio.sleep(0.05)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert reply.json()["error"]["code"] == "overloaded"
            assert (await client.get("/health/live")).status_code == 200
            for raw in waiting:
                raw.close()
            for _ in range(100):
                try:
                    if (await client.get("/v1/symbols")).status_code == 200:
                        return
                except httpx.HTTPError:  # a kept connection may have been given up meanwhile
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError("it stays overloaded")

    over_http(patient(tmp_path, 60.0), scene, patience=60.0)  # all wait when the next one comes
