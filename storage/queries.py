"""Reading side for API, command line and dashboard. Lists are newest first, cursors are ``seq``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

import numpy as np
from sqlalchemy import Double, Engine, Row, Select, cast, func, select

from domain.decision import Decision
from domain.market import BarFrame
from domain.operations import ExternalTrade, Reflection
from domain.opinion import Opinion, Outcome
from domain.trading import ClosedTrade, EquityMark, Fill, ModeChange, Order, Posting, Refusal
from storage import kinds
from storage.counting import RowCounts
from storage.engine import read
from storage.ledger import SqlLedger, filtered
from storage.schema import (
    bars,
    chain,
    decisions,
    equity_marks,
    fills,
    metadata,
    postings,
    reflections,
    trades,
)

R = TypeVar("R")
_LOOKUP = 400  # keys in one query: SQLite takes so many at least
_OHLCV = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some (seq, record), newest first, and the ``before_seq`` of the next page, if any."""

    items: tuple[tuple[int, R], ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class WorldInfo:
    """A world in this database: its first and last sequence number, and its rows."""

    world: str
    first_seq: int
    last_seq: int
    rows: int


@dataclass(frozen=True, slots=True)
class Balance:
    """What the postings of one book sum to."""

    account: str
    book: str
    asset: str
    amount: Decimal


def worlds(engine: Engine) -> list[WorldInfo]:
    """Return all worlds of a database, the one written to last first."""
    last = func.max(chain.c.seq)
    query = select(chain.c.world, func.min(chain.c.seq), last, func.count()).group_by(chain.c.world)
    with read(engine) as connection:
        return [WorldInfo(*row) for row in connection.execute(query.order_by(last.desc()))]


def hash_at(engine: Engine, seq: int) -> str | None:
    """Return the hash of a row of the chain, None if there is no such row."""
    with read(engine) as connection:
        return connection.execute(select(chain.c.hash).where(chain.c.seq == seq)).scalar()


def table_counts(engine: Engine) -> dict[str, int]:
    """Return the rows of every table, all worlds together."""
    with read(engine) as connection:
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar() or 0
            for name, table in sorted(metadata.tables.items())
        }


