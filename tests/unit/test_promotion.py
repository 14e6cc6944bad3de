"""What is promoted, loaded and refused, with real files of real models."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.artifacts import FolderStore, promote, rollback
from agents.registry import load_agent
from domain.errors import ModelError
from domain.ports import Needs
from serving.promotion import load_named, require_sound, smoke_states
from serving.settings import Settings, load_settings
from tests.model_files import FIRST, SECOND, THIRD, damage, in_use, made, wider

TREND = "baseline/trend"
Harm = Callable[[Path, str, str], object]  # root, name, version


def settings(folder: Path, **env: str) -> Settings:
    return load_settings(env={"VAR_DIR": str(folder), **env}, profile=None)


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return settings(tmp_path)


@pytest.fixture
def root(here: Settings) -> Path:
    return here.data.models_dir


def edit_card(root: Path, name: str, version: str, **fields: object) -> None:
    path = root / name / version / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def one_byte(root: Path, name: str, version: str) -> None:
    damage(root, name, version)


def cut_off(root: Path, name: str, version: str) -> None:
    path = root / name / version / "params.json"
    path.write_bytes(path.read_bytes()[:-40])


def gone(root: Path, name: str, version: str) -> None:
    (root / name / version / "params.json").unlink()


def no_card(root: Path, name: str, version: str) -> None:
    (root / name / version / "card.json").write_text("{")


def pickled(root: Path, name: str, version: str) -> None:
    edit_card(root, name, version, files={"params.pkl": "0" * 64})


def other_features(root: Path, name: str, version: str) -> None:
    edit_card(root, name, version, columns=["ret_0"], feature_schema="0" * 16)


def other_horizon(root: Path, name: str, version: str) -> None:
    edit_card(root, name, version, horizon_bars=10)


def other_bars(root: Path, name: str, version: str) -> None:
    edit_card(root, name, version, timeframe="1h")


def worse(root: Path, name: str, version: str) -> None:
    scores = {"pinball_bps": 8.0, "climatology_pinball_bps": 7.9}
    edit_card(root, name, version, metrics={"walk_forward": scores})


HARM: list[tuple[Harm, str]] = [
    (one_byte, "params.json: its sha256 must be"),
    (cut_off, "params.json: its sha256 must be"),
    (gone, "params.json: is named in the card but missing"),
    (no_card, "card.json: must be readable JSON"),
    (pickled, "params.pkl: files are plain"),
    (other_features, "its feature schema must be"),
    (other_horizon, "was trained for a horizon of 10 bars"),
    (other_bars, "was trained on 1h bars"),
    (worse, "must not be worse than climatology"),
]


# The generated market


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1d"])
def test_smoke_states_when_made_then_they_hold_what_is_needed_and_no_feature_is_missing(
    timeframe: str,
) -> None:
    states = smoke_states("ETH/USDT", timeframe, Needs(bars=300, feature_rows=60))
    assert len(states) == 24
    assert {(s.symbol, s.timeframe, len(s.bars)) for s in states} == {("ETH/USDT", timeframe, 300)}
    assert all(np.isfinite(state.features.values).all() for state in states)
    assert len({float(state.bars.close[-1]) for state in states}) == 24


# Promotion


def test_sound_when_a_good_version_is_offered_then_it_says_how_it_was_judged(
    here: Settings, root: Path
) -> None:
    version = made(root, TREND).version
    assert "15.949 in walk-forward, against 0.2196 of climatology" in require_sound(
        here, TREND, version
    )
    risk = made(root, "risk", params=wider(1.1)).version
    assert "7.7639 in walk-forward, against 8." in require_sound(here, "risk", risk)


@pytest.mark.parametrize(("harm", "told"), HARM)
def test_sound_when_a_version_is_bad_then_refused_with_the_rule(
    here: Settings, root: Path, harm: Harm, told: str
) -> None:
    version = made(root, "risk").version
    harm(root, "risk", version)
    with pytest.raises(ModelError) as caught:
        require_sound(here, "risk", version)
    assert told in caught.value.message


def test_sound_when_the_score_is_no_gain_then_refused(here: Settings, root: Path) -> None:
    version = made(root, TREND, metrics={"walk_forward": {"brier_skill_1e4": -1.0}}).version
    with pytest.raises(ModelError, match=r"brier_skill_1e4 must be above 0 \(got -1\.0\)"):
        require_sound(here, TREND, version)


def test_sound_when_the_forecast_is_constant_then_refused(here: Settings, root: Path) -> None:
    version = made(root, TREND, params={"shrink": 0.0}).version
    with pytest.raises(ModelError, match="p_up must depend on the market") as caught:
        require_sound(here, TREND, version)
    assert version in caught.value.message


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("risk", {"params": wider(40.0)}, "quantiles must lie within"),
        ("risk", {"params": {"residuals": [0.0] * 5}}, "residual quantiles"),
        ("risk", {"params": {"har": {}}}, "risk"),
        (TREND, {"contents": {"model.onnx": b"not a graph"}}, "must be a graph"),
        ("baseline/return", {"params": {"drift": "much"}}, "cannot be built from its model"),
    ],
)
def test_sound_when_files_verify_but_the_model_makes_no_sense_then_refused(
    here: Settings, root: Path, name: str, changes: dict[str, object], told: str
) -> None:
    version = made(root, name, **changes).version  # type: ignore[arg-type]
    with pytest.raises(ModelError) as caught:
        require_sound(here, name, version)
    assert version in caught.value.message
    assert told in caught.value.message


def test_sound_when_the_horizon_is_a_new_one_then_all_its_targets_must_be_trained_first(
    tmp_path: Path,
) -> None:
    ten = settings(tmp_path, PRED_HORIZON_STEPS="10")
    root = ten.data.models_dir
    version = made(root, TREND, horizon_bars=10).version
    with pytest.raises(ModelError, match="horizon of 5 bars"):
        require_sound(ten, TREND, version)
    for target in ("return", "risk"):
        made(root, f"baseline/{target}", horizon_bars=10)
    assert require_sound(ten, TREND, version)


# Loading


@pytest.mark.parametrize(("harm", "told"), HARM)
def test_load_when_the_promoted_version_is_bad_then_the_one_before_it_serves(
    here: Settings, root: Path, harm: Harm, told: str
) -> None:
    good = in_use(root, "risk", FIRST, params=wider(1.1))
    bad = in_use(root, "risk", SECOND, params=wider(1.2))
    harm(root, "risk", bad.version)
    found = load_named("risk", here)
    assert found.agent.version == good.identity
    [model] = found.models
    assert (model.version, model.place, model.wanted) == (good.version, "models_dir", bad.version)
    assert told in model.problem


@pytest.mark.parametrize(
    "harm",
    [
        one_byte,
        other_horizon,
        lambda root, name, _: (root / name / "promoted.json").write_text('{"vers'),
    ],
)
def test_load_when_nothing_promoted_can_be_used_then_what_ships_does_and_one_line_says_so(
    here: Settings, root: Path, harm: Harm, caplog: pytest.LogCaptureFixture
) -> None:
    bad = in_use(root, "risk", params=wider(1.2))
    harm(root, "risk", bad.version)
    with caplog.at_level(logging.WARNING):
        found = load_named("risk", here)
    assert found.agent.version == FolderStore().open("risk").card.identity
    [model] = found.models
    assert model.place == "shipped"
    [line] = [record.message for record in caplog.records]
    assert line == model.sentence
    assert line.endswith(f"{model.version} (shipped) is instead")


def test_load_when_files_verify_but_forecasts_make_no_sense_then_the_last_promoted_is_passed_over(
    here: Settings, root: Path
) -> None:
    kept = in_use(root, "baseline/return", FIRST, end_ms=1)
    good = in_use(root, TREND, FIRST, end_ms=1)
    bad = in_use(root, TREND, SECOND, params={"shrink": 0.0})
    models = {model.name: model for model in load_named("baseline", here).models}
    assert models[TREND].version == good.version
    assert models[TREND].wanted == bad.version
    assert "p_up must depend on the market" in models[TREND].problem
    assert (models["baseline/return"].version, models["baseline/return"].problem) == (
        kept.version, "",
    )  # fmt: skip
    assert models["baseline/risk"].place == "shipped"


def test_load_when_all_is_well_then_the_promoted_version_and_no_complaint(
    here: Settings, root: Path
) -> None:
    card = in_use(root, "risk", params=wider(1.1))
    found = load_named("risk", here)
    assert found.agent.version == card.identity
    assert [model.problem for model in found.models] == [""]


def test_load_when_what_ships_is_broken_as_well_then_refused_naming_both(tmp_path: Path) -> None:
    root, shipped = tmp_path / "mine", tmp_path / "shipped"
    for place in (root, shipped):
        damage(place, "risk", in_use(place, "risk").version)
    with pytest.raises(ModelError, match="no version that can be used") as caught:
        load_agent("risk", FolderStore(root, shipped))
    assert caught.value.message.count("sha256") == 2


def test_promote_when_the_pointer_is_half_written_then_it_is_mended(
    here: Settings, root: Path
) -> None:
    card = in_use(root, "risk", params=wider(1.1))
    (root / "risk" / "promoted.json").write_text('{"version": "2027')
    with pytest.raises(ModelError, match="readable JSON") as caught:
        rollback(root, "risk")
    assert "models promote risk" in caught.value.hint
    promote(root, "risk", card.version)
    assert load_named("risk", here).agent.version == card.identity


def test_rollback_when_the_one_before_is_damaged_then_the_next_good_one(root: Path) -> None:
    first, second, third = (
        in_use(root, "risk", at, params=wider(times))
        for at, times in ((FIRST, 1.1), (SECOND, 1.2), (THIRD, 1.3))
    )
    damage(root, "risk", second.version)
    assert rollback(root, "risk") == first.version != third.version
    damage(root, "risk", first.version)
    assert rollback(root, "risk") is None
