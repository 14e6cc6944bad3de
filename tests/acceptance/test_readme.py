"""What the README and the documents claim, held against the system that is there."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domain.times import parse_iso
from serving.cli import run
from serving.routes import PARTS
from serving.settings import FLAT, load_settings, profiles
from serving.settings.models import AGENTS
from serving.settings.names import from_environment
from sim.worlds import DEMO, GeneratedWorld
from tests.acceptance.running import ROOT, Running, conclave, start

README = (ROOT / "README.md").read_text(encoding="utf-8")
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKE_VARIABLES = {"ARGS", "HOURS", "PYTHON", "PIP_ARGS"}
GROUPS = (
    "data",
    "train",
    "gate",
    "scenario",
    "models",
    "ledger",
    "live",
    "journal",
    "proposals",
    "jobs",
    "token",
)  # of commands
BARS_FILE = "BTCUSDT-binance-spot-5m-2025.parquet"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shell_lines(text: str = README) -> list[str]:
    """Every line of the fenced shell blocks, comments and continuations resolved."""
    blocks = [body for language, body in FENCE.findall(text) if language == "sh"]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def commands() -> list[str]:
    """Every ``conclave …`` in a shell block or in inline code, without variables before it."""
    inline = re.findall(r"`((?:conclave|up) [^`\n]*)`", README)
    found = [re.sub(r"^([A-Z_]+=\S+ )+", "", line) for line in shell_lines()]
    found += [line if line.startswith("conclave") else f"conclave {line}" for line in inline]
    return sorted({line for line in found if line.startswith("conclave ")})


def section(title: str) -> str:
    """The text below a heading, up to the next."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def shown(name: str) -> list[str]:
    """The pieces of the output block that is marked with a name; ``…`` stands between them."""
    body = README.split(f"<!-- shown: {name} -->\n```text\n")[1].split("\n```")[0]
    return [unwrapped(piece) for piece in body.split("\n…\n")]


def unwrapped(text: str) -> str:
    """The text as if the terminal had been wide enough, runs of blanks as one."""
    return re.sub(r"\s+", " ", text).strip()


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated bars under the README's file names, 2025-02-01 to 2025-03-14."""
    folder = tmp_path_factory.mktemp("bars")
    world = GeneratedWorld(DEMO, 3, "BTC/USDT", "5m", parse_iso("2025-02-01"))
    frame = world.bars(parse_iso("2025-02-01"), 41 * 288)
    names = ("ts", "open", "high", "low", "close", "volume")
    table = pa.table({name: getattr(frame, name) for name in names})
    pq.write_table(table, folder / BARS_FILE)
    pq.write_table(table, folder / BARS_FILE.replace("spot", "perp"))
    return folder


def execute(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one line of the README in a folder, as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *shlex.split(line)[1:]],
        capture_output=True, text=True, timeout=200, cwd=folder,
        env={**os.environ, "VAR_DIR": "var", "API_PORT": "0"},
    )  # fmt: skip


def test_readme_when_it_names_commands_then_there_are_enough_to_check() -> None:
    assert len(commands()) > 30


@pytest.mark.parametrize("line", commands())
def test_readme_when_it_names_a_command_then_it_exists_with_its_flags(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(line)[1:]
    path = words[:2] if words[0] in GROUPS else words[:1]

    assert run([*path, "--help"]) == 0

    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    for flag in (word for word in words if word.startswith("--")):
        assert f" {flag} " in told, f"{line}: {flag}"


def test_readme_when_a_command_exists_then_the_table_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def names(*path: str) -> list[str]:
        assert run([*path, "--help"]) == 0
        listed = capsys.readouterr().out.split("Commands:\n")[1]
        return re.findall(r"^  (\S+)", listed, re.MULTILINE)

    told = section("Commands")
    leaves = [name for name in names() if name not in GROUPS]
    leaves += [f"{group} {name}" for group in GROUPS for name in names(group)]

    assert [leaf for leaf in leaves if not re.search(rf"`conclave {leaf}[` ]", told)] == []


def test_readme_when_it_names_make_targets_then_the_makefile_has_them() -> None:
    targets = set(re.findall(r"\bmake ([a-z][a-z-]+)", "\n".join(shell_lines())))
    targets |= set(re.findall(r"`[^`]*\bmake ([a-z][a-z-]+)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert {"run", "test"} <= targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_when_it_links_inside_then_the_file_is_there(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))

    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_when_it_names_a_setting_then_it_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"\b([A-Z][A-Z0-9_]{3,})=", text))
    named |= set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", text)) - {"NO_TRADE"}

    unknown = {name for name in named - MAKE_VARIABLES if from_environment(name) is None}
    assert unknown == set()


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.name)
def test_decision_when_written_then_it_has_at_most_250_words(decision: Path) -> None:
    assert len(decision.read_text(encoding="utf-8").split()) <= 250


