"""Recorded books and trades as a market of the venue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domain.errors import DataRefused, UsageError
from serving.venue_market import of_recordings, wares_of
from sim.venue.market import Listing, Markets, VenueClock
from sim.venue.messages import said, stream_of
from sim.venue.recorded import STEP_MS, Recording, recording

T0 = 1_721_347_020_000  # a full minute
BOOKS = "BTCUSDT-binance-perp-l2top3-x.parquet"
TRADES = "BTCUSDT-binance-perp-trades-x.parquet"
N = 1_300  # books, one each 53 ms: a little more than a minute


def depth(start: int = T0 + 7) -> dict[str, Any]:
    rows = np.arange(N)
    at = start + 53 * rows
    mid = 60_000.0 + np.round(np.cumsum(np.random.default_rng(5).normal(0, 0.4, N)), 1)
    columns = {"ts": at, "T": at - 2, "local_ns": at * 10**6}
    for k in range(1, 4):
        columns |= {
            f"bid_px_{k}": np.round(mid - 0.1 * k, 1), f"bid_qty_{k}": 1.0 * k + rows % 5,
            f"ask_px_{k}": np.round(mid + 0.1 * k, 1), f"ask_qty_{k}": 2.0 * k + rows % 7,
        }  # fmt: skip
    return columns


def trades(start: int = T0 - 500) -> dict[str, Any]:
    """Some at the same instant, others with seconds between them."""
    at = start + np.cumsum(np.random.default_rng(6).choice([0, 0, 3, 40, 900], 900))
    return {
        "ts": at, "local_ns": at * 10**6, "price": 60_000.0 + np.arange(900) % 50,
        "qty": 0.001 + np.arange(900) % 4, "buyer_is_maker": np.arange(900) % 3 == 0,
    }  # fmt: skip


def written(folder: Path, books: Any = None, printed: Any = None) -> Path:
    pq.write_table(pa.table(printed or trades()), folder / TRADES)
    pq.write_table(pa.table(books or depth()), folder / BOOKS)
    return folder / BOOKS


@pytest.fixture
def made(tmp_path: Path) -> Recording:
    return recording(written(tmp_path))


def market(made: Recording, ahead_ms: int = 30_000) -> tuple[Markets, Listing]:
    clock = VenueClock(made.start_ms + ahead_ms, lambda: 0, 0.0)
    markets = Markets({}, clock, recordings=[made])
    return markets, markets.listing("perp", "BTCUSDT")


def test_what_was_recorded_is_listed_and_nothing_else(made: Recording) -> None:
    markets, _ = market(made)
    assert list(markets.listings) == [("perp", "BTCUSDT")]
    assert (made.start_ms, made.end_ms) == (T0 + 10, T0 + 7 + 53 * (N - 1) - 4)
    assert markets.ends_ms == made.end_ms
    assert markets.step_ms == STEP_MS


def test_every_print_is_told_once_with_its_own_number_and_time(made: Recording) -> None:
    markets, listing = market(made)
    raw, at = trades(), np.arange(made.start_ms, made.end_ms, STEP_MS)
    stream = stream_of("btcusdt@trade", "perp", markets)
    assert stream is not None
    told = [body for instant in at for body in said(stream, markets, int(instant))]
    inside = np.flatnonzero((raw["ts"] > at[0] - STEP_MS) & (raw["ts"] <= at[-1]))
    assert [body["t"] for body in told] == (inside + 1).tolist()
    assert [body["T"] for body in told] == raw["ts"][inside].tolist()
    assert [float(body["p"]) for body in told] == raw["price"][inside].tolist()
    assert [body["m"] for body in told] == raw["buyer_is_maker"][inside].tolist()
    assert len(set(raw["ts"][inside])) < len(inside)
    assert len(markets.trades(listing, 20)) == 20
    until = int(raw["ts"][200]) // STEP_MS * STEP_MS  # told of by then
    newest = markets.trades(listing, 20, until)
    assert newest.number[-1] == np.searchsorted(raw["ts"], until, side="right")


def test_a_page_of_prints_is_as_long_as_it_was_asked_for(made: Recording) -> None:
    raw, tape = trades(), made.tape
    for start in raw["ts"][[0, 17, 300, 880]]:
        found = tape.prints(int(start), tape.forth(20, int(start)))
        assert len(found) >= min(20, 900 - np.searchsorted(raw["ts"], start))
        assert tape.when(int(found.number[0])) == found.at[0] == start
    assert tape.numbers(int(raw["ts"][10]), int(raw["ts"][10])) == (
        np.searchsorted(raw["ts"], raw["ts"][10]) + 1, np.searchsorted(raw["ts"], raw["ts"][10])
    )  # fmt: skip


def test_bars_are_made_of_the_prints(made: Recording) -> None:
    markets, listing = market(made, made.end_ms - made.start_ms - 1)
    raw = trades()
    bar = markets.bars(listing, "1m", T0, 1).bar(0)
    inside = (raw["ts"] >= T0) & (raw["ts"] < T0 + 60_000)
    prices = raw["price"][inside]
    assert (bar.open, bar.high, bar.low, bar.close) == (
        prices[0], prices.max(), prices.min(), prices[-1]
    )  # fmt: skip
    assert bar.volume == pytest.approx(raw["qty"][inside].sum())


def test_diffs_turn_every_book_into_the_next_one_recorded(made: Recording) -> None:
    markets, listing = market(made)
    stream = stream_of("btcusdt@depth", "perp", markets)
    assert stream is not None
    start = markets.book(listing, 3, made.start_ms)
    sides, known = [dict(start.bids), dict(start.asks)], markets.update_id(listing, start.at)
    raw, told = depth(), 0
    for instant in range(made.start_ms + STEP_MS, made.end_ms, STEP_MS):
        for body in said(stream, markets, instant):
            assert (body["pu"], body["U"]) == (known, known + 1)
            for side, name in zip(sides, "ba", strict=True):
                for price, qty in body[name]:
                    side.pop(float(price), None)
                    if float(qty):
                        side[float(price)] = float(qty)
            known, told = body["u"], told + 1
            row = known - 1
            for side, name in zip(sides, ("bid", "ask"), strict=True):
                own = {raw[f"{name}_px_{k}"][row]: raw[f"{name}_qty_{k}"][row] for k in (1, 2, 3)}
                assert side == own
    assert told == N - 2  # the first was in the snapshot, the last comes with the end


def test_a_symbol_that_stands_still_is_silent(made: Recording) -> None:
    markets, listing = market(made)
    quiet = next(
        at for at in range(made.start_ms, made.end_ms, STEP_MS)
        if not markets.moved(listing, at) and not markets.traded(listing, at) and at % 1_000
    )  # fmt: skip
    names = ("depth", "bookTicker", "trade", "aggTrade", "kline_1m", "ticker", "markPrice")
    for name in names:
        stream = stream_of(f"btcusdt@{name}", "perp", markets)
        assert stream is not None
        assert said(stream, markets, quiet) == []


@pytest.mark.parametrize(
    ("books", "printed", "match"),
    [
        (depth(T0 + 86_400_000), None, "some time in common"),
        ({"ts": [1], "local_ns": [1]}, None, "lacks the columns"),
    ],
)
def test_recordings_that_cannot_be_a_market_are_refused(
    tmp_path: Path, books: Any, printed: Any, match: str
) -> None:
    path = written(tmp_path, books, printed)
    with pytest.raises(DataRefused, match=match):
        recording(path)


def test_books_without_trades_or_of_one_level_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / TRADES).unlink()
    with pytest.raises(DataRefused, match=r"must lie there.*under the same name"):
        recording(path)
    with pytest.raises(DataRefused, match="several levels"):
        recording(tmp_path / "BTCUSDT-binance-perp-bookticker-x.parquet")


def test_flags_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(UsageError, match=r"--symbol.*--books"):
        wares_of([], [path], ["BTC/USDT"], [], 7)
    with pytest.raises(UsageError, match="Leave --data out"):
        wares_of([path], [path], [], [], 7)
    with pytest.raises(UsageError, match="one file a symbol"):
        of_recordings([path, path], 7)


def test_a_market_of_recordings_begins_with_them_and_ends_with_them(tmp_path: Path) -> None:
    wares = of_recordings([written(tmp_path)], 7)
    assert (wares.begin(None, 0), wares.ends_ms) == (T0 + 10, T0 + 7 + 53 * (N - 1) - 4)
    with pytest.raises(UsageError, match="must lie from"):
        wares.begin(T0, 0)
    other = of_recordings([written(tmp_path, depth(T0 + 8))], 7)
    assert other.name != wares.name
