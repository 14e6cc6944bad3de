"""The matching of the venue: orders meet the book of the moment, and then every print.

What arrives walks the book by the fill engine of the project; what rests is filled where a print
trades through it, by no more than was printed; stops are triggered by prints. Prints are gone
through one by one in the market's time, whenever somebody asks, so that nothing depends on when.
Own orders do not move the market.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from domain.errors import UsageError
from domain.times import HOUR_MS
from domain.trading import ZERO, Side
from execution.fills import Execution
from execution.money import dec
from sim.venue import order_refusals as refuse
from sim.venue.accounts import Account, Ledger
from sim.venue.fates import USUAL, WHOLE, Fated, usual
from sim.venue.liquidation import liquidate
from sim.venue.margins import Margins
from sim.venue.market import Listing, Markets
from sim.venue.offers import Offers, needed, wanted
from sim.venue.orders import CANCELED, EXPIRED, NEW, REJECTED, TRIGGERED, Order
from sim.venue.placing import check_filters
from sim.venue.refusals import Refused
from sim.venue.settling import Nobody, Settlement, Teller

RECENT_MS = 86_400_000  # market time for which a client order id stays taken


@dataclass(slots=True)
class _Print:
    """What was traded at once: when, its price, quote units, and what is left, base units."""

    at: int
    price: Decimal
    left: Decimal


class Exchange:
    """Takes orders and lets the market's time pass.

    Parameters
    ----------
    ledger : accounts, from the start or restored; changed in place.

    Raises
    ------
    UsageError : if they have orders or positions of what is not listed.
    """

    def __init__(self, markets: Markets, ledger: Ledger, teller: Teller | None = None) -> None:
        self.markets, self.ledger = markets, ledger
        self.settlement = Settlement(markets, ledger, teller or Nobody())
        self._offers = Offers(markets)
        self.fated: Fated = usual
        _check_listed(markets, ledger)
        ledger.at = ledger.at or markets.clock.now()

    # Time

    def now(self) -> int:
        """Return market time, ms; everything up to it has happened."""
        at = max(self.markets.clock.now(), self.ledger.at)
        self.advance(at)
        return at

    def advance(self, at: int) -> None:
        """Let everything up to an instant happen that has not yet."""
        last = self.markets.within(at)
        step = self.markets.step_ms
        for instant in range((self.ledger.at // step + 1) * step, last + 1, step):
            if not any(_concerned(account) for account in self.ledger.accounts.values()):
                break
            for account in self.ledger.accounts.values():
                self._print(account, instant)
            self.ledger.at = instant
        self.ledger.at = max(self.ledger.at, at)

    def _print(self, account: Account, at: int) -> None:
        if at % HOUR_MS == 0:
            self.settlement.fund(account, at)
        printed: dict[str, list[_Print]] = {}
        for order in account.open_orders():
            if not order.open:  # another of them ended it
                continue
            listing = self._listing(order)
            if self.markets.halts.closed(listing.key, at):
                continue
            if order.held_until:
                self._let_go(account, order, listing, at)
                continue
            if listing.symbol not in printed:
                printed[listing.symbol] = _prints(self.markets, listing, at)
            self._strike(account, order, listing, at, printed[listing.symbol])
        if not self._stands_still(account, at):
            liquidate(account, self.markets, self.settlement, self.next_number, at)

    def _strike(
        self, account: Account, order: Order, listing: Listing, at: int, printed: list[_Print]
    ) -> None:
        """Let an open order meet prints, one after another."""
        for one in printed:
            if not order.open:
                return
            if one.at <= order.placed_at:  # it was there before
                continue
            if not order.waits:
                one.left -= self._touch(account, order, listing, at, one)
            elif order.reached(one.price):
                self._trigger(account, order, listing, at)

    def _stands_still(self, account: Account, at: int) -> bool:
        """Return whether a position cannot be closed because its symbol is not traded."""
        held = (name for name, each in account.perp.held.items() if each.qty)
        return any(self.markets.halts.closed(("perp", name), at) for name in held)

    def _touch(
        self, account: Account, order: Order, listing: Listing, at: int, one: _Print
    ) -> Decimal:
        """Fill what a print can of a resting order, and return how much that is."""
        qty = wanted(account, order)
        if qty <= 0:
            self.settlement.end(account, order, listing, EXPIRED, at)
            return ZERO
        done = self._offers.of_print(order, listing, qty, float(one.price), one.left, at)
        if done is None:
            return ZERO
        self._book(account, order, listing, [done], at)
        self.settlement.teller.wallet(account, order.market, listing, "ORDER", at)
        return done.qty

    def _trigger(self, account: Account, order: Order, listing: Listing, at: int) -> None:
        order.triggered_at = order.updated_at = at
        if order.algo:
            self._release(account, order, listing, at)
            return
        if order.price is None:  # at the market: what it may cost is what the book says
            self.settlement.reserve(account, order, listing, -order.locked)
        self._meet(account, order, listing, at)

    def _meet(self, account: Account, order: Order, listing: Listing, at: int) -> None:
        """Let an order that was taken earlier meet the book of an instant."""
        fills = self._offers.at_once(account, order, listing, at)
        at_market = order.market == "spot" and order.price is None
        if at_market and needed(order, fills) > self._free(account, order, listing):
            fills = []
        self._execute(account, order, listing, fills, at)

    def _let_go(self, account: Account, order: Order, listing: Listing, at: int) -> None:
        """Go on with an order that was acknowledged only, once its time has come."""
        if at < order.held_until:
            return
        order.held_until = 0
        if order.expires or not wanted(account, order):
            self.settlement.end(account, order, listing, EXPIRED, at)
            if order.market == "spot":
                self.settlement.teller.wallet(account, "spot", listing, "ORDER", at)
        else:
            self._meet(account, order, listing, at)

    def _release(self, account: Account, algo: Order, listing: Listing, at: int) -> None:
        """Make the order that a conditional order of perpetuals stands for."""
        kind = "MARKET" if algo.price is None else "LIMIT"
        qty = abs(account.perp.of(algo.name).qty) if algo.closes else algo.qty
        child = Order(
            self.next_number(), "perp", algo.name, algo.client_id, algo.side, kind, algo.tif, qty,
            at, at, price=algo.price, reduce_only=algo.reduce_only, parent=algo.number,
        )  # fmt: skip
        try:
            fills = self._affordable(account, child, listing, at)
        except Refused as refused:
            self.settlement.end(account, algo, listing, REJECTED, at, refused.text)
            return
        algo.status, algo.child = TRIGGERED, child.number
        account.done(algo)
        self.settlement.teller.order(account, algo, TRIGGERED, at)
        self._accept(account, child, listing, fills, at)

    # Orders

    def place(self, account: Account, order: Order, *, test: bool = False) -> None:
        """Take an order at the instant it was placed, and fill what can be filled at once.

        Parameters
        ----------
        test : only check it.

        Raises
        ------
        Refused : by a filter, a trigger behind the price, or what the account cannot pay.
        """
        at, listing = order.placed_at, self._listing(order)
        if self.markets.halts.closed(listing.key, at):
            raise refuse.market_closed(order.market)
        last = dec(self.markets.mark(listing, at))
        check_filters(order, listing, last)
        known = account.by_client(order.market, order.client_id, algo=order.algo)
        if known is not None and (known.open or at - known.placed_at < RECENT_MS):
            raise refuse.duplicate(order.market)
        if order.reached(last):
            raise refuse.triggers_now(order.market)
        fate = USUAL if test else self.fated(account, order)
        fills = [] if order.algo else self._affordable(account, order, listing, at, fate.part)
        if fate.after_ms and not order.waits and order.tif != "FOK":
            order.held_until, order.expires, fills = at + fate.after_ms, fate.expires, []
        if not test:
            self._accept(account, order, listing, fills, at)

    def cancel(self, account: Account, order: Order, at: int) -> None:
        """Cancel an open order.

        Raises
        ------
        Refused : if it is not open.
        """
        if not order.open:
            raise refuse.nothing_to_cancel()
        listing = self._listing(order)
        self.settlement.end(account, order, listing, CANCELED, at)
        if order.market == "spot":
            self.settlement.teller.wallet(account, "spot", listing, "ORDER", at)

    def next_number(self) -> int:
        """Return a number for an order that has none yet."""
        self.ledger.last_order += 1
        return self.ledger.last_order

    def _affordable(
        self, account: Account, order: Order, listing: Listing, at: int, part: Decimal = WHOLE
    ) -> list[Execution]:
        """Return what fills an order at once, if it may be placed at all."""
        if order.reduce_only and not wanted(account, order):
            raise refuse.not_reducing()
        fills = [] if order.waits else self._offers.at_once(account, order, listing, at, part)
        if order.quote is not None and not order.qty:
            raise refuse.filter_failure("LOT_SIZE")
        if fills and (order.kind == "LIMIT_MAKER" or order.tif == "GTX"):
            raise refuse.crosses(order.market)
        if order.tif == "FOK" and order.market == "perp" and not fills:
            raise refuse.not_at_once()
        if order.market == "spot":
            if needed(order, fills) > self._free(account, order, listing):
                raise refuse.poor("spot")
        elif not order.reduce_only:
            self._check_margin(account, order, listing, fills, at)
        return fills

    def _accept(
        self, account: Account, order: Order, listing: Listing, fills: list[Execution], at: int
    ) -> None:
        account.add(order)
        if order.market == "spot" and (order.price is not None or order.waits):
            self.settlement.reserve(account, order, listing, needed(order, fills))
        self.settlement.teller.order(account, order, NEW, at)
        if order.waits or order.held_until:
            if order.market == "spot":
                self.settlement.teller.wallet(account, "spot", listing, "ORDER", at)
            return
        self._execute(account, order, listing, fills, at)

    def _execute(
        self, account: Account, order: Order, listing: Listing, fills: list[Execution], at: int
    ) -> None:
        """Book what fills an order at once; the rest of it stays only where it may."""
        self._book(account, order, listing, fills, at)
        if order.open and (order.price is None or order.tif in ("IOC", "FOK")):
            self.settlement.end(account, order, listing, EXPIRED, at)
        if order.market == "spot" or fills:
            self.settlement.teller.wallet(account, order.market, listing, "ORDER", at)

    def _book(
        self, account: Account, order: Order, listing: Listing, fills: list[Execution], at: int
    ) -> None:
        for done in fills:
            self.settlement.fill(account, order, listing, done)
        if order.market == "perp" and fills:
            self._expire_idle(account, listing, at)

    def _expire_idle(self, account: Account, listing: Listing, at: int) -> None:
        """Take off orders that have nothing left to reduce."""
        for order in account.open_orders("perp", listing.name):
            if order.reduce_only and not order.algo and not wanted(account, order):
                self.settlement.end(account, order, listing, EXPIRED, at)

    # What an account can pay

    def _free(self, account: Account, order: Order, listing: Listing) -> Decimal:
        return account.spot.of(listing.quote if order.side is Side.BUY else listing.base).free

    def _check_margin(
        self, account: Account, order: Order, listing: Listing, fills: list[Execution], at: int
    ) -> None:
        margins = Margins(self.markets, account, at)
        price = order.price or (fills[-1].price if fills else margins.mark(listing))
        more = margins.tied(listing, order, price) - margins.tied(listing)
        if more <= 0:
            return
        if not margins.leverage_allows(listing, order, price):
            raise refuse.too_large()
        fees = sum((done.fee for done in fills), ZERO)
        if more + fees > margins.available(listing.quote):
            raise refuse.poor("perp")

    def _listing(self, order: Order) -> Listing:
        return self.markets.listings[order.market, order.name]


def _prints(markets: Markets, listing: Listing, at: int) -> list[_Print]:
    found = markets.printed(listing, at)
    columns = (each.tolist() for each in (found.at, found.price, found.qty))
    return [_Print(when, dec(price), dec(qty)) for when, price, qty in zip(*columns, strict=True)]


def _concerned(account: Account) -> bool:
    """Whether a print can change an account."""
    return bool(account.working) or any(held.qty for held in account.perp.held.values())


def _check_listed(markets: Markets, ledger: Ledger) -> None:
    for account in ledger.accounts.values():
        named = {(order.market, order.name) for order in account.open_orders()}
        named |= {("perp", name) for name, held in account.perp.held.items() if held.qty}
        if unknown := sorted(name for market, name in named - set(markets.listings)):
            raise UsageError(
                "venue state", "must be of symbols that the venue lists", unknown,
                "List them as well, or begin with another state.",
            )  # fmt: skip
