"""The scripts: linted, helpful, harmless with --dry-run, and what they ask other programs to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.manifests import (
    OVERLAYS,
    ROOT,
    documents,
    kubectl,
    named,
    rendered,
    secret_templates,
)
from tests.venue_server import markets, venue

SCRIPTS = ROOT / "scripts"
BASH = sorted(path for path in SCRIPTS.glob("*.sh") if "bash" in path.read_text().splitlines()[0])
SHELLCHECK = Path(sys.executable).parent / "shellcheck"
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
assert VERSION is not None
TAG = VERSION[1]


def script(
    name: str, *words: str, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPTS / name), *words],
        capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})},
    )  # fmt: skip


@pytest.mark.parametrize(
    "path", [*sorted(SCRIPTS.glob("*.sh")), ROOT / ".ci" / "run"], ids=lambda path: path.name
)
def test_script_when_it_is_linted_then_nothing_is_found(path: Path) -> None:
    done = subprocess.run([SHELLCHECK, path], capture_output=True, text=True)

    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("path", BASH, ids=lambda path: path.name)
def test_script_when_help_is_asked_for_then_it_shows_every_flag_it_knows(path: Path) -> None:
    told = script(path.name, "--help")
    known = set(re.findall(r"^  (--[a-z0-9-]+)", path.read_text(), re.MULTILINE))

    assert told.returncode == 0
    assert known - {"--help"}
    assert [flag for flag in known if flag not in told.stdout] == []
    assert f"scripts/{path.name}" in told.stdout


@pytest.mark.parametrize("path", BASH, ids=lambda path: path.name)
def test_script_when_a_flag_is_unknown_then_it_does_nothing_and_exits_2(path: Path) -> None:
    told = script(path.name, "--dri-run")

    assert told.returncode == 2
    assert "--dri-run" in told.stderr
    assert told.stdout == ""


@pytest.mark.parametrize("path", BASH, ids=lambda path: path.name)
def test_script_when_it_is_shipped_then_it_can_be_run(path: Path) -> None:
    assert os.access(path, os.X_OK)


DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "deployment.md")
MADE = re.compile(r"create secret generic ([a-z][a-z-]+)")
COMMANDS = sorted(
    {
        line.split("  #")[0].strip()
        for document in DOCUMENTS
        for block in re.findall(r"^```sh\n(.*?)^```$", document.read_text(), re.M | re.S)
        for line in block.replace("\\\n", " ").splitlines()
    }
)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("scripts/")])
def test_document_when_it_shows_a_script_then_its_flags_are_known(line: str) -> None:
    path, *words = line.split()

    told = script(Path(path).name, "--help").stdout

    assert [word for word in words if word.startswith("--") and word not in told] == []


def test_document_when_it_asks_kubectl_for_something_then_that_is_in_the_cluster() -> None:
    made = {named(body).lower() for body in rendered("k3s-single")}
    made |= {f"secret/{body['metadata']['name']}" for body in secret_templates()}
    made |= {"service/conclave-serve-svc", "service/conclave-head-svc"}  # by the operator
    short = {"svc": "service", "deploy": "deployment"}
    # What is made by hand must be of use to somebody.
    wanted = str(rendered("k3s-store"))
    made |= {f"secret/{name}" for name in re.findall(MADE, "\n".join(COMMANDS)) if name in wanted}
    asked = set()
    for line in (line for line in COMMANDS if line.startswith("kubectl")):
        line = line.replace("secret generic ", "secret ")
        pairs = re.findall(r"\b(svc|deploy|deployment|cronjob|secret)[/ ]([a-z][a-z-]+)", line)
        asked |= {f"{short.get(kind, kind)}/{name}" for kind, name in pairs}

    assert len(asked) >= 5
    assert asked - made == set()


# Programs that note what they are asked


def recorder(folder: Path, name: str, answers: str = "") -> Path:
    """Put a program into a folder that writes its arguments and its input to a file beside it."""
    folder.mkdir(exist_ok=True)
    log = folder / f"{name}.log"
    program = folder / name
    program.write_text(
        f"""#!/usr/bin/env bash
