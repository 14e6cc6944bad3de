"""The views of the ledger: their columns, and reading them page by page.

Their SQL is in the migrations. Money is exact in every row; it is added up in Python, because
SQLite would add text as floating point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Column, Double, Engine, MetaData, Table, Text, select

from domain.errors import UsageError
from storage.engine import read
from storage.kinds import EXACT
from storage.queries import Page
from storage.schema import DecimalText

metadata = MetaData()  # apart from the tables: migrations make views


_TYPES: Mapping[str, Any] = {"": Text, "i": BigInteger, "r": Double, "m": DecimalText}


def _view(name: str, columns: str) -> Table:
    """Make a view of ``name`` (text), ``name:i`` (integer), ``:r`` (real), ``:m`` (money)."""
    pairs = (column.partition(":") for column in columns.split())
    return Table(name, metadata, *(Column(each, _TYPES[kind]) for each, _, kind in pairs))


trade_context = _view(
    "trade_context",
    "seq:i world trade_id account symbol strategy side qty:m opened_at:i closed_at:i entry:m "
    "exit:m exit_reason pnl:m fee:m spread:m slippage:m funding:m decision_id entry_order_id "
    "ordered_qty:m forecast_symbol timeframe as_of:i horizon_bars:i prob_up:r expected_return:r "
    "quantiles risk_score:r break_even_prob:r stop:r target:r weights contributions reasons "
    "margins inputs model_versions gate reflection",
)
risk_log = _view(
    "risk_log",
    "seq:i world account at:i source level kind subject by why value:r body decision_id",
)
cost_tracker = _view("cost_tracker", "seq:i world account at:i day:i symbol cost amount:m entry")


@dataclass(frozen=True, slots=True)
class CostDay:
    """What trading cost on one UTC day (ms of its midnight); positive is paid, quote currency."""

    day: int
    costs: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def total(self) -> Decimal:
        """All of them together."""
        total = Decimal(0)
        for amount in self.costs.values():
            total = EXACT.add(total, amount)
        return total


def page(
    engine: Engine, view: Table, world: str, *, limit: int = 100, before_seq: int | None = None,
    **where: Any,
) -> Page[dict[str, Any]]:  # fmt: skip
    """Return rows of ``trade_context`` or ``risk_log`` in one world, newest first.

    ``where`` tests columns for equality.

    Raises
    ------
    UsageError : if ``where`` names no column.
    """
    for name in where:
        if name not in view.c:
            raise UsageError(f"{view.name} filter", "must be a column", name)
    query = select(view).where(
        view.c.world == world, *(view.c[name] == value for name, value in where.items())
    )
    if before_seq is not None:
        query = query.where(view.c.seq < before_seq)
    with read(engine) as connection:
        found = connection.execute(query.order_by(view.c.seq.desc()).limit(limit + 1))
        rows = [dict(row) for row in found.mappings()]
    items = tuple((row["seq"], row) for row in rows[:limit])
    return Page(items, items[-1][0] if len(rows) > limit and items else None)


def cost_days(engine: Engine, world: str, account: str) -> list[CostDay]:
    """Return an account's costs per UTC day and kind, exact, in order of days."""
    columns = cost_tracker.c
    query = select(columns.day, columns.cost, columns.amount).where(
        columns.world == world, columns.account == account
    )
    days: dict[int, dict[str, Decimal]] = {}
    with read(engine) as connection:
        for day, cost, amount in connection.execute(query):
            sums = days.setdefault(day, {})
            sums[cost] = EXACT.add(sums.get(cost, Decimal(0)), Decimal(amount))
    return [CostDay(day, dict(sorted(days[day].items()))) for day in sorted(days)]
