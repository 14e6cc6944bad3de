"""What an account has shown on paper, counted."""

from __future__ import annotations

from sqlalchemy import Engine, distinct, func, select

from domain.times import DAY_MS
from storage.engine import read
from storage.schema import decisions


def decided_days(engine: Engine, world: str, strategy: str) -> int:
    """Return on how many UTC days a strategy decided on live bars of a world."""
    columns = decisions.c
    query = select(func.count(distinct(columns.as_of // DAY_MS))).where(
        columns.world == world, columns.strategy == strategy, columns.origin == "bar"
    )
    with read(engine) as connection:
        return connection.execute(query).scalar_one()
