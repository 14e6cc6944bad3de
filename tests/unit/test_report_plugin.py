"""The test report: written by a real pytest run, honest about what was skipped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.report

SUITE = """
import pytest
def test_passes(): pass
def test_fails(): assert 1 == 2
@pytest.fixture
def broken(): raise RuntimeError("no set-up")
def test_errors(broken): pass
@pytest.mark.skip(reason="needs a broker")
def test_marked(): pass
@pytest.mark.parametrize("i", range(2))
def test_skips(i): pytest.skip("CONCLAVE_SAMPLES is unset")
@pytest.mark.xfail(reason="known")
def test_known(): assert 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "tests").mkdir(parents=True)
    shutil.copy(Path(tests.report.__file__), folder / "tests" / "report.py")
    (folder / "tests" / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p tests.report\n", encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # of which some import for seconds
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=env
    ).stdout


def test_report_when_a_suite_ran_then_totals_failures_and_skips_are_written(
    project: Path,
) -> None:
    output = run(project)

    report = json.loads((project / "tests/reports/latest.json").read_text(encoding="utf-8"))
    assert report["totals"] == {
        "tests": 7, "passed": 1, "failed": 1, "error": 1, "skipped": 3, "xfailed": 1,
    }  # fmt: skip
    assert report["exit_status"] == 1
    assert {row["test"].partition("::")[2]: row["phase"] for row in report["failures"]} == {
        "test_fails": "call", "test_errors": "setup",
    }  # fmt: skip
    assert "no set-up" in report["failures"][1]["message"]
    assert report["skip_reasons"] == {"CONCLAVE_SAMPLES is unset": 2, "needs a broker": 1}
    assert len(report["skipped"]) == 3
    assert len(report["durations"]) == 7
    (history,) = (project / "tests/reports/history").iterdir()
    assert json.loads(history.read_text(encoding="utf-8")) == report
    assert history.name.endswith("Z.json")
    assert "3 skipped" in output
    assert "    2  CONCLAVE_SAMPLES is unset" in output
    assert "    1  needs a broker" in output


def test_report_when_nothing_was_skipped_then_it_says_so(project: Path) -> None:
    assert "0 tests skipped" in run(project, "-k", "passes")


def test_report_when_its_folder_cannot_be_written_then_the_tests_run_anyway(
    project: Path,
) -> None:
    (project / "tests" / "reports").write_text("a file is in the way", encoding="utf-8")

    output = run(project, "-k", "passes")

    assert "1 passed" in output
    assert "No test report written" in output


def test_report_when_a_file_does_not_import_then_it_is_an_error(project: Path) -> None:
    (project / "tests" / "test_broken.py").write_text("import nothing_like_it", encoding="utf-8")

    run(project)

    report = json.loads((project / "tests/reports/latest.json").read_text(encoding="utf-8"))
    assert report["totals"]["error"] == 1
    assert report["failures"][0]["phase"] == "collect"
