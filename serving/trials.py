"""The log of looks at the test year: a result found after many looks is worth less.

2025 is the public test year of the reference table. Every evaluation or backtest whose rows touch
it is a look, and goes on one line of the file that ``TRIALS_LOG`` names, ``docs/trials.csv`` in
this project. The same question to the same commit counts once; a changed working tree is no
commit, so each of its looks counts.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from domain.errors import SettingError
from domain.times import DAY_MS, iso, parse_iso

TEST_YEAR = (parse_iso("2025-01-01"), parse_iso("2026-01-01"))
COLUMNS = ("time", "commit", "kind", "span", "what", "result")
NOT_LOGGED = "not logged"
Kind = Literal["tune", "evaluate", "backtest"]
_COMMIT_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Look:
    """What was looked at.

    Attributes
    ----------
    start_ms, end_ms : rows that opened in [start, end) were scored or traded, UTC ms.
    what : the question, e.g. symbol, agents, and a hash of models and settings.
    commit : of the code, ``-dirty`` at its end if files differ from it.
    """

    kind: Kind
    start_ms: int
    end_ms: int
    what: str
    commit: str

    @property
    def counts(self) -> bool:
        """Whether it touches the test year."""
        return self.start_ms < TEST_YEAR[1] and self.end_ms > TEST_YEAR[0]

    @property
    def span(self) -> str:
        """``20250101-20260101``, with the time of day where it is not midnight."""
        return f"{_day(self.start_ms)}-{_day(self.end_ms)}"

    @property
    def short_commit(self) -> str:
        """The commit's first digits, and whether files differed from it."""
        digits, dash, rest = self.commit.partition("-")
        return digits[:_COMMIT_DIGITS] + dash + rest


def prepare(path: Path | None, look: Look) -> None:
    """Make sure that a look can be logged: better before minutes of work than after them.

    Parameters
    ----------
    path : ``TRIALS_LOG``; None = not logged. Made if missing.

    Raises
    ------
    SettingError : if the file is something else than a trial log, or cannot be written.
    """
    if path is None or not look.counts:
        return
    try:
        head = path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, str(error)) from error
    if head and tuple(head.strip().split(",")) != COLUMNS:
        raise _refused(path, f"Its first line must be {','.join(COLUMNS)}.")
    _append(path, [] if head else [COLUMNS])


def record(path: Path | None, look: Look, result: str, now_ms: int) -> str:
    """Log a look and say what became of it, in a clause for the report.

    Parameters
    ----------
    path : ``TRIALS_LOG``, as prepared; None = not logged.
    result : the figures seen, short.

    Raises
    ------
    SettingError : if the file cannot be written.
    """
    if not look.counts:
        return "no look at the test year"
    if path is None:
        return f"{NOT_LOGGED} (TRIALS_LOG is unset)"
    rows = read(path)
    known = next((i for i, row in enumerate(rows, 1) if _same(row, look)), None)
    if known is not None and not _uncommitted(look.commit):
        return f"look {known} at the test year, counted before"
    at = iso(now_ms - now_ms % 1000)
    _append(path, [(at, look.short_commit, look.kind, look.span, look.what, result)])
    return f"look {len(rows) + 1} at the test year, logged"


def read(path: Path) -> list[dict[str, str]]:
    """Return the looks so far, oldest first, as column → text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, rows: Sequence[Sequence[str]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as error:
        raise _refused(path, f"{error.strerror}.") from error


def _refused(path: Path, hint: str) -> SettingError:
    return SettingError("TRIALS_LOG", "must be a trial log that can be written", str(path), hint)


def _same(row: dict[str, str], look: Look) -> bool:
    told = (row["commit"], row["kind"], row["span"], row["what"])
    return told == (look.short_commit, look.kind, look.span, look.what)


def _uncommitted(commit: str) -> bool:
    return commit.endswith("-dirty") or commit == "unknown"


def _day(at_ms: int) -> str:
    text = iso(at_ms).replace("-", "").replace(":", "").removesuffix("Z")
    return text[:8] if at_ms % DAY_MS == 0 else text
