"""Settings of trainings by name, what a search may choose of them, and the list of trainings."""

from __future__ import annotations

import pytest

from agents.training.baseline import BaselineConfig
from agents.training.kinds import TRAININGS, ModelSpec
from agents.training.settings import as_setting, configured, named
from agents.training.spaces import SPACES, Between, OneOf
from domain.errors import UsageError


def test_configured_when_settings_are_text_then_read_as_what_the_config_holds() -> None:
    config = configured(
        BaselineConfig(),
        {"trend.leaves": "31", "trend.l2": "0.5", "trend_leaves": "7,15", "shrink": "0.9"},
    )
    assert (config.trend.leaves, config.trend.l2) == (31, 0.5)
    assert (config.trend_leaves, config.shrink) == ((7, 15), 0.9)
    assert config.width == BaselineConfig().width


def test_configured_when_all_settings_are_given_back_then_the_same_config() -> None:
    config = BaselineConfig()
    told = {name: as_setting(value) for name, value in named(config)}
    assert configured(config, told) == config


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"trend.leafs": 7}, "trend.leaves"),
        ({"trend": 7}, "must be one that this training has"),
        ({"trend.leaves": "many"}, "must be like 15"),
        ({"trend.leaves": 7.5}, "must be like 15"),
        ({"trend_leaves": "7,x"}, "must be like 7,15,31"),
        ({"trend.leaves": 0}, "at least 1"),
        ({"trend.l2": -1.0}, "at least 0"),
        ({"trend.l2": "inf"}, "at least 0"),
        ({"shrink": "nan"}, "must be like 0.8"),
        ({"mix": 1.2}, "must lie in [0, 1]"),
    ],
)
def test_configured_when_a_setting_makes_no_sense_then_it_says_what_would(
    settings: dict[str, float | str], told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        configured(BaselineConfig(), settings)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", SPACES)
def test_space_when_a_training_can_be_searched_then_its_own_settings_lie_inside(name: str) -> None:
    spec = ModelSpec(name)
    assert set(spec.usual) == set(spec.space)
    for setting, part in spec.space.items():
        value = spec.usual[setting]
        if isinstance(part, OneOf):
            assert value in part.options
        else:
            assert isinstance(value, float)
            assert part.low <= value <= part.high


@pytest.mark.parametrize("name", SPACES)
def test_space_when_its_ends_are_taken_then_a_training_has_them(name: str) -> None:
    spec = ModelSpec(name)
    for setting, part in spec.space.items():
        ends = (part.low, part.high) if isinstance(part, Between) else part.options
        for value in ends:
            assert spec.having({setting: value}).settings == {setting: value}


def test_spaces_when_listed_then_every_training_but_the_risk_agents_has_one() -> None:
    assert set(SPACES) == set(TRAININGS) - {"risk"}


def test_spec_when_a_setting_is_given_then_it_is_no_longer_searched() -> None:
    spec = ModelSpec("baseline/trend", settings={"shrink": "0.7"})
    assert "shrink" not in spec.space
    assert "shrink" not in spec.usual
    assert "trend.l2" in spec.space


def test_spec_when_nothing_is_left_to_choose_then_usage_error() -> None:
    with pytest.raises(UsageError, match="--tune"):
        _ = ModelSpec("risk").space
    spec = ModelSpec("baseline/return")
    with pytest.raises(UsageError, match="--tune"):
        _ = spec.having(spec.usual).space


def test_spec_when_settings_are_its_own_then_none_of_them_differs() -> None:
    spec = ModelSpec("baseline/trend", settings={"shrink": "0.8", "trend.l2": "3"})
    assert spec.differing == {"trend.l2": 3.0}


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("baseline/direction", {}, "baseline/trend"),
        ("gate", {}, "must be one of"),
        ("baseline/trend", {"hidden": 8}, "must be one that this training has"),
        ("risk", {"shrink": 0.5}, "must be one that this training has"),
    ],
)
def test_spec_when_name_or_setting_does_not_exist_then_usage_error(
    name: str, settings: dict[str, float], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        ModelSpec(name, settings=settings)


@pytest.mark.parametrize(
    ("name", "settings", "length"),
    [("baseline/risk", {}, 4), ("tft/risk", {"schedule.steps": "40"}, 40)],
)
def test_spec_when_asked_how_long_it_is_then_folds_or_steps(
    name: str, settings: dict[str, str], length: int
) -> None:
    assert ModelSpec(name, settings=settings).length(folds=4) == length
