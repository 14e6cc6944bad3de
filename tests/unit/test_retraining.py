"""The pipeline on a cluster, against a real HTTP server that holds RayJobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import CheckFailed, NotFound, ServiceUnreachable, UsageError
from serving.retraining import KEPT, NAME_MOST, PATIENCE, Cluster, Pipeline, copy_of, main
from tests.kubernetes_api import Job, World, account, certificate, serving

NOW_MS = 1_764_385_200_000  # 2025-11-29T03:00:00Z
STAMP = "20251129t030000"


class FixedClock:
    def now(self) -> int:
        return NOW_MS


def suspended(name: str) -> Job:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": name, "uid": "7", "resourceVersion": "12", "labels": {"of": "conclave"},
        },
        "spec": {"suspend": True, "entrypoint": f"conclave {name}"},
        "status": {"jobDeploymentStatus": "Suspended"},
    }  # fmt: skip


def ended(step: str, stamp: str) -> Job:
    job = copy_of(suspended(step), stamp)
    return {**job, "status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}}


@pytest.fixture
def world() -> World:
    return World({name: suspended(name) for name in ("features", "train-trend", "train-risk")})


@pytest.fixture
def server(world: World) -> Iterator[str]:
    with serving(world) as address:
        yield address


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def pipeline(server: str, tmp_path: Path, said: list[str]) -> Pipeline:
    cluster = Cluster(server, account(tmp_path))
    return Pipeline(cluster, FixedClock(), lambda _: None, said.append)


def test_copy_when_a_job_is_suspended_then_its_twin_runs_and_owes_the_cluster_nothing() -> None:
    copy = copy_of(suspended("features"), STAMP)

    assert copy == {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": f"features-{STAMP}",
            "labels": {"of": "conclave", "conclave/step": "features"},
        },
        "spec": {"suspend": False, "entrypoint": "conclave features"},
    }


def test_copy_when_the_name_would_be_too_long_then_it_is_refused() -> None:
    fits = "n" * (NAME_MOST - len(STAMP) - 1)

    assert len(copy_of(suspended(fits), STAMP)["metadata"]["name"]) == NAME_MOST
    with pytest.raises(UsageError, match="47 in all"):
        copy_of(suspended(f"{fits}n"), STAMP)


def test_pipeline_when_all_succeed_then_each_is_made_after_the_one_before_ended(
    pipeline: Pipeline, world: World, said: list[str]
) -> None:
    pipeline.run(["features", "train-trend"])

    made = [place for place, line in enumerate(world.requests) if line.startswith("POST")]
    last_look = max(
        place for place, line in enumerate(world.requests)
        if line.startswith("GET") and line.endswith(f"/features-{STAMP}")
    )  # fmt: skip
    assert len(made) == 2
    assert made[0] < last_look < made[1]
    assert said == [
        f"features-{STAMP}: Running", f"features-{STAMP}: Complete",
        f"train-trend-{STAMP}: Running", f"train-trend-{STAMP}: Complete",
    ]  # fmt: skip
    assert world.jobs["features"]["spec"]["suspend"]


@pytest.mark.parametrize(
    "end",
    [("Failed", "FAILED"), ("ValidationFailed", ""), ("Complete", "STOPPED")],
    ids=lambda end: end[0],
)
def test_pipeline_when_a_job_fails_then_the_next_is_not_begun(
    pipeline: Pipeline, world: World, end: tuple[str, str]
) -> None:
    world.ends = {"features": end}

    with pytest.raises(CheckFailed, match="did not succeed"):
        pipeline.run(["features", "train-trend"])

    assert f"train-trend-{STAMP}" not in world.jobs


def test_pipeline_when_a_job_is_missing_then_nothing_is_begun(
    pipeline: Pipeline, world: World
) -> None:
    before = set(world.jobs)

    with pytest.raises(NotFound, match="train-gate"):
        pipeline.run(["features", "train-gate"])

    assert set(world.jobs) == before


def test_pipeline_when_the_api_is_away_for_a_while_then_it_waits(
    server: str, tmp_path: Path, world: World
) -> None:
    def sleep(_: float) -> None:
        world.broken = PATIENCE - 1 if not world.broken and len(world.requests) < 8 else 0

    Pipeline(Cluster(server, account(tmp_path)), FixedClock(), sleep, lambda _: None).run(
        ["features"]
    )

    assert world.jobs[f"features-{STAMP}"]["status"]["jobStatus"] == "SUCCEEDED"


def test_pipeline_when_the_api_stays_away_then_it_gives_up(
    server: str, tmp_path: Path, world: World
) -> None:
    def sleep(_: float) -> None:
        world.broken = 1

    pipeline = Pipeline(Cluster(server, account(tmp_path)), FixedClock(), sleep, lambda _: None)

    with pytest.raises(ServiceUnreachable, match="currently unable"):
        pipeline.run(["features"])


def test_pipeline_when_old_copies_ended_then_the_newest_stay(
    pipeline: Pipeline, world: World
) -> None:
    stamps = [f"2025110{day}t030000" for day in range(1, 6)]
    old = [ended("features", stamp) for stamp in stamps]
    world.jobs |= {job["metadata"]["name"]: job for job in old}
    other = ended("train-trend", stamps[0])
    world.jobs[other["metadata"]["name"]] = other

    pipeline.run(["features"])

    kept = sorted(name for name in world.jobs if name.startswith("features-"))
    assert kept == [f"features-{stamps[3]}", f"features-{stamps[4]}", f"features-{STAMP}"]
    assert len(kept) == KEPT
    assert other["metadata"]["name"] in world.jobs


def test_cluster_when_the_api_has_the_clusters_certificate_then_it_is_trusted(
    tmp_path: Path, world: World
) -> None:
    folder = account(tmp_path)
    with serving(world, certificate(folder)) as address:
        assert Cluster(address, folder).get("features")["kind"] == "RayJob"


def test_cluster_when_somebody_else_answers_then_the_token_is_not_given_away(
    tmp_path: Path, world: World
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        account(folder)
    certificate(mine)
    refused = pytest.raises(ServiceUnreachable, match="certificate verify failed")
    with serving(world, certificate(other)) as address, refused:
        Cluster(address, mine).get("features")

    assert world.requests == []


def test_command_when_the_token_is_refused_then_it_says_so_and_exits_4(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = account(tmp_path, token="of-somebody-else")

    code = main(["features", "--server", server, "--account", str(folder)])

    assert code == 4
    assert "Unauthorized" in capsys.readouterr().err


def test_command_when_all_goes_well_then_it_tells_each_step_and_exits_0(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--server", server, "--account", str(account(tmp_path)), "--every", "0.01"]

    assert main(["features", *arguments]) == 0
    assert "Complete" in capsys.readouterr().out


def test_command_when_it_is_not_in_a_pod_then_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["features", "--account", str(tmp_path)]) == 2
    assert "run this in a pod" in capsys.readouterr().err
