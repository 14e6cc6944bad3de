"""The trial log: what counts, once, and what a backtest makes of it."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from domain.errors import SettingError, UsageError
from domain.times import parse_iso
from serving import trials
from serving.backtesting import figures, judge
from serving.commands.backtest_tables import backtest_view
from serving.system import REPO_ROOT
from serving.trials import COLUMNS, Count, Look
from sim.backtest import BacktestResult
from sim.benchmarks import benchmarks
from sim.decided import Tally
from sim.intervals import deflated_sharpe
from sim.metrics import Run, measure

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
    assert Look("backtest", first, first + hours * HOUR, "x", COMMIT).counts == inside
    assert Look("tune", first, first + hours * HOUR, "x", COMMIT).counts


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


def test_the_projects_log_when_counted_then_every_configuration_in_it_counts() -> None:
    known = trials.count(REPO_ROOT / "docs" / "trials.csv")
    assert known.counted >= 42


def test_count_when_a_row_names_configurations_then_each_of_them_is_a_look(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    trials.record(path, look(what="four of one kind; 4 configurations"), "gain 1", 0)
    trials.record(path, look(what="another"), "gain 2", 0)
    assert trials.count(path).looks == 5


def test_record_when_many_configurations_were_tuned_then_each_is_a_trial(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    span = parse_iso("2023-01-01"), parse_iso("2024-01-01")
    many = Look("tune", *span, "baseline: C", COMMIT, configurations=18)
    assert add(path, many) == "18 tune trials, logged"
    assert add(path, many) == "18 tune trials, counted before"
    assert add(path, Look("tune", *span, "risk: C", COMMIT)) == "1 tune trial, logged"
    assert add(path, look()) == "look 1 at the test year, logged"
    assert trials.read(path)[0]["what"] == "baseline: C; 18 configurations"
    assert trials.count(path) == Count(19, 1, (), path.as_posix())
    assert trials.count(path).as_json() == {
        "counted": 20, "tune": 19, "looks": 1, "logged": path.as_posix(),
    }  # fmt: skip
    with pytest.raises(UsageError, match="configurations"):
        Look("evaluate", *span, "x", COMMIT, configurations=2)


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "trials.csv"
    path.write_text("\n".join([",".join(COLUMNS), *lines]), encoding="utf-8")
    return path


def test_count_when_rows_repeat_then_only_those_of_a_changed_tree_count_again(
    tmp_path: Path,
) -> None:
    row = "2026-11-21T05:50:00Z,{},{},{},ema,{}".format
    path = written(
        tmp_path,
        row("aaaaaaa", "backtest", "20250101-20260101", '"4 trades, Sharpe −3.10"'),
        row("aaaaaaa", "backtest", "20250101-20260101", '"4 trades, Sharpe -3.10"'),
        row("aaaaaaa", "backtest", "20240101-20250101", "Sharpe 9.00"),  # not the test year
        row("aaaaaaa-dirty", "evaluate", "20241231T235500-20250102", ""),
        row("aaaaaaa-dirty", "evaluate", "20241231T235500-20250102", ""),
        row("unknown", "backtest", "20250301-20250401", "Sharpe 0.5; deflated Sharpe 0.9"),
        row("unknown", "backtest", "20250301-20250401", "Sharpe +1"),
        row("aaaaaaa", "tune", "20200101-20250101", '"1,200 configurations, best 7"'),
        row("aaaaaaa", "tune", "20200101-20250101", '"1,200 configurations, best 7"'),
    )
    assert trials.count(path) == Count(1200, 5, (-3.1, 0.5, 1.0), path.as_posix())


def test_count_when_there_is_no_log_then_nothing_counts(tmp_path: Path) -> None:
    assert trials.count(None) == Count(0, 0, (), "not logged")
    assert trials.count(tmp_path / "none.csv").counted == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2026-11-21T05:50:00Z,abc,evaluate,20250101-20260101,too few", "6 columns"),
        ("yesterday,abc,evaluate,20250101-20260101,x,y", "yesterday"),
        ("2026-11-21T05:50:00Z,abc,look,20250101-20260101,x,y", "must be one of tune"),
        ("2026-11-21T05:50:00Z,abc,evaluate,20250101-,x,y", "both ends"),
        ("2026-11-21T05:50:00Z,abc,evaluate,2025,x,y", "A-B"),
        ('2026-11-21T05:50:00Z,abc,evaluate,20250101-20260101,"x"y,z', "expected after"),
    ],
)
def test_prepare_when_a_line_is_malformed_then_its_number_is_told_and_nothing_is_lost(
    tmp_path: Path, line: str, words: str
) -> None:
    good = "2026-11-21T05:50:00Z,abc,evaluate,20250101-20260101,x,y"
    path = written(tmp_path, good, line, good)
    before = path.read_bytes()
    for use in (lambda: add(path, look()), lambda: trials.count(path)):
        with pytest.raises(SettingError, match=f"Line 3: .*{words}"):
            use()
    assert path.read_bytes() == before


def test_record_when_the_last_line_has_no_end_then_the_next_gets_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, '2026-11-21T05:50:00Z,abc,evaluate,20250101-20260101,"x, 1",y')
    assert add(path, look(), "two\nlines \x1c") == "look 2 at the test year, logged"
    assert [row["result"] for row in trials.read(path)] == ["y", "two lines"]


@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_record_when_texts_hold_anything_then_they_are_read_and_known_again(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("log") / "trials.csv"
    for text in texts:
        add(path, look(what=text), text)
    for text in texts:
        assert add(path, look(what=text)).endswith("counted before")


# A backtest among all trials


def traded(days: int = 40, deviation: float = 0.01) -> BacktestResult:
    returns = np.random.default_rng(1).normal(0.001, 1.0, days) * deviation
    at = parse_iso("2025-01-01") + 24 * HOUR * np.arange(1, days + 1, dtype=np.int64)
    equity = 10_000 * np.cumprod(1 + returns)
    run = Run(int(at[0]) - 24 * HOUR, at, equity, equity, 10_000.0, (), (), ())
    return BacktestResult(
        {"symbol": "BTC/USDT", "timeframe": "5m", "start": "a", "end": "b", "bars": 9}, "ema",
        "strict", measure(run), {}, {"LONG": 1, "SHORT": 0, "NO_TRADE": 8, "reasons": {}}, (),
        Decimal(1), {}, benchmarks(run), 0.0, run, Tally(5, HOUR // 12).decided(),
    )  # fmt: skip


BACKTEST = Look("backtest", parse_iso("2025-01-01"), parse_iso("2025-02-10"), "ema", COMMIT)


def test_judge_when_the_trial_is_logged_then_its_own_row_counts_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trials.csv"
    add(path, look())
    add(path, look(what="other"))
    result = traded()
    for clause in ("look 3 at the test year, logged", "look 3 at the test year, counted before"):
        judged = judge(result, BACKTEST, path, NOW)
        assert judged.trial == clause
        assert judged.trials == f"deflated for 3 trials ({path.as_posix()})"
        assert judged.result.metrics["deflated_sharpe"] == deflated_sharpe(result.run, 3)
    [sharpe] = trials.count(path).sharpes
    assert sharpe == round(result.metrics["sharpe"] or 0.0, 2)
    assert trials.read(path)[-1]["result"] == figures(result)


def test_judge_when_nothing_is_logged_then_it_says_that_this_trial_stands_alone() -> None:
    judged = judge(traded(), BACKTEST, None, NOW)
    assert judged.trials == "trial log: not logged; deflated for this one trial only"
    alone = judged.result.metrics["deflated_sharpe"]
    assert alone == deflated_sharpe(traded().run, 1)
    assert alone is not None
    assert (alone > 0.5) == ((traded().metrics["sharpe"] or 0.0) > 0)


def test_judge_when_the_year_is_another_then_this_trial_is_added_to_those_logged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trials.csv"
    for sharpe in (0.5, -6.1, 2.0, -3.0):
        add(path, look(what=str(sharpe)), f"Sharpe {sharpe}")
    past = Look("backtest", parse_iso("2024-01-01"), parse_iso("2024-02-10"), "ema", COMMIT)
    judged = judge(traded(), past, path, NOW)
    assert judged.trial == "no look at the test year"
    assert judged.trials.startswith("deflated for 5 trials")
    own = traded().metrics["sharpe"]
    assert own is not None
    assert judged.result.metrics["deflated_sharpe"] == deflated_sharpe(
        traded().run, 5, [0.5, -6.1, 2.0, -3.0, own]
    )


@pytest.mark.parametrize(("days", "deviation"), [(29, 0.01), (40, 0.0)])
def test_judge_when_short_or_still_then_nothing_is_deflated_and_it_says_so(
    tmp_path: Path, days: int, deviation: float
) -> None:
    judged = judge(traded(days, deviation), BACKTEST, tmp_path / "missing" / "trials.csv", NOW)
    assert judged.result.metrics["deflated_sharpe"] is None
    assert "nothing to deflate" in judged.trials
    assert "Sharpe" not in figures(judged.result)


def test_backtest_view_when_deflated_then_one_sentence_says_what_it_means() -> None:
    judged = judge(traded(), BACKTEST, None, NOW)
    shown = StringIO()
    Console(width=80, file=shown).print(
        backtest_view(judged.result.as_json() | {"costs": {}}, {"trials": judged.trials})
    )
    words = " ".join(shown.getvalue().split())
    assert f"deflated Sharpe {100 * judged.result.metrics['deflated_sharpe']:.1f} %" in words
    assert "trials trial log: not logged; deflated for this one trial only" in words
    assert "confidence the true Sharpe is above" in words
