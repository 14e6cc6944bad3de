"""``data fetch`` by ccxt against the venue: paging, resume, waiting, and what must not be mixed."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.files import file_sha256, matching_funding, read_funding
from data.sources.exchange import TRIES, Caller, connect
from data.sources.history import PAGE, History
from data.store import BarStore
from domain.errors import DataRefused, ServiceUnreachable, UsageError
from domain.times import iso
from serving.fetching import ALL, Fetcher, Wanted, markets_of
from serving.settings import Settings, load_settings
from sim.progress import quiet
from sim.venue.faults.running import Faults as Running
from sim.venue.faults.schedule import schedule_of
from sim.venue.market import Markets
from sim.worlds import DEMO_START_MS, DemoMarket
from tests.command_line import Cli
from tests.venue_server import BTC, ETH, Faults, markets, venue, wall

PERP = "BTC/USDT:USDT"


class Waits(list[float]):
    """Remembers how long it was told to sleep, and does not."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def settings_in(folder: Path) -> Settings:
    return load_settings(env={"VAR_DIR": str(folder)}, profile=None)


def fetcher(folder: Path, url: str, market: str = "spot", waits: Waits | None = None) -> Fetcher:
    place, _ = markets_of(market, [BTC])
    exchange = connect("binance", place, url)
    exchange.enableRateLimit = False
    caller = Caller(exchange, waits if waits is not None else Waits())
    store = BarStore(folder / "data")
    return Fetcher(History(caller), store, settings_in(folder), "simulated", folder / "fetching")


@pytest.mark.long
def test_six_timeframes_arrive_whole_and_agree_with_the_minutes(tmp_path: Path) -> None:
    with venue() as url:
        report = fetcher(tmp_path, url).fetch(Wanted([BTC], ALL, None, 900, True), quiet)
    assert [row["timeframe"] for row in report["items"]] == [*ALL]
    assert all(row["stored"] == 900 and row["gaps"] == 0 for row in report["items"])
    assert all(row["different"] == 0 for row in report["compared"])
    assert sum(row["compared"] for row in report["compared"]) > 400
    store = BarStore(tmp_path / "data")
    own = store.load(BTC, "5m")
    np.testing.assert_array_equal(own.close, DemoMarket(7).bars(int(own.ts[0]), 900).close)
    [raw] = store.raw.glob("*-BTCUSDT-simulated-spot-5m-*.parquet")
    told = json.loads(Path(f"{raw}.provenance.json").read_text(encoding="utf-8"))
    assert (told["symbol"], told["kept"]) == (BTC, 900)
    assert not any((tmp_path / "fetching").iterdir())


def test_bars_of_both_markets_are_kept_though_they_are_the_same(tmp_path: Path) -> None:
    perp = f"{BTC}:USDT"
    with venue(made=markets(10)) as url:
        for market, symbol in (("spot", BTC), ("perp", perp)):
            wanted = Wanted([symbol], ["1h"], DEMO_START_MS, 1, False)
            fetcher(tmp_path, url, market).fetch(wanted, quiet)
    store = BarStore(tmp_path / "data")
    spot, own = store.load(BTC, "1h"), store.load(perp, "1h")
    assert len(spot) == 240
    np.testing.assert_array_equal(spot.close, own.close)


def test_markets_are_those_that_symbols_say() -> None:
    assert markets_of(None, [BTC, "ETHUSDT"]) == ("spot", (BTC, "ETH/USDT"))
    assert markets_of(None, [f"{BTC}:USDT"]) == ("perp", (f"{BTC}:USDT",))
    assert markets_of("perp", [BTC]) == ("perp", (f"{BTC}:USDT",))
    assert markets_of("spot", [f"{BTC}:USDT"]) == ("spot", (BTC,))
    with pytest.raises(UsageError, match="must be of one market"):
        markets_of(None, [BTC, f"{BTC}:USDT"])


