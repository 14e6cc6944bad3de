"""What a run uses of its machine, beside its limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import Engine

from serving.bootstrap.storage import open_storage
from serving.resources import DESK, SYSTEM, Accountant, uses
from serving.settings import Settings, load_settings
from storage.events import EventLog
from storage.health import ServiceHealth, health, note_health

MINUTE, NOW = 60_000, 1_700_000_000_000
CORES = os.cpu_count() or 1


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(env={}, profile=None, overrides={"VAR_DIR": str(tmp_path)})


@pytest.fixture
def engine(settings: Settings) -> Engine:
    return open_storage(settings)


def rows(engine: Engine, minutes: int, *, cpu: float, pid: int = 7, received: int = 0,
         reconnects: int = 0, memory: int = 10**9, until: int = NOW) -> None:  # fmt: skip
    """A row a minute; ``cpu`` seconds, bytes and reconnects grow by so much in each."""
    for i in range(minutes):
        at = until - (minutes - 1 - i) * MINUTE
        note_health(engine, ServiceHealth(
            SYSTEM, at, "w", pid, "", memory, cpu * i, 0.0, 0, "", None))  # fmt: skip
        note_health(engine, ServiceHealth(
            DESK, at, "w", pid, "live", memory, cpu * i, 0.0, 0, "", None, received * i,
            reconnects * i))  # fmt: skip


def told(engine: Engine, settings: Settings, speed: float | None = 1.0) -> dict:
    return {use.name: use for use in uses(engine, settings, NOW, speed)}


def test_uses_when_an_hour_was_measured_then_rates_are_per_hour_and_near_ones_alert(
    engine: Engine, settings: Settings
) -> None:
    rows(engine, 61, cpu=0.6 * 60 * CORES, received=10**6, reconnects=0, memory=2 * 10**9)
    found = told(engine, settings)
    assert found["cpu"].value == pytest.approx(0.6)
    assert found["cpu"].alert  # 80 % of .7
    assert found["memory"].value == 2.0
    assert not found["memory"].alert
    assert found["network"].value == pytest.approx(60.0)
    assert not found["network"].alert
    assert found["reconnects"].value == 0.0
    assert told(engine, settings, 60.0)["network"].value == pytest.approx(1.0)


def test_uses_when_the_process_is_another_or_rows_are_old_then_they_do_not_count(
    engine: Engine, settings: Settings
) -> None:
    assert {use.value for use in uses(engine, settings, NOW, 1.0)} == {None}
    rows(engine, 30, cpu=60 * CORES, until=NOW - 10 * MINUTE, pid=6)
    rows(engine, 8, cpu=60 * CORES, reconnects=20)
    found = told(engine, settings)
    assert found["cpu"].value == pytest.approx(1.0)
    assert not found["cpu"].alert  # seven minutes are a start
    assert found["reconnects"].value == 140.0
    assert not found["reconnects"].alert
    assert {use.value for use in uses(engine, settings, NOW + 3 * 60 * MINUTE, 1.0)} == {None}


def test_accountant_when_a_limit_comes_near_then_it_is_told_once(
    engine: Engine, settings: Settings
) -> None:
    class Clock:
        def now(self) -> int:
            return NOW

    tight = settings.model_copy(
        update={"resources": settings.resources.model_copy(update={"memory_max_gb": 0.01})}
    )
    log = EventLog(engine, "w")
    accountant = Accountant(engine, tight, log, 1.0, Clock(), lambda: 5)
    accountant.look()
    accountant.look()  # not due
    [row] = health(engine, SYSTEM)
    assert row.rss_bytes > 10**7
    assert row.cpu_seconds > 0
    accountant._looked = 0.0
    accountant.look()
    [event] = log.of_kind("resources")
    assert event.level == "warning"
    assert event.at == 5
    assert event.body["name"] == "memory"
    assert "the limit is 0.01 GB" in event.body["why"]
