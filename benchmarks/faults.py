"""What can go wrong with a running system, done to the processes of that system alone."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.live import System
from benchmarks.nodes import WHOLE, Nodes

AGAIN_SECONDS = 5.0  # until somebody starts a lost node again
REMOTE = ("baseline", "chronos", "tft", "microstructure", "risk")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    key, name : as the command line takes it, and as the table shows it.
    inject : does it, and returns a function that says whether what was taken away is back.
    """

    key: str
    name: str
    inject: Callable[[System], Callable[[], bool]]


def faults() -> tuple[Fault, ...]:
    """Return the faults of one machine, in the order in which they are tried."""
    return (
        *(Fault(f"agent-{name}", f"{name} killed", killing(replica(name))) for name in REMOTE),
        Fault("agent-hangs", "tft hangs (stopped)", stopping(replica("tft"))),
        Fault("council", "council killed", killing(replica("council"))),
        Fault("council-hangs", "council hangs (stopped)", stopping(replica("council"))),
        Fault("proxy", "HTTP proxy killed", killing("ray::ProxyActor")),
        Fault("controller", "Serve's controller killed", killing("ray::ServeController")),
        Fault("lock-5", "database locked for 5 s", locking(5.0)),
        Fault("lock-30", "database locked for 30 s", locking(30.0)),
        Fault("desk", "desk killed", killing("serving.desk_process")),
        Fault("host", "Ray's host killed", killing("serving.ray_host")),
        Fault("head", "Ray's head (GCS) killed", killing("gcs/gcs_server")),
    )


def proxy_faults() -> tuple[Fault, ...]:
    """Return the faults of one machine where HAProxy stands in front."""
    return (
        Fault("ha-proxy", "HAProxy killed", killing("haproxy -")),
        Fault("ha-manager", "HAProxy's manager killed", killing("ray::HAProxyManager")),
        Fault("ha-council", "council killed, behind HAProxy", killing(replica("council"))),
    )


def replica(deployment: str) -> str:
    """Return the words that name the replicas of a deployment."""
    return f"ServeReplica:conclave:{deployment}"


def named(system: System, words: str) -> list[psutil.Process]:
    """Return the processes of this system whose command line has these words."""
    found = []
    for process in system.processes():
        try:
            if words in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def killing(words: str) -> Callable[[System], Callable[[], bool]]:
    """Kill −9 the processes with these words in their command line."""
    return lambda system: _taken(system, words, signal.SIGKILL)


def stopping(words: str) -> Callable[[System], Callable[[], bool]]:
    """Stop them where they are, so that they hang."""
    return lambda system: _taken(system, words, signal.SIGSTOP)


def _taken(system: System, words: str, number: signal.Signals) -> Callable[[], bool]:
    victims = named(system, words)
    if not victims:
        raise SystemExit(f"nothing to kill: no process of this system has {words!r}")
    for victim in victims:
        victim.send_signal(number)
    gone = {victim.pid for victim in victims}
    return lambda: len({p.pid for p in named(system, words)} - gone) >= min(1, len(gone))


def locking(seconds: float) -> Callable[[System], Callable[[], bool]]:
    """Hold the database's lock for so long."""

    def inject(system: System) -> Callable[[], bool]:
        with locked(system):
            time.sleep(seconds)
        return lambda: True

    return inject


@contextmanager
def locked(system: System) -> Iterator[None]:
    """Hold the database as another program would."""
    database = sqlite3.connect(system.folder / "ledger.db", isolation_level=None, timeout=10.0)
    try:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")
    finally:
        database.close()


# Several nodes


def _node_lost(system: System) -> Callable[[], bool]:
    assert isinstance(system, Nodes)
    system.lose_worker()
    time.sleep(AGAIN_SECONDS)
    system.start_worker()
    return lambda: system.places() == WHOLE


def _head_lost(system: System) -> Callable[[], bool]:
    assert isinstance(system, Nodes)
    system.lose_head()
    time.sleep(AGAIN_SECONDS)
    system.start_head()
    return lambda: bool(named(system, "gcs/gcs_server"))


NODE = Fault("node", "a node of three killed", _node_lost)
HEAD = Fault("cluster-head", "the head of three killed, tables in Redis", _head_lost)
CLUSTER_FAULTS = (NODE, HEAD)
