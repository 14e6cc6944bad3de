"""What happens to an account of perpetuals whose margin is used up."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from domain.trading import ZERO, Side
from execution.fills import CostModel, book_fills
from sim.venue.accounts import Account
from sim.venue.books import LEVELS
from sim.venue.margins import Margins
from sim.venue.market import Listing, Markets
from sim.venue.orders import EXPIRED, NEW, Order
from sim.venue.settling import Settlement


def liquidate(
    account: Account, markets: Markets, settlement: Settlement, number: Callable[[], int], at: int
) -> None:
    """Close everything of an asset whose margin balance is below its maintenance margin.

    All orders are cancelled and every position is closed against the book for the fee of a
    liquidation; what is then below 0 is the insurance fund's.

    Parameters
    ----------
    number : of the next order. ``at`` : ms, market time.
    """
    margins, due = Margins(markets, account, at), dict[str, list[Listing]]()
    for name, held in sorted(account.perp.held.items()):
        if held.qty:
            listing = markets.listings["perp", name]
            due.setdefault(listing.quote, []).append(listing)
    for asset, listings in due.items():
        if margins.balance(asset) >= margins.maintenance_all(asset):
            continue
        settlement.cancel_all(account, at)
        for listing in listings:
            _close(account, markets, settlement, listing, number(), at)
        lost = account.perp.balances.get(asset, ZERO)
        flat = not any(account.perp.of(listing.name).qty for listing in listings)
        if flat and lost < 0:
            settlement.pay(account, listings[0], "INSURANCE_CLEAR", -lost, at)
            settlement.teller.wallet(account, "perp", listings[0], "INSURANCE_CLEAR", at)


def _close(
    account: Account, markets: Markets, settlement: Settlement, listing: Listing, number: int,
    at: int,
) -> None:  # fmt: skip
    qty: Decimal = account.perp.of(listing.name).qty
    side = Side.SELL if qty > 0 else Side.BUY
    order = Order(
        number, "perp", listing.name, f"autoclose-{number}", side, "MARKET", "IOC", abs(qty), at,
        at, reduce_only=True,
    )  # fmt: skip
    account.add(order)
    settlement.teller.order(account, order, NEW, at)
    book = markets.book(listing, LEVELS, at)
    levels = book.asks if side is Side.BUY else book.bids
    fee = listing.instrument.liquidation_bps
    costs = CostModel(taker_bps=fee, maker_bps=fee)
    for done in book_fills(side, abs(qty), levels, book.mid, at, costs, listing.instrument):
        settlement.fill(account, order, listing, done)
    if order.open:
        settlement.end(account, order, listing, EXPIRED, at)
    settlement.teller.wallet(account, "perp", listing, "ORDER", at)