def test_readme_when_it_names_profiles_then_they_say_what_it_says() -> None:
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| (.*) \|$", section("Settings"), re.MULTILINE)
    assert rows

    for names, text in rows:
        for name in re.findall(r"`([a-z-]+)`", names):
            assert name in profiles()
            settings = load_settings(env={}, profile=name)
            for setting, value in re.findall(r"`([A-Z_]+)=([0-9.]+)`", text):
                key = FLAT[setting]
                assert getattr(getattr(settings, key.group), key.field) == float(value), name


def test_readme_when_it_shows_routes_then_they_exist() -> None:
    known = {getattr(route, "path", "") for part in PARTS for route in part.routes}
    urls = set(re.findall(r"localhost:8000(/[\w/]*)", README))

    assert urls
    assert urls - known == set()


def test_readme_when_it_quotes_scores_of_the_test_year_then_the_trial_log_has_them() -> None:
    gain = re.search(r"gain of\s+([\d.]+) × 10⁻⁴ \(AUC ([\d.]+)\)", README)
    assert gain is not None

    with (ROOT / "docs" / "trials.csv").open(encoding="utf-8", newline="") as file:
        results = [row["result"] for row in csv.DictReader(file)]
    claim = f"council gain {gain[1]}, AUC {gain[2]}"
    assert [result for result in results if claim in result]


def test_readme_when_its_data_commands_run_then_they_work(bars: Path) -> None:
    lines = [line for line in shell_lines(section("Real bars")) if " data " in line]
    assert len(lines) == 2

    for line in [*lines, "conclave data list"]:
        done = execute(line, bars)
        assert done.returncode == 0, done.stderr
    assert "BTC/USDT" in done.stdout


def test_readme_when_it_promises_a_kill_with_everything_down_then_the_file_is_there(
    tmp_path: Path,
) -> None:
    line = next(line for line in shell_lines() if line.startswith("conclave kill"))

    assert execute(line, tmp_path).returncode == 0
    assert (tmp_path / "var" / "KILL").read_text() == "news\n"
    assert execute("conclave status", tmp_path).returncode == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readme_when_its_commands_on_real_bars_run_then_they_work(bars: Path) -> None:
    lines = shell_lines(section("Real bars"))
    ours = [line for line in lines if line.startswith("conclave ")]  # scripts have a test of theirs
    quick = [line for line in ours if " train " not in line and " models " not in line]
    assert len(quick) >= 7

    for line in quick:
        done = execute(line, bars)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Running]:
    """The demo market in one process, a bar a second, with everybody whom `make run` starts."""
    everybody = {"CONCLAVE_MODELS__AGENTS": ",".join(AGENTS)}
    running = start(tmp_path / "var", ["--local", "--speed", "300"], everybody)
    try:
        yield running.ready(400.0)
    finally:
        running.stop(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_readme_when_the_demo_runs_then_it_prints_what_the_readme_shows(demo: Running) -> None:
    head, _, *market = shown("up")
    demo.until(60, lambda: "T01:30Z" in demo.output.read_text(), "market at 01:30")
    with demo.client() as client:
        signals = client.get("/v1/signals?limit=50").json()["items"]
    number = next(s["id"] for s in signals if s["as_of"] == "2025-01-31T01:00:00Z")

    printed = unwrapped(demo.output.read_text()).replace("×300", "×60")
    assert market
    assert [piece for piece in [head, *market] if piece not in printed] == []
    explained = unwrapped(conclave(demo.var_dir, "why", number).stdout)
    assert [piece for piece in shown("why") if piece not in explained] == []
