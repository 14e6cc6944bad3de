"""Recorded order books and trades: what fits is typed, what does not is refused by name."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.books import read_books, read_trades, recording_of
from data.flow import recorded_market
from domain.errors import DataRefused
from domain.market import BookSnapshot, Trade

T0 = 1_721_347_020_000
L2 = "BTCUSDT-binance-perp-l2top3-x.parquet"
QUOTES = "BTCUSDT-binance-perp-bookticker-x.parquet"
TRADES = "BTCUSDT-binance-perp-trades-x.parquet"


def books(n=5, levels=3):
    """A few rows of depth, 100 ms apart."""
    rows = np.arange(n)
    columns = {"ts": T0 + 100 * rows, "T": T0 + 100 * rows, "local_ns": (T0 + 100 * rows) * 10**6}
    for k in range(1, levels + 1):
        columns |= {
            f"bid_px_{k}": 100.0 - k + 0.1 * rows, f"bid_qty_{k}": 1.0 * k + rows,
            f"ask_px_{k}": 100.0 + k + 0.1 * rows, f"ask_qty_{k}": 2.0 * k + rows,
        }  # fmt: skip
    return columns


def quotes(n=5):
    depth = books(n, 1)
    names = {"bid": "bid_px_1", "bid_qty": "bid_qty_1", "ask": "ask_px_1", "ask_qty": "ask_qty_1"}
    return {k: depth[k] for k in ("ts", "local_ns")} | {k: depth[v] for k, v in names.items()}


def trades(n=5):
    rows = np.arange(n)
    return {
        "ts": T0 + 30_000 * rows, "local_ns": (T0 + rows) * 10**6, "price": 100.0 + rows,
        "qty": 0.5 + rows, "buyer_is_maker": rows % 2 == 0,
    }  # fmt: skip


def written(folder, name, columns):
    path = folder / name
    pq.write_table(pa.table(columns), path)
    return path


def test_read_books_when_levels_are_recorded_then_snapshots_hold_them_best_first(tmp_path):
    found = list(read_books(written(tmp_path, L2, books())))
    assert len(found) == 5
    assert found[1] == BookSnapshot(
        "BTC/USDT:USDT", T0 + 100,
        ((99.1, 2.0), (98.1, 3.0), (97.1, 4.0)), ((101.1, 3.0), (102.1, 5.0), (103.1, 7.0)),
    )  # fmt: skip


def test_read_books_when_best_quotes_are_recorded_then_a_book_has_one_level(tmp_path):
    found = list(read_books(written(tmp_path, QUOTES, quotes())))
    assert found[0] == BookSnapshot("BTC/USDT:USDT", T0, ((99.0, 1.0),), ((101.0, 2.0),))


def test_read_books_when_there_is_no_exchange_time_then_receipt_stamps_them(tmp_path):
    columns = quotes() | {"ts": np.zeros(5, dtype=np.int64)}
    columns["local_ns"] = columns["local_ns"] + 999_999
    path = written(tmp_path, "BTCUSDT-binance-spot-bookticker-x.parquet", columns)
    assert [book.at for book in read_books(path)] == [T0 + 100 * k for k in range(5)]
    with pytest.raises(DataRefused, match="is stamped on receipt"):
        recorded_market(path, written(tmp_path, "BTCUSDT-binance-spot-trades-x.parquet", trades()))


def test_read_trades_when_prints_are_recorded_then_each_is_a_trade(tmp_path):
    found = list(read_trades(written(tmp_path, TRADES, trades())))
    assert found[:2] == [Trade(T0, 100.0, 0.5, True), Trade(T0 + 30_000, 101.0, 1.5, False)]


def test_read_books_when_only_the_first_is_wanted_then_later_rows_are_not_looked_at(tmp_path):
    columns = books(5_000)
    columns["bid_qty_1"][4_500] = np.nan
    found = read_books(written(tmp_path, L2, columns))
    assert next(found).at == T0
    with pytest.raises(DataRefused, match=r"finite and > 0 \(got 'row 4500'\)"):
        list(found)


def cell(name, value, row=3):
    def change(columns):
        columns[name] = columns[name].copy()
        columns[name][row] = value

    return change


BROKEN = {
    "a quantity of 0": (cell("ask_qty_2", 0.0), r"prices and quantities .* 'row 3'"),
    "a negative price": (cell("bid_px_3", -1.0), r"prices and quantities .* 'row 3'"),
    "an infinity": (cell("ask_px_3", np.inf), r"prices and quantities .* 'row 3'"),
    "a level too good": (cell("bid_px_2", 99.9), r"from the best price outwards .* 'row 3'"),
    "a level twice": (cell("ask_px_2", 101.3), r"from the best price outwards .* 'row 3'"),
    "crossed": (cell("bid_px_1", 101.4), r"best bid must lie below .* 'row 3'"),
    "back in time": (cell("ts", T0), r"in order of time .* 'row 3'"),
}


@pytest.mark.parametrize(("change", "told"), BROKEN.values(), ids=BROKEN)
def test_read_books_when_a_row_cannot_be_then_it_is_refused_with_its_number(tmp_path, change, told):
    columns = books()
    change(columns)
    with pytest.raises(DataRefused, match=told) as refusal:
        list(read_books(written(tmp_path, L2, columns)))
    assert refusal.value.what == L2


def test_read_trades_when_a_print_cannot_be_then_it_is_refused(tmp_path):
    columns = trades() | {"qty": np.array([1.0, 1.0, 0.0, 1.0, 1.0])}
    with pytest.raises(DataRefused, match="row 2"):
        list(read_trades(written(tmp_path, TRADES, columns)))
    words = trades() | {"price": ["a"] * 5}
    with pytest.raises(DataRefused, match="column price must hold double, not string"):
        list(read_trades(written(tmp_path, TRADES, words)))
    holed = trades() | {"buyer_is_maker": [True, None, True, True, False]}
    with pytest.raises(DataRefused, match="column buyer_is_maker lacks 1 values"):
        list(read_trades(written(tmp_path, TRADES, holed)))


def test_read_when_a_file_is_none_of_them_then_it_is_refused(tmp_path):
    few = written(tmp_path, "BTCUSDT-binance-perp-l2top4-x.parquet", books())
    with pytest.raises(DataRefused, match=r"lacks the columns bid_px_4, bid_qty_4"):
        list(read_books(few))
    (tmp_path / L2).write_bytes(few.read_bytes()[:-200])
    with pytest.raises(DataRefused, match="cannot be read"):
        list(read_books(tmp_path / L2))
    with pytest.raises(DataRefused, match="does not exist"):
        list(read_trades(tmp_path / TRADES))
    with pytest.raises(DataRefused, match="is empty"):
        list(read_books(written(tmp_path, L2, books(0))))
    with pytest.raises(DataRefused, match="must hold trades"):
        list(read_trades(few))
    with pytest.raises(DataRefused, match="must hold order books"):
        list(read_books(tmp_path / TRADES))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BTCUSDT-binance-spot-l2top20-a.parquet", ("BTC/USDT", "l2top20")),
        ("ETHUSDT-perp-trades.parquet", ("ETH/USDT:USDT", "trades")),
    ],
)
def test_recording_when_its_name_tells_then_symbol_and_kind_are_known(tmp_path, name, kind):
    assert recording_of(tmp_path / name) == kind


@pytest.mark.parametrize("name", ["BTCUSDT-binance-spot-5m-a.parquet", "XY-spot-trades.parquet"])
def test_recording_when_its_name_tells_nothing_then_it_is_refused(tmp_path, name):
    with pytest.raises(DataRefused):
        recording_of(tmp_path / name)


def test_recorded_market_when_the_files_are_of_two_symbols_or_too_short_then_refused(tmp_path):
    depth = written(tmp_path, L2, books())
    other = written(tmp_path, "ETHUSDT-binance-perp-trades-x.parquet", trades())
    with pytest.raises(DataRefused, match="must be trades of BTC/USDT:USDT"):
        recorded_market(depth, other)
    with pytest.raises(DataRefused, match="need at least one"):
        recorded_market(depth, written(tmp_path, TRADES, trades(3)))