printf '%s\\n' "$*" >> {log}
{answers}
if [[ "$*" == *"-f -"* ]]; then {{ cat; echo ---; }} >> {folder}/input.yaml; fi
exit 0
"""
    )
    program.chmod(0o755)
    return log


def beside(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


# build_and_push.sh


def test_build_when_it_is_dry_then_both_images_are_built_and_pushed() -> None:
    told = script("build_and_push.sh", "--registry", "r.example:5000", "--dry-run").stdout
    commands = [line[2:] for line in told.splitlines() if line.startswith("+ ")]

    assert [line.split()[1] for line in commands] == ["build", "push", "build", "push"]
    for kind in ("infer", "train"):
        image = f"r.example:5000/conclave-{kind}:{TAG}"
        assert any(f"docker/Dockerfile.{kind}" in line and image in line for line in commands)
        assert f"docker push {image}" in commands


def test_build_when_it_runs_then_docker_is_asked_for_exactly_that(tmp_path: Path) -> None:
    log = recorder(tmp_path / "bin", "docker")
    models = tmp_path / "models"
    models.mkdir()

    done = script(
        "build_and_push.sh", "--registry", "r", "--tag", "7.1", "--torch", "cuda",
        "--models", str(models), env=beside(tmp_path / "bin"),
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    asked = log.read_text().splitlines()
    assert len(asked) == 4
    assert f"--build-context models={models}" in asked[0]
    assert "--build-context" not in asked[2]  # models are for those who decide
    assert "--build-arg TORCH=cuda" in asked[0]
    assert re.search(r"--build-arg GIT_COMMIT=([0-9a-f]{40}|unknown)", asked[0])
    assert asked[1] == "push r/conclave-infer:7.1"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "needs --registry"),
        (("--registry",), "needs a value"),
        (("--k3s", "--torch", "rocm"), "cpu or cuda"),
        (("--k3s", "--models", "/no/such/folder"), "no folder"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_build_when_flags_make_no_sense_then_it_says_which(
    words: tuple[str, ...], told: str
) -> None:
    done = script("build_and_push.sh", *words, "--dry-run")

    assert done.returncode == 2
    assert told in done.stderr


# k8s_apply_all.sh


@pytest.mark.long
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_apply_when_it_is_dry_then_it_prints_what_would_be_applied(overlay: str) -> None:
    if kubectl() is None:
        pytest.skip("needs kubectl, which renders the overlays")
    told = script(
        "k8s_apply_all.sh", "--overlay", overlay, "--registry", "r:5000", "--tag", "7", "--dry-run"
    )
    assert told.returncode == 0, told.stderr
    start = told.stdout.index("apiVersion:")
    objects = documents(told.stdout[start:])
    names = {named(body) for body in objects}

    assert "RayService/conclave" in names
    assert "PodMonitor/conclave-api" in names
    (rules,) = [body for body in objects if body["kind"] == "PrometheusRule"]
    shipped = documents((ROOT / "configs" / "prometheus-rules.yml").read_text())
    assert [rules["spec"]] == shipped
    images = set(re.findall(r"image: (\S+)", told.stdout))
    assert images == {
        "r:5000/conclave-infer:7", "r:5000/conclave-train:7",
        "postgres:17.6-bookworm", "redis:7.4.6-bookworm",
    }  # fmt: skip
    assert "secret conclave-database: would be made" in told.stdout


# `kubectl kustomize` is the real one; the cluster is a record of what was asked.
CLUSTER = """
case "$*" in
kustomize*) exec "$REAL_KUBECTL" "$@" ;;
"get crd "*monitoring*) exit 1 ;;
"get nodes"*) echo node/one ;;
"-n ml get secret conclave-redis") ;;
"-n ml get secret "*) exit 1 ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    real = kubectl()
    if real is None:
        pytest.skip("needs kubectl, which renders the overlays")
    recorder(tmp_path / "bin", "kubectl", CLUSTER.replace("$REAL_KUBECTL", real))
    return tmp_path / "bin"


