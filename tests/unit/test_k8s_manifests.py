"""The rendered overlays against schemas, KubeRay's rules and what this house wants of a cluster."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from serving.cli import run
from serving.settings import load_settings
from serving.settings.names import from_environment
from tests.cluster_rules import (
    COMING,
    KUBERNETES,
    OLDEST,
    PIPELINE,
    builtin_problems,
    invalid,
    problems,
)
from tests.kuberay_rules import operator_problems
from tests.manifests import (
    K8S,
    OVERLAYS,
    ROOT,
    Object,
    kubectl,
    monitoring,
    named,
    of,
    one,
    pods,
    ray_cluster,
    references,
    rendered,
    secret_templates,
    selects,
)

both = pytest.mark.parametrize("overlay", OVERLAYS)
CLEANSED = "/mnt/data/var/data/02_cleansed/BTCUSDT-spot-5m.parquet"


@pytest.mark.long
@both
def test_overlay_when_it_is_rendered_then_every_object_fits_its_schema(overlay: str) -> None:
    objects = rendered(overlay)

    assert invalid(objects) == []
    assert len(objects) > 40


@pytest.mark.long
@both
def test_overlay_when_it_is_rendered_then_nothing_breaks_the_rules(overlay: str) -> None:
    assert problems(rendered(overlay)) == []


@pytest.mark.long
@both
def test_overlay_when_there_is_no_schema_then_builtin_kinds_and_the_operators_rules_are_checked(
    overlay: str,
) -> None:
    objects = rendered(overlay)
    rays = [body for body in objects if body["kind"] in ("RayService", "RayJob")]
    others = [body for body in objects if body not in rays]

    assert [p for body in rays for p in operator_problems(body)] == []
    assert [p for body in others for p in builtin_problems(body)] == []
    assert len(rays) == 8


@pytest.mark.long
@pytest.mark.parametrize("version", [OLDEST, KUBERNETES, kubernetes_validate.latest_version()])
def test_overlay_when_kubernetes_is_older_or_newer_then_builtin_kinds_fit_too(
    version: str,
) -> None:
    objects = [body for body in rendered("k3s-multi") if not body["kind"].startswith("Ray")]

    assert [p for body in objects for p in builtin_problems(body, version)] == []
    assert f"k3s {OLDEST}" in (ROOT / "docs" / "deployment.md").read_text()


@both
def test_overlay_when_settings_yaml_changes_then_the_objects_follow(
    overlay: str, tmp_path: Path
) -> None:
    """Kustomize is told another storage class, other schedules and another host."""
    subprocess.run(["cp", "-r", str(K8S), str(tmp_path / "k8s")], check=True)
    layer = "k3s-multi" if overlay == "k3s-store" else overlay  # it is that one, and a store
    settings = tmp_path / "k8s" / "overlays" / layer / "settings.yaml"
    text = settings.read_text()
    for before, after in (
        ("storageClass: local-path", "storageClass: longhorn"),
        ("retrainSchedule: 0 3 * * 0", "retrainSchedule: 0 3 * * *"),
        ('inferenceSchedule: "*/5 * * * *"', 'inferenceSchedule: "* * * * *"'),
        ("host: conclave.local", "host: conclave.example.org"),
    ):
        assert before in text
        text = text.replace(before, after)
    settings.write_text(text)
    program = kubectl()
    if program is None:
        pytest.skip("needs kubectl, which renders the overlays")
    told = subprocess.run(
        [program, "kustomize", str(settings.parent)], capture_output=True, text=True, check=True
    ).stdout

    assert "local-path" not in told
    assert told.count("storageClassName: longhorn") == 5
    assert "schedule: 0 3 * * *" in told
    assert "schedule: '* * * * *'" in told
    assert told.count("conclave.example.org") == 2


# Entry points


def entry_points(objects: list[Object]) -> dict[str, list[str]]:
    """What the images are asked to run: the words after ``conclave``."""
    found = {
        body["metadata"]["name"]: shlex.split(body["spec"]["entrypoint"])[1:]
        for body in of(objects, "RayJob")
    }
    for pod in pods(objects):
        first = pod.spec["containers"][0]
        if "conclave-infer" in first["image"] and "args" in first:
            found[pod.owner] = first["args"]
    return found


def is_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether the command line has a command with all these flags."""
    path = [word for word in words[:2] if re.fullmatch(r"[a-z][a-z-]+", word)]
    if run([*path, "--help"]) != 0:
        return False
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    return all(f"{flag} " in told for flag in words if flag.startswith("--"))


