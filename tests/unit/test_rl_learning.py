"""PPO on the batched market: the same after a kill, and nothing learned where there is nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs numba")
pytest.importorskip("sb3_contrib", reason="needs the extra rl")

import torch

from agents.training.watch import Watch
from domain.errors import ModelError, UsageError
from rl.actions import CHOICES
from rl.learning import GateConfig, Schedule, choosing, learn
from rl.playing import play_all, skip_all
from rl.policy import from_bytes
from rl.training import GateSpec
from tests.gate_scenes import course

SHORT = GateConfig(
    Schedule(steps=4_096, copies=16, rollout=32, batch=128, epochs=2, check_every=2),
    hidden=(16,), length=60,
)  # fmt: skip


class Killed(Exception):
    pass


def weights(learned):
    return [*learned.policy.weights, *learned.policy.biases, learned.policy.mean]


def parted():
    on = course(bars=3_000)
    cut = int(on.bars.open_ms[2_200])
    return on.between(0, cut), on.between(cut, 2**62)


@pytest.mark.long
def test_learning_when_it_is_killed_and_resumed_then_it_ends_in_the_same_weights(tmp_path):
    fit, valid = parted()
    whole = learn(fit, SHORT, 5, valid=valid)

    def kill(done, total, told):
        if done >= 2_048:
            raise Killed

    kept = tmp_path / "state.checkpoint"
    with pytest.raises(Killed):
        learn(fit, SHORT, 5, valid=valid, watch=Watch(tick=kill, checkpoint=kept))
    said = []
    again = learn(fit, SHORT, 5, valid=valid, watch=Watch(say=said.append, checkpoint=kept))
    assert said == ["resumed at step 2048"]
    assert again.history == whole.history
    for one, other in zip(weights(whole), weights(again), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.long
@pytest.mark.parametrize("part", ["checked", "scored"])
def test_learning_when_it_ends_as_it_is_told_a_score_then_that_is_in_the_checkpoint(tmp_path, part):
    fit, valid = parted()
    kept = tmp_path / "state.checkpoint"

    def kill(*told):
        raise Killed

    with pytest.raises(Killed):
        learn(fit, SHORT, 5, valid=valid, watch=Watch(**{part: kill}, checkpoint=kept))
    said, checked = [], []
    watch = Watch(say=said.append, checked=lambda *told: checked.append(told), checkpoint=kept)
    again = learn(fit, SHORT, 5, valid=valid, watch=watch)
    assert said == [f"resumed at step {1_024 if part == 'checked' else 4_096}"]
    assert len(checked) == (3 if part == "checked" else 0)
    assert again.history == learn(fit, SHORT, 5, valid=valid).history


def test_learning_when_it_stops_early_then_a_resumed_one_says_so_after_the_same_steps(tmp_path):
    fit, valid = parted()
    plan = replace(SHORT.schedule, steps=40_960, check_every=1, patience=1)
    config, kept = replace(SHORT, schedule=plan), tmp_path / "state.checkpoint"
    whole = learn(fit, config, 5, valid=valid, watch=Watch(checkpoint=kept))
    assert whole.steps < plan.steps
    again = learn(fit, config, 5, valid=valid, watch=Watch(checkpoint=kept))
    assert (again.steps, again.history) == (whole.steps, whole.history)


def test_learning_when_the_seed_is_another_then_so_are_the_weights():
    fit, _ = parted()
    short = replace(SHORT, schedule=replace(SHORT.schedule, steps=1_024))
    one, same, other = (learn(fit, short, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(weights(one), weights(same), strict=True))
    assert not np.array_equal(one.policy.weights[0], other.policy.weights[0])


def test_learning_when_a_checkpoint_is_of_another_question_then_it_begins_anew(tmp_path):
    fit, _ = parted()
    short = replace(SHORT, schedule=replace(SHORT.schedule, steps=1_024))
    kept, said = tmp_path / "state.checkpoint", []
    learn(fit, short, 1, watch=Watch(checkpoint=kept), identity="one")
    learn(fit, short, 1, watch=Watch(say=said.append, checkpoint=kept), identity="two")
    assert said == ["the checkpoint is of another training: begun anew"]


def test_learning_when_a_checkpoint_is_cut_off_then_it_says_so(tmp_path):
    fit, _ = parted()
    kept = tmp_path / "state.checkpoint"
    kept.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ModelError, match="checkpoint"):
        learn(fit, SHORT, 1, watch=Watch(checkpoint=kept))


def test_policy_when_it_is_exported_then_it_is_the_network_that_was_trained():
    fit, _ = parted()
    learned = learn(fit, replace(SHORT, schedule=replace(SHORT.schedule, steps=1_024)), 3)
    made = from_bytes(learned.policy.to_bytes(), fit.schema)
    layers = []
    for weight, bias in zip(made.weights, made.biases, strict=True):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        layers += [layer, torch.nn.Tanh()]
    seen = np.random.default_rng(0).normal(size=(50, len(fit.schema.names))).astype(np.float32)
    scaled = np.clip((seen - made.mean) / np.sqrt(made.var + 1e-8), -10, 10).astype(np.float32)
    with torch.no_grad():
        told = torch.nn.Sequential(*layers[:-1])(torch.tensor(scaled)).numpy()
    assert told.shape == (50, CHOICES)
    assert np.allclose(told, made.logits(seen), atol=1e-5)


def test_recipe_when_it_is_read_then_it_holds_what_is_used_without_one():
    from agents.training.settings import configured
    from serving.commands.training import gate_settings

    recipe = gate_settings(Path(__file__).parents[2] / "configs" / "gate.yml", None)
    assert configured(GateConfig(), recipe) == GateConfig()
    assert configured(GateConfig(), {**recipe, "hidden": "32"}).hidden == (32,)


def gate_of(**given):
    return GateSpec("ema_cross", 5, "", make=lambda bars, watch: None, **given)


def test_search_when_there_is_a_recipe_then_it_begins_there_and_leaves_alone_what_lies_beyond():
    recipe = {"schedule.rate": "0.001", "hidden": "48", "penalty": "0.2"}
    made = gate_of(settings={"penalty": "0.3"}, recipe=recipe)
    assert made.usual == {
        "schedule.rate": 0.001, "schedule.entropy": 0.002, "schedule.gamma": 0.95,
        "schedule.epochs": 5,
    }  # fmt: skip
    assert set(made.space) == set(made.usual)
    assert (made.config.hidden, made.config.penalty) == ((48,), 0.3)
    found = made.having({"schedule.rate": 0.0004})
    assert found.differing == {"schedule.rate": 0.0004, "hidden": "48", "penalty": 0.3}


def test_board_when_settings_are_searched_then_each_has_a_folder_of_its_own(tmp_path):
    made = gate_of(board=tmp_path)
    assert made.having({"penalty": 0.3, "hidden": "32"}).board == tmp_path / "hidden=32 penalty=0.3"
    assert gate_of().having({"penalty": 0.3}).board is None


def test_config_when_the_mode_is_unknown_then_it_says_which_there_are():
    with pytest.raises(UsageError, match="guard, override, free"):
        _ = GateConfig(mode="gaurd").style


@pytest.mark.slow
def test_learning_when_the_walk_is_random_then_it_learns_not_to_trade():
    on = course(bars=30_000)
    cut = int(on.bars.open_ms[24_000])
    fit, valid = on.between(0, cut), on.between(cut, 2**62)
    config = GateConfig(Schedule(steps=1_500_000, patience=100), mode="free")
    learned = learn(fit, config, 1)  # comparing policies on noise would pick one that trades
    played = play_all(valid, choosing(learned.policy), config.style)
    assert played.kinds[0] / played.kinds.sum() > 0.98
    assert abs(played.per_bar) < 0.02
    assert play_all(valid, skip_all, config.style).per_bar == 0.0