class Reader:
    """What one world's records tell, page by page."""

    def __init__(self, engine: Engine, world: str) -> None:
        self._engine = engine
        self._world = world
        self._ledger = SqlLedger(engine, world)
        self._counts = RowCounts(engine, world)

    def page(
        self, of: type[R], *, limit: int = 100, before_seq: int | None = None, **where: Any
    ) -> Page[R]:
        """Return records of one type, newest first.

        ``where`` tests plain fields for equality; None means any.
        """
        kind = kinds.kind_of(of)
        seq = kind.table.c.seq
        query = filtered(kind, self._world, {k: v for k, v in where.items() if v is not None})
        if before_seq is not None:
            query = query.where(seq < before_seq)
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(seq.desc()).limit(limit + 1)).mappings().all()
        items = tuple((row["seq"], kind.decode(row, row["seq"])) for row in rows[:limit])
        return Page(items, items[-1][0] if len(rows) > limit and items else None)

    def decisions(
        self, symbol: str | None = None, *, limit: int = 100, before_seq: int | None = None,
        **where: Any,
    ) -> Page[Decision]:  # fmt: skip
        """Return decisions; ``where`` also takes strategy, action, origin, as_of, …"""
        return self.page(Decision, limit=limit, before_seq=before_seq, symbol=symbol, **where)

    def decision(self, decision_id: str) -> tuple[int, Decision] | None:
        """Return (seq, decision) by id, or None."""
        return self._ledger.find(Decision, decision_id)

    def latest_decision(self, symbol: str, **where: Any) -> tuple[int, Decision] | None:
        """Return the newest (seq, decision) of a symbol, or None."""
        return _first(self.decisions(symbol, limit=1, **where))

    def opinions_at(self, symbol: str, as_of: int, **where: Any) -> list[tuple[int, Opinion]]:
        """Return what was said at one instant, in the order it was stored."""
        return list(self._ledger.records(Opinion, symbol=symbol, as_of=as_of, **where))

    def outcome_at(
        self, symbol: str, as_of: int, horizon_bars: int, timeframe: str | None = None
    ) -> Outcome | None:
        """Return what came of it, or None while it is not known."""
        found = self.page(
            Outcome, limit=1, symbol=symbol, as_of=as_of, horizon_bars=horizon_bars,
            timeframe=timeframe,
        )  # fmt: skip
        return found.items[0][1] if found.items else None

    def trades(
        self, *, limit: int = 100, before_seq: int | None = None, **where: Any
    ) -> Page[ClosedTrade]:
        """Return closed trades; ``where`` takes symbol, account, strategy, reason, …"""
        return self.page(ClosedTrade, limit=limit, before_seq=before_seq, **where)

    def wins(self, account: str) -> tuple[int, int]:
        """Return (closed trades, those with a profit) of an account."""
        won = func.count().filter(cast(trades.c.pnl, Double) > 0)
        query = select(func.count(), won).where(
            trades.c.world == self._world, trades.c.account == account
        )
        with read(self._engine) as connection:
            n, k = connection.execute(query).one()
            return n, k

    def trade(self, trade_id: str) -> tuple[int, ClosedTrade] | None:
        """Return (seq, trade) by id, or None."""
        return self._ledger.find(ClosedTrade, trade_id)

    def external_trades(
        self, *, limit: int = 100, before_seq: int | None = None, **where: Any
    ) -> Page[ExternalTrade]:
        """Return trades made elsewhere; ``where`` takes account, ref, symbol, source, …"""
        return self.page(ExternalTrade, limit=limit, before_seq=before_seq, **where)

    def external_trade(self, trade_id: str) -> tuple[int, ExternalTrade] | None:
        """Return (seq, trade made elsewhere) by id, or None."""
        return self._ledger.find(ExternalTrade, trade_id)

    def reflections(self, decision_ids: Iterable[str]) -> dict[str, list[Reflection]]:
        """Return what was written about trades, by the decision that opened each, oldest first."""
        wanted = sorted(set(decision_ids))
        told: dict[str, list[Reflection]] = {one: [] for one in wanted}
        kind = kinds.kind_of(Reflection)
        with read(self._engine) as connection:
            for i in range(0, len(wanted), _LOOKUP):
                some = reflections.c.decision_id.in_(wanted[i : i + _LOOKUP])
                query = filtered(kind, self._world, {}).where(some).order_by(reflections.c.seq)
                for row in connection.execute(query).mappings():
                    found = kind.decode(row, row["seq"])
                    told[found.decision_id].append(found)
        return told

    def probabilities(self, symbol: str, since_ms: int, until_ms: int) -> list[tuple[int, float]]:
        """Return (as_of, P(up)) of the decisions on bars in [since, until], in time order."""
        columns = decisions.c
        query = select(columns.as_of, columns.prob_up).where(
            columns.world == self._world, columns.symbol == symbol, columns.origin != "on_demand",
            columns.as_of.between(since_ms, until_ms), columns.prob_up.is_not(None),
        )  # fmt: skip
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(columns.as_of, columns.seq)).all()
        return [(as_of, p_up) for as_of, p_up in rows]

    def orders(
        self, *, limit: int = 100, before_seq: int | None = None, **where: Any
    ) -> Page[Order]:
        """Return orders; ``where`` takes account, symbol, decision_id, intent, …"""
        return self.page(Order, limit=limit, before_seq=before_seq, **where)

    def fills(self, *, limit: int = 100, before_seq: int | None = None, **where: Any) -> Page[Fill]:
        """Return fills; ``where`` takes account, symbol, order_id, intent, …"""
        return self.page(Fill, limit=limit, before_seq=before_seq, **where)

    def fills_of(self, order_ids: Iterable[str]) -> dict[str, list[Fill]]:
        """Return the fills of orders, by order, newest first."""
        wanted = sorted(set(order_ids))
        told: dict[str, list[Fill]] = {one: [] for one in wanted}
        kind = kinds.kind_of(Fill)
        with read(self._engine) as connection:
            for i in range(0, len(wanted), _LOOKUP):
                some = fills.c.order_id.in_(wanted[i : i + _LOOKUP])
                query = filtered(kind, self._world, {}).where(some).order_by(fills.c.seq.desc())
                for row in connection.execute(query).mappings():
                    found = kind.decode(row, row["seq"])
                    told[found.order_id].append(found)
        return told

    def refusals(
        self, *, limit: int = 100, before_seq: int | None = None, **where: Any
    ) -> Page[Refusal]:
        """Return what was not carried out; ``where`` takes account, symbol, code, …"""
        return self.page(Refusal, limit=limit, before_seq=before_seq, **where)

    def latest_mode(self, account: str) -> tuple[int, ModeChange] | None:
        """Return the newest (seq, change of risk mode) of an account, or None."""
        return _first(self.page(ModeChange, limit=1, account=account))

    def latest_equity(self, account: str) -> tuple[int, EquityMark] | None:
        """Return the newest (seq, equity mark) of an account, or None."""
        return _first(self.page(EquityMark, limit=1, account=account))

    def equity_marks(
        self, account: str, *, max_points: int = 500, since_ms: int | None = None
    ) -> list[EquityMark]:
        """Return an account's marks in time order, thinned evenly to ``max_points`` (≥ 2).

        The first and the last one are always among them.
        """
        mine = [equity_marks.c.world == self._world, equity_marks.c.account == account]
        if since_ms is not None:
            mine.append(equity_marks.c.at >= since_ms)
        order = (equity_marks.c.at, equity_marks.c.seq)
        place = func.row_number().over(order_by=order).label("place")
        ranked = select(equity_marks, place).where(*mine).subquery()
        with read(self._engine) as connection:
            total = connection.execute(
                select(func.count()).select_from(equity_marks).where(*mine)
            ).scalar_one()
            step = max(1, -(-(total - 1) // max(1, max_points - 1)))
            kept = ((ranked.c.place - 1) % step == 0) | (ranked.c.place == total)
            rows = connection.execute(select(ranked).where(kept).order_by(ranked.c.place))
            kind = kinds.kind_of(EquityMark)
            return [kind.decode(row, row["seq"]) for row in rows.mappings()]

    def counts(self) -> dict[str, int]:
        """Return this world's rows per table of the ledger, and its events."""
        return self._counts.now()

    def last_bars(self) -> dict[tuple[str, str], int]:
        """Return the open (ms) of the newest bar per (symbol, timeframe)."""
        names = (bars.c.symbol, bars.c.timeframe)
        query = select(*names, func.max(bars.c.open_ms)).where(bars.c.world == self._world)
        with read(self._engine) as connection:
            rows = connection.execute(query.group_by(*names))
            return {(symbol, timeframe): open_ms for symbol, timeframe, open_ms in rows}

    def last_bar_open(self, symbol: str, timeframe: str) -> int | None:
        """Return the open (ms) of the newest bar of a symbol, or None."""
        query = select(func.max(bars.c.open_ms)).where(*self._series(symbol, timeframe))
        with read(self._engine) as connection:
            return connection.execute(query).scalar()

    def bars(
        self, symbol: str, timeframe: str, *, after_open_ms: int = -1, limit: int = 100_000
    ) -> BarFrame:
        """Return the oldest ``limit`` bars that open after an instant, as columns; maybe none."""
        query = self._bars(symbol, timeframe).where(bars.c.open_ms > after_open_ms)
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(bars.c.open_ms).limit(limit)).all()
        return _frame(symbol, timeframe, rows)

    def newest_bars(self, symbol: str, timeframe: str, n: int) -> BarFrame:
        """Return the newest ``n`` bars in time order, as columns; maybe fewer."""
        query = self._bars(symbol, timeframe).order_by(bars.c.open_ms.desc()).limit(n)
        with read(self._engine) as connection:
            return _frame(symbol, timeframe, connection.execute(query).all()[::-1])

    def trial_balance(self) -> list[Balance]:
        """Return the sum of postings per account, book and asset, exact; in order of these."""
        columns = (postings.c.account, postings.c.book, postings.c.asset)
        query = select(*columns, postings.c.amount).where(postings.c.world == self._world)
        sums: dict[tuple[str, str, str], Decimal] = {}
        with read(self._engine) as connection:
            for account, book, asset, amount in connection.execute(query):
                place = (account, book, asset)
                sums[place] = kinds.EXACT.add(sums.get(place, Decimal(0)), Decimal(amount))
        return [Balance(*place, sums[place]) for place in sorted(sums)]

    def held(self, account: str) -> dict[str, Decimal]:
        """Return the signed quantity of every symbol that an account holds, base units, exact."""
        book = postings.c
        query = select(book.asset, book.amount).where(
            book.world == self._world, book.account == account, book.book == "position",
            book.asset.contains("/"),  # on spot the cost of what is held is there too
        )  # fmt: skip
        sums: dict[str, Decimal] = {}
        with read(self._engine) as connection:
            for symbol, amount in connection.execute(query):
                sums[symbol] = kinds.EXACT.add(sums.get(symbol, Decimal(0)), Decimal(amount))
        return {symbol: qty for symbol, qty in sorted(sums.items()) if qty}

    def postings(
        self, *, limit: int = 100, before_seq: int | None = None, **where: Any
    ) -> Page[Posting]:
        """Return postings; ``where`` takes account, book, asset, entry."""
        return self.page(Posting, limit=limit, before_seq=before_seq, **where)

    def _series(self, symbol: str, timeframe: str) -> list[Any]:
        columns = bars.c
        return [
            columns.world == self._world, columns.symbol == symbol, columns.timeframe == timeframe,
        ]  # fmt: skip

    def _bars(self, symbol: str, timeframe: str) -> Select[Any]:
        columns = (bars.c.open_ms, *(bars.c[name] for name in _OHLCV))
        return select(*columns).where(*self._series(symbol, timeframe))


def _first(page: Page[R]) -> tuple[int, R] | None:
    return page.items[0] if page.items else None


def _frame(symbol: str, timeframe: str, rows: Sequence[Row[Any]]) -> BarFrame:
    ts = np.array([row[0] for row in rows], dtype=np.int64)
    values = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, len(_OHLCV))
    return BarFrame(symbol, timeframe, ts, *(values[:, i].copy() for i in range(len(_OHLCV))))
