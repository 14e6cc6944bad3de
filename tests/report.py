"""A pytest plugin: what ran, how long it took and what was skipped, as JSON and as a summary.

Loaded by ``-p tests.report``. Writes ``tests/reports/latest.json`` and
``tests/reports/history/<UTC>.json`` (git-ignored), and ends every run by saying how many tests
were skipped and for which reasons: a skipped test has shown nothing.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

REPORTS = Path("tests/reports")
SLOWEST = 20
LONGEST_MESSAGE = 4000


class Recorder:
    """Collect one row per test that did not simply pass, and durations of all."""

    def __init__(self, folder: Path, started_at: datetime) -> None:
        self.folder = folder
        self.started_at = started_at
        self._started = time.perf_counter()
        self.outcomes: dict[str, str] = {}
        self.durations: defaultdict[str, float] = defaultdict(float)
        self.failures: list[dict[str, str]] = []
        self.skips: dict[str, str] = {}
        self.not_written = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.durations[report.nodeid] += report.duration
        if report.failed:
            self.outcomes[report.nodeid] = "failed" if report.when == "call" else "error"
            self._failure(report.nodeid, report.when or "", report.longreprtext)
        elif report.skipped:
            xfailed = hasattr(report, "wasxfail")
            self.outcomes[report.nodeid] = "xfailed" if xfailed else "skipped"
            if not xfailed:
                self.skips[report.nodeid] = _reason(report.longrepr)
        elif report.when == "call":
            xpassed = hasattr(report, "wasxfail")
            self.outcomes[report.nodeid] = "xpassed" if xpassed else "passed"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "error"
            self._failure(report.nodeid, "collect", report.longreprtext)
        elif report.skipped:
            self.outcomes[report.nodeid] = "skipped"
            self.skips[report.nodeid] = _reason(report.longrepr)

    def _failure(self, test: str, phase: str, message: str) -> None:
        self.failures.append({"test": test, "phase": phase, "message": message[-LONGEST_MESSAGE:]})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if session.config.option.collectonly:
            return
        text = json.dumps(self.body(int(exitstatus)), indent=2, sort_keys=True) + "\n"
        stamp = self.started_at.strftime("%Y%m%dT%H%M%S.%fZ")
        try:
            _write(self.folder / "history" / f"{stamp}.json", text)
            _write(self.folder / "latest.json", text)
        except OSError as error:  # a read-only checkout still runs its tests
            self.not_written = f"{error.strerror or error}: {self.folder}"

    def body(self, exit_status: int) -> dict[str, Any]:
        """Return the report: totals, durations (s), failures, skips and their reasons."""
        slowest = sorted(self.durations.items(), key=lambda row: -row[1])[:SLOWEST]
        return {
            "started_at": self.started_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "seconds": round(time.perf_counter() - self._started, 3),
            "exit_status": exit_status,
            "totals": {"tests": len(self.outcomes), **Counter(self.outcomes.values())},
            "failures": self.failures,
            "skipped": [{"test": test, "reason": why} for test, why in sorted(self.skips.items())],
            "skip_reasons": dict(Counter(self.skips.values()).most_common()),
            "slowest": [{"test": test, "seconds": round(s, 3)} for test, s in slowest],
            "durations": {test: round(s, 4) for test, s in self.durations.items()},
        }

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skips:
            terminalreporter.section(f"{len(self.skips)} skipped")
            for why, n in Counter(self.skips.values()).most_common():
                terminalreporter.write_line(f"{n:5d}  {why}")
        else:
            terminalreporter.write_line("0 tests skipped")
        if self.not_written:
            terminalreporter.write_line(f"No test report written: {self.not_written}")


def _reason(longrepr: object) -> str:
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ").strip() or "no reason given"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def pytest_configure(config: pytest.Config) -> None:
    """Register the recorder, once and in the controlling process only."""
    if hasattr(config, "workerinput"):
        return
    recorder = Recorder(config.rootpath / REPORTS, datetime.now(UTC))
    config.pluginmanager.register(recorder, "conclave-report")
