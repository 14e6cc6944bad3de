"""What a fresh process imports: a cold start is imports, more than anything else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import perp
from tests.data_fixtures import clean_bars, write_parquet

NOT_FOR_EMA_CROSS = {
    "pandas", "scipy", "numba", "httpx", "alembic", "ray", "torch", "fastapi", "onnxruntime",
    "serving.bootstrap", "serving.desk", "sim.evaluate", "agents.host", "consensus.council",
}  # fmt: skip
NOT_FOR_THE_ENGINE = {
    "pandas", "sqlalchemy", "pydantic", "typer", "rich", "serving", "sim", "storage", "agents",
    "execution.loop",
}  # fmt: skip
# Beside Ray every agent is a process: what it imports in vain, a start waits for six times.
NOT_FOR = {
    "serving.bootstrap.agents, serving.bootstrap.settings": {
        "ccxt", "sqlalchemy", "alembic", "fastapi", "aiohttp", "pandas", "torch", "serving.desk",
        "serving.service", "execution.loop",
    },
    "serving.bootstrap.desk, serving.desk_process": {"ccxt", "fastapi", "ray", "torch", "pandas"},
    "serving.venue_process, sim.venue.server": {"ccxt", "sqlalchemy", "fastapi", "ray", "torch"},
    "serving.running": {"fastapi", "ray", "torch", "serving.desk", "serving.api"},
    "serving.bootstrap.service, serving.api": {"ray", "torch", "serving.desk"},
}  # fmt: skip
IMPORTS = """
import importlib, json, sys
for name in sys.argv[1].split(", "):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
COMMAND = """
import contextlib, io, json, sys
from serving.cli import run
told = io.StringIO()
with contextlib.redirect_stdout(told):
    code = run(sys.argv[1:])
print(json.dumps([code, json.loads(told.getvalue())["trades"], sorted(sys.modules)]))
"""
ENGINE = """
import json, sys
from pathlib import Path
import numpy as np
from data.files import read_bars
from data.instruments import instrument_for
from execution.fills import CostModel
from execution.kernel import Wishes, bars_of, play, rules_of, tiers_of
from execution.paper import Venue
frame = read_bars(Path(sys.argv[1]))
coin, none = instrument_for(frame.symbol), np.full(len(frame), np.nan)
side = np.where(np.arange(len(frame)) % 40 < 20, 1, -1).astype(np.int8)
rules = rules_of(coin, CostModel.of(coin), Venue(), "5m", 5)
wishes = Wishes(side, np.ones(len(frame)), none, none)
made = play(bars_of(frame), wishes, rules, tiers_of(coin), 10_000)
print(json.dumps([made.trades, sorted(sys.modules)]))
"""


def fresh(script: str, *words: object) -> list[object]:
    """Run a script in a process of its own; return what it printed."""
    command = [sys.executable, "-c", script, *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    told = json.loads(done.stdout)
    assert isinstance(told, list)
    return told


@pytest.mark.long
def test_backtest_when_a_process_is_fresh_then_it_imports_what_ema_cross_needs(
    tmp_path: Path,
) -> None:
    code, trades, modules = fresh(
        COMMAND, "backtest", "--data", perp(tmp_path), "--profile", "exercise", "--json",
        "--strategy", "ema_cross", "--set", f"VAR_DIR={tmp_path}",
    )  # fmt: skip
    assert code == 0
    assert isinstance(trades, int)
    assert trades > 20
    assert isinstance(modules, list)
    assert "execution.loop" in modules
    assert NOT_FOR_EMA_CROSS.isdisjoint(modules)


@pytest.mark.long
def test_engine_when_a_process_is_fresh_then_it_imports_numbers_and_files_only(
    tmp_path: Path,
) -> None:
    pytest.importorskip("numba", reason="the compiled engine needs numba")
    path = write_parquet(tmp_path / "BTCUSDT-perp-5m.parquet", clean_bars(600))
    trades, modules = fresh(ENGINE, path)
    assert isinstance(trades, int)
    assert trades > 10
    assert isinstance(modules, list)
    assert "execution.kernel.play" in modules
    assert NOT_FOR_THE_ENGINE.isdisjoint(modules)


@pytest.mark.long
@pytest.mark.parametrize("room", NOT_FOR)
def test_process_when_fresh_then_it_imports_what_its_kind_needs(room: str) -> None:
    assert NOT_FOR[room].intersection(fresh(IMPORTS, room)) == set()


@pytest.mark.long
def test_deploying_when_fresh_then_what_answers_http_is_not_imported() -> None:
    pytest.importorskip("ray", reason="only what Ray runs is deployed")
    needless = {"ccxt", "alembic", "serving.api", "serving.service", "serving.desk", "torch"}
    assert needless.intersection(fresh(IMPORTS, "serving.app")) == set()
