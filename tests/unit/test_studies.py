"""A search for settings as data: its question, its trials, and what a card says about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.training.dataset import Source
from agents.training.kinds import ModelSpec
from domain.errors import ModelError
from serving.studies import Found, Study, Tried, words
from serving.trials import Look

SOURCE = Source(1_000, 7, 2_000, "abc1234", "0" * 64)


def study(root: Path, **changes: Any) -> Study:
    return replace(Study(ModelSpec("baseline/return"), SOURCE, 3, 1, root), **changes)


def tried(number: int, score: float | None, state: Any = "finished") -> Tried:
    return Tried(number, {"width.l2": 0.5 * number}, score, state, 4, 1.5)


def test_study_when_anything_it_asks_differs_then_another_folder(tmp_path: Path) -> None:
    one = study(tmp_path)
    others = [
        study(tmp_path, trials=4),
        study(tmp_path, spec=ModelSpec("baseline/return", settings={"drift": 0.2})),
        study(tmp_path, spec=ModelSpec("baseline/return", horizon_bars=6)),
        *(study(tmp_path, source=replace(SOURCE, **{name: value})) for name, value in
          (("seed", 8), ("end_ms", 1_001), ("data_sha256", "1" * 64), ("commit", "def"))),
    ]  # fmt: skip
    assert len({one.folder, *(other.folder for other in others)}) == 8
    later = study(tmp_path, source=replace(SOURCE, created_at=3_000), concurrent=2)
    assert later.folder == one.folder  # the same question, asked again


@pytest.mark.parametrize(("more", "best"), [(True, 3), (False, 1)])
def test_found_when_trials_ended_then_the_best_is_one_that_came_to_its_end(
    more: bool, best: int
) -> None:
    trials = (
        tried(1, 2.0), tried(2, 9.0 if more else 0.0, "stopped"), tried(3, 4.0), tried(4, 4.0),
        tried(5, None, "failed"),
    )  # fmt: skip
    found = Found("a", "gain", more, trials)
    assert found.best.number == best
    notes = found.notes()["tuning"]
    counts = {"trials": 5, "finished": 3, "stopped": 1, "failed": 1}
    assert {name: notes[name] for name in counts} == counts
    assert notes["best"] == found.best.score


def test_found_when_no_trial_came_to_its_end_then_model_error() -> None:
    with pytest.raises(ModelError, match="none of its 2 trials"):
        Found("a", "gain", True, (tried(1, 1.0, "stopped"), tried(2, None, "failed")))


def test_study_when_finished_then_read_back_as_it_was(tmp_path: Path) -> None:
    one = study(tmp_path)
    one.folder.mkdir(parents=True)
    assert one.finished() is None
    found = Found(one.name, "pinball_bps", False, (tried(1, 6.4), tried(2, 7.0, "stopped")))
    one.finish(found)
    assert one.finished() == found
    assert json.loads(json.dumps(found.as_json()))["best_trial"] == 1


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"study": "a", "metric": "b", "trials": [{}]}'])
def test_study_when_its_file_is_damaged_then_model_error_with_what_to_do(
    tmp_path: Path, body: str
) -> None:
    one = study(tmp_path)
    one.folder.mkdir(parents=True)
    (one.folder / "found.json").write_text(body, encoding="utf-8")
    with pytest.raises(ModelError, match="must be readable") as caught:
        one.finished()
    assert "--fresh" in caught.value.hint


def test_words_when_settings_are_told_then_as_the_command_line_takes_them() -> None:
    assert words({"schedule.rate": 0.002, "hidden": 16}) == "hidden=16 schedule.rate=0.002"


def test_trial_look_when_a_search_ends_before_2025_then_it_counts_but_is_no_look() -> None:
    look = Look("tune", 0, 1_000, "baseline/trend: shrink=0.7; trial 1 of study a", "abc1234")
    assert look.counts
    assert look.configurations == 1
