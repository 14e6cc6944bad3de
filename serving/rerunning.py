"""A session of a database, traded again by the backtester under the terms it ran under."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine

from domain.decision import Costs
from domain.errors import DataRefused, LedgerError
from domain.market import MarketState
from domain.ports import BookSource, Ledger, Needs, Strategy
from domain.times import timeframe_ms
from domain.trading import EquityMark
from execution.funding import FundingRate, base_rate, else_usual, no_funding
from execution.loop import TradingLoop
from serving.rules import backtest_rules, market_for, risk_limits
from serving.sessions import Terms, settings_under, terms_of
from serving.settings import Settings
from sim.backtest import trading_loop
from sim.rerun import Rerun, Stage, last_before
from sim.worlds import DemoSource
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.seen_books import SqlBooks
from storage.settled_funding import SqlFunding

R = TypeVar("R")
Build = Callable[[Settings, Callable[[MarketState], Costs], str, str], Strategy]
"""Makes the strategy that settings name: what a round trip costs, source, commit."""


class Session:
    """What one world's ledger held when it was opened; later rows are not seen.

    Parameters
    ----------
    engine : of its database.
    """

    def __init__(self, engine: Engine, world: str) -> None:
        self.world = world
        self._ledger = SqlLedger(engine, world)
        self._events = EventLog(engine, world)
        self.books: BookSource = SqlBooks(engine, world)
        self.funding = else_usual(SqlFunding(engine, world).look)
        self._head = self._ledger.head()

    def append(self, records: Sequence[Any]) -> list[int]:
        """Refuse: a session is only read.

        Raises
        ------
        LedgerError : always.
        """
        raise LedgerError(f"session {self.world}", "is only read", len(records))

    def head(self) -> tuple[int, str]:
        """Return the number of the last row and the chain's hash there."""
        return self._head

    def records(self, kind: type[R], after: int = 0, **where: Any) -> Iterator[tuple[int, R]]:
        """Iterate over (number, record) of one type in order, number > ``after``."""
        return self._known(self._ledger.records(kind, after, **where))

    def records_since(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        """Iterate over (number, record) of all types in order, number > ``after``."""
        return self._known(self._ledger.records_since(after))

    def terms(self) -> list[tuple[int, Terms]]:
        """Return what it was run with, and after which row each began.

        Raises
        ------
        DataRefused : if nobody wrote that down.
        """
        found = [
            (after, terms) for after, terms in terms_of(self._events) if after <= self._head[0]
        ]
        if not found:
            raise DataRefused(
                f"session {self.world}", "must say what it was run with",
                hint="Sessions do since `parity` exists; run it again.",
            )  # fmt: skip
        return found

    def _known(self, rows: Iterator[tuple[int, R]]) -> Iterator[tuple[int, R]]:
        for seq, record in rows:
            if seq > self._head[0]:
                return
            yield seq, record


def stages_of(session: Session, build: Build) -> list[Stage]:
    """Return the stretches of a session, each with the loop that ran it.

    Raises
    ------
    DataRefused : if nobody wrote down what it was run with.
    SettingError : if this version does not know one of its settings.
    """
    return [_stage(after, terms, build, session) for after, terms in session.terms()]


def marks_again(
    session: Session, stages: Sequence[Stage], start: int, end: int
) -> list[EquityMark]:
    """Trade a session again from an instant on, and return its marks in (start, end], UTC ms.

    What was held and known at ``start`` is the session's, as after a restart there.
    """
    after = last_before(session, start)
    again = Rerun(session, stages, after=after).run()
    marks = (mark for _, mark in again.records(EquityMark, after))
    return [mark for mark in marks if start < mark.at <= end]


def _stage(after: int, terms: Terms, build: Build, session: Session) -> Stage:
    settings = settings_under(terms)
    symbols, timeframe = sorted(terms.price), settings.data.timeframe
    market = market_for(
        settings, symbols, terms.price, keep_market=terms.keep_market, listed=terms.listed
    )
    rules = backtest_rules(settings, terms.profile, terms.commit)
    rules = replace(
        rules, source=terms.source, limits=risk_limits(settings, terms.source),
        journal=settings.journal.reflections,
    )  # fmt: skip
    if terms.seen_books:
        rules = replace(rules, venue=replace(rules.venue, books=session.books))
    bar_ms, horizon = timeframe_ms(timeframe), settings.data.pred_horizon_steps
    costs = partial(market.round_trip, bar_ms, horizon)

    def loop(ledger: Ledger) -> TradingLoop:
        strategy: Strategy = build(settings, costs, terms.source, terms.commit)
        return trading_loop(
            market.routes,
            strategy,
            market.instruments,
            rules,
            ledger,
            funding=_funding(settings, terms, session),
        )

    books: BookSource | None = None
    if terms.seen_books:
        books = session.books
    elif terms.source == DemoSource.label:
        books = DemoSource(symbols, timeframe, terms.seed, warm_up_days=terms.warm_up_days)
    needs = Needs(terms.bars, terms.feature_rows)
    return Stage(after, loop, market.routes, timeframe, needs, books)


def _funding(settings: Settings, terms: Terms, session: Session) -> FundingRate:
    if not settings.execution.funding:
        return no_funding
    if terms.seen_books:
        return session.funding
    return base_rate if terms.funding is None else terms.funding.lookup()
