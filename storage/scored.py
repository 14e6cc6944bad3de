"""What everybody had said before the newest outcomes: three bounded reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, select

from domain.decision import Decision
from domain.opinion import Opinion, Outcome
from storage import kinds
from storage.engine import read
from storage.schema import decisions, opinions, outcomes

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Scored:
    """Outcomes of one market in time order, and the opinions and decisions on their instants."""

    outcomes: list[Outcome]
    opinions: list[Opinion]
    decisions: list[Decision]


def newest_outcome(engine: Engine, world: str, symbol: str, timeframe: str, horizon: int) -> int:
    """Return the number of a market's newest outcome, 0 if there is none."""
    mine = _of(outcomes, world, symbol, timeframe, horizon)
    query = select(outcomes.c.seq).where(*mine).order_by(outcomes.c.as_of.desc()).limit(1)
    with read(engine) as connection:
        return connection.execute(query).scalar() or 0


def scored(
    engine: Engine, world: str, symbol: str, timeframe: str, horizon: int, strategy: str,
    last: int,
) -> Scored:  # fmt: skip
    """Return a market's newest ``last`` outcomes and what was said on their instants.

    The last opinion of an agent on an instant counts; decisions that somebody asked for do not.
    """
    where = (world, symbol, timeframe, horizon)
    newest = select(outcomes).where(*_of(outcomes, *where))
    newest = newest.order_by(outcomes.c.as_of.desc()).limit(last)
    with read(engine) as connection:
        rows = connection.execute(newest).mappings().all()[::-1]
        known = [kinds.kind_of(Outcome).decode(row, row["seq"]) for row in rows]
        if not known:
            return Scored([], [], [])
        span = (known[0].as_of, known[-1].as_of)
        said = _between(connection, Opinion, _of(opinions, *where), span)
        shown = (decisions.c.origin != "on_demand", decisions.c.strategy == strategy)
        made = _between(connection, Decision, [*_of(decisions, *where), *shown], span)
    at = {one.as_of for one in known}
    return Scored(
        known, [one for one in said if one.as_of in at], [one for one in made if one.as_of in at]
    )


def _between(
    connection: Connection, of: type[R], where: list[ColumnElement[bool]], span: tuple[int, int]
) -> list[R]:
    kind = kinds.kind_of(of)
    query = select(kind.table).where(*where, kind.table.c.as_of.between(*span))
    rows = connection.execute(query.order_by(kind.table.c.seq)).mappings()
    return [kind.decode(row, row["seq"]) for row in rows]


def _of(
    table: Table, world: str, symbol: str, timeframe: str, horizon: int
) -> list[ColumnElement[bool]]:
    columns = table.c
    return [
        columns.world == world, columns.symbol == symbol, columns.timeframe == timeframe,
        columns.horizon_bars == horizon,
    ]  # fmt: skip
