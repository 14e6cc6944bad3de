"""Order books by snapshot and diffs: the market's own book, or none."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.book_messages import said_of
from data.sources.order_book import Diff, Level, OrderBook, Snapshot
from domain.errors import DataRefused
from domain.market import BookSnapshot

SPOT, PERP = "BTC/USDT", "BTC/USDT:USDT"
T0, VIEW = 1_735_689_600_000, 3
Side = dict[float, float]


@dataclass
class Market:
    """A book as plain dictionaries, and what it was after every update."""

    symbol: str
    jumps: bool  # perpetuals skip numbers
    last: int = 100
    bids: Side = field(default_factory=lambda: {20.0 - k: 1.0 for k in range(6)})
    asks: Side = field(default_factory=lambda: {21.0 + k: 1.0 for k in range(6)})
    known: dict[int, tuple[Side, Side]] = field(default_factory=dict)
    diffs: list[Diff] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known[self.last] = dict(self.bids), dict(self.asks)

    def change(self, changes: list[tuple[bool, int, int]]) -> None:
        before, told = self.last, {True: list[Level](), False: list[Level]()}
        first = before + (3 if self.jumps else 1)
        for number, (bid, place, qty) in enumerate(changes, first):
            side, price = (self.bids, 20.0 - place) if bid else (self.asks, 21.0 + place)
            side[price] = float(qty)
            if not qty:
                del side[price]
            told[bid].append((price, float(qty)))
            self.last = number
            self.known[number] = dict(self.bids), dict(self.asks)
        self.diffs.append(
            Diff(self.symbol, T0 + self.last, first, self.last, before if self.jumps else None,
                 tuple(told[True]), tuple(told[False]))
        )  # fmt: skip

    def at(self, update: int) -> tuple[list[Level], list[Level]]:
        """Return what the book was after an update, best first."""
        numbers = sorted(self.known)
        bids, asks = self.known[numbers[bisect_right(numbers, update) - 1]]
        return sorted(bids.items(), reverse=True), sorted(asks.items())

    def snapshot(self, update: int, asked: int) -> Snapshot:
        bids, asks = self.at(update)
        return Snapshot(self.symbol, update, tuple(bids[:asked]), tuple(asks[:asked]), asked)


changes = st.lists(
    st.lists(st.tuples(st.booleans(), st.integers(0, 15), st.integers(0, 4)), min_size=1,
             max_size=5),
    min_size=2, max_size=25,
)  # fmt: skip
symbols = st.sampled_from([SPOT, PERP])


def moved(symbol: str, steps: list[list[tuple[bool, int, int]]]) -> Market:
    market = Market(symbol, symbol == PERP)
    for step in steps:
        market.change(step)
    return market


def require_right(book: OrderBook, market: Market, begun: Snapshot) -> None:
    """Fail if the book tells anything but what the market's was after the same update."""
    view = book.view()
    if book.lost or not book.joined:
        assert view is None
        return
    bids, asks = market.at(book.update)
    if bids and asks:
        assert view == BookSnapshot(
            market.symbol, T0 + book.update, tuple(bids[:VIEW]), tuple(asks[:VIEW])
        )
    if len(begun.bids) == begun.asked:
        bids = [level for level in bids if level[0] >= begun.bids[-1][0]]
    if len(begun.asks) == begun.asked:
        asks = [level for level in asks if level[0] <= begun.asks[-1][0]]
    assert book.sides() == (tuple(bids), tuple(asks))


@pytest.mark.long
@given(symbols, changes, st.data())
def test_whatever_is_lost_doubled_or_late_the_book_is_the_market_s_or_none(
    symbol: str, steps: list[list[tuple[bool, int, int]]], data: st.DataObject
) -> None:
    market, book, heard = moved(symbol, steps), OrderBook(symbol, VIEW), list[Diff]()
    begun = market.snapshot(market.last, 99)
    fates = data.draw(
        st.lists(st.sampled_from(["told", "told", "told", "dropped", "twice", "late"]),
                 min_size=len(steps), max_size=len(steps))
    )  # fmt: skip
    for place, fate in enumerate(fates):
        late = fate == "late" and place + 1 < len(fates)
        both = market.diffs[place : place + 2][::-1] if late else [market.diffs[place]]
        for diff in both * {"dropped": 0, "twice": 2}.get(fate, 1):
            heard.append(diff)
            was = book.lost, book.update
            if book.apply(diff):
                assert not was[0]
                assert book.update == diff.last >= was[1]
            require_right(book, market, begun)
        if book.lost and data.draw(st.booleans()):
            newest = heard[-1].last if heard else 100
            numbers = [number for number in market.known if number <= newest + 3]
            begun = market.snapshot(data.draw(st.sampled_from(numbers)),
                                    data.draw(st.sampled_from([4, 8, 99])))  # fmt: skip
            book.start(begun)
            for diff in heard:
                book.apply(diff)
                require_right(book, market, begun)


@given(symbols, changes, st.data())
def test_a_book_that_hears_everything_after_its_snapshot_is_never_lost(
    symbol: str, steps: list[list[tuple[bool, int, int]]], data: st.DataObject
) -> None:
    market, book = moved(symbol, steps), OrderBook(symbol, VIEW)
    begun = market.snapshot(data.draw(st.sampled_from(sorted(market.known))), 99)
    book.start(begun)
    for diff in market.diffs:
        book.apply(diff)
        assert not book.lost
        require_right(book, market, begun)
    assert book.update == market.last
    assert book.joined or begun.update == market.last


