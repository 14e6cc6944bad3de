"""What everybody had said before the newest outcomes: three bounded reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, Table, literal, select

from domain.opinion import Outcome
from domain.quantiles import Quantiles
from storage import kinds
from storage.engine import read
from storage.schema import decisions, opinions, outcomes


@dataclass(frozen=True, slots=True)
class Said:
    """What an agent, or the council, forecast at one instant.

    Attributes
    ----------
    agent : empty for the council.
    weights : agent → weight in the council's decision; empty for an agent.
    """

    agent: str
    as_of: int
    p_up: float | None
    quantiles: Quantiles | None
    risk_down: float | None
    risk_up: float | None
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """Outcomes of one market in time order, and what was said on their instants, oldest first."""

    outcomes: list[Outcome]
    said: list[Said]


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

    Of each row only what is scored is read. An agent's last opinion on an instant comes last;
    decisions that somebody asked for are left out.
    """
    where = (world, symbol, timeframe, horizon)
    newest = select(outcomes).where(*_of(outcomes, *where))
    newest = newest.order_by(outcomes.c.as_of.desc()).limit(last)
    with read(engine) as connection:
        rows = connection.execute(newest).mappings().all()[::-1]
        known = [kinds.kind_of(Outcome).decode(row, row["seq"]) for row in rows]
        if not known:
            return Scored([], [])
        span = (known[0].as_of, known[-1].as_of)
        said = connection.execute(_opinions(where, span)).all()
        made = connection.execute(_decisions(where, span, strategy)).all()
    at = {one.as_of for one in known}
    return Scored(known, [_said(row) for row in (*said, *made) if row.as_of in at])


def _opinions(where: tuple[str, str, str, int], span: tuple[int, int]) -> Select[Any]:
    one = opinions.c
    columns = (one.agent, one.as_of, one.p_up, one.quantiles, one.risk_down, one.risk_up)
    query = select(*columns, literal("{}").label("weights")).where(*_of(opinions, *where))
    return query.where(one.as_of.between(*span)).order_by(one.seq)


def _decisions(
    where: tuple[str, str, str, int], span: tuple[int, int], strategy: str
) -> Select[Any]:
    one = decisions.c
    columns = (one.as_of, one.prob_up.label("p_up"), one.quantiles, one.risk_down, one.risk_up)
    query = select(literal("").label("agent"), *columns, one.weights)
    mine = (*_of(decisions, *where), one.origin != "on_demand", one.strategy == strategy)
    return query.where(*mine, one.as_of.between(*span)).order_by(one.seq)


def _said(row: Row[Any]) -> Said:
    quantiles = None
    if row.quantiles is not None:
        body = json.loads(row.quantiles)
        quantiles = Quantiles(tuple(body["levels"]), tuple(body["values"]))
    return Said(
        row.agent, row.as_of, row.p_up, quantiles, row.risk_down, row.risk_up,
        json.loads(row.weights),
    )  # fmt: skip


def _of(
    table: Table, world: str, symbol: str, timeframe: str, horizon: int
) -> list[ColumnElement[bool]]:
    columns = table.c
    return [
        columns.world == world, columns.symbol == symbol, columns.timeframe == timeframe,
        columns.horizon_bars == horizon,
    ]  # fmt: skip
