"""What an account of the venue remembers, and for how long."""

from __future__ import annotations

from decimal import Decimal

from domain.trading import Side
from sim.venue.accounts import KEPT, KEPT_MS, Account
from sim.venue.orders import CANCELED, NEW, Income, Order, Trade


def filled(account: Account, n: int, every_ms: int, opened: int = 0) -> None:
    one = Decimal(1)
    for number in range(1, n + 1):
        at = number * every_ms
        order = Order(number, "spot", "BTCUSDT", f"id-{number}", Side.BUY, "LIMIT", "GTC", one, at,
                      at, status=NEW if number <= opened else CANCELED)  # fmt: skip
        account.trades.append(Trade(number, number, "spot", "BTCUSDT", Side.BUY, one, one, one,
                                    "BTC", at, maker=False))  # fmt: skip
        account.income.append(Income(number, "COMMISSION", "BTCUSDT", "USDT", one, at))
        account.add(order)


def test_what_is_old_and_beyond_the_newest_is_forgotten() -> None:
    account = Account("main")
    filled(account, 2 * KEPT, KEPT_MS // 1_000, opened=5)
    for kept in (account.orders, account.trades, account.income):
        assert KEPT <= len(kept) <= KEPT + 1_010
    assert list(account.orders)[:5] == [1, 2, 3, 4, 5]  # open ones stay
    assert account.by_client("spot", "id-1") is not None
    assert account.by_client("spot", "id-9") is None
    assert len(account.clients) == len(account.orders)
    assert account.trades[-1].number == 2 * KEPT


def test_what_is_of_this_day_is_kept_however_much_it_is() -> None:
    account = Account("main")
    filled(account, KEPT + 3_000, 1)
    assert len(account.orders) == len(account.trades) == KEPT + 3_000
