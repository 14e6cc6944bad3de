"""``train gate`` as people run it: killed, interrupted, searched, as a Ray job, from the queue."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="needs numba")
pytest.importorskip("sb3_contrib", reason="needs the extra rl")

import torch

from rl.policy import WEIGHTS
from serving import trials
from serving.bootstrap.jobs import job_worker
from serving.bootstrap.storage import open_storage
from serving.jobs import job_of, queued
from storage.jobs import Jobs
from tests.api_world import settings_in
from tests.command_line import Cli
from tests.data_fixtures import write_parquet
from tests.gate_scenes import SPOT, frame_of
from tests.ray_jobs import RayCluster, ray_cluster
from tests.training_runs import checkpoints, named, started, trained, wait_for

NAME = "gate/ema_cross"
RECIPE = Path(__file__).parents[2] / "configs" / "gate.yml"
END = "2100-01-01"
ROLLOUT = 64 * 32  # steps of the environment
SMALL = (
    "--profile", "exercise", "--recipe", RECIPE, "--end", END, "--with", "schedule.copies=64",
    "--with", "schedule.rollout=32", "--with", "schedule.batch=256", "--with", "schedule.epochs=2",
)  # fmt: skip
LONG = (*SMALL, "--steps", str(32 * ROLLOUT))  # three validations, and some
SHORT = (*SMALL, "--steps", str(4 * ROLLOUT))
slow = pytest.mark.slow
Reached = Callable[[], bool]


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    return write_parquet(folder / named(SPOT), frame_of("demo", 9_000, symbol=SPOT))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, bars: Path) -> dict[str, Any]:
    """What an undisturbed run of ``LONG`` comes to."""
    root = tmp_path_factory.mktemp("whole")
    code, told, err = trained(root, "gate", *LONG, "--data", bars)
    assert code == 0, err
    return {"card": told["card"], WEIGHTS: weights_of(root)}


def weights_of(root: Path) -> bytes:
    [path] = (root / "models" / NAME).glob(f"*/{WEIGHTS}")
    return path.read_bytes()


def card_of(root: Path) -> dict[str, Any]:
    [path] = (root / "models" / NAME).glob("*/card.json")
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body


def require_same(root: Path, whole: dict[str, Any]) -> None:
    """Equal bytes; cards differ in when they were made, and in nothing that was learned."""
    assert weights_of(root) == whole[WEIGHTS]
    card = card_of(root)
    for part in ("files", "metrics", "settings", "command", "data_sha256", "seed"):
        assert card[part] == whole["card"][part], part


def reached(root: Path, rollouts: int) -> Reached:
    """Whether the checkpoint holds so many rollouts."""

    def look() -> bool:
        kept = checkpoints(root, NAME)
        if not kept:
            return False
        steps: int = torch.load(kept[0], weights_only=True)["steps"]
        return steps >= rollouts * ROLLOUT

    return look


@slow
@pytest.mark.timeout(600)
def test_train_gate_when_killed_twice_then_it_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, bars: Path, whole: dict[str, Any]
) -> None:
    words = ("gate", *LONG, "--data", bars)
    for rollouts in (3, 14):  # before any validation, and between two of them
        process = started(tmp_path, *words)
        wait_for(reached(tmp_path, rollouts), process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert list((tmp_path / "models" / NAME).glob("*/card.json")) == []
    process = started(tmp_path, *words)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "resumed at step" in err
    assert checkpoints(tmp_path, NAME) == []
    require_same(tmp_path, whole)


@slow
@pytest.mark.timeout(600)
def test_train_gate_when_interrupted_then_the_checkpoint_stays_a_damaged_one_is_refused_and_fresh_begins_anew(  # noqa: E501
    tmp_path: Path, bars: Path, whole: dict[str, Any]
) -> None:
    words = ("gate", *LONG, "--data", bars)
    process = started(tmp_path, *words)
    wait_for(reached(tmp_path, 3), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "The same command goes on from the last checkpoint." in err
    assert "Traceback" not in err
    [kept] = checkpoints(tmp_path, NAME)
    kept.write_bytes(kept.read_bytes()[:1_000])
    code, told, err = trained(tmp_path, *words)
    assert (code, told) == (1, {})
    assert f"checkpoint {kept}: must be readable" in err
    assert "--fresh" in err
    assert "Traceback" not in err
    code, _, err = trained(tmp_path, *words, "--fresh")
    assert code == 0, err
    require_same(tmp_path, whole)


@slow
@pytest.mark.timeout(600)
def test_train_gate_when_tuned_then_the_best_trials_settings_are_trained_and_their_command_repeats_it(  # noqa: E501
    tmp_path: Path, bars: Path
) -> None:
    words = ("gate", *SHORT, "--data", bars)
    board = tmp_path / "board"
    code, told, err = trained(tmp_path, *words, "--tune", "3", "--board", board)
    assert code == 0, err
    tuning, card = told["tuning"], told["card"]
    assert [one["number"] for one in tuning["trials"]] == [1, 2, 3]
    assert tuning["trials"][0]["settings"]["schedule.rate"] == 0.0003  # the recipe's are first
    best = tuning["trials"][tuning["best_trial"] - 1]
    assert best["score"] == max(one["score"] for one in tuning["trials"])
    for name, value in best["settings"].items():
        mine = card["settings"][name]
        assert (",".join(map(str, mine)) if isinstance(mine, list) else mine) == value
    assert card["settings"]["schedule.copies"] == 64  # what --with gives is not searched
    assert card["metrics"]["walk_forward"]["gain"] == best["score"]
    assert card["metrics"]["tuning"]["best"] == best["score"]
    assert [row["kind"] for row in trials.read(tmp_path / "trials.csv")] == ["tune"] * 3
    assert len({path.parent for path in board.glob("*/events.*")}) == 3

    given = card["command"].split()
    typed = given[given.index("gate") : given.index("--data")]
    code, again, err = trained(tmp_path / "typed", *typed, "--data", bars, "--end", END)
    assert code == 0, err
    assert again["card"]["files"] == card["files"]


@slow
@pytest.mark.timeout(300)
def test_train_gate_when_it_is_shorter_than_a_rollout_then_it_can_be_tuned_all_the_same(
    tmp_path: Path, bars: Path
) -> None:
    code, told, err = trained(tmp_path, "gate", *SMALL, "--steps", "5", "--data", bars, "--tune=1")
    assert code == 0, err
    assert told["card"]["metrics"]["steps"] == ROLLOUT


# as a job


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as made:
        yield made


@slow
@pytest.mark.timeout(600)
def test_ray_job_when_stopped_and_submitted_again_then_it_resumes_and_its_gate_guards_a_backtest(
    cluster: RayCluster, cli: Cli, tmp_path: Path, bars: Path, whole: dict[str, Any]
) -> None:
    root = tmp_path / "var"
    words = ("gate", *LONG, "--data", bars)
    cluster.begin("gate-1", root, *words)
    until, soon = time.monotonic() + 120, reached(root, 3)
    while not soon():
        assert time.monotonic() < until, cluster.log("gate-1")
        time.sleep(0.1)
    assert "was stopped" in cluster.stop("gate-1")
    assert "The same command goes on from the last checkpoint." in cluster.log("gate-1")
    assert len(checkpoints(root, NAME)) == 1

    code, told = cluster.train(root, *words)
    assert code == 0, told
    assert "resumed at step" in told
    assert "succeeded" in told
    require_same(root, whole)

    code, told, err = cli("models", "promote", NAME, "--json")
    assert code == 0, err
    version = json.loads(told)["version"]
    listed = json.loads(cli("models", "list", "--json")[1])["items"]
    assert [row["version"] for row in listed if row["name"] == NAME and row["in_use"]] == [version]
    traded = ("backtest", "--data", bars, "--profile", "exercise", "--set")
    code, told, err = cli(*traded, "decision.gate=earned")
    assert code == 0, err
    assert f"{version}, earned; trained on bars until 2025-" in " ".join(told.split())
    assert "these bars among them" in " ".join(told.split())
    always = json.loads(cli(*traded, "decision.gate=always", "--json")[1])
    assert always["decisions"]["reasons"]["gate_veto"] > 0


@slow
@pytest.mark.timeout(300)
def test_job_when_a_gate_is_asked_for_then_the_worker_trains_it(tmp_path: Path, bars: Path) -> None:
    settings = settings_in(tmp_path)
    settings.data.raw_dir.mkdir(parents=True)
    (settings.data.raw_dir / bars.name).write_bytes(bars.read_bytes())
    jobs = Jobs(open_storage(settings))
    args = {"target": "gate", "data": bars.name, "strategy": "ema_cross", "steps": 20_000,
            "end": END}  # fmt: skip
    asked = queued(jobs, settings.data.raw_dir, "train", args, "anna", 0)
    assert job_worker(settings, lambda: False).run(once=True) == 1
    done = job_of(jobs.get(asked.id))
    assert done["state"] == "done", done["result"]
    assert done["result"]["output"]["name"] == NAME
    assert done["result"]["output"]["card"]["settings"]["schedule.steps"] == 20_000