@pytest.mark.long
def test_entry_points_when_the_cluster_starts_them_then_the_command_line_has_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All but those that are named as coming; once there is a command, it must be scheduled too."""
    points = entry_points(rendered("k3s-single"))

    missing = {name for name, words in points.items() if not is_command(words, capsys)}

    assert missing == COMING
    assert set(points) == {*PIPELINE, "Deployment/conclave-desk", "CronJob/run-inference"}


def test_entry_points_when_they_train_then_on_the_bars_that_import_leaves() -> None:
    from data.store import BarStore

    config = one(rendered("k3s-single"), "ConfigMap", "conclave-config")["data"]
    store = BarStore(Path(config["VAR_DIR"]) / "data")

    stored = str(store.bars_path(config["SYMBOLS"], config["TIMEFRAME"]))

    assert stored == CLEANSED
    for name, words in entry_points(rendered("k3s-single")).items():
        if name.startswith("train-") and name not in COMING:
            assert words[words.index("--data") + 1] == stored


# Secrets and monitoring


def test_secret_templates_when_they_are_filled_in_then_they_fit_and_hold_no_value() -> None:
    templates = secret_templates()

    assert [p for body in templates for p in builtin_problems(body)] == []
    assert len(templates) == 5
    for body in templates:
        for name, value in body["stringData"].items():
            public = name in ("POSTGRES_USER", "POSTGRES_DB")
            assert public or "${" in value, f"{named(body)}: {name}"
            known = name == "auth_token" or name.startswith(("POSTGRES_", "REDIS_"))
            assert known or from_environment(name), f"{named(body)}: {name} is no setting"


def test_pod_monitors_when_they_select_pods_then_those_have_the_port() -> None:
    everything = list(pods(rendered("k3s-single")))
    for monitor in monitoring():
        chosen = [pod for pod in everything if selects(monitor["spec"]["selector"], pod.labels)]
        assert chosen, named(monitor)
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for pod in chosen:
                ports = {p["name"] for c in pod.spec["containers"] for p in c.get("ports", [])}
                assert endpoint["port"] in ports, f"{named(monitor)}: {pod.where}"


def test_pod_monitors_when_the_rules_know_a_job_then_it_is_called_so() -> None:
    rules = (ROOT / "configs" / "prometheus-rules.yml").read_text()
    jobs = set(re.findall(r'job="([^"]+)"', rules))
    called = {
        relabel["replacement"]
        for monitor in monitoring()
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
        for relabel in endpoint.get("relabelings", [])
    }

    assert jobs <= called


# The two overlays


def test_multi_when_it_is_compared_with_single_then_only_where_and_how_often_differs() -> None:
    def plain(overlay: str) -> dict[str, Object]:
        return {named(body): body for body in rendered(overlay)}

    single, multi = plain("k3s-single"), plain("k3s-multi")

    changed = {name for name in single if single[name] != multi[name]}

    assert set(single) == set(multi)
    assert changed == {
        "RayService/conclave", "Deployment/conclave-desk", "CronJob/run-inference"
    }  # fmt: skip


def test_multi_when_its_serve_config_is_compared_then_it_is_the_bases_doubled() -> None:
    single = one(rendered("k3s-single"), "RayService", "conclave")["spec"]["serveConfigV2"]
    multi = one(rendered("k3s-multi"), "RayService", "conclave")["spec"]["serveConfigV2"]

    assert multi == single.replace(
        "num_replicas: 1\n", "num_replicas: 2\n        max_replicas_per_node: 1\n"
    )


def test_multi_when_models_travel_in_the_image_then_serving_pods_look_there() -> None:
    service = one(rendered("k3s-multi"), "RayService", "conclave")
    worker = ray_cluster(service)["workerGroupSpecs"][0]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in worker["containers"][0]["env"]}

    assert env["MODELS_DIR"] == "/opt/models"
    assert "/opt/models" in (ROOT / "docker" / "Dockerfile.infer").read_text()
    assert not any("persistentVolumeClaim" in volume for volume in worker["volumes"])


def test_store_when_compared_with_multi_then_who_reads_models_has_key_way_and_copy() -> None:
    multi = {named(body): body for body in rendered("k3s-multi")}
    store = {named(body): body for body in rendered("k3s-store")}
    with_key = {
        pod.where
        for pod in pods(list(store.values()))
        if ("Secret", "conclave-objects") in references(pod.spec)
    }
    config = store["ConfigMap/conclave-config"]["data"]
    settings = load_settings(env=config, profile=None).data
    service = store["RayService/conclave"]
    worker = ray_cluster(service)["workerGroupSpecs"][0]["template"]["spec"]
    box = worker["containers"][0]
    mounts = {mount["mountPath"]: mount for mount in box["volumeMounts"]}

    assert set(store) - set(multi) == {"NetworkPolicy/objects"}
    assert settings.models_url == "s3://conclave/models"
    assert settings.models_endpoint is not None
    assert {where.split()[0] for where in with_key} == {
        "RayService/conclave", "Deployment/conclave-desk", "CronJob/run-inference",
        "RayJob/train-trend", "RayJob/train-return", "RayJob/train-risk", "RayJob/train-chronos",
        "RayJob/train-gate",
    }  # fmt: skip
    assert "MODELS_DIR" not in {entry["name"] for entry in box["env"]}
    assert not mounts["/mnt/models"].get("readOnly")
    assert {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}} in worker["volumes"]
