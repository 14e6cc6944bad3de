"""Every kind of model keeps one contract: train, predict, save, load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.artifacts import Artifact, load
from agents.heads import TARGETS
from agents.training.dataset import Source
from agents.training.kinds import KINDS, model_of
from domain.errors import DataRefused, ModelError, UsageError
from tests.agents_world import START, STEP, market, states_of

END = START + 6_600 * STEP
SOURCE = Source(END, 7, END, "abc1234", "0" * 64, folds=0)
QUICK = {
    "baseline": {},
    "tft": {"schedule.steps": 4, "schedule.check_every": 4, "schedule.batch": 32},
}
CASES = [(kind, target) for kind in KINDS for target in TARGETS]
NAMES = [f"{kind}-{target}" for kind, target in CASES]


@pytest.fixture(scope="module")
def bars():
    return market(6_700, seed=3, drift=3e-4)


@pytest.fixture(scope="module")
def trained(bars):
    """Kind and target → a trained model; made when first asked for."""
    made = {}

    def one(kind, target):
        if (kind, target) not in made:
            model = model_of(kind, target, 5, QUICK[kind])
            model.train([bars], SOURCE)
            made[kind, target] = model
        return made[kind, target]

    return one


def told(predictions):
    """Every number of what was predicted, as one row per state."""
    names = ("p_up", "sigma", "quantiles", "risk_down", "risk_up")
    columns = [
        np.concatenate([np.atleast_2d(getattr(p, name).T).T for p in predictions])
        for name in names
        if getattr(predictions[0], name) is not None
    ]
    return np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1)


def asked(bars):
    class Needs:
        class needs:  # noqa: N801 - stands for an agent's
            bars, feature_rows = 2017, 60

    return list(states_of(Needs, bars))[6_500:6_512]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "target"), CASES, ids=NAMES)
def test_model_when_saved_and_loaded_then_the_same_predictions(
    kind, target, trained, bars, tmp_path
):
    model, states = trained(kind, target), asked(bars)
    card = model.save(tmp_path)
    again = type(model).load(load(tmp_path / model.name / card.version))
    np.testing.assert_array_equal(told(model.predict(states)), told(again.predict(states)))
    assert (again.name, again.horizon_bars) == (model.name, 5)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "target"), CASES, ids=NAMES)
def test_model_when_asked_then_what_its_target_says_is_well_formed(kind, target, trained, bars):
    (said,) = trained(kind, target).predict(asked(bars))
    assert said.awake.all()
    if target == "trend":
        assert ((said.p_up > 0) & (said.p_up < 1)).all()
    if target == "return":
        assert (said.sigma > 0).all()
        assert (np.diff(said.quantiles, axis=1) >= 0).all()
    if target == "risk":
        both = np.stack((said.risk_down, said.risk_up))
        assert ((both >= 0) & (both <= 1)).all()


@pytest.mark.long
@pytest.mark.parametrize(("kind", "target"), CASES, ids=NAMES)
def test_model_when_trained_then_its_card_tells_what_it_beat(kind, target, trained):
    card = trained(kind, target)._trained().card
    assert (card.agent, card.target, card.end_ms) == (kind, target, END)
    assert card.files
    assert card.feature_schema


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_model_when_an_artifact_is_of_another_kind_then_refused(kind, trained):
    other = next(name for name in KINDS if name != kind)
    artifact = trained(other, "trend")._trained()
    with pytest.raises(ModelError, match="must be of kind"):
        type(trained(kind, "trend")).load(artifact)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "target"), CASES, ids=NAMES)
def test_model_when_a_file_is_missing_then_refused(kind, target, trained):
    whole = trained(kind, target)._trained()
    rest = {name: body for name, body in whole.contents.items() if name != "model.onnx"}
    with pytest.raises(ModelError, match=r"must hold model\.onnx"):
        type(trained(kind, target)).load(Artifact(whole.folder, whole.card, rest))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_model_when_not_trained_then_it_says_so(kind, bars, tmp_path):
    model = model_of(kind, "trend")
    with pytest.raises(ModelError, match="trained or loaded first"):
        model.predict(asked(bars))
    with pytest.raises(ModelError, match="trained or loaded first"):
        model.save(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_model_when_bars_are_too_few_then_refused(kind, bars):
    few = bars.slice(0, 500)
    with pytest.raises(DataRefused):
        model_of(kind, "trend", 5, QUICK[kind]).train([few], replace(SOURCE, end_ms=END))


def test_model_of_when_kind_or_target_is_unknown_then_usage_error():
    with pytest.raises(UsageError, match="Did you mean"):
        model_of("baselin", "trend")
    with pytest.raises(UsageError, match="trend, return, risk"):
        model_of("tft", "direction")
