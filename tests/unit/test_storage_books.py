"""The books against the fills and the equity marks: rows that fit the chain and yet are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from domain.trading import EquityMark, Fill
from execution.loop import TradingLoop
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.verify import verify_tail
from tests.execution_scenes import PERP, SPOT, Script, bar, loop_over, states_of

SAYS = {1: "LONG", 3: "SHORT", 5: "LONG"}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    return engine


def trade(ledger: SqlLedger, instrument: Any = PERP) -> TradingLoop:
    """Open, turn and close positions over a few bars that move."""
    prices = [50_000.0 + 100 * (n % 3) for n in range(12)]
    bars = [
        bar(n, (price, price + 50, price - 50, price), instrument.symbol)
        for n, price in enumerate(prices)
    ]
    loop = loop_over(ledger, Script(SAYS, horizon_bars=2), instrument)
    for state in states_of(bars):
        loop.step(state, [], {}, state.as_of)
    return loop


class Forging:
    """A ledger that lets somebody change what goes into it, and hashes that."""

    def __init__(self, ledger: SqlLedger, forge: Any) -> None:
        self._ledger, self._forge = ledger, forge
        self.seq = 0  # of the first forged row

    def append(self, records: Sequence[Any]) -> list[int]:
        forged = [self._forge(record) for record in records]
        numbers = self._ledger.append(forged)
        for number, before, after in zip(numbers, records, forged, strict=True):
            if after != before and not self.seq:
                self.seq = number
        return numbers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


@pytest.mark.parametrize("instrument", [PERP, SPOT])
def test_verify_when_the_loop_has_traded_then_books_fills_and_marks_agree(
    engine: Engine, instrument: Any
) -> None:
    ledger = SqlLedger(engine, "w")
    loop = trade(ledger, instrument)
    report = ledger.verify()
    assert report.ok, report.problem
    assert len(list(ledger.records(Fill))) >= 2
    cash = Decimal(report.totals["w paper cash USDT"])
    assert cash == loop.portfolio(0).cash != 10_000
    by_asset: dict[str, Decimal] = {}
    for book, amount in report.totals.items():
        asset = book.split(" ")[-1]
        by_asset[asset] = by_asset.get(asset, Decimal(0)) + Decimal(amount)
    assert set(by_asset.values()) == {Decimal(0)}


def first(of: type, change: Any) -> Any:
    """Forge the first record of a type that ``change`` does not pass over."""
    done = []

    def forge(record: Any) -> Any:
        if done or not isinstance(record, of):
            return record
        forged = change(record)
        if forged != record:
            done.append(record)
        return forged

    return forge


FORGERIES = {
    "an equity mark with more cash": (
        first(EquityMark, lambda mark: replace(mark, cash=mark.cash + 1)), 0,
        "says cash 10001, where the cash book holds 10000",
    ),
    "a fill that was larger": (
        first(Fill, lambda fill: replace(fill, qty=fill.qty * 2)), 0,
        "begins a difference of 0.009 BTC/USDT:USDT between the position book",
    ),
    "a fill that cost nothing": (
        first(Fill, lambda fill: replace(fill, fee=Decimal(0))), 2, "between the fee book",
    ),
    "a fill that made a profit": (
        first(Fill, lambda fill: replace(fill, realised=fill.realised + 5)), 0,
        "begins a difference of 5 USDT between the realised book of paper and its fills",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_verify_when_a_row_fits_the_chain_but_not_the_books_then_it_is_named(
    engine: Engine, name: str
) -> None:
    forge, after, says = FORGERIES[name]
    forging = Forging(SqlLedger(engine, "w"), forge)
    trade(forging)  # type: ignore[arg-type]
    report = SqlLedger(engine, "w").verify()
    assert forging.seq > 0
    assert not report.ok
    assert says in report.problem
    assert report.first_bad_seq == forging.seq + after
    assert verify_tail(engine, 1000) == ""  # the hashes alone know nothing of it


def test_verify_when_a_fill_has_no_postings_at_all_then_it_is_named(engine: Engine) -> None:
    ledger = SqlLedger(engine, "w")
    trade(ledger)
    fill = next(record for _, record in ledger.records(Fill))
    (number,) = ledger.append([replace(fill, id="unbooked", realised=Decimal(0))])
    report = ledger.verify()
    assert report.first_bad_seq == number
    assert "position book" in report.problem


@pytest.mark.long
def test_verify_when_an_account_books_elsewhere_then_its_fills_and_marks_are_its_own_affair(
    engine: Engine,
) -> None:
    ledger = SqlLedger(engine, "w")
    trade(ledger)
    fill = next(record for _, record in ledger.records(Fill))
    mark = EquityMark("external", fill.at, Decimal(5), Decimal(5), Decimal(5))
    ledger.append([replace(fill, id="theirs", account="external"), mark])
    assert ledger.verify().ok
