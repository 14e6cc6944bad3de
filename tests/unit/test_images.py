"""The Dockerfiles: what they take, whom they run as, and whether it starts from what they take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.image_files import (
    DOCKERFILES,
    ROOT,
    copies,
    ignored,
    lay_out,
    lines,
    project_files,
)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = {
    name.rstrip("*") for name in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
}
each = pytest.mark.parametrize("name", DOCKERFILES)
HADOLINT = Path(sys.executable).parent / "hadolint"


@each
def test_dockerfile_when_it_is_linted_then_nothing_is_found(name: str) -> None:
    done = subprocess.run(
        [HADOLINT, "--no-color", DOCKERFILES[name]], capture_output=True, text=True
    )

    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@each
def test_dockerfile_when_it_copies_then_every_source_is_there_and_reaches_the_builder(
    name: str,
) -> None:
    for source, _ in copies(DOCKERFILES[name]):
        assert (ROOT / source).exists(), source
        assert list(project_files(source)), f"{source} is kept out by .dockerignore"


@each
def test_dockerfile_when_it_copies_packages_then_all_of_them_and_nothing_else(name: str) -> None:
    sources = {source.rstrip("/") for source, _ in copies(DOCKERFILES[name])}

    assert sources == PACKAGES | {"configs", "pyproject.toml", "constraints.txt"}


@each
def test_dockerfile_when_it_builds_then_tools_stay_behind_and_versions_are_exact(name: str) -> None:
    told = lines(DOCKERFILES[name])
    stages = [line.value for line in told if line.name == "FROM"]
    arguments = dict(
        line.value.split("=", 1) for line in told if line.name == "ARG" and "=" in line.value
    )

    assert len(stages) >= 2
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", arguments["PYTHON_IMAGE"])
    assert arguments["TORCH"] == "cpu"
    final = [line for line in told if line.stage == name]
    assert not any("pip install" in line.value for line in final)
    assert not any(line.name == "ADD" for line in told)
    installs = re.findall(r"pip install ([^&;\\]+)", DOCKERFILES[name].read_text())
    pinned = ("-c constraints.txt", "==", "--no-deps")
    assert all(any(word in line for word in pinned) for line in installs), installs


@each
def test_dockerfile_when_it_runs_then_not_as_root_and_with_what_kuberay_probes_with(
    name: str,
) -> None:
    final = [line for line in lines(DOCKERFILES[name]) if line.stage == name]

    assert [line.value for line in final if line.name == "USER"] == ["1000:1000"]
    packages = next(line.value for line in final if "apt-get install" in line.value)
    assert re.search(r"\bwget\b", packages)  # bash is Debian's own
    assert final[-2].value == '["tini", "--", "conclave"]'
    assert not any(
        re.search(r"TOKEN|PASSWORD|SECRET", line.value)
        for line in final
        if line.name in ("ENV", "ARG")
    )


@each
def test_dockerfile_when_it_installs_extras_then_the_project_has_them(name: str) -> None:
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', DOCKERFILES[name].read_text())

    assert set(extras.split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])
    assert "postgres" in extras


@each
def test_dockerfile_when_folders_are_set_then_they_are_settings(name: str) -> None:
    from serving.settings.names import from_environment

    env = next(line.value for line in lines(DOCKERFILES[name])
               if line.name == "ENV" and "VAR_DIR" in line.value)  # fmt: skip
    names = dict(word.split("=", 1) for word in env.split() if "=" in word)

    for setting in ("VAR_DIR", "DATA_DIR_RAW", "DATA_DIR_PROCESSED", "MODELS_DIR", "LOGS_DIR"):
        assert from_environment(setting)
        assert names[setting].startswith("/mnt/")


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", "var/ledger.db", "tests/conftest.py", "docs/trials.csv",
     "agents/.env", "serving/__pycache__/cli.cpython-311.pyc", "k8s/secrets/api.yaml"],
)  # fmt: skip
def test_dockerignore_when_a_file_is_none_of_the_images_then_it_stays_out(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize("path", ["data/store.py", "serving/cli.py", "configs/default.yaml"])
def test_dockerignore_when_a_file_belongs_to_the_images_then_it_goes_in(path: str) -> None:
    assert not ignored(path)


# Started from a copy of exactly these files


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(DOCKERFILES["infer"], tmp_path_factory.mktemp("image") / "app")


def start(app: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VAR_DIR")}
    env |= {"PYTHONPATH": str(app), "VAR_DIR": str(app.parent / "var"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        cwd=app, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ("up",),
        ("desk",),
        ("run-inference",),
        ("data", "import"),
        ("data", "features"),
        ("train", "trend"),
        ("train", "return"),
        ("train", "risk"),
        ("train", "chronos"),
        ("models", "promote"),
    ],
    ids="-".join,
)
def test_image_when_an_entry_point_starts_from_its_files_then_it_is_there(
    laid_out: Path, words: tuple[str, ...]
) -> None:
    done = start(laid_out, "-m", "serving.cli", *words, "--help")

    assert done.returncode == 0, done.stderr
    assert f"conclave {' '.join(words)}" in done.stdout


@pytest.mark.slow
def test_image_when_everything_is_imported_from_its_files_then_nothing_is_missing(
    laid_out: Path,
) -> None:
    """Every module of every package, and each of them from the copy."""
    code = """
import importlib, pkgutil, sys
from pathlib import Path
root = Path(sys.argv[1])
for name in sys.argv[2:]:
    package = importlib.import_module(name)
    assert Path(package.__file__).is_relative_to(root), package.__file__
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        if "migrations" not in found.name:
            importlib.import_module(found.name)
from serving.settings import load_settings, profiles
for profile in profiles():
    load_settings(env={}, profile=profile)
print(len(profiles()))
"""
    done = start(laid_out, "-c", code, str(laid_out), *sorted(PACKAGES))

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5


@pytest.mark.long
def test_image_when_models_ship_then_they_are_among_its_files(laid_out: Path) -> None:
    shipped = {p.name for p in (laid_out / "agents" / "weights").iterdir()}
    told = start(laid_out, "-m", "serving.cli", "models", "list")

    assert {"baseline", "chronos", "tft"} <= shipped
    assert told.returncode == 0, told.stderr


@pytest.mark.long
def test_image_when_bars_are_imported_then_its_files_suffice(
    laid_out: Path, tmp_path: Path
) -> None:
    """The pipeline's first steps as the cluster starts them, on bars of the simulated market."""
    bars = tmp_path / "BTCUSDT-demo-spot-5m.parquet"
    made = start(ROOT, "scripts/demo_bars.py", str(bars), "--days", "12")
    assert made.returncode == 0, made.stderr

    imported = start(laid_out, "-m", "serving.cli", "data", "import", str(bars))
    featured = start(laid_out, "-m", "serving.cli", "data", "features", "BTC/USDT")

    assert imported.returncode == 0, imported.stderr
    assert featured.returncode == 0, featured.stderr
    assert (laid_out.parent / "var/data/02_cleansed/BTCUSDT-spot-5m.parquet").is_file()
