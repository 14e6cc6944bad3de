"""Faults of questions over HTTP, as ccxt and a plain client meet them."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import ccxt
import pytest

from data.sources.exchange import connect
from tests.fault_scenes import Scene, scene
from tests.venue_server import key_for

BTC = "BTC/USDT"


@pytest.fixture(scope="module")
def served() -> Iterator[Scene]:
    with scene() as found:
        yield found


@pytest.fixture
def venue(served: Scene) -> Iterator[Scene]:
    yield served
    served.end()


@pytest.fixture
def spot(venue: Scene) -> Any:
    made = connect("binance", "spot", venue.url)
    made.apiKey, made.secret, made.enableRateLimit = key_for().key, key_for().secret, False
    made.load_markets()
    return made


def ask(venue: Scene, path: str, timeout: float = 10) -> Any:
    with urllib.request.urlopen(venue.url + path, timeout=timeout) as reply:
        return json.loads(reply.read())


@pytest.mark.parametrize(
    ("kind", "values", "error"),
    [
        ("error", {"status": 503}, ccxt.OperationFailed),
        ("error", {"status": 502, "body": "html"}, ccxt.ExchangeNotAvailable),
        ("rate_limit", {"retry_after_s": 7}, ccxt.DDoSProtection),
        ("ban", {"retry_after_s": 9}, ccxt.DDoSProtection),
        ("reset", {}, ccxt.NetworkError), ("timeout", {"seconds": 0.2}, ccxt.NetworkError),
        ("truncate", {}, ccxt.NetworkError),
    ],
)  # fmt: skip
def test_a_question_fails_as_its_fault_says(
    venue: Scene, spot: Any, kind: str, values: dict[str, Any], error: type[Exception]
) -> None:
    venue.fault(kind, times=1, **values)
    with pytest.raises(error):
        spot.fetch_ticker(BTC)
    if "retry_after_s" in values:
        assert spot.last_response_headers["Retry-After"] == str(values["retry_after_s"])
    assert spot.fetch_ticker(BTC)["last"] > 0  # the next is answered
    done = venue.faults()["done"][-1]
    assert (done["fault"], done["strikes"]) == (kind, 1)


@pytest.mark.parametrize("what", ["no_json", "wrong_types", "truncated", "huge"])
def test_an_answer_arrives_broken(venue: Scene, what: str) -> None:
    venue.fault("corrupt", what=what, times=1, kilobytes=1_000)
    with urllib.request.urlopen(f"{venue.url}/api/v3/time", timeout=10) as reply:
        text = reply.read().decode()
    if what == "huge":
        assert len(text) > 1_000_000
    elif what == "wrong_types":
        assert isinstance(json.loads(text)["serverTime"], list)
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    assert ask(venue, "/api/v3/time")["serverTime"] == venue.made.clock.now()


def test_half_an_answer_is_less_than_it_says(venue: Scene) -> None:
    venue.fault("truncate", times=1)
    reply = urllib.request.urlopen(f"{venue.url}/api/v3/exchangeInfo", timeout=10)
    with reply, pytest.raises(http.client.IncompleteRead) as told:
        reply.read()
    assert len(told.value.partial) == int(reply.headers["Content-Length"]) // 2


def test_an_answer_comes_late(venue: Scene) -> None:
    venue.fault("slow", seconds=0.3, times=1)
    began = time.monotonic()
    assert "serverTime" in ask(venue, "/api/v3/time")
    assert time.monotonic() - began >= 0.3
    venue.fault("slow", seconds=0.3, times=1)
    with pytest.raises(TimeoutError):
        ask(venue, "/api/v3/time", timeout=0.1)


def test_answers_are_as_old_as_they_are_said_to_be(venue: Scene) -> None:
    venue.now[0] += 600_000
    old = ask(venue, "/api/v3/aggTrades?symbol=BTCUSDT&limit=200")
    venue.fault("stale", age_s=300, paths="/api/v3/aggTrades")
    stale = ask(venue, "/api/v3/aggTrades?symbol=BTCUSDT&limit=80")
    assert stale == old[: 200 - 120][-80:]
    assert ask(venue, "/api/v3/time")["serverTime"] == venue.made.clock.now()  # another path
    bars = ask(venue, "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=3")
    assert bars[-1][0] == venue.made.clock.now() // 60_000 * 60_000


def test_a_young_order_is_not_known_where_answers_are_stale(venue: Scene, spot: Any) -> None:
    given = spot.create_order(BTC, "limit", "buy", 0.01, 90_000)
    venue.fault("stale", age_s=30, paths="GET /api/v3/order")
    with pytest.raises(ccxt.OrderNotFound, match="-2013"):
        spot.fetch_order(given["id"], BTC)
    venue.now[0] += 31_000
    assert spot.fetch_order(given["id"], BTC)["status"] == "open"


def test_a_wrong_clock_tells_stamps_and_refuses_by_its_own_time(venue: Scene, spot: Any) -> None:
    # more than ccxt lets a question be on its way
    before = venue.made.clock.now()
    venue.fault("skew", ms=12_000)
    assert spot.fetch_time() == before + 12_000
    last = ask(venue, "/api/v3/trades?symbol=BTCUSDT&limit=1")[0]
    assert last["time"] == last["id"] * 2_500 + 12_000
    assert ask(venue, "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1")[0][0] <= before
    with pytest.raises(ccxt.InvalidNonce, match="-1021"):
        spot.fetch_balance()
    venue.end()
    venue.fault("skew", ms=-12_000)
    with pytest.raises(ccxt.InvalidNonce, match="ahead"):
        spot.fetch_balance()
    venue.end()
    assert spot.fetch_balance()["USDT"]["total"] > 0


def test_only_the_named_are_struck(venue: Scene) -> None:
    venue.fault("error", market="perp", symbol="BTC*", paths="*/depth")
    with pytest.raises(urllib.error.HTTPError):
        ask(venue, "/fapi/v1/depth?symbol=BTCUSDT&limit=5")
    for path in ("/fapi/v1/depth?symbol=ETHUSDT&limit=5", "/api/v3/depth?symbol=BTCUSDT&limit=5",
                 "/fapi/v1/premiumIndex?symbol=BTCUSDT"):  # fmt: skip
        assert ask(venue, path)
    venue.end()
    venue.fault("error", account="other")
    assert ask(venue, "/api/v3/time")


def struck(venue: Scene, n: int) -> list[bool]:
    found = []
    for _ in range(n):
        try:
            ask(venue, "/api/v3/ping")
            found.append(False)
        except urllib.error.HTTPError:
            found.append(True)
    return found


def test_the_same_questions_meet_the_same_faults() -> None:
    def strikes() -> list[bool]:
        with scene() as venue:
            venue.fault("error", share=0.3)
            return struck(venue, 60)

    first = strikes()
    assert first == strikes()
    assert 5 < sum(first) < 35


def test_a_fault_begins_and_ends_when_it_is_said_to(venue: Scene) -> None:
    venue.fault("error", clock="market", from_s=60, for_s=60)
    seen = []
    for _ in range(4):
        seen += struck(venue, 1)
        venue.now[0] += 50_000
    assert seen == [False, False, True, False]
    venue.fault("error", from_s=600, for_s=600)
    seen = []
    for _ in range(3):
        seen += struck(venue, 1)
        venue.ahead[0] += 700_000
    assert seen == [False, True, False]


def test_faults_are_asked_for_listed_and_taken_back(venue: Scene) -> None:
    given = venue.fault("error", share=0.5)
    waits = venue.fault("halt", symbol="ETHUSDT", from_s=100, for_s=5)
    struck(venue, 20)
    told = venue.faults()
    [active], [waiting] = told["active"], told["waiting"]
    assert (active["id"], waiting["id"]) == (given["id"], waits["id"])
    assert active["strikes"] > 0
    assert told["counts"]["error"] >= active["strikes"]
    assert (waiting["symbol"], waiting["strikes"], waiting["first"]) == ("ETHUSDT", 0, None)
    assert venue.asked("DELETE", f"/{given['id']}") == (200, {"ended": 1})
    assert struck(venue, 20) == [False] * 20
    status, body = venue.asked("DELETE", f"/{given['id']}")
    assert (status, body["error"]["code"]) == (404, "not_found")
    assert venue.asked("DELETE") == (200, {"ended": 1})


def test_what_cannot_be_asked_for_is_refused_in_words(venue: Scene) -> None:
    for body, words in (
        ({"fault": "dropp"}, 'Did you mean "drop"?'), ({"fault": "drop", "share": 2}, "share"),
        ({}, "must say which fault"), (b"{", "must be sent as JSON"),
        ({"fault": "drop", "streams": "*@dpeth*"}, "fits nothing that this venue has"),
        ({"fault": "drop", "streams": "*@dpeth*"}, 'Did you mean "*@depth"?'),
        ({"fault": "drop", "symbol": "BTC/USDT"}, 'Did you mean "BTCUSDT"?'),
        ({"fault": "error", "paths": "GET /api/v3/kline"}, 'Did you mean "GET /api/v3/klines"?'),
        ({"fault": "listen_key", "account": "mian"}, 'Did you mean "main"?'),
    ):  # fmt: skip
        status, told = venue.asked("POST", body=body)
        assert status == 422
        assert words in told["error"]["message"] + told["error"]["hint"]
    for header, value in (("Host", "example.org"), ("Origin", "http://example.org")):
        status, told = venue.asked("GET", **{header: value})
        assert (status, told["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "target",
    [{"streams": "*@depth*"}, {"streams": "btcusdt@kline_5m"}, {"streams": "user"},
     {"streams": "*@depth@100ms"}, {"streams": "*@depth20@250ms"}, {"symbol": "btc*"},
     {"streams": "*@markPrice@1s"}, {"paths": "/api/v3/depth"}, {"paths": "POST *rder"},
     {"paths": "*klines"}, {"account": "m*"}, {"market": "perp"}],
)  # fmt: skip
def test_what_fits_something_is_taken(venue: Scene, target: dict[str, str]) -> None:
    kind = "error" if "paths" in target else "drop"
    assert venue.asked("POST", body={"fault": kind, **target})[0] == 201


def test_without_leave_nobody_can_ask_for_faults() -> None:
    from tests.venue_server import venue as plain

    with plain() as url:
        for method in ("GET", "POST", "DELETE"):
            request = urllib.request.Request(f"{url}/admin/faults", b"{}", method=method)
            with pytest.raises(urllib.error.HTTPError) as told:
                urllib.request.urlopen(request, timeout=10)
            assert told.value.code == 404
