"""The training loop: the same bits after a kill, early stopping, and what it refuses."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.training.loop import LOSS, Schedule, Task, device_of, fit
from agents.training.watch import Watch
from domain.errors import ModelError

SCHEDULE = Schedule(
    steps=30, batch=16, rate=1e-2, warm_up=5, average=0.9, check_every=6, patience=99
)  # fmt: skip
SEED = 3
CPU = torch.device("cpu")


class Killed(Exception):
    """The process was ended from outside."""


def made(seed=0):
    """A network with everything that has to survive: dropout, running means, a counter."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


def samples(step, n=16):
    draw = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(n, 4, generator=draw)
    return x, x.sum(dim=1, keepdim=True) + 0.1 * torch.randn(n, 1, generator=draw)


def loss(network, batch):
    x, y = batch
    return (network(x) - y).square().mean()


EXAM = samples(-1, 64)


def validate(network):
    assert not network.training
    return {LOSS: float(loss(network, EXAM)), "share": 0.5}


TASK = Task(samples, loss, validate, "a task")


def run(watch=None, network=None, task=TASK, schedule=SCHEDULE, seed=SEED):
    network = network or made()
    return fit(network, task, schedule, seed, watch), network


def same(a, b):
    one, other = a.state_dict(), b.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole():
    """What comes of a run that nobody disturbs."""
    return run()


@pytest.mark.parametrize("kill_at", [6, 18, 30])
def test_fit_when_killed_after_a_check_then_it_ends_in_the_same_bits(whole, tmp_path, kill_at):
    def checked(step, scores):
        if step == kill_at:
            raise Killed

    path = tmp_path / "deep" / "run.pt"
    with pytest.raises(Killed):
        run(Watch(checked=checked, checkpoint=path))
    told = []
    fitted, network = run(Watch(say=told.append, checkpoint=path), made(seed=9))
    assert told == [f"resumed at step {kill_at}"]
    assert same(network, whole[1])
    assert (fitted.history, fitted.scores) == (whole[0].history, whole[0].scores)
    assert fitted.steps == 30
    assert fitted.samples == (30 - kill_at) * 16  # of this process, for the speed


def test_fit_when_killed_between_checks_twice_then_it_ends_in_the_same_bits(whole, tmp_path):
    path = tmp_path / "run.pt"
    for at in (10, 21):

        def batch(step, at=at):
            if step == at:
                raise Killed
            return samples(step)

        with pytest.raises(Killed):
            run(Watch(checkpoint=path), task=replace(TASK, batch=batch))
    fitted, network = run(Watch(checkpoint=path))
    assert same(network, whole[1])
    assert fitted.history == whole[0].history


def test_fit_when_it_had_finished_then_nothing_is_done_again(whole, tmp_path):
    path = tmp_path / "run.pt"
    run(Watch(checkpoint=path))

    def batch(step):
        raise Killed

    fitted, network = run(Watch(checkpoint=path), made(seed=9), replace(TASK, batch=batch))
    assert same(network, whole[1])
    assert fitted.scores == whole[0].scores
    assert (fitted.steps, fitted.samples) == (30, 0)


def test_fit_when_it_writes_a_checkpoint_then_no_half_file_stays(tmp_path):
    run(Watch(checkpoint=tmp_path / "run.pt"))
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_fit_when_the_seed_is_the_same_then_the_same_bits_whatever_was_drawn_before(whole):
    torch.manual_seed(77)
    torch.randn(5)
    network = made()
    torch.manual_seed(78)
    again, network = run(network=network)
    assert same(network, whole[1])
    assert again.history == whole[0].history


def test_fit_when_the_seed_is_another_then_other_weights(whole):
    assert not same(run(seed=4)[1], whole[1])  # by dropout: batches and start are the same


def test_fit_when_done_then_the_network_is_the_best_average_and_at_rest(whole):
    fitted, network = whole
    assert not network.training
    best = min(row[LOSS] for row in fitted.history)
    assert fitted.scores[LOSS] == best == float(loss(network, EXAM).detach())
    assert [row["step"] for row in fitted.history] == [6, 12, 18, 24, 30]
    assert set(fitted.history[0]) == {"step", LOSS, "share"}
    assert best < float(loss(made().eval(), EXAM).detach())
    assert int(network[1].num_batches_tracked) == 30


def scripted(losses):
    """A task whose validation says what it is told to, and keeps what it was shown."""
    shown = []

    def say(network):
        shown.append(copy.deepcopy(network))
        return {LOSS: losses[len(shown) - 1]}

    return replace(TASK, validate=say), shown


def test_fit_when_no_check_is_better_then_it_stops_and_takes_the_best():
    task, shown = scripted([3.0, 2.0, 2.5, 2.0, 4.0])
    fitted, network = run(task=task, schedule=replace(SCHEDULE, steps=600, patience=3))
    assert (fitted.steps, len(shown)) == (30, 5)
    assert fitted.scores == {LOSS: 2.0}
    assert same(network, shown[1])  # the first of two equals


def test_fit_when_a_better_check_comes_in_time_then_it_goes_on():
    task, shown = scripted([3.0, 4.0, 2.0, 4.0, 4.0])
    fitted, network = run(task=task, schedule=replace(SCHEDULE, steps=600, patience=2))
    assert (fitted.steps, len(shown)) == (30, 5)
    assert same(network, shown[2])