def test_apply_when_it_runs_then_in_order_and_secrets_pass_by_no_argument(cluster: Path) -> None:
    done = script("k8s_apply_all.sh", "--overlay", "k3s-single", env=beside(cluster))
    assert done.returncode == 0, done.stderr
    asked = (cluster / "kubectl.log").read_text().splitlines()
    given = documents((cluster / "input.yaml").read_text())

    def place(words: str) -> int:
        return next(i for i, line in enumerate(asked) if words in line)

    assert place("k8s/base/namespace.yaml") < place("create -f -") < place("apply --server-side")
    assert place("apply --server-side") < place("rollout status")
    made = {body["metadata"]["name"]: body for body in given if body["kind"] == "Secret"}
    assert set(made) == {"conclave-api", "conclave-database", "conclave-ray-token"}
    password = made["conclave-database"]["stringData"]["POSTGRES_PASSWORD"]
    assert (
        f":{password}@conclave-postgres:" in made["conclave-database"]["stringData"]["DATABASE_URL"]
    )
    values = {v for body in made.values() for v in body["stringData"].values() if v != "conclave"}
    assert all(re.search(r"[0-9a-f]{48}", value) for value in values)
    assert not any(value in line for value in values for line in asked)
    assert not any(value in done.stdout + done.stderr for value in values)
    assert "secret conclave-redis: is there, left alone" in done.stdout
    assert "secret conclave-telegram: left out" in done.stdout
    assert "RayService/conclave" in {named(body) for body in given}


def test_apply_when_telegram_is_in_the_environment_then_its_secret_is_made(cluster: Path) -> None:
    env = {**beside(cluster), "TELEGRAM_BOT_TOKEN": "12:ab&c", "TELEGRAM_CHAT_ID": "-100200"}

    done = script("k8s_apply_all.sh", "--overlay", "k3s-single", "--no-wait", env=env)

    assert done.returncode == 0, done.stderr
    (secret,) = [
        body for body in documents((cluster / "input.yaml").read_text())
        if body["metadata"]["name"] == "conclave-telegram"
    ]  # fmt: skip
    assert secret["stringData"] == {"TELEGRAM_BOT_TOKEN": "12:ab&c", "TELEGRAM_CHAT_ID": "-100200"}
    assert "rollout" not in (cluster / "kubectl.log").read_text()


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ('[[ "$*" == "get crd rayservices.ray.io" ]] && exit 1', "no KubeRay operator"),
        ("", "kubectl label node NAME role=ml"),
    ],
    ids=["without-operator", "without-a-node-for-training"],
)
def test_apply_when_the_cluster_is_not_ready_then_nothing_is_applied(
    tmp_path: Path, answers: str, told: str
) -> None:
    log = recorder(tmp_path / "bin", "kubectl", answers)

    done = script("k8s_apply_all.sh", "--overlay", "k3s-single", env=beside(tmp_path / "bin"))

    assert done.returncode == 2
    assert told in done.stderr
    assert "apply" not in log.read_text()
    assert "create" not in log.read_text()


def test_apply_when_the_overlay_is_unknown_then_the_known_ones_are_named() -> None:
    done = script("k8s_apply_all.sh", "--overlay", "k3s-double", "--dry-run")

    assert done.returncode == 2
    assert "k3s-multi k3s-single" in done.stderr


# bootstrap_local.sh and run_pipeline_local.sh


