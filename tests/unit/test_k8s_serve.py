"""serveConfigV2 against Ray Serve's own schema and the application that it names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.serve._private.build_app import build_app
from ray.serve.schema import ServeDeploySchema

from serving.app import BuildArgs
from serving.plan import RunPlan
from serving.settings import load_settings
from tests.cluster_rules import serve_config
from tests.manifests import OVERLAYS, one, ray_cluster, rendered

both = pytest.mark.parametrize("overlay", OVERLAYS)


def application(overlay: str) -> dict[str, Any]:
    (only,) = serve_config(rendered(overlay))["applications"]
    return dict(only)


@both
def test_serve_config_when_ray_reads_it_then_it_understands_every_field(overlay: str) -> None:
    config = serve_config(rendered(overlay))

    read = ServeDeploySchema.model_validate(config).model_dump(exclude_unset=True)

    def unknown(given: Any, known: Any, where: str) -> list[str]:
        if isinstance(given, dict):
            missing = [f"{where}.{key}" for key in given if key not in known]
            return missing + [
                problem for key in given if key in known
                for problem in unknown(given[key], known[key], f"{where}.{key}")
            ]  # fmt: skip
        if isinstance(given, list):
            pairs = zip(given, known, strict=True)
            return [p for one_, two in pairs for p in unknown(one_, two, where)]
        return []

    assert unknown(config, read, "") == []


@both
def test_serve_config_when_the_application_is_built_then_its_deployments_are_named(
    overlay: str, tmp_path: Path
) -> None:
    app = application(overlay)
    module, _, name = app["import_path"].partition(":")
    plan = RunPlan(source="demo", world="w", profile="demo", speed=60.0).save(tmp_path)

    made = getattr(import_module(module), name)({"plan": str(plan), **app["args"]})

    built = {deployment.name for deployment in build_app(made, name="conclave").deployments}
    assert built == {deployment["name"] for deployment in app["deployments"]}
    assert app["route_prefix"] == "/"


@both
def test_serve_config_when_it_names_remote_agents_then_all_that_may_be_are(overlay: str) -> None:
    wanted = BuildArgs.model_validate(application(overlay)["args"])

    assert wanted.plan is None  # the settings of the pods say what runs
    assert wanted.remote == list(load_settings(env={}, profile=None).models.remote)


@both
def test_ray_version_when_images_are_built_then_it_is_the_pinned_one(overlay: str) -> None:
    for kind, name in (("RayService", "conclave"), ("RayJob", "features")):
        cluster = ray_cluster(one(rendered(overlay), kind, name))
        assert cluster["rayVersion"] == ray.__version__


def test_settings_when_a_serving_pod_reads_them_then_they_are_valid() -> None:
    """The ConfigMap and the environment of a worker, with Secrets filled in."""
    objects = rendered("k3s-single")
    worker = ray_cluster(one(objects, "RayService", "conclave"))["workerGroupSpecs"][0]
    env = dict(one(objects, "ConfigMap", "conclave-config")["data"])
    for entry in worker["template"]["spec"]["containers"][0]["env"]:
        env[entry["name"]] = entry.get("value", "0123456789abcdef")
    env["DATABASE_URL"] = "postgresql+psycopg://conclave:pw@conclave-postgres:5432/conclave"

    settings = load_settings(env=env, profile="demo")

    assert settings.serving.api_host == "0.0.0.0"
    assert settings.data.source == "demo"
    assert settings.data.models_dir == Path("/mnt/models")


def test_settings_when_the_desk_reads_them_then_it_finds_the_serve_service() -> None:
    objects = rendered("k3s-single")
    env = dict(one(objects, "ConfigMap", "conclave-config")["data"])
    spec = one(objects, "Deployment", "conclave-desk")["spec"]["template"]["spec"]
    (desk,) = spec["containers"]
    for entry in desk["env"]:
        env[entry["name"]] = entry.get("value", "0123456789abcdef")
    env["DATABASE_URL"] = "postgresql+psycopg://conclave:pw@conclave-postgres:5432/conclave"

    settings = load_settings(env=env, profile="demo")

    service = f"{one(objects, 'RayService', 'conclave')['metadata']['name']}-serve-svc"
    assert settings.serving.serve_url == f"http://{service}:8000"
    assert settings.serving.desk_port == desk["ports"][0]["containerPort"]
