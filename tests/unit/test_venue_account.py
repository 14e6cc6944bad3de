"""The account of ``conclave venue``: what it starts with, and the file that keeps it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from domain.errors import UsageError
from serving.venue_account import AccountFile, balances, opened
from sim.venue.margins import Margins
from tests.venue_server import markets


def test_balances_are_read_and_what_is_none_is_refused() -> None:
    assert balances(["usdt=1000.5", "BTC=0"]) == {"USDT": Decimal("1000.5"), "BTC": Decimal(0)}
    for text in ("USDT", "USDT=x", "USDT=-1", "=5", "USDT=inf", "USDT=NaN"):
        with pytest.raises(UsageError, match="--balance"):
            balances([text])


def test_a_file_keeps_the_account(tmp_path: Path) -> None:
    ledger = opened(markets(), balances(["USDT=1000", "BTC=1"]))
    main = ledger.accounts["main"]
    assert main.spot.of("BTC").free == 1
    assert main.perp.balances == {"USDT": Decimal(1_000)}
    path = tmp_path / "venue.json"
    file = AccountFile(path, "demo-7")
    assert file.read() is None
    ledger.at = 5
    file.write(ledger)
    assert file.read() == ledger
    assert [each.name for each in tmp_path.iterdir()] == ["venue.json"]
    with pytest.raises(UsageError, match=r"account of this market, demo-8 \(got 'demo-7'\)"):
        AccountFile(path, "demo-8").read()
    for text in ("no JSON", "[]", '{"accounts": 3}'):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"--state|venue state"):
            file.read()
    with pytest.raises(UsageError, match="must be a file that can be written"):
        AccountFile(path / "in a file", "demo-7").write(ledger)


def test_leverage_of_what_is_not_listed_any_more_ties_up_nothing() -> None:
    market = markets()
    account = opened(market, balances(["USDT=1000"])).accounts["main"]
    account.perp.of("XRPUSDT").leverage = 5
    assert Margins(market, account, market.clock.now()).available("USDT") == 1_000
