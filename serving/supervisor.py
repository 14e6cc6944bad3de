"""``conclave up``: start the Ray host and the desk, keep them alive, take them down together."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from domain.errors import ServiceUnreachable
from serving.plan import RunPlan
from serving.processes import TEMPORARY, Backoff, spawn, stop

log = structlog.get_logger("supervisor")

STOP_SECONDS = 20.0
NOTIFIER_SECONDS = 8.0  # of these
TEMPORARY_SECONDS = 1.0
FINISHED = 0  # a child that ends with this is done, not broken
REFUSED = (2, 3)  # usage, settings, data: trying again would not help


@dataclass(slots=True)
class Child:
    """A supervised process."""

    name: str
    module: str
    log: Path
    backoff: Backoff = field(default_factory=Backoff)
    process: subprocess.Popen[bytes] | None = None
    restart_at: float = 0.0
    gave_up: bool = False

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs the children of one plan until the desk is done or somebody asks to leave.

    Parameters
    ----------
    say : shows one line to the person at the terminal.
    notifies : whether the notifier runs too. It ends after the desk, whose end it tells.
    """

    def __init__(
        self,
        plan: RunPlan,
        plan_path: Path,
        logs_dir: Path,
        env: Mapping[str, str],
        say: Callable[[str], None],
        *,
        notifies: bool = False,
    ) -> None:
        self._plan_path, self._env, self._say = plan_path, env, say
        self.desk = Child("desk", "serving.desk_process", logs_dir / "desk.log")
        self.ray = Child("ray", "serving.ray_host", logs_dir / "ray.log")
        self.notifier = Child("notifier", "serving.notifier_process", logs_dir / "notifier.log")
        self._children = [self.desk] if plan.local else [self.ray, self.desk]
        if plan.venue is not None:  # the desk needs it first, and lets go of it last
            self._children.insert(0, venue_child(logs_dir))
        if notifies:
            self._children.insert(-1, self.notifier)
        self.leave = threading.Event()

    def install_signals(self) -> None:
        """Let SIGINT and SIGTERM end the run."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.leave.set())

    def run(self, on_tick: Callable[[], None]) -> int:
        """Keep the children alive; return the exit code of the run."""
        try:
            while not self.leave.is_set():
                for child in self._children:
                    self._tend(child)
                code = self._desk_result()
                if code is not None:
                    return code
                try:
                    on_tick()
                except ServiceUnreachable as error:  # a busy database: the next tick tells it
                    log.info("tick_skipped", why=str(error))
                self.leave.wait(0.25)
            return 130
        finally:
            self.stop()

    def stop(self) -> None:
        """End every child within :data:`STOP_SECONDS`, the desk first, then the notifier."""
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(self._children):
            if child.process is not None:
                most = NOTIFIER_SECONDS if child is self.notifier else STOP_SECONDS
                stop(child.process, min(most, max(1.0, deadline - time.monotonic())))

    def _desk_result(self) -> int | None:
        process = self.desk.process
        if process is None:
            return None
        code = process.poll()
        if code == FINISHED or code in REFUSED:
            return code
        return 1 if self.desk.gave_up else None

    def _tend(self, child: Child) -> None:
        code = None if child.process is None else child.process.poll()
        if child is self.desk and (code == FINISHED or code in REFUSED):
            return
        if child is self.notifier and code in REFUSED and not child.gave_up:
            child.gave_up = True
            self._say(f"no messages: {child.name} ended with {code}; see {child.log}")
        tend(child, self._plan_path, self._env, self._say)


def tend(child: Child, plan_path: Path, env: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Start a child that has not run, and one that ended once its wait is over."""
    now = time.monotonic()
    if child.running or child.gave_up or now < child.restart_at:
        return
    if child.process is not None and child.restart_at == 0.0:
        code = child.process.poll()
        # What it waits for is not its fault: it must be back the moment that is there again.
        wait = TEMPORARY_SECONDS if code == TEMPORARY else child.backoff.failed(now)
        if wait is None:
            child.gave_up = True
            say(f"{child.name} failed too often; see {child.log}")
            return
        child.restart_at = now + wait
        say(f"{child.name} ended with {code}; restarting in {wait:.0f} s ({child.log})")
        return
    child.restart_at = 0.0
    child.process = spawn(child.module, [str(plan_path)], env, child.log)


class Keeper:
    """Keeps one child alive beside whatever else this process does, from a thread."""

    def __init__(
        self, child: Child, plan_path: Path, env: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._child, self._leave = child, threading.Event()
        self._about = (plan_path, env, say)
        self._thread = threading.Thread(target=self._keep, name=child.name, daemon=True)

    def __enter__(self) -> Keeper:
        """Start it."""
        tend(self._child, *self._about)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._leave.set()
        self._thread.join()
        if self._child.process is not None:
            stop(self._child.process, STOP_SECONDS)

    def _keep(self) -> None:
        while not self._leave.wait(0.25):
            tend(self._child, *self._about)


def venue_child(logs_dir: Path) -> Child:
    """Return the local exchange of a run."""
    return Child("venue", "serving.venue_process", logs_dir / "venue.log")
