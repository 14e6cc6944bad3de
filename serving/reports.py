"""Signals as files: ``latest.json`` and one JSON-lines file a day in ``history/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import structlog

from domain.canonical import canonical_json
from domain.decision import Decision
from domain.times import iso
from serving.schema import signal_of

log = structlog.get_logger("reports")


@dataclass(slots=True)
class SignalReports:
    """Writes decisions under ``folder``; a full disk is logged and never stops a decision."""

    folder: Path
    _day: str = ""
    _file: TextIO | None = field(default=None)

    def write(self, decisions: Sequence[Decision]) -> None:
        """Append the decisions of one instant to the day's history; ``latest.json`` is the last."""
        if not decisions:
            return
        lines = [canonical_json(signal_of(decision).model_dump()) + "\n" for decision in decisions]
        try:
            history = self._history(iso(decisions[-1].as_of)[:10])
            history.writelines(lines)
            history.flush()
            temporary = self.folder / "latest.tmp"
            temporary.write_text(lines[-1], encoding="utf-8")
            temporary.replace(self.folder / "latest.json")
        except OSError as error:
            self._file = None
            log.warning("signal_report_failed", path=str(self.folder), error=str(error))

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _history(self, day: str) -> TextIO:
        if self._file is None or day != self._day:
            self.close()
            folder = self.folder / "history"
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / f"{day}.jsonl").open("a", encoding="utf-8")
            self._day = day
        return self._file
