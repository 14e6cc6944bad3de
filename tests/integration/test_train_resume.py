"""A training that was stopped goes on where it was, and ends in the same bytes."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agents.training.kinds import ModelSpec
from agents.training.watch import Watch
from serving.settings import load_settings
from serving.system import SystemClock, git_commit
from serving.training import Order, train
from tests.command_line import Cli
from tests.training_runs import (
    END,
    LONGER,
    TFT,
    bars_of,
    checkpoints,
    figures,
    started,
    trained,
    wait_for,
)

SETTINGS = dict(word.split("=") for word in TFT if "=" in word) | {"schedule.steps": TFT[3]}


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bars_of(tmp_path_factory.mktemp("bars"))


def stopped(root: Path, bars: Path, step: int) -> None:
    """Train as the command does, and be interrupted at a step."""

    def checked(done: int, _: Mapping[str, float]) -> None:
        if done >= step:
            raise KeyboardInterrupt

    settings = load_settings(env={}, profile=None, overrides={"VAR_DIR": str(root)})
    order = Order(ModelSpec("tft/trend", settings=SETTINGS), "trend --model tft", [bars], END, 7)
    with pytest.raises(KeyboardInterrupt):
        train(order, settings, SystemClock(), git_commit(), Watch(checked=checked), print)


def card_of(root: Path) -> dict[str, Any]:
    [path] = (root / "models" / "tft" / "trend").glob("*/card.json")
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body


@pytest.mark.long
def test_train_when_stopped_and_started_again_then_resumes_and_ends_in_the_same_bytes(
    cli: Cli, tmp_path: Path, bars: Path
) -> None:
    root = tmp_path / "var"
    stopped(root, bars, step=8)
    assert len(checkpoints(root)) == 1
    words = ("train", "trend", *TFT, "--data", bars, "--end", END)
    code, _, err = cli(*words)
    assert code == 0, err
    assert "resumed at step 8" in err
    assert checkpoints(root) == []
    resumed = card_of(root)
    code, out, _ = cli(*words, "--json", "--set", f"MODELS_DIR={tmp_path / 'whole'}")
    assert code == 0
    assert figures(json.loads(out)["card"]) == figures(resumed)


@pytest.mark.long
def test_train_when_the_checkpoint_is_damaged_then_it_says_what_to_do_and_fresh_begins_anew(
    cli: Cli, tmp_path: Path, bars: Path
) -> None:
    root = tmp_path / "var"
    stopped(root, bars, step=8)
    [path] = checkpoints(root)
    path.write_bytes(path.read_bytes()[:1_000])
    words = ("train", "trend", *TFT, "--data", bars, "--end", END)
    code, out, err = cli(*words)
    assert (code, out) == (1, "")
    assert f"checkpoint {path}: must be readable" in err
    assert "--fresh" in err
    code, _, err = cli(*words, "--fresh")
    assert code == 0, err
    assert "resumed" not in err
    assert checkpoints(root) == []


@pytest.mark.long
def test_train_when_a_setting_differs_then_another_checkpoint_is_left_alone(
    cli: Cli, tmp_path: Path, bars: Path
) -> None:
    root = tmp_path / "var"
    stopped(root, bars, step=8)
    before = checkpoints(root)
    words = ("train", "trend", *TFT, "--data", bars, "--end", END, "--with", "dropout=0.2")
    code, _, err = cli(*words)
    assert code == 0, err
    assert "resumed" not in err
    assert checkpoints(root) == before


# in a process of its own


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_train_when_killed_then_the_same_command_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, bars: Path
) -> None:
    words = ("trend", *TFT, *LONGER, "--data", bars, "--end", END)
    killed = tmp_path / "killed"
    process = started(killed, *words)
    wait_for(lambda: checkpoints(killed), process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert list((killed / "models" / "tft" / "trend").glob("*/card.json")) == []
    code, told, err = trained(killed, *words)
    assert code == 0, err
    code, whole, err = trained(tmp_path / "whole", *words)
    assert code == 0, err
    assert figures(told["card"]) == figures(whole["card"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_train_when_interrupted_then_exit_code_130_and_the_checkpoint_stays(
    tmp_path: Path, bars: Path
) -> None:
    process = started(tmp_path, "trend", *TFT, *LONGER, "--data", bars, "--end", END)
    wait_for(lambda: checkpoints(tmp_path), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "The same command goes on from the last checkpoint." in err
    assert "Traceback" not in err
    assert len(checkpoints(tmp_path)) == 1