def test_a_second_fetch_asks_for_what_is_new_only(tmp_path: Path) -> None:
    wanted = Wanted([BTC], ["5m"], DEMO_START_MS, 1, False)
    with venue(made=markets(10)) as url:
        first = fetcher(tmp_path, url).fetch(wanted, quiet)["items"][0]
        again = fetcher(tmp_path, url).fetch(wanted, quiet)["items"][0]
    with venue(made=markets(11)) as url:
        later = fetcher(tmp_path, url).fetch(wanted, quiet)["items"][0]
    assert (first["fetched"], again["fetched"], later["fetched"]) == (2_880, 0, 288)
    assert later["stored"] == 11 * 288
    assert later["gaps"] == 0


def test_a_fetch_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    wanted, faults = Wanted([BTC], ["5m"], DEMO_START_MS, 1, False), Faults()
    with venue(faults, markets(20)) as url:
        part = fetcher(tmp_path, url)
        faults.next = [200] * 5 + [503] * TRIES  # info, time and three pages, then nothing
        with pytest.raises(ServiceUnreachable, match="8 attempts"):
            part.fetch(wanted, quiet)
        kept = list((tmp_path / "fetching").rglob("*.part"))
        asked = len([path for path in faults.seen if "klines" in path])
        whole = fetcher(tmp_path, url).fetch(wanted, quiet)["items"][0]
        pages = len([path for path in faults.seen if "klines" in path]) - asked
    assert len(kept) == 3
    assert whole["stored"] == 20 * 288
    assert pages == 6 - 3


def test_a_later_fetch_of_the_newest_leaves_no_hole(tmp_path: Path) -> None:
    with venue(made=markets(10)) as url:
        fetcher(tmp_path, url).fetch(Wanted([BTC], ["5m"], None, 50, False), quiet)
    with venue(made=markets(12)) as url:
        found = fetcher(tmp_path, url).fetch(Wanted([BTC], ["5m"], None, 50, False), quiet)
    assert found["items"][0]["stored"] == 50 + 2 * 288
    assert found["items"][0]["gaps"] == 0


@pytest.mark.long
def test_pages_of_another_server_are_not_taken_for_this_one_s(tmp_path: Path) -> None:
    wanted, faults = Wanted([BTC], ["5m"], DEMO_START_MS, 1, False), Faults()
    with venue(faults, markets(20)) as url:
        faults.next = [200] * 5 + [503] * TRIES
        part = fetcher(tmp_path, url)
        with pytest.raises(ServiceUnreachable):
            Fetcher(
                part.history, part.store, part.settings, "simulated", part.folder, "other"
            ).fetch(wanted, quiet)
        asked = len([path for path in faults.seen if "klines" in path])
        fetcher(tmp_path, url).fetch(wanted, quiet)
        assert len([path for path in faults.seen if "klines" in path]) - asked == 6


def test_a_second_fetch_of_a_young_market_asks_for_what_is_new_only(tmp_path: Path) -> None:
    with venue(made=markets(10)) as url:  # 10 days: there are not 1 000 bars of 1h
        first = fetcher(tmp_path, url).fetch(Wanted([BTC], ["1h"], None, 1_000, False), quiet)
        assert first["items"][0]["fetched"] == 240
        again = fetcher(tmp_path, url)
        assert again.fetch(Wanted([BTC], ["1h"], None, 1_000, False), quiet)["items"] == [
            {**first["items"][0], "fetched": 0}
        ]
        assert len(list(again.store.raw.glob("*.parquet"))) == 1


def test_earlier_bars_join_later_ones_that_are_stored(tmp_path: Path) -> None:
    with venue(made=markets(12)) as url:
        fetcher(tmp_path, url).fetch(
            Wanted([BTC], ["5m"], DEMO_START_MS + 9 * 86_400_000, 1, False), quiet
        )
        found = fetcher(tmp_path, url).fetch(
            Wanted([BTC], ["5m"], DEMO_START_MS + 2 * 86_400_000, 1, False), quiet
        )
    assert found["items"][0]["stored"] == 10 * 288


