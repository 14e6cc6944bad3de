"""When the desk makes a backup, and how it hears what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain.ports import Clock
from serving.processes import stop
from storage.rotation import backups, file_name

FIRST_SECONDS = 300.0  # after the start, where there is none yet
_STOP_SECONDS = 2.0


@dataclass(slots=True)
class Backups:
    """Starts a process for each backup that is due; :meth:`look` never waits.

    Attributes
    ----------
    database : the SQLite file; None = another kind, which has its own way.
    minutes : wall time between two; 0 = none are made.
    hourly, daily : newest ones, and days whose last one is kept.
    """

    database: Path | None
    folder: Path
    minutes: int
    hourly: int
    daily: int
    clock: Clock
    _due: float | None = None  # monotonic
    _process: subprocess.Popen[bytes] | None = None
    _started: int = 0  # ms, wall time: names the file that is being made

    def look(self) -> Mapping[str, Any] | None:
        """Start one if it is due; return what the last one told when it has ended."""
        if not self.minutes:
            return None
        now = time.monotonic()
        if self._due is None:
            self._due = now + self._first_wait()
        if self._process is not None:
            return self._ended()
        if now < self._due:
            return None
        self._due = now + 60.0 * self.minutes
        if self.database is None:
            self.minutes = 0  # said once
            return {
                "error": "backup: PostgreSQL has its own",
                "hint": "Run pg_dump --format=custom by a timer of the machine.",
            }
        self._process = self._start(self.database)
        return None

    def close(self) -> None:
        """End one that is being made: what it has copied gets no name."""
        if self._process is not None:
            stop(self._process, _STOP_SECONDS)
            self._process = None
            for left in self.folder.glob(f"{file_name(self._started)}.partial*"):
                left.unlink(missing_ok=True)

    def _first_wait(self) -> float:
        there = backups(self.folder)
        if not there:
            return min(FIRST_SECONDS, 60.0 * self.minutes)
        return max(0.0, 60.0 * self.minutes - (self.clock.now() - there[0].at) / 1000.0)

    def _start(self, database: Path) -> subprocess.Popen[bytes]:
        self._started = self.clock.now()
        words = {
            "--now": self._started, "--hourly": self.hourly, "--daily": self.daily,
            "--parent": os.getpid(),
        }  # fmt: skip
        flags = [str(word) for pair in words.items() for word in pair]
        command = [sys.executable, "-m", "serving.backup_process", str(database), str(self.folder)]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _ended(self) -> Mapping[str, Any] | None:
        process = self._process
        if process is None or process.poll() is None:
            return None
        self._process = None
        told, _ = process.communicate()
        try:
            found: Mapping[str, Any] = json.loads(told)
        except ValueError:
            return {"error": f"backup: ended with {process.returncode}", "hint": ""}
        return found