@given(symbols, changes)
def test_a_gap_is_told_and_nothing_is_told_of_the_book_after_it(
    symbol: str, steps: list[list[tuple[bool, int, int]]]
) -> None:
    market, book = moved(symbol, steps), OrderBook(symbol, VIEW)
    book.start(market.snapshot(100, 99))
    for diff in (market.diffs[0], *market.diffs[2:]):
        book.apply(diff)
    assert book.lost == ("gap" if len(steps) > 2 else "")
    assert (book.view() is None) == (len(steps) > 2)
    book.start(market.snapshot(market.last, 99))
    assert book.view() is None  # nothing has followed on it yet


def diff(symbol: str, first: int, last: int, before: int | None = None, **sides: object) -> Diff:
    bids, asks = sides.get("bids", ()), sides.get("asks", ())
    return Diff(symbol, T0, first, last, before, bids, asks)  # type: ignore[arg-type]


def begun(symbol: str, update: int = 10, levels: int = VIEW) -> OrderBook:
    book = OrderBook(symbol, levels)
    book.start(Snapshot(symbol, update, ((9.0, 1.0), (8.0, 1.0)), ((10.0, 1.0),), 50))
    return book


@pytest.mark.parametrize(
    ("symbol", "first", "last", "before", "moves", "lost"),
    [
        (SPOT, 11, 12, None, True, ""), (SPOT, 9, 11, None, True, ""),
        (SPOT, 12, 13, None, False, "gap"), (SPOT, 9, 10, None, False, ""),
        (PERP, 9, 12, 5, True, ""), (PERP, 10, 10, 5, True, ""), (PERP, 12, 13, 10, True, ""),
        (PERP, 8, 9, 5, False, ""), (PERP, 12, 13, 11, False, "gap"),
    ],
)  # fmt: skip
def test_the_first_diff_must_follow_on_the_snapshot(
    symbol: str, first: int, last: int, before: int | None, moves: bool, lost: str
) -> None:
    book = begun(symbol)
    assert book.apply(diff(symbol, first, last, before)) is moves
    assert book.lost == lost


@pytest.mark.parametrize(
    ("symbol", "first", "last", "before", "moves", "lost"),
    [
        (SPOT, 13, 14, None, True, ""), (SPOT, 14, 15, None, False, "gap"),
        (SPOT, 12, 14, None, False, "gap"), (SPOT, 11, 12, None, False, ""),
        (PERP, 20, 22, 12, True, ""), (PERP, 13, 14, 11, False, "gap"),
        (PERP, 13, 14, 13, False, "gap"), (PERP, 11, 12, 10, False, ""),
    ],
)  # fmt: skip
def test_every_later_diff_must_follow_on_the_one_before(
    symbol: str, first: int, last: int, before: int | None, moves: bool, lost: str
) -> None:
    book = begun(symbol)
    assert book.apply(diff(symbol, 11, 12, 10))
    assert book.apply(diff(symbol, first, last, before)) is moves
    assert book.lost == lost


def test_sides_that_cross_lose_the_book() -> None:
    book = begun(SPOT)
    assert not book.apply(diff(SPOT, 11, 11, bids=((10.0, 1.0),)))
    assert book.lost == "crossed"
    assert book.view() is None
    assert not book.apply(diff(SPOT, 12, 12, bids=((10.0, 0.0),)))


def test_a_book_with_one_side_is_not_told_but_not_lost() -> None:
    book = begun(SPOT)
    assert book.apply(diff(SPOT, 11, 11, asks=((10.0, 0.0), (77.0, 0.0))))
    assert book.view() is None
    assert book.apply(diff(SPOT, 12, 12, asks=((11.0, 2.0),)))
    assert book.view() == BookSnapshot(SPOT, T0, ((9.0, 1.0), (8.0, 1.0)), ((11.0, 2.0),))


def test_a_cut_book_is_lost_before_it_would_have_to_guess() -> None:
    book = OrderBook(SPOT, 2)
    book.start(Snapshot(SPOT, 1, ((9.0, 1.0), (8.0, 1.0), (7.0, 1.0)), ((10.0, 1.0),), 3))
    assert book.apply(diff(SPOT, 2, 2, bids=((6.0, 5.0), (9.0, 0.0))))
    assert book.narrow
    assert book.sides()[0] == ((8.0, 1.0), (7.0, 1.0))  # whether there is more at 6.5 nobody knows
    assert not book.apply(diff(SPOT, 3, 3, bids=((8.0, 0.0),)))
    assert book.lost == "thin"


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        (((9.0, 1.0), (9.5, 1.0)), ()), (((9.0, 1.0), (9.0, 1.0)), ()),
        ((), ((2.0, 1.0), (1.0, 1.0))),
        (((9.0, 0.0),), ()), (((-1.0, 1.0),), ()), (((9.0, float("nan")),), ()),
        ((), ((float("inf"), 1.0),)), (((9.0, 1.0),), ((9.0, 1.0),)),
    ],
)  # fmt: skip
def test_a_snapshot_that_is_no_book_is_refused(
    bids: tuple[Level, ...], asks: tuple[Level, ...]
) -> None:
    with pytest.raises(DataRefused):
        Snapshot(SPOT, 1, bids, asks, 10)


@given(symbols, changes)
def test_diffs_are_read_as_they_were_written(
    symbol: str, steps: list[list[tuple[bool, int, int]]]
) -> None:
    for one in moved(symbol, steps).diffs:
        body = {
            "e": "depthUpdate", "E": one.at, "s": "BTCUSDT", "U": one.first, "u": one.last,
            "b": [[f"{p:.8f}", f"{q:.8f}"] for p, q in one.bids],
            "a": [[f"{p:.8f}", f"{q:.8f}"] for p, q in one.asks],
        }  # fmt: skip
        if one.before is not None:
            body |= {"pu": one.before, "T": one.at}
        assert said_of(json.dumps(body), {"BTCUSDT": symbol}) == one
