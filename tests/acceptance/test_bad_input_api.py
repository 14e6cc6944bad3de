"""Whatever a caller sends: one clear error in one shape, and the desk goes on deciding."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.acceptance.running import NO_LIMITS, Running, conclave, start

pytestmark = pytest.mark.timeout(600)

JSON = {"content-type": "application/json"}
LIMIT = 64 * 1024
SIGNALS = "/v1/signals"
SHAPE = {"code", "message", "hint", "request_id"}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A system in one process on a free port; a bar every half second."""
    running = start(
        tmp_path_factory.mktemp("bad_input") / "var",
        ["--local", "--speed", "600", "--set", "WARM_UP_DAYS=2", *NO_LIMITS],
    )
    try:
        yield running.ready()
    finally:
        running.stop()


@pytest.fixture
def client(local: Running) -> Iterator[httpx.Client]:
    with local.client() as client:
        yield client


def refused(reply: httpx.Response, status: int, code: str) -> dict[str, str]:
    """The error of a reply, after checking that it looks as all errors do."""
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert set(body) == {"error"}
    error: dict[str, str] = body["error"]
    assert set(error) == SHAPE
    assert error["code"] == code
    assert error["message"]
    assert "Traceback" not in reply.text
    assert error["request_id"] == reply.headers["x-request-id"]
    return error


def padded(size: int) -> bytes:
    """A good request of exactly that many bytes."""
    head, tail = b'{"symbol":"BTC/USDT"', b"}"
    return head + b" " * (size - len(head) - len(tail)) + tail


@pytest.mark.long
@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"symbol": "DOGE/USDT"}, 404, "not_found", "'DOGE/USDT'"),
        ({"symbol": "BTC/USDT:USDT"}, 404, "not_found", "is not followed"),
        ({"symbol": "???"}, 422, "usage", "must name base and quote (got '???')"),
        ({"symbol": ""}, 422, "usage", "symbol: must name base and quote"),
        ({"symbol": "BTC/USDT\0"}, 422, "usage", "symbol"),
        ({"symbol": "B" * 41}, 422, "invalid_request", "symbol: must have at most 40"),
        ({"symbol": 1}, 422, "invalid_request", "symbol: must be a valid string (got 1)"),
        ({"symbol": None}, 422, "invalid_request", "(got None)"),
        ({"symbol": ["BTC/USDT"]}, 422, "invalid_request", "symbol"),
        ({}, 422, "invalid_request", "symbol: Field required"),
        ({"symbol": "BTC/USDT", "sybmol": 1}, 422, "invalid_request", "sybmol"),
        ({"symbol": "BTC/USDT", "timeframe": "7x"}, 422, "usage", "decides on 5m (got '7x')"),
        ({"symbol": "BTC/USDT", "strategy": "luck"}, 422, "usage", "council (got 'luck')"),
        ({"symbol": "BTC/USDT", "as_of": "yesterday"}, 422, "usage", "must be ISO-8601"),
        ({"symbol": "BTC/USDT", "as_of": "0001-01-01T00:00:00+14:00"}, 422, "usage", "1970"),
        ({"symbol": "BTC/USDT", "as_of": "9999-12-31T23:59:59.9999"}, 422, "usage", "9999"),
        ({"symbol": "BTC/USDT", "as_of": "2025-01-02T12:03:00Z"}, 404, "not_found", "12:03:00Z"),
        ({"symbol": "BTC/USDT", "as_of": "2035-01-01"}, 404, "not_found", "2035-01-01"),
        ({"symbol": "BTC/USDT", "as_of": 5}, 422, "invalid_request", "as_of"),
    ],
)
def test_signals_when_a_field_is_wrong_then_the_error_names_it_and_its_value(
    client: httpx.Client, body: dict[str, Any], status: int, code: str, says: str
) -> None:
    error = refused(client.post(SIGNALS, json=body), status, code)
    assert says in error["message"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b'"BTC/USDT"', 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'{"symbol": NaN}', 422, "invalid_request"),
        (b'{"symbol": 1e999}', 422, "invalid_request"),
        (b'{"symbol": "BTC/USDT", "as_of": -Infinity}', 422, "invalid_request"),
        (b'{"symbol": "\\ud800"}', 422, "invalid_request"),
        (b'{"symbol": "BTC', 400, "bad_json"),
        (b'{"symbol": "BTC/USDT"} {}', 400, "bad_json"),
        (b"symbol=BTC/USDT", 400, "bad_json"),
        (b"\0" * 64, 400, "bad_json"),
        (b'{"symbol": "\xff\xfe"}', 400, "bad_json"),
        (b'{"symbol": ' + b"9" * 5000 + b"}", 400, "bad_json"),
        (b"[" * 30_000, 400, "bad_json"),
        (b"[" * 30_000 + b"]" * 30_000, 400, "bad_json"),
        (b'{"a":' * 10_000, 400, "bad_json"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_signals_when_the_body_is_no_request_then_it_is_refused(
    client: httpx.Client, content: bytes, status: int, code: str
) -> None:
    refused(client.post(SIGNALS, content=content, headers=JSON), status, code)


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "application/xml"])
def test_signals_when_the_content_type_is_not_json_then_415_says_so(
    client: httpx.Client, kind: str
) -> None:
    reply = client.post(SIGNALS, content=padded(64), headers={"content-type": kind})
    assert "application/json" in refused(reply, 415, "unsupported_media_type")["message"]


