"""What an order meets at the venue, by the fill engine: the book of the moment, or a print."""

from __future__ import annotations

from decimal import Decimal
from itertools import takewhile

from domain.market import Bar
from domain.records import changed
from domain.trading import ZERO, Side
from execution.fills import CostModel, Execution, Frictions, book_fills, limit_fill
from execution.money import dec, money, to_step
from sim.venue.accounts import Account
from sim.venue.books import LEVELS
from sim.venue.fates import WHOLE
from sim.venue.market import Listing, Markets
from sim.venue.orders import Order

# what a print fills is what was printed, and only beyond the limit; books have their own spread
_FRICTIONS = Frictions(
    spread_bps=0.0, slippage_bps=0.0, impact=0.0, participation=1.0, queue_share=0.0
)


class Offers:
    """Books and prints of all markets, as executions with their fees."""

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._costs = {
            key: CostModel.of(listing.instrument, _FRICTIONS)
            for key, listing in markets.listings.items()
        }

    def at_once(
        self, account: Account, order: Order, listing: Listing, at: int, part: Decimal = WHOLE
    ) -> list[Execution]:
        """Return what the book of an instant fills of an order, best first.

        An order by its worth gets its quantity here. One that must be filled whole gets nothing if
        it cannot be.

        Parameters
        ----------
        part : of its quantity that is filled at most, unless it must be whole.
        """
        book = self._markets.book(listing, LEVELS, at)
        levels, sign = (book.asks, 1) if order.side is Side.BUY else (book.bids, -1)
        if order.price is not None:
            limit = float(order.price)
            levels = tuple(takewhile(lambda level: (limit - level[0]) * sign >= 0, levels))
        if order.quote is not None:
            order.qty = _worth(order.quote, levels, listing.instrument.step)
        qty, costs = wanted(account, order), self._costs[listing.market, listing.name]
        if part < WHOLE and order.tif != "FOK":
            qty = to_step(qty * part, listing.instrument.step)
        if qty <= 0:
            return []
        found = list(book_fills(order.side, qty, levels, book.mid, at, costs, listing.instrument))
        if order.tif == "FOK" and sum((done.qty for done in found), ZERO) < order.qty:
            return []
        return found

    def of_print(
        self, order: Order, listing: Listing, qty: Decimal, price: float, volume: Decimal, at: int
    ) -> Execution | None:
        """Return what a print fills of a resting order; None = nothing.

        Parameters
        ----------
        qty : at most, base units. ``volume`` : what is left of the print, base units.
        """
        if order.price is None or volume <= 0:
            return None
        bar = Bar(listing.symbol, "1m", at, price, price, price, price, float(volume))
        costs = self._costs[listing.market, listing.name]
        done = limit_fill(order.side, qty, order.price, bar, costs, listing.instrument, rested=True)
        return None if done is None else changed(done, at=at)


def wanted(account: Account, order: Order) -> Decimal:
    """Return how much of an order may still be filled, base units."""
    if not order.reduce_only:
        return order.left
    return min(order.left, account.perp.of(order.name).closable(order.side.sign))


def needed(order: Order, fills: list[Execution]) -> Decimal:
    """Return what a spot order needs of the asset that it gives."""
    if order.side is Side.SELL:
        return order.left
    price = order.price or (order.stop if order.waits else None)
    if price is not None:
        return order.left * price
    return sum((money(done.qty * done.price) for done in fills), ZERO)


def _worth(quote: Decimal, levels: tuple[tuple[float, float], ...], step: Decimal) -> Decimal:
    """Return how much an amount of quote units buys or sells, base units on the step."""
    left, qty = quote, ZERO
    for price, size in levels:
        part = min(to_step(dec(size), step), to_step(left / dec(price), step))
        if part <= 0:
            break
        qty, left = qty + part, left - part * dec(price)
    return qty
