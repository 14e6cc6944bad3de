"""What is measured beside the ledger: how processes are, and what the council has learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Engine, delete, insert, select

from storage.engine import read, write
from storage.schema import learned_patterns, service_health

KEPT_MS = 30 * 86_400_000  # a row a minute; nobody looks further back


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """How a process is at one instant of wall time.

    Attributes
    ----------
    service, status : which process, and what it is doing.
    lag_seconds : longest it did not look at its inbox since the row before.
    feed_age_seconds : wall time since the newest bar came; None before the first.
    received_bytes, reconnects : of the exchange's streams (answers counted in the bytes) since the
        process began; None where it listens to none.
    """

    service: str
    at: int  # ms, wall time
    world: str
    pid: int
    status: str
    rss_bytes: int
    cpu_seconds: float
    lag_seconds: float
    decisions: int
    via: str
    feed_age_seconds: float | None
    received_bytes: int | None = None
    reconnects: int | None = None


@dataclass(frozen=True, slots=True)
class LearnedPattern:
    """What the council had learned of an agent on a symbol.

    Attributes
    ----------
    weight : fraction, before renormalising over the awake; 0 in probation.
    brier, skill_1e4 : decayed score, and (¼ − Brier)·10⁴; None before the first outcome.
    seat : ``member``, ``grace`` or ``probation``.
    """

    world: str
    symbol: str
    agent: str
    at: int  # ms, market time
    weight: float
    brier: float | None
    skill_1e4: float | None
    n: int
    seat: str


def note_health(engine: Engine, row: ServiceHealth) -> None:
    """Keep a row, and forget those of the service that are older than 30 days."""
    mine = service_health.c.service == row.service
    with write(engine) as connection:
        connection.execute(delete(service_health).where(mine, service_health.c.at == row.at))
        connection.execute(
            delete(service_health).where(mine, service_health.c.at < row.at - KEPT_MS)
        )
        connection.execute(insert(service_health), asdict(row))


def health(engine: Engine, service: str, limit: int = 60) -> list[ServiceHealth]:
    """Return the newest rows of a service, newest first."""
    query = select(service_health).where(service_health.c.service == service)
    with read(engine) as connection:
        rows = connection.execute(query.order_by(service_health.c.at.desc()).limit(limit))
        return [ServiceHealth(*row) for row in rows]


def note_patterns(engine: Engine, rows: Sequence[LearnedPattern]) -> None:
    """Keep what was learned; a row that is there (after a crash) is replaced."""
    columns = learned_patterns.c
    with write(engine) as connection:
        for row in rows:
            same = (
                columns.world == row.world, columns.symbol == row.symbol,
                columns.agent == row.agent, columns.at == row.at,
            )  # fmt: skip
            connection.execute(delete(learned_patterns).where(*same))
        if rows:
            connection.execute(insert(learned_patterns), [asdict(row) for row in rows])


def patterns(engine: Engine, world: str, symbol: str, agent: str) -> list[LearnedPattern]:
    """Return what was learned of an agent on a symbol, in order of time."""
    columns = learned_patterns.c
    query = select(learned_patterns).where(
        columns.world == world, columns.symbol == symbol, columns.agent == agent
    )
    with read(engine) as connection:
        return [LearnedPattern(*row) for row in connection.execute(query.order_by(columns.at))]
