"""The trial log: a result found after many tries is worth less.

Two things count, and both deflate the Sharpe ratio of a backtest. Looks: every evaluation or
backtest whose rows touch 2025, the public test year of the reference table. Tune trials: every
configuration that tuning tried, whatever its span. ``train --tune`` adds a row for each; a run of
N of them that is told in one row says ``N configurations`` in its question (or, written by hand,
in its result).

Rows go to the file that ``TRIALS_LOG`` names, ``docs/trials.csv`` in this project. The same
question (kind, span, what) to the same commit counts once; a changed working tree is no commit,
so each of its rows counts. A backtest's result says ``Sharpe −3.10``, annualised by √365.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from domain.errors import SettingError, UsageError
from domain.times import DAY_MS, iso, parse_iso, parse_timerange

TEST_YEAR = (parse_iso("2025-01-01"), parse_iso("2026-01-01"))
COLUMNS = ("time", "commit", "kind", "span", "what", "result")
NOT_LOGGED = "not logged"
Kind = Literal["tune", "evaluate", "backtest"]
_COMMIT_DIGITS = 7
_CONFIGURATIONS = re.compile(r"\b([1-9][0-9,]*) configurations\b")
_SHARPE = re.compile(r"(?<!deflated )\bSharpe ([-−+]?[0-9]+(?:\.[0-9]+)?)")

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What was tried or looked at.

    Attributes
    ----------
    start_ms, end_ms : rows that opened in [start, end) were scored or traded, UTC ms.
    what : the question, e.g. symbol, agents, and a hash of models and settings.
    commit : of the code, ``-dirty`` at its end if files differ from it.
    configurations : that a tune run tried; 1 for the other kinds.

    Raises
    ------
    UsageError : if there is no configuration, or more than one without tuning.
    """

    kind: Kind
    start_ms: int
    end_ms: int
    what: str
    commit: str
    configurations: int = 1

    def __post_init__(self) -> None:
        if self.configurations < 1 or (self.configurations > 1 and self.kind != "tune"):
            raise UsageError(
                "configurations", f"must be 1 or, for tune, more; this is {self.kind}",
                self.configurations,
            )  # fmt: skip

    @property
    def counts(self) -> bool:
        """Whether it tunes or touches the test year."""
        return self.kind == "tune" or _touches(self.start_ms, self.end_ms)

    @property
    def question(self) -> str:
        """What was asked, with how many configurations if it was more than one."""
        many = f"; {self.configurations} configurations" if self.configurations > 1 else ""
        return _one_line(self.what) + many

    @property
    def span(self) -> str:
        """``20250101-20260101``, with the time of day where it is not midnight."""
        return f"{_day(self.start_ms)}-{_day(self.end_ms)}"

    @property
    def short_commit(self) -> str:
        """The commit's first digits, and whether files differed from it."""
        digits, dash, rest = self.commit.partition("-")
        return digits[:_COMMIT_DIGITS] + dash + rest


@dataclass(frozen=True, slots=True)
class Count:
    """What the log holds, each question to each commit once.

    Attributes
    ----------
    tune, looks : configurations tuned over, and looks at the test year.
    sharpes : those that results tell, annualised by √365, oldest first.
    logged : path of the log, or ``not logged``.
    """

    tune: int
    looks: int
    sharpes: tuple[float, ...]
    logged: str

    @property
    def counted(self) -> int:
        """All trials."""
        return self.tune + self.looks

    def as_json(self) -> dict[str, int | str]:
        """Return the numbers for a report."""
        return {
            "counted": self.counted, "tune": self.tune, "looks": self.looks, "logged": self.logged
        }  # fmt: skip


def prepare(path: Path | None, look: Look) -> None:
    """Make sure that a look can be logged: better before minutes of work than after them.

    Parameters
    ----------
    path : ``TRIALS_LOG``; None = not logged. Made if missing and needed.

    Raises
    ------
    SettingError : if the file is something else than a trial log, has a line that cannot be
        read (its number is named, the file stays as it is), or cannot be written.
    """
    if path is None:
        return
    begun = _read(path) is not None
    if look.counts:
        _append(path, [] if begun else [COLUMNS])


def record(path: Path | None, look: Look, result: str, now_ms: int) -> str:
    """Log a look and say what became of it, in a clause for the report.

    Parameters
    ----------
    path : ``TRIALS_LOG``; None = not logged.
    result : the figures seen, short.

    Raises
    ------
    SettingError : if the file cannot be read or written.
    """
    if not look.counts:
        return "no look at the test year"
    if path is None:
        return f"{NOT_LOGGED} (TRIALS_LOG is unset)"
    prepare(path, look)
    before = read(path)
    known = not _uncommitted(look.commit) and any(_key(row) == _asked(look) for row in before)
    if not known:
        at = iso(now_ms - now_ms % 1000)
        row = (at, look.short_commit, look.kind, look.span, look.question, _one_line(result))
        _append(path, [row])
    return f"{_place(read(path), look)}, {'counted before' if known else 'logged'}"


