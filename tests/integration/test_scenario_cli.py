"""``conclave scenario run`` and ``list`` as somebody types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from domain.errors import ConclaveError, DataRefused, UsageError
from serving.commands.common import settings_from
from serving.scenarios import (
    Material,
    played,
    run,
    scenario_for,
    shipped,
    with_its_settings,
)
from sim.scenarios.page import render
from sim.scenarios.shocks import SHOCKS
from sim.scenarios.spec import composed, read
from sim.worlds import DEMO_START_MS, RandomWalk

SMALL = """
about: Six hours and a gap.
warm_up: 1d
lasts: 6h
settings: {execution.fixed_notional: 4000, risk.max_order_notional: 5000}
shocks:
- gap: {at: 2h, size: -0.02}
acts:
- kill: {at: 4h}
expect: {entries: 1, modes: [KILLED], ends: KILLED}
"""


_DIAMOND = (("left", "[small.yml]"), ("right", "[small.yml]"), ("top", "[left.yml, right.yml]"))


def conclave(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "VAR_DIR": str(folder / "var"), "TRIALS_LOG": "", "OMP_NUM_THREADS": "1",
           "COLUMNS": "80"}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", "scenario", *words], capture_output=True, text=True,
        env=env, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.mark.long
def test_run_tells_what_held_and_leaves_page_and_json(tmp_path: Path, small: Path) -> None:
    page = tmp_path / "page.html"
    done = conclave(tmp_path, "run", str(small), "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert "Six hours and a gap." in done.stdout
    assert "HELD" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    kept = tmp_path / "var" / "reports" / "scenarios" / "small"
    report = json.loads((kept / "latest.json").read_text(encoding="utf-8"))
    assert report["held"] is True
    assert report["ends"] == "KILLED"
    assert len(report["curve"]["equity"]) == report["bars"] == 72
    assert (kept / "latest.html").read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    assert "<svg" in page.read_text(encoding="utf-8")


@pytest.mark.long
def test_run_says_with_its_exit_code_that_something_was_not_seen(
    tmp_path: Path, small: Path
) -> None:
    small.write_text(SMALL.replace("entries: 1", "entries: 500"), encoding="utf-8")
    done = conclave(tmp_path, "run", str(small))
    assert done.returncode == 1
    assert "HELD, but not everything expected was seen" in done.stdout
    assert "500" in done.stdout


@pytest.mark.long
def test_run_draws_its_market_from_files_and_a_seed(tmp_path: Path, small: Path) -> None:
    files: list[str] = []
    for symbol in ("BTC/USDT", "ETH/USDT"):
        bars = RandomWalk(2, symbol).bars(DEMO_START_MS, 288 * 30)
        path = tmp_path / f"{symbol.replace('/', '')}-binance-spot-5m.parquet"
        names = ("ts", "open", "high", "low", "close", "volume")
        pq.write_table(pa.table({name: getattr(bars, name) for name in names}), path)
        files += ["--data", str(path)]

    def told(seed: int) -> dict[str, Any]:
        done = conclave(tmp_path, "run", str(small), *files, "--seed", str(seed), "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        body: dict[str, Any] = json.loads(done.stdout)
        return body

    one = told(4)
    assert one["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert "blocks of 6h" in one["bars_from"]
    assert told(4) == one
    assert told(5)["curve"]["price"] != one["curve"]["price"]


@pytest.mark.long
def test_several_names_happen_in_one_market(tmp_path: Path, small: Path) -> None:
    other = tmp_path / "other.yml"
    other.write_text("lasts: 3h\nwarm_up: 1d\nshocks: [{spread: {at: 1h, lasts: 1h, bps: 50}}]\n",
                     encoding="utf-8")  # fmt: skip
    done = conclave(tmp_path, "run", str(small), str(other), "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["name"] == "small+other"
    assert body["refused"]["wide_spread"] > 0
    assert body["ends"] == "KILLED"


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run",), "conclave scenario list"),
        (("run", "gap-dwon"), 'Did you mean "gap-down"'),
        (("run", "quiet", "--all"), "needs names, or --all"),
        (("run", "quiet", "--timerange", "20240101-20240201"), "--data"),
        (("run", "quiet", "--set", "NOT_A_NAME=1"), "NOT_A_NAME"),
        (("run", "quiet", "--html", "/nowhere/page.html"), "folder that exists"),
        (("run", "basis", "--set", "execution.market=spot"), "nothing happens"),
        (("run", "funding-spike", "--set", "execution.market=spot"), "nobody pays funding"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    done = conclave(tmp_path, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_names_others_beside_it_and_each_happens_once(tmp_path: Path, small: Path) -> None:
    for name, uses in _DIAMOND:
        (tmp_path / f"{name}.yml").write_text(f"about: {name}\nuses: {uses}\n", encoding="utf-8")
    whole = scenario_for([str(tmp_path / "top.yml")])
    assert (len(whole.shocks), len(whole.acts), whole.about) == (1, 1, "top")
    assert whole.lasts == 6 * 3_600_000
    (tmp_path / "left.yml").write_text("uses: [top.yml]\n", encoding="utf-8")
    with pytest.raises(UsageError, match="lead back to itself"):
        scenario_for([str(tmp_path / "top.yml")])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("at: 4h", "at: 40h", "scenario small: kill.*before its end"),
        ("size: -0.02", "size: -0.02, only: [ADA/USDT]", "scenario small: Gap.*of the scenario"),
        ("warm_up: 1d", "warm_up: 1m", "scenario small: warm_up and lasts"),
    ],
)
def test_what_comes_too_late_or_concerns_nobody_is_told_by_its_place(
    small: Path, old: str, new: str, says: str
) -> None:
    small.write_text(SMALL.replace(old, new), encoding="utf-8")
    scenario = scenario_for([str(small)])
    with pytest.raises(ConclaveError, match=says):
        played(scenario, with_its_settings(scenario, settings_from), "")


def test_a_feed_that_is_never_heard_still_gives_a_report(small: Path) -> None:
    text = SMALL.replace("gap: {at: 2h, size: -0.02}", "freeze: {at: 0, lasts: 6h, late: false}")
    small.write_text(text, encoding="utf-8")
    scenario = scenario_for([str(small)])
    found = run(scenario, with_its_settings(scenario, settings_from), "")
    assert found["held"]
    assert not found["shown"]
    assert "Not drawn" in render(found)


def test_bars_of_another_timeframe_are_refused(small: Path) -> None:
    scenario = scenario_for([str(small)])
    bars = RandomWalk(2, timeframe="15m").bars(DEMO_START_MS, 96 * 30)
    with pytest.raises(DataRefused, match=r"must be of TIMEFRAME, 5m .*15m"):
        played(scenario, with_its_settings(scenario, settings_from), "",
               Material({bars.symbol: bars}))  # fmt: skip


def test_what_the_page_of_scenarios_shows_can_be_run() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    written = read("mine", yaml.safe_load(example[1]))
    scenario = composed([written], "mine", written.about, written.expect)
    found = run(scenario, with_its_settings(scenario, settings_from), "")
    assert found["held"]
    assert found["shown"], found["expected"]
    told = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    assert told == {*SHOCKS}
    rows = re.findall(r"^\| ([a-z-]+) \| [A-Z0-9]", text, re.MULTILINE)
    assert rows == [*shipped()]


@pytest.mark.long
def test_list_names_every_scenario_and_what_happens(tmp_path: Path) -> None:
    done = conclave(tmp_path, "list", "--json")
    found = {each["name"]: each["about"] for each in json.loads(done.stdout)}
    assert len(found) >= 12
    assert all(found.values())
