"""Faults done to a running system under load: nothing asked is lost, nothing decided is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from benchmarks.chaos import Row, Watch, done_to
from benchmarks.faults import Fault, killing, locking, replica, stopping
from benchmarks.load import Load
from benchmarks.serving import SYMBOL, closes
from storage.verify import verify_chain
from tests.acceptance.running import Running

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def watch(system: Running) -> Iterator[Watch]:
    made = Watch(system)
    yield made
    made.engine.dispose()


def suffered(system: Running, watch: Watch, fault: Fault) -> Row:
    """Do a fault under load, once all is well; what must hold after each holds after this one."""
    watch.calm(lambda: True, time.monotonic())
    with Load(system.url, SYMBOL, closes(system)[-300:], clients=2).running() as load:
        time.sleep(1.0)
        row = done_to(system, fault, watch, load)
    print(f"\n{row}")
    assert row.asked > 0
    assert row.answered == row.asked
    assert row.failed == row.lost == 0
    assert row.broken == 0, row.kinds  # nothing but answers, and 429 or 503 with Retry-After
    return row


@pytest.mark.parametrize("agent", ["baseline", "risk"])
def test_agent_when_its_replica_is_killed_under_load_then_all_is_answered_and_marked_degraded(
    system: Running, watch: Watch, agent: str
) -> None:
    row = suffered(system, watch, Fault(agent, agent, killing(replica(agent))))

    assert row.degraded + row.decided_without > 0, "nobody noticed"
    assert row.later == row.dropped == 0
    assert row.recovery_s < 30


def test_council_when_its_replica_is_killed_under_load_then_callers_are_told_to_come_back(
    system: Running, watch: Watch
) -> None:
    row = suffered(system, watch, Fault("council", "council", killing(replica("council"))))

    assert row.recovery_s < 45


@pytest.mark.parametrize("name", ["ProxyActor", "ServeController"])
def test_serve_when_a_part_of_it_is_killed_under_load_then_it_is_replaced_and_nothing_is_lost(
    system: Running, watch: Watch, name: str
) -> None:
    row = suffered(system, watch, Fault(name, name, killing(f"ray::{name}")))

    assert row.recovery_s < 45


def test_agent_when_it_hangs_under_load_then_others_answer_and_it_is_replaced(
    system: Running, watch: Watch
) -> None:
    row = suffered(system, watch, Fault("hang", "hang", stopping(replica("baseline"))))

    assert row.degraded > 0, "nobody noticed"
    assert row.recovery_s < 90


@pytest.mark.parametrize("seconds", [5.0, 30.0])
def test_database_when_locked_while_bars_close_then_they_are_decided_after_and_callers_come_back(
    system: Running, watch: Watch, seconds: float
) -> None:
    row = suffered(system, watch, Fault("lock", f"lock {seconds:g}", locking(seconds)))

    assert row.later > 0, "nobody was kept waiting"
    assert row.dropped == 0
    assert row.recovery_s < seconds + 45
    assert verify_chain(watch.engine).ok
