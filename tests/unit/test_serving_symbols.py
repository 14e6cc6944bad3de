"""The watched symbols: what the API may change, and what the next start makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.errors import DuplicateRecord, NotFound, UsageError
from serving.requests import SymbolChange, SymbolRequest
from serving.settings import load_settings
from serving.watching_symbols import MOST, Watchlist, watched
from storage.engine import open_database, sqlite_url
from storage.migrate import upgrade
from storage.symbols import Symbols


@pytest.fixture
def table(tmp_path: Path) -> Symbols:
    engine: Engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    return Symbols(engine)


@pytest.fixture
def watchlist(table: Symbols) -> Watchlist:
    return Watchlist(table, "5m", {"BTC/USDT"})


def test_watchlist_when_a_symbol_is_written_in_any_way_then_it_is_one_symbol(
    watchlist: Watchlist,
) -> None:
    added = watchlist.add(SymbolRequest(symbol="btcusdt"))
    assert (added["symbol"], added["market"], added["followed"]) == ("BTC/USDT", "spot", True)
    for same in ("BTC/USDT", "BTC-USDT", "BTCUSDT"):
        with pytest.raises(DuplicateRecord):
            watchlist.add(SymbolRequest(symbol=same))
        assert watchlist.one(same) == added
    watchlist.remove("BTC-USDT")
    for gone in (watchlist.one, watchlist.remove):
        with pytest.raises(NotFound, match="is not watched"):
            gone("BTC-USDT")


def test_watchlist_when_symbol_or_timeframe_is_none_then_it_is_refused(
    watchlist: Watchlist,
) -> None:
    with pytest.raises(UsageError, match="must name base and quote"):
        watchlist.add(SymbolRequest(symbol="???"))
    with pytest.raises(UsageError, match="timeframe: must be one of"):
        watchlist.add(SymbolRequest(symbol="ETH/USDT", timeframe="7m"))
    watchlist.add(SymbolRequest(symbol="ETH/USDT"))
    with pytest.raises(UsageError, match="timeframe: must be one of"):
        watchlist.change("ETH-USDT", SymbolChange(timeframe="x"))
    changed = watchlist.change("ETH-USDT", SymbolChange(active=False, meta={"why": None}))
    assert (changed["active"], changed["meta"], changed["timeframe"]) == (
        False,
        {"why": None},
        "5m",
    )


def test_watchlist_when_it_is_full_then_one_more_is_refused(watchlist: Watchlist) -> None:
    for number in range(MOST):
        watchlist.add(SymbolRequest(symbol=f"A{number}/USDT"))
    with pytest.raises(UsageError, match="are at most"):
        watchlist.add(SymbolRequest(symbol="ETH/USDT"))


def test_start_when_the_table_is_empty_then_it_takes_down_what_the_settings_name(
    table: Symbols,
) -> None:
    assert watched(table, load_settings(env={}, profile=None)) == ("BTC/USDT",)
    assert [row.symbol for row in table.list()] == ["BTC/USDT"]


def test_start_when_the_table_names_symbols_then_active_ones_of_its_timeframe_are_followed(
    table: Symbols, watchlist: Watchlist
) -> None:
    settings = load_settings(env={}, profile=None)
    watched(table, settings)
    watchlist.add(SymbolRequest(symbol="ETH/USDT"))
    watchlist.add(SymbolRequest(symbol="SOL/USDT", timeframe="1h"))
    watchlist.add(SymbolRequest(symbol="XRP/USDT", active=False))
    assert watched(table, settings) == ("BTC/USDT", "ETH/USDT")
    watchlist.change("BTC-USDT", SymbolChange(active=False))
    assert watched(table, settings) == ("ETH/USDT",)
    watchlist.remove("ETH-USDT")
    assert watched(table, settings) == ("BTC/USDT",)  # nothing is left: what the settings name


def test_start_when_symbols_are_set_then_the_table_has_no_say(
    table: Symbols, watchlist: Watchlist
) -> None:
    watchlist.add(SymbolRequest(symbol="ETH/USDT"))
    settings = load_settings(env={"SYMBOLS": "SOL/USDT"}, profile=None)
    assert watched(table, settings) == ("SOL/USDT",)