def test_what_no_second_question_mends_is_told_at_once(tmp_path: Path) -> None:
    waits = Waits()
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as another:
        threading.Thread(target=another.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{another.server_address[1]}"  # answers 501 to everything
        with pytest.raises(ServiceUnreachable, match="answered with an error"):
            fetcher(tmp_path, address, waits=waits).history.open()
        another.shutdown()
    with venue() as url, pytest.raises(UsageError, match="must lie before"):
        fetcher(tmp_path, url).fetch(Wanted([BTC], ["5m"], 4_000_000_000_000, 1, False), quiet)
    assert waits == []


def test_trouble_is_waited_out_as_its_kind_wants(tmp_path: Path) -> None:
    waits, faults = Waits(), Faults(headers={"Retry-After": "17"})
    with venue(faults) as url:
        history = fetcher(tmp_path, url, waits=waits).history
        faults.next = [429]
        history.open()
        assert waits == [17.0]
        waits.clear()
        faults.headers = {}
        faults.next = [503, 502, 0, 500]
        assert history.now() == markets().clock.now()
    assert len(waits) == 4
    for n, seconds in enumerate(waits):  # 1, 2, 4, 8 s and at most a quarter more
        assert 2.0**n <= seconds <= 1.25 * 2.0**n


def test_a_venue_that_is_gone_is_told_after_two_minutes_of_trying(tmp_path: Path) -> None:
    waits = Waits()
    with pytest.raises(ServiceUnreachable, match="binance: did not answer"):
        fetcher(tmp_path, "http://127.0.0.1:9", waits=waits).history.open()
    assert len(waits) == TRIES - 1
    assert 105 <= sum(waits) <= 145
    assert max(waits) <= 60


def test_pages_skip_holes_and_stop_at_what_is_closed(tmp_path: Path) -> None:
    with venue(made=markets(10)) as url:
        history = fetcher(tmp_path, url).history
        history.open()
        now = history.now()
        before = DEMO_START_MS - 3 * PAGE * 300_000  # long before the first bar
        pages = list(history.pages(BTC, "5m", before, now))
    assert int(pages[0].ts[0]) == DEMO_START_MS
    assert sum(map(len, pages)) == 10 * 288
    assert int(pages[-1].ts[-1]) + 300_000 <= now


def test_funding_of_a_perpetual_is_kept_as_a_file_that_a_backtest_reads(tmp_path: Path) -> None:
    with venue() as url:
        made = fetcher(tmp_path, url, "perp")
        report = made.fetch(Wanted([PERP], ["1h"], DEMO_START_MS, 1, True), quiet)
    [told] = report["funding"]
    found = read_funding(made.store.raw / told["path"])
    assert told["settlements"] == len(found.ts) == 40 * 3 + 1
    assert found.symbol == PERP
    [bars] = made.store.raw.glob("*-1h-*.parquet")
    assert matching_funding(bars) == made.store.raw / told["path"]
    assert not any((tmp_path / "fetching").iterdir())


def test_funding_is_kept_for_good_with_where_it_is_from_and_once_only(tmp_path: Path) -> None:
    wanted = Wanted([PERP], ["1h"], DEMO_START_MS, 1, True)
    paths = []
    for days in (10, 10, 11):
        with venue(made=markets(days)) as url:
            made = fetcher(tmp_path, url, "perp")
            [told] = made.fetch(wanted, quiet)["funding"]
            paths.append(made.store.raw / told["path"])
    assert paths[0] == paths[1] != paths[2]
    kept = sorted(made.store.raw.glob("*-funding-*.parquet"))
    assert kept == sorted({*paths})
    for path in kept:
        rates = read_funding(path)
        about = json.loads(Path(f"{path}.provenance.json").read_text(encoding="utf-8"))
        assert path.stat().st_mode & 0o777 == 0o444
        assert about["sha256"] == file_sha256(path)
        assert about["name"] == path.name.partition("-")[2]
        assert (about["symbol"], about["rows"], about["funding_hours"]) == (PERP, len(rates.ts), 8)
        assert about["start"] == iso(int(rates.ts[0]))


def test_funding_that_the_exchange_does_not_tell_takes_no_bars_with_it(
    tmp_path: Path, cli: Cli
) -> None:
    words = ("data", "fetch", "--market", "perp", "--timeframe", "1h", "--bars", "30",
             "--set", f"VAR_DIR={tmp_path}")  # fmt: skip
    with venue(Faults(lacks="/fapi/v1/fundingRate")) as url:
        at = ("--set", f"EXCHANGE_URL={url}")
        code, out, told = cli(*words, *at, "--json")
        body: dict[str, Any] = json.loads(out)
        assert code == 0
        assert body["items"][0]["stored"] == 30
        assert body["funding"][0]["settlements"] == 0
        assert "binance" in body["funding"][0]["missing"]
        assert "no settlements of funding: binance" in told
        code, out, told = cli(*words, *at)
        assert (code, "no settlements" in told, "30" in out) == (0, True, True)
        code, out, told = cli(*words, *at, "--funding", "--json")
        assert (code, json.loads(out)["items"][0]["stored"]) == (2, 30)
        assert "--funding: must be what the exchange tells" in told
        assert cli(*words, *at, "--no-funding")[0] == 0


def test_what_the_exchange_does_not_list_is_refused_before_anything_is_fetched(
    tmp_path: Path,
) -> None:
    with venue() as url:
        for symbols, timeframes, says in (
            (["NOPE/USDT"], ["5m"], "lists"), ([BTC], ["7m"], "must be one that binance has"),
        ):  # fmt: skip
            with pytest.raises(UsageError, match=says):
                fetcher(tmp_path, url).fetch(Wanted(symbols, timeframes, None, 5, False), quiet)
    assert not (tmp_path / "data").exists()


def test_a_simulated_market_is_not_mixed_with_an_exchange_s_bars(tmp_path: Path) -> None:
    with venue() as url:
        fetcher(tmp_path, url).fetch(Wanted([BTC], ["1h"], None, 50, False), quiet)
        other = Markets({BTC: DemoMarket(8, BTC)}, markets().clock, seed=8, name="another")
        with (
            venue(made=other) as there,
            pytest.raises(DataRefused, match=r"bars of simulated simulated, .* simulated another"),
        ):
            fetcher(tmp_path, there).fetch(Wanted([BTC], ["5m"], None, 50, False), quiet)
        real = fetcher(tmp_path, url)
        mixed = Fetcher(real.history, real.store, real.settings, "binance", real.folder)
        with pytest.raises(DataRefused, match="holds bars of simulated"):
            mixed.fetch(Wanted([ETH], ["1h"], None, 50, False), quiet)


@pytest.mark.long
def test_fetch_by_the_command_line(tmp_path: Path, cli: Cli) -> None:
    with venue() as url:
        words = ("--set", f"EXCHANGE_URL={url}", "--timeframe", "1h", "--bars", "30", "--json")
        code, out, _ = cli("data", "fetch", *words)
        assert code == 0
        body: dict[str, Any] = json.loads(out)
        assert body["items"][0]["stored"] == 30
        assert body["requests"] == 3
        assert cli("fetch", *words)[0] == 0  # the short name
        code, _, told = cli("data", "fetch", "--market", "moon", *words)
        assert code == 2
        assert "spot or perp" in told


def test_funding_when_the_exchange_goes_away_then_the_bars_are_told_of(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # two minutes of waiting
    schedule = schedule_of(
        {"faults": [{"fault": "error", "paths": "GET /fapi/v1/fundingRate"}]}, "faults"
    )
    made = markets()
    with venue(made=made, struck=Running(wall, made.clock.now, schedule)) as url:
        code, out, told = cli(
            "data", "fetch", "--market", "perp", "--symbol", BTC, "--symbol", ETH, "--timeframe",
            "1h", "--bars", "3", "--json", "--set", f"EXCHANGE_URL={url}",
        )  # fmt: skip
    assert code == ServiceUnreachable.exit_code
    body = json.loads(out)
    assert [row["stored"] for row in body["items"]] == [3, 3]
    assert [(row["symbol"], row["away"]) for row in body["funding"]] == [(PERP, True)]
    assert "settlements of BTC/USDT:USDT: were not told; binance" in " ".join(told.split())
    assert "Run it again" in told
