"""What a command does to the ledger itself while no desk runs: it takes the desk's place."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from domain.errors import ServiceUnreachable
from domain.times import timeframe_ms
from serving.bootstrap.desk import asserting_on, journal_rules
from serving.bootstrap.settings import settings_of
from serving.bootstrap.storage import open_storage
from serving.control import DESK_LEASE, LEASE_TTL_MS
from serving.feeds import symbols_of
from serving.journal_desk import Said, place_of, reflection, reflection_of
from serving.plan import RunPlan
from serving.rules import ACCOUNT
from serving.settings import Settings
from serving.system import SystemClock
from serving.telling import Teller
from storage.events import EventLog
from storage.leases import Lease
from storage.ledger import SqlLedger
from storage.proposals import Proposals
from storage.queries import Reader


@dataclass(frozen=True, slots=True)
class Place:
    """A world's ledger, with the lease that lets this process append to it."""

    plan: RunPlan
    settings: Settings
    engine: Engine
    reader: Reader
    append: Callable[[Any], None]

    def now(self) -> int:
        """Return the market's time (ms): the end of the newest bar, unless the market is live."""
        if self.plan.at_wall_time:
            return SystemClock().now()
        last = max(self.reader.last_bars().values(), default=0)
        return last + timeframe_ms(self.settings.data.timeframe)


def desk_runs(plan: RunPlan, settings: Settings | None = None) -> bool:
    """Return whether a desk holds the lease: then it is the one to ask."""
    return desk_says(plan, settings) is not None


def desk_says(plan: RunPlan, settings: Settings | None = None) -> Mapping[str, Any] | None:
    """Return what the desk that holds the lease says of itself; None if none does.

    Parameters
    ----------
    settings : where its database is; None = as the plan says, and every setting must be right.
    """
    engine = open_storage(settings or settings_of(plan))
    holder = Lease(engine, DESK_LEASE, "command", LEASE_TTL_MS, SystemClock()).holder()
    return None if holder is None else holder.info


@contextmanager
def at_the_ledger(plan: RunPlan) -> Iterator[Place]:
    """Append to a run's ledger in the desk's place, and tell what was appended.

    Raises
    ------
    ServiceUnreachable : if a desk runs.
    """
    settings = settings_of(plan)
    engine = open_storage(settings)
    owner = f"command:{os.getpid()}:{secrets.token_hex(4)}"
    lease = Lease(engine, DESK_LEASE, owner, LEASE_TTL_MS, SystemClock())
    if not lease.acquire({"pid": os.getpid(), "phase": "command"}):
        raise ServiceUnreachable("desk", "is running, so it alone appends", hint="Ask it.")
    ledger = SqlLedger(engine, plan.world)
    teller = Teller(EventLog(engine, plan.world), Proposals(engine))

    def append(record: Any) -> None:
        ledger.append([record])
        teller.hear(record)

    try:
        yield Place(plan, settings, engine, Reader(engine, plan.world), append)
        teller.tell()
    finally:
        lease.release()


def reflect(plan: RunPlan, body: Mapping[str, Any]) -> dict[str, Any]:
    """Append what a person says of a closed trade; see :func:`serving.journal_desk.reflected`."""
    with at_the_ledger(plan) as here:
        said = Said.of(body, journal_rules(here.settings))
        place = place_of(here.reader, str(body["trade_id"]))
        made, new = reflection(here.reader, ACCOUNT, place, said, here.now())
        if new:
            here.append(made)
        return {"reflection": reflection_of(made), "new": new}


def assertions(plan: RunPlan) -> dict[str, Any]:
    """Measure what must hold of a run's ledger, and write down what changed."""
    with at_the_ledger(plan) as here:
        symbols = symbols_of(plan, here.settings)
        asserting = asserting_on(plan.world, here.settings, symbols, here.engine, here.append)
        asserting.resume()
        now = here.now()
        return asyncio.run(asserting.now(now, now if plan.at_wall_time else None))
