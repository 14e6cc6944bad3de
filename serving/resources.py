"""What a run uses of its machine, beside its limits: processor, memory, network, reconnects."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import structlog
from sqlalchemy import Engine

from domain.errors import ConclaveError
from domain.ports import Clock
from domain.times import HOUR_MS, timeframe_ms
from domain.trading import Event
from serving.plan import RunPlan
from serving.settings import Settings
from serving.system import SystemClock
from storage.events import EventLog
from storage.health import ServiceHealth, health, note_health
from storage.queries import Reader

log = structlog.get_logger("resources")

SYSTEM, DESK = "system", "desk"  # services: all processes of a run, and the one that listens
KIND = "resources"
SECONDS = 60.0
_JUDGED_H = 1 / 6  # after which a rate is no start any more
_LEAST_MS = 50_000  # of wall time, from which on a rate says something


@dataclass(frozen=True, slots=True)
class Use:
    """One resource over the last hour of wall time.

    Attributes
    ----------
    value, limit : in ``unit``; value None = not measured.
    alert : whether the value is near the limit, or beyond; a rate is judged after ten minutes.
    """

    name: str
    value: float | None
    limit: float
    unit: str
    alert: bool


def uses(engine: Engine, settings: Settings, now_ms: int, speed: float | None) -> list[Use]:
    """Return what a run has used, from what is on the database.

    Parameters
    ----------
    speed : market seconds per wall second; network and reconnects are told per hour of the market.
    """
    limits = settings.resources
    whole, desk = (_recent(health(engine, name), now_ms) for name in (SYSTEM, DESK))
    hours, market = _hours(whole), _hours(desk) * (speed or 1.0)
    cpu = _grown(whole, lambda row: row.cpu_seconds)
    received = _grown(desk, lambda row: row.received_bytes)
    again = _grown(desk, lambda row: row.reconnects)
    started, listened = hours < _JUDGED_H, _hours(desk) < _JUDGED_H

    def use(name: str, value: float | None, limit: float, unit: str, young: bool = False) -> Use:
        near = value is not None and value >= limits.alert_share * limit
        return Use(name, value, limit, unit, near and not young)

    share = None if cpu is None else cpu / (hours * 3_600) / (os.cpu_count() or 1)
    peak = max((row.rss_bytes / 1e9 for row in whole), default=None)
    rate = None if received is None else received / 1e6 / market
    lines = None if again is None else again / max(market, 1.0)
    return [
        use("cpu", share, limits.cpu_max, "share of all cores", started),
        use("memory", peak, limits.memory_max_gb, "GB"),
        use("network", rate, limits.network_max_mb_h, "MB per market hour", listened),
        use("reconnects", lines, limits.reconnects_max_h, "per market hour", listened),
    ]


def _recent(rows: Sequence[ServiceHealth], now_ms: int) -> list[ServiceHealth]:
    """Return the rows of the newest process within the last hour, oldest first."""
    recent = [row for row in rows if now_ms - HOUR_MS <= row.at]
    return [row for row in recent if row.pid == recent[0].pid][::-1]


def _hours(rows: Sequence[ServiceHealth]) -> float:
    return (rows[-1].at - rows[0].at) / HOUR_MS if rows else 0.0


def _grown(
    rows: Sequence[ServiceHealth], of: Callable[[ServiceHealth], float | None]
) -> float | None:
    told = [(row.at, value) for row in rows if (value := of(row)) is not None]
    if not told or told[-1][0] - told[0][0] < _LEAST_MS:
        return None
    return told[-1][1] - told[0][1]


@dataclass(slots=True)
class Accountant:
    """Measures all processes of a run once a minute, and tells what comes near a limit.

    :meth:`look` is called often; nothing in it waits for long.

    Attributes
    ----------
    clock : the wall's. ``market_now`` : the market's time, ms, for what is told.
    """

    engine: Engine
    settings: Settings
    events: EventLog
    speed: float | None
    clock: Clock
    market_now: Callable[[], int]
    _looked: float = 0.0
    _spent: dict[tuple[int, float], float] = field(default_factory=dict)  # ended ones included
    _told: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Measure if it is due."""
        now = time.monotonic()
        if now - self._looked < SECONDS:
            return
        self._looked = now
        try:
            note_health(self.engine, self.measured())
            self._tell(uses(self.engine, self.settings, self.clock.now(), self.speed))
        except ConclaveError as error:  # a full disk or a lock: the ledger says it louder
            log.warning("not_measured", why=error.message)

    def measured(self) -> ServiceHealth:
        """Return what this process and all that it started use now."""
        mine = psutil.Process()
        memory = count = 0
        for process in [mine, *mine.children(recursive=True)]:
            with suppress(psutil.Error):
                spent = process.cpu_times()
                self._spent[process.pid, process.create_time()] = spent.user + spent.system
                memory += _memory(process)
                count += 1
        return ServiceHealth(
            SYSTEM, self.clock.now(), self.events.world, mine.pid, f"{count} processes", memory,
            sum(self._spent.values()), 0.0, 0, "", None,
        )  # fmt: skip

    def _tell(self, found: Sequence[Use]) -> None:
        near = {use.name for use in found if use.alert}
        for use in found:
            if use.name in near - self._told:
                why = f"{use.name} is at {use.value:.3g}, the limit is {use.limit:.3g} {use.unit}"
                log.warning(KIND, why=why)
                body: dict[str, Any] = {"why": why, "hint": "", **asdict(use)}
                self.events.append(Event(KIND, self.market_now(), body, "warning"))
        self._told = near


def accountant(plan: RunPlan, settings: Settings, engine: Engine) -> Accountant:
    """Wire the accountant of a run."""
    reader = Reader(engine, plan.world)

    def market_now() -> int:
        last = max(reader.last_bars().values(), default=0)
        return last + timeframe_ms(settings.data.timeframe)

    events = EventLog(engine, plan.world)
    return Accountant(engine, settings, events, plan.speed, SystemClock(), market_now)


def _memory(process: psutil.Process) -> int:
    """Return a process's share of memory, bytes: pages that it shares count in parts."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):  # another system
        return int(process.memory_info().rss)
