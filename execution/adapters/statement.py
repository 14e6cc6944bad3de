"""The account's statement: every fill and settlement once, in the venue's order.

Fills come by polling, on from the last number known, and earlier by the user's stream. One that
the stream brings is handed out only when polling has come as far: nothing older can be missing
then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

import structlog

from domain.errors import ServiceUnreachable
from domain.market import Bar
from domain.times import HOUR_MS, MINUTE_MS
from domain.trading import ZERO, Fill, Holdings, Posting
from execution import books
from execution.account import Account
from execution.adapters.booking import fill_of, read_id, read_settlement, settlement_id
from execution.adapters.courier import Courier
from execution.adapters.gateway import Funding, Gateway, Trade
from execution.adapters.tracked import Stage, Tracking
from execution.adapters.waits import LaterIfUnreachable, Waits

log = structlog.get_logger("live")

ROUNDS = 4  # of asking, before a difference is taken for one


class News(Protocol):
    """Somebody who hears of fills before they are asked for."""

    def news(self) -> list[Trade]:
        """Return what was heard since the last time."""
        ...


@dataclass(slots=True)
class _Place:
    """Where one symbol stands.

    Attributes
    ----------
    cursor : number of the last fill that was polled; 0 = none yet.
    since : where polling starts without one, ms; None = nothing was ever sent.
    seen : numbers beyond the cursor that were taken in.
    pending : fills to be handed out, by number.
    """

    cursor: int = 0
    since: int | None = None
    seen: set[int] = field(default_factory=set)
    pending: dict[int, Fill] = field(default_factory=dict)


class NobodysYet(ServiceUnreachable):
    """Whose a fill is cannot be said before it is known what became of an order of ours."""


class Statement:
    """What happened to the account, and what of it was handed out.

    Attributes
    ----------
    account : the fold over what was handed out.

    Parameters
    ----------
    news : of the user's stream; None = polling alone.
    sleep : seconds.
    """

    def __init__(
        self, gateway: Gateway, tracking: Tracking, courier: Courier, account: Account,
        symbols: Iterable[str], news: News | None, waits: Waits, sleep: Callable[[float], None],
    ) -> None:  # fmt: skip
        self.account = account
        self._gateway, self._tracking, self._courier = gateway, tracking, courier
        self._news, self._waits, self._sleep = news, waits, sleep
        self._places = {symbol: _Place() for symbol in symbols}
        self._strangers: set[str] = set()  # the venue's numbers of orders that are not ours
        self._due: dict[str, Funding] = {}  # settlements to be handed out, by number
        self._settled: set[str] = set()  # numbers of those that were
        self._unnumbered: set[tuple[str, int]] = set()  # of a ledger that does not number them
        self._last_settled = 0  # ms, the newest stamp of any
        self._opened = 0  # ms, what was settled before is in the capital
        self._asked_at = 0  # ms, settlements were asked for at this close
        self._elsewhere = ZERO  # fees paid in other assets, in our currency

    def held(self, symbol: str) -> Decimal:
        """Return the signed position with all that the venue is known to have filled."""
        position = self.account.position(symbol)
        ours = ZERO if position is None else position.qty
        for tracked in self._tracking.of(symbol):
            ours += (tracked.filled - tracked.handed) * tracked.order.side.sign
        for fill in self._places[symbol].pending.values():  # of orders that are followed no more
            if fill.order_id not in self._tracking.live:
                ours += fill.qty * fill.side.sign
        return ours

    def begin(self, symbol: str, sent_at: int) -> None:
        """Tell when (ms) an order is sent: none older than those without an end can fill.

        Until the first fill that is where polling starts: of a start more than seven days ago
        Binance tells nothing (https://github.com/ccxt/ccxt/issues/21103).
        """
        self._places[symbol].since = self._since(symbol, sent_at - MINUTE_MS)

    def _since(self, symbol: str, else_ms: int) -> int:
        sent = [one.order.created_at - MINUTE_MS for one in self._tracking.of(symbol)]
        return min(sent, default=else_ms)

    def hear(self) -> None:
        """Take in the fills that the user's stream has told of.

        Raises
        ------
        ServiceUnreachable : if whose one is must be asked for, and the venue does not answer.
        """
        for trade in [] if self._news is None else self._news.news():
            with suppress(NobodysYet):  # it is polled again
                self._take(trade)

    def pull(self, only: str | None = None) -> None:
        """Take in every fill that is known by now, of one symbol or of all.

        Raises
        ------
        ServiceUnreachable : if the venue does not answer, or of a fill not well enough.
        """
        self.hear()
        later: NobodysYet | None = None
        for symbol, place in self._places.items():
            if only not in (None, symbol) or (not place.cursor and place.since is None):
                continue  # nothing was ever sent: what there is, is not ours
            try:
                self._poll(symbol, place)
            except NobodysYet as error:  # the other symbols do not wait for it
                later = error
        if later is not None:
            raise later

    def _poll(self, symbol: str, place: _Place) -> None:
        after, since = place.cursor or None, self._since(symbol, place.since or 0)
        for trade in self._gateway.trades(symbol, after=after, since=since):
            self._take(trade)
            place.cursor = max(place.cursor, trade.number)
        place.seen = {number for number in place.seen if number > place.cursor}

    def hand_out(self, bar: Bar) -> list[Fill]:
        """Return the fills of a bar's symbol up to its close, in the venue's order."""
        place, out = self._places[bar.symbol], list[Fill]()
        for number in sorted(place.pending):
            if number > place.cursor or place.pending[number].at >= bar.close_ms:
                break
            fill = place.pending.pop(number)
            self.book(fill)
            out.append(fill)
        return out

    def book(self, fill: Fill) -> None:
        """Take a fill for handed out, now or before a restart."""
        self.account.fold(fill)
        number, elsewhere = read_id(fill.id)
        if elsewhere:
            self._elsewhere += fill.fee
        place = self._places.get(fill.symbol)
        if place is not None:
            place.cursor = max(place.cursor, number)
        tracked = self._tracking.live.get(fill.order_id)
        if tracked is not None:
            tracked.handed += fill.qty
            tracked.filled = max(tracked.filled, tracked.handed)
            flat = tracked.order.reduce_only and self.account.position(fill.symbol) is None
            closed_again = tracked.entry and tracked.withdrawn  # by the broker, which is not done
            if not closed_again and (flat or tracked.handed >= tracked.order.qty):
                self._tracking.drop(tracked)

    # Settlements of funding

    def settlements(self, bar: Bar) -> list[Posting]:
        """Book what the venue charged a bar's symbol up to its close.

        It settles on the hour, so it is asked once in each.
        """
        if self._asked_at // HOUR_MS < bar.close_ms // HOUR_MS:
            with LaterIfUnreachable("funding"):
                self._pull_settlements()
                self._asked_at = bar.close_ms
        own, lines = self.account, list[Posting]()
        due = [row for row in self._due.values() if row.symbol == bar.symbol]
        for paid in sorted(due, key=lambda row: (row.at, row.number)):
            if paid.at < bar.close_ms:
                del self._due[paid.number]
                entry = settlement_id(own.name, paid.number)
                lines += books.of_funding(
                    own.name, own.currency, paid.symbol, paid.at, paid.amount, entry
                )
        for line in lines:
            self.post(line)
        return lines

    def post(self, line: Posting) -> None:
        """Take a posting for handed out, now or before a restart."""
        self.account.fold(line)
        if line.book == "funding":
            number = read_settlement(line.entry)
            if number:
                self._settled.add(number)
            else:
                self._unnumbered.add((line.memo.split(" ")[0], line.at))
            self._last_settled = max(self._last_settled, line.at)
        elif line.book == "capital":
            self._opened = max(self._opened, line.at)

    def _pull_settlements(self) -> None:
        """Ask again for an hour that is known: a symbol's row may be written after another's."""
        since = max(self._last_settled - HOUR_MS, self._opened)
        for paid in self._gateway.funding(since):
            known = paid.number in self._settled or (paid.symbol, paid.at) in self._unnumbered
            if not known:
                self._due[paid.number] = paid

    # What there is

    def holdings(self) -> Holdings:
        """Return what the venue holds, less what was not handed out yet.

        Asked again until it agrees with what was handed out, so that a fill in between is no
        difference. Where the venue does not answer, what was handed out.
        """
        own = {position.symbol: position.qty for position in self.account.positions()}
        found = Holdings(None, own)
        if not self.account.funded:
            return found  # before the ledger's account is opened there is nothing to compare
        with LaterIfUnreachable("holdings"):
            for attempt in range(ROUNDS):
                if attempt:  # fills are asked for where they are missing: of all symbols it is dear
                    self._sleep(self._waits.pause * (attempt - 1))
                    self.pull()
                    self._pull_settlements()
                told = self._without_pending(*self._gateway.holdings())
                if told.cash == self.account.cash and _same(told.quantities, own):
                    break
            return told
        return found

    def _without_pending(self, cash: Decimal, held: Mapping[str, Decimal]) -> Holdings:
        quantities, cash = dict(held), cash - self._elsewhere
        for symbol, place in self._places.items():
            for fill in place.pending.values():
                quantities[symbol] -= fill.qty * fill.side.sign
                fee = ZERO if read_id(fill.id)[1] else fill.fee
                cash -= fill.realised - fee
        return Holdings(cash + sum((paid.amount for paid in self._due.values()), ZERO), quantities)

    # One way in for every fill

    def _take(self, trade: Trade) -> None:
        place = self._places[trade.symbol]
        if trade.number in place.seen or trade.number <= place.cursor:
            return
        owner = self._owner(trade)
        if owner is None:
            place.seen.add(trade.number)
            log.error("foreign_fill", symbol=trade.symbol, number=trade.number, order=trade.order)
            return
        tracked = self._tracking.live.get(owner[0])
        reference = None if tracked is None else tracked.reference
        half = None if tracked is None else tracked.half_spread
        fill = fill_of(
            trade, self._gateway.name(trade.symbol), self.account.name, self.account.currency,
            owner, reference, half, self._gateway.worth,
        )  # fmt: skip
        if read_id(fill.id)[1]:
            fee = f"{trade.fee:f} {trade.fee_asset}"
            log.warning("fee_in_another_asset", paid=fee, booked=f"{fill.fee:f}")
        place.seen.add(trade.number)  # not before: where its fee cannot be told, it is asked again
        place.pending[trade.number] = fill
        if tracked is not None:
            if tracked.stage is Stage.DOUBT:
                tracked.stage = Stage.TAKEN
            waiting = sum((f.qty for f in place.pending.values() if f.order_id == owner[0]), ZERO)
            tracked.filled = max(tracked.filled, tracked.handed + waiting)

    def _owner(self, trade: Trade) -> tuple[str, str] | None:
        """Return (order id, intent) of a fill, None if it is of an order that is not ours.

        Raises
        ------
        NobodysYet : if it may be of one of ours that is in doubt.
        ServiceUnreachable : if the venue does not answer.
        """
        if trade.order in self._strangers:
            return None
        found = self._tracking.owner(trade.order)
        if found is None and trade.client_id:
            found = self._tracking.recognise(trade.order, trade.client_id)
        if found is None:
            found = self._triggered(trade)
        if found is None:
            known = self._gateway.numbered(trade.symbol, trade.order)
            if known is not None:
                found = self._tracking.recognise(trade.order, known.client_id)
        if found is None:
            doubt = [o for o in self._tracking.of(trade.symbol) if o.stage is Stage.DOUBT]
            if doubt:
                rule = f"may be ours while {doubt[0].client_id} is in doubt"
                raise NobodysYet(f"order {trade.order}", rule)
            self._strangers.add(trade.order)
        return found

    def _triggered(self, trade: Trade) -> tuple[str, str] | None:
        """Return the stop that has become the order of a fill."""
        for tracked in self._tracking.of(trade.symbol):
            if tracked.conditional and tracked.stage is Stage.TAKEN:
                report = self._courier.present(tracked)
                if report is not None:
                    self._courier.note(tracked, report)
        return self._tracking.owner(trade.order)


def _same(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> bool:
    return all(
        one.get(symbol, ZERO) == other.get(symbol, ZERO) for symbol in one.keys() | other.keys()
    )
