"""The two compose files: their schema, what they start, and how little each service may do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.cli import run
from serving.settings.names import from_environment
from tests.cluster_rules import COMING, PIPELINE, serve_config
from tests.image_files import ROOT
from tests.manifests import rendered

FILES = ("compose.yaml", "compose.pipeline.yaml")
TAG = re.compile(r"[\w./:-]+:(v?\d+(\.\d+)+[\w.-]*|\$\{TAG:-\d+(\.\d+)+\})")
CHECK = Path(sys.executable).parent / "check-jsonschema"
# What a service may be told beside our settings.
FOREIGN = re.compile(r"POSTGRES_\w+|REDIS_PASSWORD|GF_\w+|RAY_\w+")


def compose(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / name).read_text()))


def services(name: str) -> dict[str, dict[str, Any]]:
    return dict(compose(name)["services"])


every = pytest.mark.parametrize(
    ("file", "service"), [(file, service) for file in FILES for service in services(file)]
)


@pytest.mark.parametrize("file", FILES)
def test_compose_when_its_schema_is_checked_then_it_fits(file: str) -> None:
    done = subprocess.run(
        [CHECK, "--builtin-schema", "vendor.compose-spec", ROOT / file],
        capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


def test_compose_when_it_is_up_then_these_services_run() -> None:
    told = services("compose.yaml")
    always = {name for name, service in told.items() if "profiles" not in service}
    cluster = {name for name, service in told.items() if service.get("profiles") == ["cluster"]}

    assert always == {"conclave", "postgres", "prometheus", "grafana"}
    assert cluster == {"redis", "head", "agents", "deploy", "desk"}
    assert always | cluster == set(told)


def test_cluster_when_it_is_deployed_then_as_on_kubernetes() -> None:
    here = yaml.safe_load((ROOT / "configs" / "serve.yml").read_text())

    assert here == serve_config(rendered("k3s-single"))


def test_cluster_when_processes_are_apart_then_they_find_one_another() -> None:
    told = services("compose.yaml")
    (app,) = yaml.safe_load((ROOT / "configs" / "serve.yml").read_text())["applications"]
    wanted = sum(one["ray_actor_options"]["num_cpus"] for one in app["deployments"])

    assert told["head"]["environment"]["RAY_REDIS_ADDRESS"] == "redis:6379"
    assert "--num-cpus=0" in told["head"]["command"][0]
    assert "--address=head:6379" in told["agents"]["entrypoint"]
    assert "--num-cpus=2" in told["agents"]["entrypoint"]
    assert wanted <= 2
    assert told["desk"]["environment"]["SERVE_URL"] == "http://agents:8000"


@every
def test_service_when_it_runs_then_without_privileges(file: str, service: str) -> None:
    told = services(file)[service]

    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert told["read_only"] is True
    assert told["user"].split(":")[0] not in ("0", "root")
    assert "privileged" not in told
    assert "mem_limit" in told


@every
def test_service_when_it_has_an_image_then_its_tag_is_exact(file: str, service: str) -> None:
    assert TAG.fullmatch(services(file)[service]["image"])


@every
def test_service_when_it_ends_then_its_restart_is_decided(file: str, service: str) -> None:
    steps = file == "compose.pipeline.yaml"

    usual = "on-failure" if service == "deploy" else "unless-stopped"
    assert services(file)[service]["restart"] == ("no" if steps else usual)


@every
def test_service_when_it_publishes_a_port_then_on_loopback(file: str, service: str) -> None:
    for port in services(file)[service].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@every
def test_service_when_it_mounts_then_the_source_is_there(file: str, service: str) -> None:
    volumes = compose(file)["volumes"]
    for mount in services(file)[service].get("volumes", []):
        source = re.sub(r"\$\{\w+:-(.+?)\}", r"\1", mount).split(":")[0]
        if source == "./var/bars":  # the user's own
            continue
        assert (ROOT / source).exists() if source.startswith(".") else source in volumes, mount


@every
def test_service_when_it_is_told_something_then_it_is_a_setting(file: str, service: str) -> None:
    for name, value in services(file)[service].get("environment", {}).items():
        assert from_environment(name) or FOREIGN.fullmatch(name), name
        if re.search(r"TOKEN|PASSWORD|DATABASE_URL", name):
            assert "${" in value, f"{name} must come from outside"


@every
def test_service_when_it_is_built_then_from_a_dockerfile_with_its_arguments(
    file: str, service: str
) -> None:
    build = services(file)[service].get("build")
    if build is None:
        return
    text = (ROOT / build["dockerfile"]).read_text()

    kind = build["dockerfile"].rpartition(".")[2]
    assert services(file)[service]["image"].startswith(f"conclave-{kind}:")
    for argument in build["args"]:
        assert re.search(rf"^ARG {argument}\b", text, re.MULTILINE), argument


@every
def test_service_when_it_waits_for_another_then_that_can_be_waited_for(
    file: str, service: str
) -> None:
    known = services(file)
    for name, how in known[service].get("depends_on", {}).items():
        assert name in known
        if how["condition"] == "service_healthy":
            assert "healthcheck" in known[name]


def test_database_when_it_is_reached_then_from_inside_only() -> None:
    told = services("compose.yaml")
    networks = compose("compose.yaml")["networks"]

    assert networks["inside"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert told[name]["networks"] == ["inside"]
        assert "ports" not in told[name]


def test_secrets_when_they_are_needed_then_compose_env_makes_them(tmp_path: Path) -> None:
    text = (ROOT / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "compose_env.sh"
    script.write_text((ROOT / "scripts" / "compose_env.sh").read_text())

    first = subprocess.run(["bash", script], capture_output=True, text=True, check=True)
    made = tmp_path / "var" / "compose.env"
    before = made.read_text()
    again = subprocess.run(["bash", script], capture_output=True, text=True, check=True)

    values = dict(line.split("=") for line in before.splitlines())
    assert set(values) == needed
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values.values())
    assert len(set(values.values())) == len(values)
    assert made.stat().st_mode & 0o777 == 0o600
    assert made.read_text() == before
    assert not any(value in first.stdout + again.stdout for value in values.values())


def test_prometheus_when_it_scrapes_then_what_compose_starts_and_mounts() -> None:
    config = yaml.safe_load((ROOT / "configs" / "prometheus.yml").read_text())
    told = services("compose.yaml")["prometheus"]
    inside = {mount.split(":")[1] for mount in told["volumes"]}
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}

    assert jobs["conclave"]["static_configs"] == [{"targets": ["conclave:8000"]}]
    token = jobs["conclave"]["authorization"]["credentials_file"]
    assert token in {secret["target"] for secret in told["secrets"]}
    assert set(config["rule_files"]) <= inside
    (found,) = jobs["ray"]["file_sd_configs"][0]["files"]
    assert found.startswith("/tmp/ray/")
    assert "ray:/tmp/ray" in services("compose.yaml")["conclave"]["volumes"]
    assert "ray:/tmp/ray:ro" in told["volumes"]


def test_prometheus_when_promtool_reads_its_files_then_they_are_valid() -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool")
    config = ROOT / "configs" / "prometheus.yml"

    done = subprocess.run(
        [program, "check", "config", "--syntax-only", config], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_when_it_starts_then_it_finds_prometheus_and_the_board() -> None:
    folder = ROOT / "docker" / "grafana"
    (source,) = yaml.safe_load((folder / "datasources.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards.yml").read_text())["providers"]
    mounts = dict(m.split(":")[:2] for m in services("compose.yaml")["grafana"]["volumes"])

    assert source["url"] == "http://prometheus:9090"
    assert mounts["./configs/grafana"] == provider["options"]["path"]
    assert list((ROOT / "configs" / "grafana").glob("*.json"))


# The pipeline


def test_pipeline_when_its_steps_are_listed_then_there_is_a_service_for_each() -> None:
    assert set(services("compose.pipeline.yaml")) == {*PIPELINE, "import", "run-inference"}


def test_pipeline_when_a_step_starts_then_the_command_line_has_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = set()
    for name, told in services("compose.pipeline.yaml").items():
        words = told["command"]
        path = [word for word in words[:2] if re.fullmatch(r"[a-z][a-z-]+", word)]
        known = run([*path, "--help"]) == 0
        text = re.sub(r"\s+", " ", capsys.readouterr().out)
        if not known or any(f"{w} " not in text for w in words if w.startswith("--")):
            missing.add(name)

    assert missing == COMING


def test_pipeline_when_a_step_fails_then_none_after_it_begins() -> None:
    told = services("compose.pipeline.yaml")
    before: dict[str, set[str]] = {}
    for name in ("import", "features", "train-trend", "train-return", "train-risk"):
        waits = told[name].get("depends_on", {})
        before[name] = set(waits).union(*(before[other] for other in waits))
        assert all(how == {"condition": "service_completed_successfully"} for how in waits.values())

    assert before["train-risk"] == {"import", "features", "train-trend", "train-return"}
    assert set(told["run-inference"]["depends_on"]) == {"train-risk"}


def test_pipeline_when_it_has_no_business_outside_then_it_has_no_network() -> None:
    online = {
        name for name, told in services("compose.pipeline.yaml").items()
        if told["network_mode"] != "none"
    }  # fmt: skip

    assert online == {"fetch"}
