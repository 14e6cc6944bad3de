"""What must hold on any day, worked out again from the ledger's rows.

The auditor keeps its own account of positions, money, peaks and days: it does not ask the loop, the
broker or risk what they think. Beside the rows it knows what the stage showed: which bars were
heard, what the books were. A law that nothing put to the test says so: 0 checked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from domain.decision import Action, Decision
from domain.market import Bar, BookSnapshot
from domain.ports import BookSource
from domain.times import DAY_MS, iso
from domain.trading import (
    ZERO,
    ClosedTrade,
    EquityMark,
    Fill,
    ModeChange,
    Order,
    OrderType,
    Posting,
    Refusal,
    RiskMode,
)
from execution.limits import RiskLimits
from execution.money import dec

LAWS: Mapping[str, str] = {
    "exposure": "nothing is entered beyond what a symbol and the account may hold",
    "correlation": "symbols that move together are held as if they were one",
    "mode": "nothing is entered unless the mode is ACTIVE",
    "daily loss": "nothing is entered on a day that has lost more than the limit",
    "drawdown": "nothing is entered where the drawdown leaves no size",
    "total stop": "the account is halted at the first close beyond it",
    "book": "nothing is entered into a book that is too wide or too thin",
    "feed": "nothing is entered without the bar that it is decided on",
    "closing": "what is open while KILLED or HALTED is being closed, and is, once anybody trades",
    "reduce only": "an exit opens nothing",
    "balance": "every booking sums to zero, and so do all",
    "equity": "equity is capital, fills, fees and funding, to 0.0001",
    "decided": "every bar that is heard in time is decided on",
    "restart": "a desk that comes back from its ledger knows what it knew",
}
_CENT = Decimal("0.0001")
_NEAR = Decimal("1e-9")  # of equity: binary fractions in limits
_PATIENCE = 3  # closes with a book in which a stop must have closed everything
_STOPPED = (RiskMode.KILLED, RiskMode.HALTED)


@dataclass(slots=True)
class Law:
    """How often a law was put to the test, and where it was broken, in words."""

    checked: int = 0
    broken: list[str] = field(default_factory=list)

    def test(self, holds: bool, where: str) -> None:
        """Count a test."""
        self.checked += 1
        if not holds:
            self.broken.append(where)


@dataclass(frozen=True, slots=True)
class Point:
    """The account at one close; quote units, and fractions of equity."""

    at: int
    equity: float
    exposure: float
    mode: str


class Auditor:
    """Folds a ledger's rows.

    Parameters
    ----------
    limits : those that must have held.
    books : what the desk could see; asked under the forecast symbol's name.
    routes : forecast symbol → execution symbol.
    kills : when somebody killed, ms, and whether what was open was to be closed.
    """

    def __init__(
        self, limits: RiskLimits, books: BookSource, routes: Mapping[str, str],
        kills: Iterable[tuple[int, bool]] = (),
    ) -> None:  # fmt: skip
        self.laws = {name: Law() for name in LAWS}
        self.points: list[Point] = []
        self.refused: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.aside: Counter[str] = Counter()  # why the strategy wanted nothing
        self.entries = 0
        self.funding = ZERO  # paid or received, quote units
        self.modes: list[tuple[int, RiskMode]] = []
        self.flat_after: list[int | None] = []  # closes from each stop to nothing open
        self._limits, self._books = limits, books
        self._symbols = {route: symbol for symbol, route in routes.items()}
        self._kills = sorted(kills)
        self._decided: set[tuple[str, int]] = set()
        self._mode, self._leaves = RiskMode.ACTIVE, False
        self._held: dict[str, Decimal] = {}
        self._paid = ZERO  # for what was bought, less what was sold for, fees, funding
        self._marks: dict[str, tuple[int, Decimal]] = {}
        self._working: dict[str, list[Any]] = {}  # order id → [order, quantity left]
        self._paths: dict[str, dict[int, float]] = {symbol: {} for symbol in routes}
        self._sums: dict[tuple[str, str], Decimal] = {}
        self._step_ms = 0
        self._capital = self._equity = self._peak = self._day_start = ZERO
        self._day, self._tripped, self._owes = -1, False, ""
        self._stopped: int | None = None  # closes since the stop that is being followed
        self._tradable = 0  # of these, in which every open symbol had a book

    def read(self, rows: Iterable[Any]) -> None:
        """Fold rows in the ledger's order, then look at the sums."""
        readers = {
            Bar: self._bar, Order: self._order, Fill: self._fill, Posting: self._posting,
            Refusal: self._refusal, EquityMark: self._mark, ModeChange: self._changed,
            ClosedTrade: self._trade, Decision: self._decision,
        }  # fmt: skip
        for row in rows:
            reader: Any = readers.get(type(row))
            if reader is not None:
                reader(row)
        for (entry, asset), amount in self._sums.items():
            self.laws["balance"].test(amount == 0, f"{entry}: {amount} {asset}")
        if self._stopped is not None:
            self.flat_after.append(None)

    def expect_decisions(self, heard: Iterable[tuple[str, int]]) -> None:
        """Look whether every bar that was heard in time (symbol, close in ms) was decided on."""
        for symbol, at in heard:
            self.laws["decided"].test((symbol, at) in self._decided, f"{iso(at)} {symbol}")

    def tell_restarts(self, count: int, otherwise: Iterable[str]) -> None:
        """Take in what restarts found otherwise than it was left, in words."""
        self.laws["restart"].checked += count
        self.laws["restart"].broken += otherwise

    # Money

    def _bar(self, bar: Bar) -> None:
        while self._kills and self._kills[0][0] < bar.close_ms:
            _, flattens = self._kills.pop(0)
            if flattens or self._stopped is None:
                self._leaves = not flattens
            if flattens:
                self._follow_stop()
        if bar.symbol in self._symbols:
            self._marks[bar.symbol] = (bar.close_ms, dec(bar.close))
        if bar.symbol in self._paths:
            closes = self._paths[bar.symbol]
            closes[bar.open_ms] = bar.close
            if len(closes) > 2 * self._limits.correlation_bars:
                del closes[next(iter(closes))]
            self._step_ms = bar.close_ms - bar.open_ms

    def _posting(self, line: Posting) -> None:
        for key in ((line.entry, line.asset), ("all", line.asset)):
            self._sums[key] = self._sums.get(key, ZERO) + line.amount
        if line.book == "capital":
            self._capital -= line.amount
        elif line.book == "funding":
            self._paid += line.amount
            self.funding += abs(line.amount)

    def _fill(self, fill: Fill) -> None:
        signed, held = fill.qty * fill.side.sign, self._held.get(fill.symbol, ZERO)
        working = self._working.get(fill.order_id)
        if working is not None:
            working[1] -= fill.qty
            if working[1] <= 0:
                del self._working[fill.order_id]
        if fill.intent != "entry":
            shrinks = held * signed < 0 and abs(signed) <= abs(held)
            self.laws["reduce only"].test(shrinks, f"{iso(fill.at)} {fill.symbol} {fill.intent}")
        elif held == 0:
            self.entries += 1
        self._held[fill.symbol] = held + signed
        self._paid += signed * fill.price + fill.fee
        if self._held[fill.symbol] == 0:
            self._drop(lambda order: order.symbol == fill.symbol and order.reduce_only)

    def _worth(self) -> Decimal:
        held = sum((qty * self._price(name) for name, qty in self._held.items() if qty), ZERO)
        return self._capital - self._paid + held

    def _price(self, symbol: str) -> Decimal:
        return self._marks.get(symbol, (0, ZERO))[1]

    def _exposures(self) -> dict[str, Decimal]:
        return {name: abs(qty) * self._price(name) for name, qty in self._held.items() if qty}

    # Orders

    def _order(self, order: Order) -> None:
        if order.intent == "entry":
            self._entry(order)
        self._working[order.id] = [order, order.qty]

    def _entry(self, order: Order) -> None:
        where, law = f"{iso(order.created_at)} {order.symbol}", self.laws
        law["mode"].test(self._mode is RiskMode.ACTIVE, f"{where}: {self._mode.value}")
        at, price = self._marks.get(order.symbol, (0, ZERO))
        law["feed"].test(at == order.created_at, f"{where}: newest bar {iso(at)}")
        law["total stop"].test(not self._owes, f"{where}: {self._owes}")
        if self._limits.daily_loss is not None:
            law["daily loss"].test(not self._tripped, where)
        if self._limits.drawdown_start is not None:
            end = dec(self._limits.drawdown_start) + Decimal("0.03")
            law["drawdown"].test(self._fall() < end, f"{where}: {float(self._fall()):.2%}")
        self._exposed(order, price, where)
        symbol = self._symbols[order.symbol]
        self._booked(self._books.look(symbol, order.created_at).book, where)

    def _exposed(self, order: Order, price: Decimal, where: str) -> None:
        equity, others = self._worth(), self._exposures()
        own = order.qty * price
        held = others.pop(order.symbol, ZERO)
        own += ZERO if self._closes(order.symbol) else held
        for each, left in self._working.values():
            if each.intent == "entry":
                worth = left * self._price(each.symbol)
                if each.symbol == order.symbol:
                    own += worth
                else:
                    others[each.symbol] = others.get(each.symbol, ZERO) + worth
        self._together(order, own, others)
        limits, every = self._limits, own + sum(others.values(), ZERO)
        tested = ((limits.max_symbol_exposure, own), (limits.max_total_exposure, every))
        for most, amount in tested:
            if most is not None:
                holds = amount <= (dec(most) + _NEAR) * equity
                told = f"{where}: {float(amount / equity) if equity else 0.0:.1%} of {most:.0%}"
                self.laws["exposure"].test(holds, told)

    def _together(self, order: Order, own: Decimal, others: Mapping[str, Decimal]) -> None:
        limits, mine = self._limits, self._symbols[order.symbol]
        most, group = limits.max_symbol_exposure, own
        if limits.max_correlation is None or most is None:
            return
        for name, worth in others.items():
            rho = self._correlation(mine, self._symbols[name])
            group += worth if rho is not None and abs(rho) > limits.max_correlation else ZERO
        if group > own and self._worth() > 0:
            share, told = group / self._worth(), f"{iso(order.created_at)} {order.symbol}"
            holds = share <= dec(most) + _NEAR
            self.laws["correlation"].test(holds, f"{told}: {float(share):.1%} of {most:.0%}")

    def _correlation(self, one: str, other: str) -> float | None:
        x, y = (self._returns(name) for name in (one, other))
        common = sorted(x.keys() & y.keys())
        if len(common) < self._limits.correlation_least:
            return None
        table = np.array([[x[at], y[at]] for at in common])
        if not table.std(axis=0).all():  # one of them stood still
            return None
        return float(np.corrcoef(table.T)[0, 1])

    def _returns(self, symbol: str) -> dict[int, float]:
        closes = self._paths[symbol]
        found = {
            at: math.log(close / closes[at - self._step_ms])
            for at, close in closes.items() if at - self._step_ms in closes
        }  # fmt: skip
        return {at: found[at] for at in sorted(found)[-self._limits.correlation_bars :]}

    def _booked(self, book: BookSnapshot | None, where: str) -> None:
        if book is None:
            return
        widest, least = self._limits.max_spread_bps, self._limits.min_liquidity
        if widest is not None:
            spread = book.spread_bps
            self.laws["book"].test(spread <= widest, f"{where}: {spread:.1f} bps")
        if least is not None:
            deep = book.liquidity()
            self.laws["book"].test(deep >= least, f"{where}: {deep:,.0f} deep")

    def _refusal(self, refusal: Refusal) -> None:
        self.refused[str(refusal.code)] += 1
        same = (refusal.decision_id, refusal.intent)
        self._drop(lambda order: (order.decision_id, order.intent) == same)

    def _closes(self, symbol: str) -> bool:
        return any(
            order.symbol == symbol and order.reduce_only and order.type is OrderType.MARKET
            for order, _ in self._working.values()
        )

    def _drop(self, gone: Any) -> None:
        for key in [key for key, (order, _) in self._working.items() if gone(order)]:
            del self._working[key]

    def _trade(self, trade: ClosedTrade) -> None:
        self.exits[str(trade.reason)] += 1

    def _decision(self, decision: Decision) -> None:
        if decision.origin == "bar":
            self._decided.add((decision.symbol, decision.as_of))
        if decision.origin == "bar" and decision.intent is Action.NO_TRADE:
            self.aside.update(decision.reasons or ("no side",))
        if decision.origin == "bar" and self._owes:
            self.laws["total stop"].test(False, f"{iso(decision.as_of)}: {self._owes}")
            self._owes = ""

    # Closes

    def _fall(self) -> Decimal:
        return 1 - self._equity / self._peak if self._peak > 0 else ZERO

    def _mark(self, mark: EquityMark) -> None:
        own = self._worth()
        near = abs(own - mark.equity) <= _CENT
        self.laws["equity"].test(near, f"{iso(mark.at)}: {mark.equity} is {own:.8f}")
        day = mark.at // DAY_MS
        if day != self._day:
            fresh = mark.at % DAY_MS == 0 or self._day < 0
            self._day_start = mark.equity if fresh else self._equity
            self._day, self._tripped = day, False
        self._equity, self._peak = mark.equity, max(self._peak, mark.equity)
        limits = self._limits
        if limits.daily_loss is not None and self._day_start > 0:
            self._tripped |= float(1 - mark.equity / self._day_start) > limits.daily_loss
        if limits.total_stop is not None and self._mode not in _STOPPED:
            beyond = float(self._fall()) >= limits.total_stop
            self._owes = f"{float(self._fall()):.2%} below the peak" if beyond else ""
        self._watch_closing(mark)
        held = float(sum(self._exposures().values(), ZERO) / mark.equity) if mark.equity else 0.0
        self.points.append(Point(mark.at, float(mark.equity), held, self._mode.value))

    def _watch_closing(self, mark: EquityMark) -> None:
        if self._mode not in _STOPPED or self._leaves or self._stopped is None:
            return
        self._stopped += 1
        held = [name for name, qty in self._held.items() if qty]
        if not held:
            self.flat_after.append(self._stopped)
            self._stopped = None
            return
        self._tradable += all(self._trades(name, mark.at) for name in held)
        for name in held:
            where = f"{iso(mark.at)} {name}"
            closing, law = self._closes(name), self.laws["closing"]
            law.test(closing and self._tradable <= _PATIENCE, f"{where}: still open")

    def _trades(self, name: str, at: int) -> bool:
        book, least = self._books.look(self._symbols[name], at).book, self._limits.min_liquidity
        return book is not None and book.liquidity() >= (least or 0.0)

    def _follow_stop(self) -> None:
        if self._stopped is None and any(self._held.values()):
            self._stopped, self._tradable = 0, 0

    def _changed(self, change: ModeChange) -> None:
        if change.mode is RiskMode.HALTED and self._owes:
            self.laws["total stop"].test(True, "")
            self._owes = ""
        if change.mode is RiskMode.ACTIVE and self._mode in _STOPPED:
            self._peak = self._equity
        self._mode = change.mode
        self.modes.append((change.at, change.mode))
        if change.mode is RiskMode.HALTED:
            self._leaves = False
            self._follow_stop()
        elif change.mode is not RiskMode.KILLED:
            self._stopped = None

    @property
    def worst_fall(self) -> float:
        """Largest fall of equity from its peak at a close, fraction."""
        peak = worst = 0.0
        for point in self.points:
            peak = max(peak, point.equity)
            worst = max(worst, 1.0 - point.equity / peak if peak > 0.0 else 0.0)
        return worst

    @property
    def held(self) -> bool:
        """Whether no law was broken."""
        return not any(law.broken for law in self.laws.values())
