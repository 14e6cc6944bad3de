"""A perpetuals' venue by ccxt: our orders in its words, its answers in decimals.

Amounts are read from the venue's own text, never from ccxt's floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import ccxt
import structlog

from data.sources.waiting import retry_after
from domain.errors import SettingError
from domain.market import Instrument, MarginTier
from domain.trading import ZERO, Order, OrderType, Side
from execution.adapters.answers import never_left, unreachable, words_of
from execution.adapters.breaker import Breaker
from execution.adapters.exchange_clock import set_clock

log = structlog.get_logger("live")

T = TypeVar("T")
PAGE = 1_000  # trades, or settlements, in one answer
_DEAREST = Decimal("0.01")  # a fee, or what a maker is paid, is less
TRIES = 2  # of a question whose line broke; an order is sent once
_LOST = (ccxt.NetworkError, ccxt.BadResponse)  # but these are answers:
_TOO_MUCH = (ccxt.DDoSProtection, ccxt.RateLimitExceeded)
_ANSWERS = (*_TOO_MUCH, ccxt.InvalidNonce)
_OPEN = frozenset({"NEW", "PARTIALLY_FILLED", "PENDING_NEW", "TRIGGERING", "TRIGGERED"})


@dataclass(frozen=True, slots=True)
class Report:
    """What the venue says of an order.

    Attributes
    ----------
    number : the venue's own; of a conditional order another series than its child's.
    filled : base units; of a conditional order always 0, its child has them.
    child : number of the order that a conditional one made; empty before it is triggered.
    """

    number: str
    client_id: str
    open: bool
    filled: Decimal
    child: str = ""


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill as the venue tells it, by REST or on the user's stream.

    Attributes
    ----------
    number : grows within a symbol. ``order`` : the venue's number of its order.
    fee : of ``fee_asset``, positive is paid. ``realised`` : before the fee, quote units.
    at : ms, the venue's time. ``client_id`` : empty where it is not told.
    """

    number: int
    order: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    realised: Decimal
    at: int
    maker: bool
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Funding:
    """One settlement; a positive amount was paid by us, quote units.

    Attributes
    ----------
    number : the venue's own, of the row.
    """

    number: str
    symbol: str
    at: int  # ms
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """The best prices, quote units."""

    bid: Decimal
    ask: Decimal

    @property
    def mid(self) -> Decimal:
        """Their middle."""
        return (self.bid + self.ask) / 2


def _as_it_is(told: Any) -> Any:
    return told