def test_fit_when_it_had_stopped_early_then_a_restart_does_not_go_on(tmp_path):
    watch, schedule = Watch(checkpoint=tmp_path / "run.pt"), replace(SCHEDULE, patience=1)
    task, shown = scripted([1.0, 2.0, 0.5])
    _, network = run(watch, task=task, schedule=schedule)
    fitted, again = run(watch, made(seed=9), task, schedule)
    assert len(shown) == 2
    assert fitted.steps == 12
    assert same(again, network)


def test_fit_when_steps_are_no_multiple_of_the_checks_then_the_last_one_is_checked():
    fitted, _ = run(schedule=replace(SCHEDULE, steps=14))
    assert [row["step"] for row in fitted.history] == [6, 12, 14]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_fit_when_the_loss_is_not_finite_then_model_error_and_the_checkpoint_stays(tmp_path, value):
    def lost(network, batch):
        done = int(network[1].num_batches_tracked)
        return loss(network, batch) * (value if done == 8 else 1.0)

    path = tmp_path / "run.pt"
    with pytest.raises(ModelError, match=r"stay finite \(step 8\)"):
        run(Watch(checkpoint=path), task=replace(TASK, loss=lost))
    assert torch.load(path, weights_only=True)["steps"] == 6


def test_fit_when_the_validation_loss_is_not_finite_then_model_error():
    task, _ = scripted([float("nan")])
    with pytest.raises(ModelError, match="validation loss must stay finite"):
        run(task=task)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def damaged(path, how):
    body = path.read_bytes()
    if how == "cut off":
        path.write_bytes(body[: len(body) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no checkpoint":
        path.write_bytes(b"checkpoint")
    elif how == "lacks a part":
        state = torch.load(path, weights_only=True)
        del state["optimiser"]
        torch.save(state, path)
    elif how == "another network":
        state = torch.load(path, weights_only=True)
        state["network"] = {"weight": torch.zeros(3)}
        torch.save(state, path)
    else:
        torch.save({"identity": Trap(path.with_name("sprung"))}, path)


@pytest.mark.parametrize(
    "how",
    ["cut off", "empty", "no checkpoint", "lacks a part", "another network", "with code in it"],
)
def test_fit_when_the_checkpoint_is_damaged_then_model_error_with_what_to_do(tmp_path, how):
    path = tmp_path / "run.pt"
    run(Watch(checkpoint=path), schedule=replace(SCHEDULE, steps=6))
    damaged(path, how)
    with pytest.raises(ModelError, match=f"checkpoint {path}.* must be readable") as caught:
        run(Watch(checkpoint=path), schedule=replace(SCHEDULE, steps=6))
    assert "--fresh" in caught.value.hint
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "other",
    [{"seed": 4}, {"schedule": replace(SCHEDULE, rate=5e-3)},
     {"task": replace(TASK, identity="another task")}],
)  # fmt: skip
def test_fit_when_the_checkpoint_is_of_another_training_then_begun_anew(whole, tmp_path, other):
    path, told = tmp_path / "run.pt", []
    run(Watch(checkpoint=path), **other)
    fitted, network = run(Watch(say=told.append, checkpoint=path))
    assert told == ["the checkpoint is of another training: begun anew"]
    assert same(network, whole[1])
    assert fitted.samples == 30 * 16


def test_fit_when_weights_are_averaged_then_the_formula_of_the_schedule():
    path, averages = [], []

    def batch(step):
        path.append(network.weight.detach().clone())  # after ``step`` updates
        return samples(step)

    def keep(average):
        averages.append(average.weight.clone())
        return {LOSS: -float(len(averages))}

    network = nn.Linear(4, 1)
    fit(network, Task(batch, loss, keep, 0), replace(SCHEDULE, check_every=1), SEED)
    mean = path[0]
    for step, weight in enumerate(path[1:]):
        mean = mean.lerp(weight, 1 - min(0.9, (1 + step) / (10 + step)))
        torch.testing.assert_close(averages[step], mean)
    assert torch.equal(network.weight, averages[-1])  # what is left is the average


def test_fit_when_the_gradient_is_constant_then_steps_follow_warm_up_and_cosine():
    places = []

    def batch(step):
        places.append(float(network.weight.detach()[0, 0]))
        return ()

    network = nn.Linear(1, 1, bias=False)
    schedule = replace(SCHEDULE, weight_decay=0.0, check_every=30)
    task = Task(batch, lambda net, _: net.weight.sum(), lambda _: {LOSS: 0.0}, 0)
    fit(network, task, schedule, SEED)
    sizes = -torch.diff(torch.tensor(places, dtype=torch.float64)) / 1e-2  # Adam: the rate itself
    along = (torch.arange(29) - 5).clamp(min=0) / 25
    rates = torch.where(
        torch.arange(29) < 5, (torch.arange(29) + 1) / 5, 0.5 * (1 + torch.cos(torch.pi * along))
    )
    torch.testing.assert_close(sizes, rates.double(), rtol=1e-3, atol=1e-4)


def test_fit_when_watched_then_it_ticks_checks_and_says_its_scores():
    ticks, checks, scored = [], [], []
    watch = Watch(
        tick=lambda *told: ticks.append(told), checked=lambda *told: checks.append(told),
        scored=scored.append,
    )  # fmt: skip
    fitted, _ = run(watch)
    assert [(done, most) for done, most, _ in ticks] == [(10, 30), (20, 30), (30, 30)]
    assert all("samples/s" in words for _, _, words in ticks)
    assert [step for step, _ in checks] == [6, 12, 18, 24, 30]
    assert checks[-1][1][LOSS] == fitted.history[-1][LOSS]
    assert scored == [fitted.scores]


def test_device_when_named_then_that_one_and_else_what_there_is():
    assert device_of("cpu") == CPU
    assert device_of().type in ("cpu", "cuda")