def test_body_when_it_outgrows_64_kib_then_413_however_it_is_sent(client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1024):
            yield b" " * 1024

    assert client.post(SIGNALS, content=padded(LIMIT), headers=JSON).status_code == 200
    for content in (padded(LIMIT + 1), padded(1024 * 1024), pieces()):
        error = refused(client.post(SIGNALS, content=content, headers=JSON), 413, "body_too_large")
        assert str(LIMIT) in error["message"]
    whole = [padded(64)[:9], padded(64)[9:]]
    assert client.post(SIGNALS, content=iter(whole), headers=JSON).status_code == 200


@pytest.mark.parametrize("route", [SIGNALS, "/v1/trades", "/v1/orders"])
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", "limit=abc", "limit=1.5", "limit=", "limit=nan",
     "limit=" + "9" * 30, "cursor=abc", "cursor=-1", "cursor=", "cursor=%00", "cursor=%C2%B2",
     "cursor=%D9%A3", "cursor=9223372036854775808", "cursor=" + "9" * 300],
    ids=lambda value: value[:28],
)  # fmt: skip
def test_list_when_limit_or_cursor_is_none_then_422_names_it(
    client: httpx.Client, route: str, query: str
) -> None:
    reply = client.get(f"{route}?{query}")
    error = refused(reply, 422, reply.json()["error"]["code"])
    assert error["code"] in {"invalid_request", "usage"}
    assert error["message"].startswith(query.partition("=")[0])


