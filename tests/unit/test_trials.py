"""The log of looks at the test year."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import SettingError
from domain.times import parse_iso
from serving import trials
from serving.system import REPO_ROOT
from serving.trials import COLUMNS, Look

NOW = parse_iso("2026-11-21T05:50:00Z") + 123
COMMIT = "3172706479223881a10c48ed9c503066c1daf1fa"
HOUR = 3_600_000


def look(
    start: str = "2025-01-01", end: str = "2026-01-01", what: str = "BTC/USDT 5m: a + b",
    commit: str = COMMIT,
) -> Look:  # fmt: skip
    return Look("evaluate", parse_iso(start), parse_iso(end), what, commit)


def add(path: Path | None, one: Look, result: str = "gain 8.1") -> str:
    trials.prepare(path, one)
    return trials.record(path, one, result, NOW)


def test_record_when_the_test_year_is_touched_then_one_line_says_what_was_seen(
    tmp_path: Path,
) -> None:
    path = tmp_path / "docs" / "trials.csv"
    told = add(path, look(what="logistic, C=1e-3"), "gain 5.7, AUC .5335")
    assert told == "look 1 at the test year, logged"
    assert path.read_text(encoding="utf-8") == (
        "time,commit,kind,span,what,result\n"
        "2026-11-21T05:50:00Z,3172706,evaluate,20250101-20260101,"
        '"logistic, C=1e-3","gain 5.7, AUC .5335"\n'
    )


def test_record_when_the_same_commit_asks_the_same_again_then_it_counts_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trials.csv"
    add(path, look())
    before = path.read_bytes()
    assert add(path, look(), "gain 8.2") == "look 1 at the test year, counted before"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [look(what="c"), look(end="2025-07-01"), look(commit="57559cf" + COMMIT[7:])],
    ids=["what", "span", "commit"],
)
def test_record_when_anything_differs_then_it_is_another_look(tmp_path: Path, other: Look) -> None:
    path = tmp_path / "trials.csv"
    add(path, look())
    assert add(path, other) == "look 2 at the test year, logged"
    assert len(trials.read(path)) == 2


def test_record_when_files_differ_from_the_commit_then_every_look_counts(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    dirty = look(commit=f"{COMMIT}-dirty")
    assert [add(path, dirty), add(path, dirty)] == [
        "look 1 at the test year, logged",
        "look 2 at the test year, logged",
    ]
    assert {row["commit"] for row in trials.read(path)} == {"3172706-dirty"}


def test_record_when_no_file_is_named_then_nothing_is_written_and_the_report_says_so() -> None:
    assert add(None, look()) == "not logged (TRIALS_LOG is unset)"


def test_record_when_the_test_year_is_not_touched_then_no_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    assert add(path, look("2024-01-01", "2025-01-01")) == "no look at the test year"
    assert not path.exists()


@given(start=st.integers(-9000, 9000), hours=st.integers(1, 20_000))
def test_look_when_any_hour_lies_in_2025_then_it_counts(start: int, hours: int) -> None:
    first = parse_iso("2025-01-01") + start * HOUR
    seen = range(first, first + hours * HOUR, HOUR)
    year = range(parse_iso("2025-01-01"), parse_iso("2026-01-01"), HOUR)
    inside = seen.start < year.stop and year.start < seen.stop
    assert Look("tune", first, first + hours * HOUR, "x", COMMIT).counts == inside


def test_look_when_it_ends_within_a_day_then_the_span_says_when() -> None:
    one = look("2025-01-01T06:05:00Z", "2025-02-01")
    assert one.span == "20250101T060500-20250201"


def test_prepare_when_the_file_is_something_else_then_it_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n", encoding="utf-8")
    with pytest.raises(SettingError, match="TRIALS_LOG"):
        trials.prepare(path, look())
    assert path.read_text(encoding="utf-8") == "my notes\n"


def test_prepare_when_it_cannot_be_written_then_it_says_so_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(SettingError, match="TRIALS_LOG"):
        trials.prepare(tmp_path / "file" / "trials.csv", look())


def test_the_projects_log_when_read_then_it_is_a_trial_log() -> None:
    rows = trials.read(REPO_ROOT / "docs" / "trials.csv")
    assert len(rows) >= 8
    assert tuple(rows[0]) == COLUMNS
    assert {row["kind"] for row in rows} <= {"tune", "evaluate", "backtest"}
    assert all(parse_iso(row["time"]) and row["commit"] and row["what"] for row in rows)