class Gateway:
    """Signed questions and orders, to a venue that is left alone while it answers nothing.

    Parameters
    ----------
    client : a ccxt exchange with key and secret, of :func:`data.sources.exchange.connect`.
    symbols : that are traded here.
    currency : that everything is settled in.
    monotonic : seconds.
    """

    def __init__(
        self, client: Any, symbols: Iterable[str], currency: str, *,
        breaker: Breaker | None = None, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._client, self.symbols, self.currency = client, tuple(symbols), currency
        self._breaker, self._monotonic = breaker or Breaker(), monotonic
        self.reach = self._breaker.health
        self._names: dict[str, str] = {}  # the venue's name → symbol

    def open(self) -> None:
        """Learn what the venue lists.

        Raises
        ------
        ServiceUnreachable : if it does not answer.
        SettingError : if a symbol is not listed.
        """
        self._ask(self._client.load_markets)
        for symbol in self.symbols:
            if symbol not in self._client.markets:
                raise SettingError("SYMBOLS", f"must be traded on {self._client.id}", symbol)
            self._names[self.name(symbol)] = symbol

    def left_alone(self) -> float:
        """Return for how many seconds every question fails at once; 0 = the venue is asked."""
        return self._breaker.left(self._monotonic())

    def name(self, symbol: str) -> str:
        """Return what the venue calls a symbol."""
        return str(self._client.markets[symbol]["id"])

    def symbol(self, name: str) -> str | None:
        """Return the symbol of a venue's name; None if it is not traded here."""
        return self._names.get(name)

    # Orders. They raise ccxt's errors: what they mean is for :mod:`execution.adapters.answers`.

    def place(self, order: Order, client_id: str, qty: Decimal, *, at_market: bool) -> Report:
        """Send an order, once.

        Parameters
        ----------
        at_market : whatever its type; a stop whose price is passed.

        Raises
        ------
        NotSent : while the venue is left alone.
        ccxt.BaseError : whatever the venue, or the way there, says.
        """
        params: dict[str, Any] = {"clientOrderId": client_id}
        if order.reduce_only:
            params["reduceOnly"] = True
        kind, price = "market", None
        if order.type is OrderType.STOP and not at_market:
            params["stopLossPrice"] = str(order.trigger)
        elif order.type is OrderType.LIMIT and not at_market:
            kind, price = "limit", str(order.price)
        with self._noted(), _read():
            told = self._client.create_order(
                order.symbol, kind, order.side.value, str(qty), price, params
            )
            return _report(told)

    def cancel(self, symbol: str, client_id: str, *, conditional: bool) -> None:
        """Cancel an order; one that is not open is left as it is.

        Raises
        ------
        ServiceUnreachable : if nobody can say whether it was.
        """
        params = _asked(client_id, conditional=conditional)
        try:
            self._ask(self._client.cancel_order, "", symbol, params)
        except ccxt.OrderNotFound:
            return

    def find(self, symbol: str, client_id: str, *, conditional: bool) -> Report | None:
        """Return what the venue knows of a client id, None if nothing.

        Raises
        ------
        ServiceUnreachable : if it does not answer.
        """
        try:
            asked = _asked(client_id, conditional=conditional)
            return self._ask(self._client.fetch_order, "", symbol, asked, read=_report)
        except ccxt.OrderNotFound:
            return None

    def numbered(self, symbol: str, number: str) -> Report | None:
        """Return the same by the venue's number."""
        try:
            return self._ask(self._client.fetch_order, number, symbol, read=_report)
        except ccxt.OrderNotFound:
            return None

    # What happened

    def trades(self, symbol: str, *, after: int | None = None, since: int = 0) -> list[Trade]:
        """Return fills in order: beyond number ``after``, else of seven days from ``since`` on.

        Parameters
        ----------
        since : ms.

        Raises
        ------
        ServiceUnreachable : if the venue does not answer.
        """
        found: list[Trade] = []
        while True:
            window: dict[str, Any] = {"startTime": since}
            if after is not None:
                window = {"fromId": after + 1}
            rows = self._ask(
                self._client.fetch_my_trades, symbol, None, PAGE, window,
                read=lambda page: [self._trade(symbol, row["info"]) for row in page],
            )  # fmt: skip
            fresh = sorted(
                (row for row in rows if after is None or row.number > after),
                key=lambda row: row.number,
            )
            found += fresh
            if len(rows) < PAGE or not fresh:
                return found
            after = fresh[-1].number

    def funding(self, since: int) -> list[Funding]:
        """Return settlements from an instant (ms) on, oldest first, each once."""
        found: dict[str, Funding] = {}
        while True:
            rows = self._ask(
                self._client.fapiPrivateGetIncome,
                {"incomeType": "FUNDING_FEE", "startTime": since, "limit": PAGE},
                read=lambda page: [(int(row["time"]), self._settlement(row)) for row in page],
            )  # fmt: skip
            found |= {row.number: row for _, row in rows if row is not None}
            if len(rows) < PAGE:
                return sorted(found.values(), key=lambda row: row.at)
            last = max(at for at, _ in rows)  # what shares its stamp with it may come after it
            since = max(last, since + 1)

    def holdings(self) -> tuple[Decimal, dict[str, Decimal]]:
        """Return the wallet's balance and the signed quantity of every symbol."""
        return self._ask(self._client.fetch_balance, read=self._wallet), self.positions()

    def positions(self) -> dict[str, Decimal]:
        """Return the signed quantity of every symbol, base units."""
        return self._ask(self._client.fetch_positions, list(self.symbols), read=self._held)

    def open_orders(self) -> int:
        """Return how many orders of the symbols are open, conditional ones included."""
        return sum(
            self._ask(self._client.fetch_open_orders, symbol, None, None, params, read=len)
            for symbol in self.symbols
            for params in ({}, {"trigger": True})
        )

    def quote(self, symbol: str) -> Quote:
        """Return the best prices now."""
        ask = self._client.fapiPublicGetTickerBookTicker
        return self._ask(ask, {"symbol": self.name(symbol)}, read=_quote)

    def worth(self, asset: str) -> Decimal:
        """Return the price of an asset in the currency."""
        ask = self._client.fapiPublicGetTickerBookTicker
        return self._ask(ask, {"symbol": f"{asset}{self.currency}"}, read=_quote).mid

    # What it must be like

    def terms(self, instruments: Iterable[Instrument]) -> Iterator[Instrument]:
        """Iterate over instruments with the fees of this account and the venue's tiers of margin.

        Fees are asked for one by one, about a second each: the venue counts that question dear.

        Raises
        ------
        ServiceUnreachable : if the venue does not answer, or with what are none.
        """
        wanted = list(instruments)
        if not wanted:
            return
        names = [self.name(each.symbol) for each in wanted]
        tiers = self._ask(
            self._client.fapiPrivateGetLeverageBracket,
            read=lambda told: [_tiers(told, name) for name in names],
        )
        for each, name, held in zip(wanted, names, tiers, strict=True):
            ask = self._client.fapiPrivateGetCommissionRate
            maker, taker = self._ask(ask, {"symbol": name}, read=partial(_fees, name=name))
            yield replace(each, maker_bps=maker, taker_bps=taker, tiers=held)

    def settle_on_one(self) -> None:
        """Demand one position a symbol, and set leverage 1.

        Raises
        ------
        SettingError : if the account hedges: long and short of one symbol side by side.
        ServiceUnreachable : if the venue does not answer.
        """
        if self._ask(self._client.fetch_position_mode, read=lambda told: told["hedged"]):
            raise SettingError(
                "position mode", "must be one-way, one position a symbol", "hedge",
                "Change it at the exchange: preferences, position mode.",
            )  # fmt: skip
        for symbol in self.symbols:
            self._ask(self._client.set_leverage, 1, symbol)

    def rights(self) -> Mapping[str, bool] | None:
        """Return what the key may do, by the venue's names; None where it does not tell."""
        try:
            return self._ask(self._client.sapiGetAccountApiRestrictions, read=_flags)
        except ccxt.NotSupported:
            return None

    def time(self) -> int:
        """Return the venue's time, ms."""
        return self._ask(self._client.fetch_time, read=int)

    def listen_key(self) -> str:
        """Return the key of the user's stream, a new one or the one there is, good for an hour."""
        ask = self._client.fapiPrivatePostListenKey
        return self._ask(ask, read=lambda told: str(told["listenKey"]))

    def heard(self, told: Mapping[str, Any]) -> Trade | None:
        """Return the fill in an event of the user's stream, None if it tells of none."""
        if told.get("e") != "ORDER_TRADE_UPDATE" or told["o"]["x"] != "TRADE":
            return None
        order = told["o"]
        symbol = self._names.get(order["s"])
        if symbol is None:
            return None
        return Trade(
            int(order["t"]), str(order["i"]), symbol, Side(order["S"].lower()),
            Decimal(order["l"]), Decimal(order["L"]), Decimal(order.get("n", "0")),
            str(order.get("N", self.currency)), Decimal(order["rp"]), int(order["T"]),
            bool(order["m"]), str(order["c"]),
        )  # fmt: skip

    def _settlement(self, row: Mapping[str, Any]) -> Funding | None:
        symbol = self._names.get(row["symbol"])
        if symbol is None or row["asset"] != self.currency:
            return None
        return Funding(str(row["tranId"]), symbol, int(row["time"]), -Decimal(row["income"]))

    def _wallet(self, told: Any) -> Decimal:
        mine = (row for row in told["info"]["assets"] if row["asset"] == self.currency)
        return sum((Decimal(row["walletBalance"]) for row in mine), ZERO)

    def _held(self, rows: Any) -> dict[str, Decimal]:
        held = dict.fromkeys(self.symbols, ZERO)
        for row in rows:
            symbol = self._names.get(row["info"]["symbol"])
            if symbol is not None:
                held[symbol] += Decimal(row["info"]["positionAmt"])
        return held

    def _trade(self, symbol: str, row: Mapping[str, Any]) -> Trade:
        return Trade(
            int(row["id"]), str(row["orderId"]), symbol, Side(row["side"].lower()),
            Decimal(row["qty"]), Decimal(row["price"]), Decimal(row["commission"]),
            str(row["commissionAsset"]), Decimal(row["realizedPnl"]), int(row["time"]),
            bool(row["maker"]),
        )  # fmt: skip

    def _ask(self, ask: Callable[..., Any], *words: Any, read: Callable[[Any], T] = _as_it_is) -> T:
        """Ask and read; what is not there raises ccxt's own error, every other trouble ours."""
        for attempt in range(1, TRIES + 1):
            try:
                with self._noted(), _read():
                    return read(ask(*words))
            except (ccxt.OrderNotFound, ccxt.NotSupported):
                raise
            except ccxt.BaseError as error:
                # who was waited for in vain is not waited for again at once
                again = _is_lost(error) and not isinstance(error, ccxt.RequestTimeout)
                if attempt == TRIES or not again:
                    raise unreachable(str(self._client.id), error, lost=_is_lost(error)) from error
        raise AssertionError  # the last try returns or raises

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Let a call through, and take note of whether it is answered."""
        breaker, was_open = self._breaker, self.reach.open
        breaker.check(str(self._client.id), self._monotonic())
        try:
            yield
        except ccxt.BaseError as error:
            asked = retry_after(self._client.last_response_headers)
            if never_left(error):
                pass  # nobody was asked
            elif _is_lost(error):
                breaker.in_vain(self._monotonic(), words_of(error))
            elif isinstance(error, _TOO_MUCH) and asked is not None:
                breaker.rest(self._monotonic(), asked, words_of(error))
            else:
                breaker.answered()
            if isinstance(error, ccxt.InvalidNonce):
                set_clock(self._client)
            raise
        else:
            breaker.answered()
        finally:
            if self.reach.open and self.left_alone():
                left = f"{self.left_alone():.0f} s"
                log.warning("venue_left_alone", seconds=left, why=self.reach.problem)
            elif was_open and not self.reach.open:
                log.info("venue_answers_again")


@contextmanager
def _read() -> Iterator[None]:
    """Take what cannot be read, by ccxt or here, for an answer that says nothing."""
    try:
        yield
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise ccxt.BadResponse(f"unreadable: {type(error).__name__}") from error


def _fees(told: Any, name: str) -> tuple[float, float]:
    """Return a maker's and a taker's fee, basis points."""
    rates = [Decimal(told[f"{who}CommissionRate"]) for who in ("maker", "taker")]
    if told["symbol"] != name or not all(abs(rate) < _DEAREST for rate in rates):
        raise ValueError("no fees")
    maker, taker = (float(rate * 10_000) for rate in rates)
    return maker, taker


def _tiers(told: Any, name: str) -> tuple[MarginTier, ...]:
    [row] = [row for row in told if row["symbol"] == name]
    tiers = tuple(
        MarginTier(
            Decimal(str(one["notionalCap"])), Decimal(str(one["maintMarginRatio"])),
            int(one["initialLeverage"]), Decimal(str(one["cum"])),
        )
        for one in sorted(row["brackets"], key=lambda one: int(one["bracket"]))
    )  # fmt: skip
    caps = [ZERO, *(tier.up_to for tier in tiers)]
    if not tiers or not all(low < high for low, high in pairwise(caps)):
        raise ValueError("no tiers")
    for tier in tiers:
        if not (0 < tier.rate < 1 and tier.max_leverage >= 1 and 0 <= tier.deducted < tier.up_to):
            raise ValueError("no tiers")
    return tiers


def _is_lost(error: ccxt.BaseError) -> bool:
    return isinstance(error, _LOST) and not isinstance(error, _ANSWERS)


def _asked(client_id: str, *, conditional: bool) -> dict[str, Any]:
    if conditional:
        return {"clientOrderId": client_id, "trigger": True}
    return {"origClientOrderId": client_id}


def _quote(row: Any) -> Quote:
    return Quote(Decimal(row["bidPrice"]), Decimal(row["askPrice"]))


def _flags(told: Any) -> dict[str, bool]:
    return {name: value for name, value in told.items() if isinstance(value, bool)}


def _report(order: Any) -> Report:
    told = order["info"]
    if "algoId" in told:
        child = str(told.get("actualOrderId") or "")
        is_open = told["algoStatus"] in _OPEN
        return Report(str(told["algoId"]), str(told["clientAlgoId"]), is_open, ZERO, child)
    return Report(
        str(told["orderId"]), str(told["clientOrderId"]), told["status"] in _OPEN,
        Decimal(told["executedQty"]),
    )  # fmt: skip