@pytest.mark.parametrize(
    "query",
    ["/v1/signals?symbol=zzz", "/v1/signals?symbol=" + "A" * 9000, "/v1/agents/weights?symbol=%00",
     "/v1/equity?points=1", "/v1/equity?points=nan", "/v1/equity?points=5001"],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_read_when_a_parameter_is_out_of_range_then_422(client: httpx.Client, query: str) -> None:
    reply = client.get(query)
    refused(reply, 422, reply.json()["error"]["code"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nope", 404),
        ("/v1/signals/", 404),  # no redirect made from the Host header
        ("/v1/signals/unknown", 404),
        ("/v1/signals/unknown/why", 404),
        ("/v1/trades/unknown", 404),
        ("/v1/signals/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/signals/%2e%2e/%2e%2e/api_token", 404),
        ("/v1/signals/a/b/why", 404),
        ("/v1/signals/%00", 422),
        ("/v1/signals/a%0d%0aSet-Cookie:x", 422),
        ("/v1/signals/'%20OR%201=1--", 422),
        ("/v1/trades/" + "a" * 5000, 422),
    ],
    ids=lambda value: str(value)[:36],
)
def test_path_when_nothing_is_there_then_the_error_is_clear_and_leaks_nothing(
    client: httpx.Client, path: str, status: int
) -> None:
    reply = client.get(path)
    refused(reply, status, "not_found" if status == 404 else "invalid_request")
    assert "set-cookie" not in reply.headers
    assert len(reply.text) < 1000


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_method_when_a_route_does_not_take_it_then_405_says_which_it_takes(
    client: httpx.Client, method: str
) -> None:
    reply = client.request(method, "/v1/risk/kill")
    assert "POST" in refused(reply, 405, "method_not_allowed")["hint"]
    assert reply.headers["allow"] == "POST"


def test_request_id_when_given_then_it_is_kept_only_if_it_is_one_plain_word(
    client: httpx.Client,
) -> None:
    def answered(given: str) -> str:
        return client.get("/nope", headers={"x-request-id": given}).json()["error"]["request_id"]

    assert answered("order-17.a") == "order-17.a"
    for odd in ("a" * 65, "a b", "<script>", ""):
        assert re.fullmatch(r"[0-9a-f]{16}", answered(odd))


def writing_routes(client: httpx.Client) -> list[tuple[str, str]]:
    """Every route that changes something, as the API itself lists them, and the internal one."""
    paths = client.get("/openapi.json").json()["paths"]
    known = [
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if method in {"post", "put", "patch", "delete"} and path != SIGNALS
    ]
    return [*known, ("POST", "/internal/opinions"), ("POST", "/nope"), ("DELETE", SIGNALS)]


def test_write_when_the_token_is_missing_or_wrong_then_401_before_the_body_is_looked_at(
    client: httpx.Client, local: Running
) -> None:
    routes = writing_routes(client)
    assert {("POST", "/v1/risk/kill"), ("POST", "/v1/risk/arm")} <= set(routes)
    token = local.token
    headers: list[dict[str, str | bytes]] = [
        {}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"},
        {"Authorization": "Bearer"}, {"Authorization": f"Bearer {token} {token}"},
        {"Authorization": f"Bearer {token[:-1]}"}, {"Authorization": b"Bearer \xff\xfe"},
        {"X-Api-Key": token},
    ]  # fmt: skip
    for method, path in routes:
        for given in headers:
            for content in (b"{}", b"{", padded(LIMIT + 1)):
                reply = client.request(
                    method, f"{path}?token={token}", content=content, headers={**JSON, **given}
                )
                assert token not in reply.text
                refused(reply, 401, "unauthorized")
                assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("path", "content", "status", "code"),
    [
        ("/v1/risk/kill", b"{", 400, "bad_json"),
        ("/v1/risk/kill", b"[]", 422, "invalid_request"),
        ("/v1/risk/kill", json.dumps({"why": "x" * 401}).encode(), 422, "invalid_request"),
        ("/v1/risk/kill", b'{"why": "\\u001b[31m"}', 422, "invalid_request"),
        ("/v1/risk/kill", b'{"why": "\\u0000"}', 422, "invalid_request"),
        ("/v1/risk/arm", b'{"confirm": 1}', 422, "invalid_request"),
        ("/internal/opinions", b"\xff", 400, "bad_json"),
        ("/internal/opinions", b"[]", 422, "invalid_request"),
        ("/internal/opinions", b'{"items": 5}', 422, "invalid_request"),
        ("/internal/opinions", b'{"items": [5]}', 422, "invalid_request"),
        ("/internal/opinions", b'{"items": [{"symbol": "X", "as_of": 1}]}', 404, "not_found"),
        ("/internal/opinions", b'{"items": [{"symbol": "X", "as_of": 1e400}]}', 422,
         "invalid_request"),
        ("/internal/opinions", b'{"items": [{"symbol": "X", "as_of": 99999999999999999999}]}', 422,
         "invalid_request"),
    ],
)  # fmt: skip
def test_write_when_the_bearer_sends_nonsense_then_it_is_refused(
    local: Running, path: str, content: bytes, status: int, code: str
) -> None:
    with local.authorised() as client:
        refused(client.post(path, content=content, headers=JSON), status, code)
        assert client.get("/v1/risk/state").json()["mode"] == "ACTIVE"