def test_bootstrap_when_it_is_dry_then_it_tells_its_steps_and_writes_nothing(
    tmp_path: Path,
) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(tmp_path.rglob("*"))

    done = subprocess.run(
        ["bash", str(tmp_path / "scripts" / "bootstrap_local.sh"), "--dev", "--dry-run"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "+ sh scripts/setup.sh dev" in done.stdout
    assert "+ install -m 600 .env.example .env" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_pipeline_when_it_is_dry_then_its_steps_are_in_order() -> None:
    told = script("run_pipeline_local.sh", "--demo", "--model", "tft", "--promote", "--dry-run")
    steps = [line[3:] for line in told.stdout.splitlines() if line.startswith("== ")]

    assert steps == [
        "bars: the simulated market", "import", "features", "train trend", "train return",
        "train risk", "promote tft/trend", "promote tft/return", "promote tft/risk",
        "run-inference",
    ]  # fmt: skip
    assert "train trend --model tft --data" in told.stdout
    fetching = script("run_pipeline_local.sh", "--dry-run").stdout
    assert "+ .venv/bin/conclave data fetch --symbol BTC/USDT --timeframe" in fetching
    assert "== import" not in fetching


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model", "lstm"), "baseline or tft"),
        (("--data", "/no/such.parquet"), "no file"),
        (("--data", "x", "--demo"), "not both"),
    ],
    ids=["model", "file", "both"],
)
def test_pipeline_when_flags_make_no_sense_then_it_says_which(
    words: tuple[str, ...], told: str
) -> None:
    done = script("run_pipeline_local.sh", *words)

    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pipeline_when_there_is_no_file_then_it_fetches_from_the_exchange(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "conclave"
    with venue(made=markets(30)) as url:
        env = {
            "CONCLAVE": str(program), "VAR_DIR": str(tmp_path / "var"), "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(ROOT), "EXCHANGE_URL": url,
        }  # fmt: skip
        done = script("run_pipeline_local.sh", "--days", "25", "--promote", env=env, timeout=800)

    assert done.returncode == 0, done.stderr
    assert "7,200" in done.stdout
    assert re.search(r"^(LONG|SHORT|NO_TRADE) BTC/USDT 5m as of 2025-01-31", done.stdout, re.M)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pipeline_when_it_runs_on_the_simulated_market_then_it_ends_with_a_decision(
    tmp_path: Path,
) -> None:
    program = Path(sys.executable).parent / "conclave"
    env = {
        "CONCLAVE": str(program), "VAR_DIR": str(tmp_path / "var"), "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip

    words = ("--demo", "--days", "40", "--promote")
    done = script("run_pipeline_local.sh", *words, env=env, timeout=800)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^(LONG|SHORT|NO_TRADE) BTC/USDT 5m as of 2024-02-10", done.stdout, re.M)
    assert list(
        (tmp_path / "var" / "demo-pipeline" / "models" / "baseline" / "trend").glob("*/card.json")
    )


# systemd


def test_unit_when_systemd_reads_it_then_it_understands_every_line(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    text = (SCRIPTS / "conclave.service").read_text()
    here = text.replace("/opt/conclave/.venv/bin/conclave", "/bin/true")
    unit = tmp_path / "conclave.service"
    unit.write_text(re.sub(r"^(User|Group)=.*$", r"\1=root", here, flags=re.MULTILINE))

    done = subprocess.run([program, "verify", unit], capture_output=True, text=True)

    assert done.stderr == ""
    assert done.returncode == 0


def test_unit_when_it_runs_then_it_can_write_to_its_own_folder_alone() -> None:
    text = (SCRIPTS / "conclave.service").read_text()
    told = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] not in "#["
    )

    assert told["ProtectSystem"] == "strict"
    assert told["NoNewPrivileges"] == "true"
    assert told["CapabilityBoundingSet"] == ""
    assert told["User"] == "conclave"
    assert told["Restart"] == "on-failure"
    assert "ReadWritePaths" not in told
    assert f"VAR_DIR=/var/lib/{told['StateDirectory']}" in text