def count(path: Path | None) -> Count:
    """Count the trials of the log by the rule that :func:`record` keeps.

    Parameters
    ----------
    path : ``TRIALS_LOG``; None = not logged. A file that is missing holds none.

    Raises
    ------
    SettingError : if the file is no trial log, or a line of it cannot be read (it is named).
    """
    if path is None:
        return Count(0, 0, (), NOT_LOGGED)
    rows = _counted(_read(path) or [])
    return Count(
        tune=sum(_configurations(row) for row in rows if row["kind"] == "tune"),
        looks=sum(_configurations(row) for row in rows if row["kind"] != "tune"),
        sharpes=tuple(sharpe for row in rows for sharpe in told_sharpes(row["result"])),
        logged=path.as_posix(),
    )


def told_sharpes(result: str) -> list[float]:
    """Return the Sharpe ratios in a result, e.g. of ``4773 trades, Sharpe −3.10``."""
    return [float(text.replace("−", "-")) for text in _SHARPE.findall(result)]


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows so far, oldest first, as column → text.

    Raises
    ------
    SettingError : if the file is no trial log, or a line of it cannot be read (it is named).
    """
    rows = _read(path)
    if rows is None:
        raise _refused(path, f"Its first line must be {','.join(COLUMNS)}.")
    return rows


def _read(path: Path) -> list[dict[str, str]] | None:
    """The rows; None if there is no file, or nothing in it."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, f"{error}.") from error
    if not text.strip():
        return None
    lines = csv.reader(io.StringIO(text), strict=True)
    rows: list[dict[str, str]] = []
    try:
        if tuple(next(lines)) != COLUMNS:
            raise _refused(path, f"Its first line must be {','.join(COLUMNS)}.")
        rows.extend(_row(values) for values in lines if values)
    except (csv.Error, UsageError) as error:
        raise _refused(path, f"Line {lines.line_num}: {str(error).rstrip('.')}.") from error
    return rows


def _row(values: Sequence[str]) -> dict[str, str]:
    if len(values) != len(COLUMNS):
        raise UsageError("row", f"must have the {len(COLUMNS)} columns of the first line", values)
    row = dict(zip(COLUMNS, values, strict=True))
    parse_iso(row["time"])
    if row["kind"] not in get_args(Kind):
        raise UsageError("kind", f"must be one of {', '.join(get_args(Kind))}", row["kind"])
    _span(row)
    return row


def _span(row: Row) -> tuple[int, int]:
    start, end = parse_timerange(row["span"])
    if start is None or end is None:
        raise UsageError("span", "must name both ends", row["span"])
    return start, end


def _counted(rows: Sequence[Row]) -> list[Row]:
    """The rows that count: each question to a commit once, looks elsewhere not at all."""
    kept: list[Row] = []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        again = _key(row) in seen and not _uncommitted(row["commit"])
        if not again and (row["kind"] == "tune" or _touches(*_span(row))):
            kept.append(row)
        seen.add(_key(row))
    return kept


def _place(rows: Sequence[Row], look: Look) -> str:
    """Which look, or how many tune trials, the newest row of this question is."""
    if look.kind == "tune":
        n = look.configurations
        return f"{n} tune trial{'s' if n > 1 else ''}"
    looks = [_key(row) for row in _counted(rows) if row["kind"] != "tune"]
    at = max(i for i, key in enumerate(looks, 1) if key == _asked(look))
    return f"look {at} at the test year"


def _configurations(row: Row) -> int:
    told = _CONFIGURATIONS.search(row["what"]) or _CONFIGURATIONS.search(row["result"])
    return int(told[1].replace(",", "")) if told else 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _key(row: Row) -> tuple[str, ...]:
    return row["commit"], row["kind"], row["span"], row["what"]


def _asked(look: Look) -> tuple[str, ...]:
    return look.short_commit, look.kind, look.span, look.question


def _append(path: Path, rows: Sequence[Sequence[str]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            if rows and path.read_bytes()[-1:] not in (b"", b"\n"):
                file.write("\n")  # edited by hand: a row must not end up on another's line
            csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as error:
        raise _refused(path, f"{error.strerror}.") from error


def _refused(path: Path, hint: str) -> SettingError:
    return SettingError("TRIALS_LOG", "must be a trial log that can be written", str(path), hint)


def _touches(start_ms: int, end_ms: int) -> bool:
    return start_ms < TEST_YEAR[1] and end_ms > TEST_YEAR[0]


def _uncommitted(commit: str) -> bool:
    return commit.endswith("-dirty") or commit == "unknown"


def _day(at_ms: int) -> str:
    text = iso(at_ms).replace("-", "").replace(":", "").removesuffix("Z")
    return text[:8] if at_ms % DAY_MS == 0 else text
