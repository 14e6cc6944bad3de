"""Questions by HTTP at the next server while one fails: two local venues of one market."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from data.sources.exchange import Caller, connect
from data.sources.history import History
from data.sources.servers import Servers
from domain.errors import ServiceUnreachable
from serving.commands.common import settings_from
from serving.exchange_servers import http_at
from serving.live_feed import Place
from serving.local_exchange import answers, exchange_time
from serving.system import SystemClock
from sim.venue.market import VenueClock
from tests.command_line import Cli
from tests.relay import free_port
from tests.venue_server import BTC, Faults, markets, venue, wall


def socket_of(url: str) -> str:
    return url.replace("http", "ws", 1)


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("market", ["spot", "perp"])
def test_a_question_goes_to_the_backup_while_the_main_server_fails_and_back_when_that_does(
    market: str,
) -> None:
    main, beside = Faults(), Faults()
    with venue(main) as url, venue(beside) as backup:
        exchange = connect("binance", "perp" if market == "perp" else "spot", url)
        exchange.enableRateLimit = False
        waits, said = list[float](), list[str]()
        servers = Servers(exchange, (url, backup))
        history = History(Caller(exchange, waits.append, said.append, servers=servers))
        history.open()
        assert not beside.seen
        main.next = [503]
        history.now()
        assert len(said) == len(waits) == len(beside.seen) == 1
        assert f"again at {urlsplit(backup).netloc} in 1 s" in said[0]
        before = len(main.seen)
        history.now()  # it is not tried each time
        assert (len(main.seen), len(beside.seen)) == (before, 2)
        beside.next = [0]  # cut
        history.now()
        assert len(main.seen) == before + 1


def test_a_limit_is_waited_for_and_no_other_server_is_asked() -> None:
    main, beside = Faults(), Faults()
    main.headers = {"Retry-After": "7"}
    with venue(main) as url, venue(beside) as backup:
        exchange, waits = connect("binance", "spot", url), list[float]()
        history = History(Caller(exchange, waits.append, servers=Servers(exchange, (url, backup))))
        main.next = [429]
        history.now()
    assert waits == [7.0]
    assert not beside.seen


def test_a_place_whose_main_server_is_gone_asks_its_backup() -> None:
    clock = VenueClock(wall(), wall, 1.0)
    with venue() as backup:
        place = Place("binance", "spot", nobody(), clock, socket_of(backup))
        try:
            place.history.open()
            assert place.listed(BTC).symbol == BTC
        finally:
            place.let_go()
        assert place.servers.received > 1_000  # what it lists


def test_bytes_are_those_of_the_answers() -> None:
    with venue() as url:
        exchange = connect("binance", "spot", url)
        servers = Servers(exchange)
        exchange.fetch_time()
        assert servers.received == len(exchange.last_http_response)


def test_an_exchange_is_there_when_its_backup_is(tmp_path: Path) -> None:
    with venue(made=markets(speed=60.0)) as backup:
        sets = [f"VAR_DIR={tmp_path}", f"EXCHANGE_URL={nobody()}"]
        assert not answers(settings_from("exercise", None, sets))
        settings = settings_from("exercise", None, [*sets, f"feed.backup_url={socket_of(backup)}"])
        told = exchange_time(settings, SystemClock())
    assert told is not None
    assert told.speed == 60.0
    with pytest.raises(ServiceUnreachable, match="must tell its time"):
        exchange_time(settings, SystemClock())


def test_fetch_goes_on_at_the_backup(cli: Cli) -> None:
    with venue() as backup:
        code, out, err = cli(
            "data", "fetch", "--timeframe", "1h", "--bars", "5", "--no-funding", "--json",
            "--set", f"EXCHANGE_URL={nobody()}", "--set", f"feed.backup_url={socket_of(backup)}",
        )  # fmt: skip
    assert code == 0, err
    assert f"again at {urlsplit(backup).netloc}" in err
    assert json.loads(out)["items"][0]["stored"] == 5


def test_addresses_are_those_that_the_exchange_documents_or_the_settings_say() -> None:
    exchange = connect("binance", "spot")
    servers = Servers(exchange, http_at("binance", "spot", None, "wss://relay.example"))
    assert servers.next() == "api-gcp.binance.com"
    assert exchange.urls["api"]["public"] == "https://api-gcp.binance.com/api/v3"
    assert exchange.urls["api"]["fapiPublic"] == "https://fapi.binance.com/fapi/v1"
    assert servers.next() == "api.binance.com"
    assert exchange.urls["api"]["public"] == "https://api.binance.com/api/v3"
    for alone in (("binance", "perp", None, None), ("kraken", "spot", None, None),
                  ("binance", "spot", "http://127.0.0.1:8089", None)):  # fmt: skip
        name, market, url, backup = alone
        other = connect(name, market, url)
        assert Servers(other, http_at(name, market, url, backup)).next() is None
