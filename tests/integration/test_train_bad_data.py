"""Bars that nothing, or not everything, can be learned from: refused, or left out with a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.files import file_sha256, read_bars
from domain.market import BarFrame
from tests.agents_world import with_gap
from tests.command_line import Cli
from tests.data_fixtures import write_parquet
from tests.training_runs import BASELINE, END, TFT, bars_of, named

CHRONOS = ("chronos", "--size", "nano", "--steps", "2")
KINDS = {
    "baseline": ("trend", *BASELINE), "tft": ("risk", *TFT), "chronos": CHRONOS,
    "volatility": ("volatility",),
}  # fmt: skip
PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bars_of(tmp_path_factory.mktemp("bars"))


def constant(bars: BarFrame) -> BarFrame:
    return replace(bars, **dict.fromkeys(PRICES, np.full(len(bars), 100.0)))


def full_of_holes(bars: BarFrame) -> BarFrame:
    for at in range(200, 5_500, 150):
        bars = with_gap(bars, at, 1)
    return bars


def one_hole(bars: BarFrame) -> BarFrame:
    return with_gap(bars, 5_800, 6)


def no_volume(bars: BarFrame) -> BarFrame:
    return replace(bars, volume=np.zeros(len(bars)))


def changed(file: Path, folder: Path, change: Callable[[BarFrame], BarFrame]) -> Path:
    return write_parquet(folder / file.name, change(read_bars(file)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda bars: bars.slice(0, 500), "there are 208"),
        (full_of_holes, "5000 valid rows"),
        (constant, "moved on 0 of them"),
    ],
    ids=["500 bars", "holes", "constant prices"],
)
def test_train_when_nothing_can_be_learned_then_data_refused(
    cli: Cli, tmp_path: Path, bars: Path, kind: str,
    change: Callable[[BarFrame], BarFrame], told: str,
) -> None:  # fmt: skip
    file = changed(bars, tmp_path, change)
    code, out, err = cli("train", *KINDS[kind], "--data", file, "--end", END)
    assert (code, out) == (3, "")
    assert told in err
    assert not list((tmp_path / "var").rglob("card.json"))


@pytest.mark.parametrize("change", [one_hole, no_volume])
def test_train_when_a_hole_or_no_volume_is_in_the_bars_then_the_rest_is_enough(
    cli: Cli, tmp_path: Path, bars: Path, change: Callable[[BarFrame], BarFrame]
) -> None:
    file = changed(bars, tmp_path, change)
    code, out, err = cli("train", *KINDS["baseline"], "--data", file, "--end", END, "--json")
    assert code == 0, err
    assert json.loads(out)["card"]["files"]


@pytest.mark.long
@pytest.mark.parametrize(
    "change", [lambda bars: bars.slice(0, 900), constant], ids=["short", "constant"]
)
def test_train_when_a_further_symbol_cannot_help_then_it_is_left_out_and_the_card_knows(
    cli: Cli, tmp_path: Path, bars: Path, change: Callable[[BarFrame], BarFrame]
) -> None:
    (tmp_path / "more").mkdir()
    other = changed(bars_of(tmp_path, symbol="ETH/USDT", seed=6), tmp_path / "more", change)
    words = ("train", *KINDS["tft"], "--data", bars, "--also", other, "--end", END, "--json")
    code, out, err = cli(*words)
    assert code == 0, err
    assert f"{other.name} is left out: training needs 5000 valid rows" in err
    card = json.loads(out)["card"]
    assert card["settings"]["symbols"] == ["BTC/USDT"]
    assert card["data_sha256"] == file_sha256(bars)
    assert "--also" not in card["command"]


@pytest.mark.long
def test_train_when_the_kind_learns_from_one_symbol_then_it_says_that_others_are_not_used(
    cli: Cli, tmp_path: Path, bars: Path
) -> None:
    other = bars_of(tmp_path, symbol="ETH/USDT", seed=6)
    words = ("train", *KINDS["baseline"], "--data", bars, "--also", other, "--end", END, "--json")
    code, out, err = cli(*words)
    assert code == 0, err
    assert "baseline/trend learns from BTC/USDT alone; --also is not used." in err
    assert "--also" not in json.loads(out)["card"]["command"]


def test_train_when_files_do_not_go_together_then_usage_error(
    cli: Cli, tmp_path: Path, bars: Path
) -> None:
    other = bars_of(tmp_path, symbol="ETH/USDT", timeframe="15m")
    words = ("train", *KINDS["tft"], "--data", bars, "--end", END)
    code, _, err = cli(*words, "--also", other)
    assert code == 2
    assert f"--also {named('ETH/USDT', '15m')}: must be 5m bars" in err
    code, _, err = cli(*words, "--also", bars)
    assert code == 2
    assert "must be of another symbol or timeframe" in err


@pytest.mark.parametrize(
    ("setting", "code", "told"),
    [
        ("encoder=5600", 3, "windows of 5600 + 5 bars"),
        ("windows=32", 2, "must hold a block of 32 windows"),
        ("device=abacus", 2, "must be auto or one that torch has"),
        ("hiden=8", 2, 'Did you mean "hidden"?'),
        ("dropout=1.5", 2, "must lie in [0, 1]"),
        ("hidden", 2, "must be NAME=VALUE"),
    ],
)
def test_train_when_a_setting_makes_no_sense_then_it_says_why(
    cli: Cli, bars: Path, setting: str, code: int, told: str
) -> None:
    words = ("train", *KINDS["tft"], "--data", bars, "--end", END, "--with", setting)
    found, out, err = cli(*words)
    assert (found, out) == (code, "")
    assert told in err