def test_kill_when_reason_and_codes_are_odd_then_the_desk_lives_and_arms_with_the_right_code(
    local: Running,
) -> None:
    with local.authorised() as client:
        why = "[/red] <b>née</b> 💥"
        assert client.post("/v1/risk/kill", json={"why": why}).json()["mode"] == "KILLED"
        assert client.get("/v1/risk/state").json()["why"] == why
        page = client.get("/").text
        assert "<b>née</b>" not in page
        code = client.post("/v1/risk/arm", json={}).json()["confirm"]
        for wrong in ("é", "000000", code + " ", "💥"):
            error = refused(client.post("/v1/risk/arm", json={"confirm": wrong}), 422, "usage")
            assert "confirm" in error["message"]
        assert client.post("/v1/risk/arm", json={"confirm": code}).json()["mode"] == "ACTIVE"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"POST /v1/signals HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/signals HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/signals HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{",
        b"POST /v1/signals HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n",
        b"POST /v1/signals HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["no http", "negative", "letters", "huge", "bad chunk", "two lengths"],
)
def test_server_when_the_request_breaks_http_then_it_answers_4xx_and_hangs_up(
    local: Running, sent: bytes
) -> None:
    plan = local.plan
    with socket.create_connection((plan["host"], plan["port"]), timeout=10) as raw:
        raw.sendall(sent)
        answer = b""
        while chunk := raw.recv(65536):
            answer += chunk
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert b"Traceback" not in answer


@pytest.mark.long
def test_up_when_its_var_dir_or_port_is_taken_then_one_line_says_so_and_the_first_runs_on(
    local: Running, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = (local.var_dir / "run.json").read_bytes()
    other = tmp_path_factory.mktemp("other")
    with ThreadPoolExecutor(2) as pool:
        flags = ("up", "--local", "--set", f"API_PORT={local.plan['port']}")
        second = pool.submit(conclave, local.var_dir, "up", "--local", "--set", "API_PORT=0")
        taken = pool.submit(conclave, other, *flags)
    lines = [done.result().stderr.strip().splitlines() for done in (second, taken)]
    assert [second.result().returncode, taken.result().returncode] == [4, 2]
    assert [line[0].partition(" (got")[0] for line in lines] == [
        "error: conclave: is already running on this VAR_DIR",
        "error: API_PORT: this port is taken by another program",
    ]
    assert [len(line) for line in lines] == [2, 2]  # what is wrong, what to do
    assert (local.var_dir / "run.json").read_bytes() == before
    assert not (other / "run.json").exists()


def test_system_when_all_this_was_sent_then_it_still_decides_and_its_ledger_verifies(
    client: httpx.Client, local: Running
) -> None:
    def decided() -> int:
        return int(client.get("/v1/system/health").json()["desk"]["decided"])

    first = decided()
    local.until(20, lambda: decided() >= first + 3, "three more decisions")
    signal_ = client.post(SIGNALS, json={"symbol": "BTC-USDT"})
    assert signal_.json()["symbol"] == "BTC/USDT"
    assert client.get("/v1/system/health").json()["status"] == "ok"

    begun = time.monotonic()
    assert local.stop(signal.SIGTERM) == 130
    assert time.monotonic() - begun < 30
    told = local.output.read_text() + "".join(
        path.read_text() for path in (local.var_dir / "logs").glob("*.jsonl")
    )
    assert "Traceback" not in told
    done = conclave(local.var_dir, "ledger", "verify")
    assert (done.returncode, done.stderr) == (0, "")
