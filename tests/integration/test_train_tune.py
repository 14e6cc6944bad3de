"""``--tune``: a search with Ray Tune that is logged, goes on after a kill, and runs as a job."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving import trials
from sim.worlds import PlantedEdge
from tests.command_line import YEAR_2024
from tests.data_fixtures import write_parquet
from tests.ray_jobs import RayCluster, ray_cluster
from tests.training_runs import BASELINE, END, LONGER, TFT, bars_of, named, started, trained

slow = pytest.mark.slow
QUARTER = 26_208  # bars of a walk-forward fold


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bars_of(tmp_path_factory.mktemp("bars"))


@pytest.fixture(scope="module")
def long_bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough for one walk-forward fold."""
    frame = PlantedEdge(5, start_ms=YEAR_2024).bars(YEAR_2024, QUARTER + 6_000)
    return write_parquet(tmp_path_factory.mktemp("long") / named("BTC/USDT"), frame)


def tune(bars: Path, n: int) -> tuple[str | Path, ...]:
    return ("trend", *TFT, *LONGER, "--data", bars, "--end", END, "--tune", str(n))


def rows(root: Path) -> list[dict[str, str]]:
    return trials.read(root / "trials.csv")


def lines_until(process: subprocess.Popen[str], told: str) -> list[str]:
    """Read stderr until a line holds ``told``."""
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if told in line:
            return seen
    raise AssertionError("".join(seen))


@pytest.mark.long
def test_tune_when_ray_does_not_answer_at_its_address_then_service_unreachable(
    tmp_path: Path, bars: Path
) -> None:
    words = ("trend", *BASELINE, "--data", bars, "--end", END, "--tune", "2")
    code, told, err = trained(tmp_path, *words, RAY_ADDRESS="127.0.0.1:1")
    assert (code, told) == (4, {})
    assert "must answer at RAY_ADDRESS" in err


@slow
@pytest.mark.timeout(900)
def test_tune_when_finished_then_the_best_is_trained_every_trial_is_logged_and_none_repeated(
    tmp_path: Path, long_bars: Path
) -> None:
    words = ("trend", *BASELINE, "--data", long_bars, "--tune", "3")
    code, told, err = trained(tmp_path, *words)
    assert code == 0, err
    tuning, card = told["tuning"], told["card"]
    assert [one["number"] for one in tuning["trials"]] == [1, 2, 3]
    assert tuning["trials"][0]["settings"]["shrink"] == 0.8  # its own settings are tried first
    best = tuning["trials"][tuning["best_trial"] - 1]
    assert best["state"] == "finished"
    assert card["metrics"]["walk_forward"]["brier_skill_1e4"] == best["score"]
    assert card["metrics"]["tuning"]["trials"] == 3
    assert card["metrics"]["tuning"]["best"] == best["score"]
    logged = rows(tmp_path)
    assert [row["kind"] for row in logged] == ["tune"] * 3
    assert all("validated before 2024-" in row["what"] for row in logged)
    counted = trials.count(tmp_path / "trials.csv")
    assert (counted.tune, counted.looks) == (3, 0)

    began = time.monotonic()
    code, again, err = trained(tmp_path, *words)
    assert code == 0, err
    assert again["tuning"] == tuning
    assert again["card"]["files"] == card["files"]
    assert rows(tmp_path) == logged
    assert time.monotonic() - began < 60  # without Ray

    by_hand = [flag for word in card["command"].split(" --with ")[1:]
               for flag in ("--with", word.split(" --")[0])]  # fmt: skip
    code, typed, err = trained(
        tmp_path / "typed", "trend", "--model", "baseline", *by_hand, "--data", long_bars
    )
    assert code == 0, err
    assert typed["card"]["files"] == card["files"]  # the card's command makes the same model


@slow
@pytest.mark.timeout(900)
def test_tune_when_killed_then_the_same_command_goes_on_with_every_trial_where_it_was(
    tmp_path: Path, bars: Path
) -> None:
    process = started(tmp_path, *tune(bars, 2))
    lines_until(process, "trial 2 of 2")
    lines_until(process, "validation 8:")
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process = started(tmp_path, *tune(bars, 2))
    err = process.communicate(timeout=400)[1]
    assert process.returncode == 0, err
    assert "goes on where it was" in err
    assert "trial 1 of 2" not in err
    assert "validation 4:" not in err  # trial 2 is not begun anew
    assert "resumed at step" in err  # the best trial's work is not done again
    assert len({row["what"] for row in rows(tmp_path)}) == 2


@slow
@pytest.mark.timeout(900)
def test_tune_when_a_trial_is_killed_then_it_goes_on_from_its_checkpoint(
    tmp_path: Path, bars: Path
) -> None:
    process = started(tmp_path, *tune(bars, 1))
    lines_until(process, "validation 8:")
    for worker in psutil.Process(process.pid).children(recursive=True):
        if any("ImplicitFunc" in word for word in worker.cmdline()):
            worker.kill()
    err = process.communicate(timeout=400)[1]
    assert process.returncode == 0, err
    assert "trial 1 met an error: ActorDiedError" in err
    assert "trial 1 finished" in err
    assert "validation 4:" not in err
    assert "Traceback" not in err


@slow
@pytest.mark.timeout(900)
def test_tune_when_interrupted_then_exit_code_130(tmp_path: Path, bars: Path) -> None:
    process = started(tmp_path, *tune(bars, 2))
    lines_until(process, "validation 4:")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "The same command goes on" in err
    assert "Traceback" not in err


@slow
@pytest.mark.timeout(900)
def test_tune_when_nothing_is_left_to_validate_on_then_data_refused(
    tmp_path: Path, bars: Path
) -> None:
    words = ("trend", *BASELINE, "--data", bars, "--end", END, "--tune", "2")
    code, told, err = trained(tmp_path, *words)
    assert (code, told) == (3, {})
    assert "must leave something to validate on" in err
    assert "Traceback" not in err


# as a Ray job


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as made:
        yield made


@slow
@pytest.mark.timeout(900)
def test_ray_job_when_a_search_is_submitted_then_it_runs_on_that_cluster(
    cluster: RayCluster, tmp_path: Path, long_bars: Path
) -> None:
    words = ("trend", *BASELINE, "--data", long_bars, "--tune", "2", "--json")
    code, told = cluster.train(tmp_path, *words)
    assert code == 0, told
    assert '"best_trial":' in told
    assert "succeeded" in told
    assert len(rows(tmp_path)) == 2
    assert "Started a local Ray instance" not in told


@slow
@pytest.mark.timeout(900)
def test_ray_job_when_the_data_are_refused_then_the_job_fails_with_that_exit_code(
    cluster: RayCluster, tmp_path: Path
) -> None:
    code, told = cluster.train(tmp_path, "trend", "--data", tmp_path / "nowhere.parquet")
    assert code != 0
    assert "failed with exit code 3" in told
    assert "nowhere.parquet: does not exist" in told


def test_figures_of_a_tune_when_counted_then_they_deflate_but_are_no_looks(tmp_path: Path) -> None:
    log = tmp_path / "trials.csv"
    span: tuple[Any, Any] = (YEAR_2024, YEAR_2024 + 300_000 * QUARTER)
    for number in (1, 2):
        what = f"tft/trend: hidden={8 * number}; validated before 2024-04-01, trial {number}"
        look = trials.Look("tune", *span, what, "abc1234")
        trials.record(log, look, "brier_skill_1e4 8.1", 0)
    counted = trials.count(log)
    assert (counted.tune, counted.looks, counted.counted) == (2, 0, 2)
