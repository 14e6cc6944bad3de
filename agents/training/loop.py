"""One training loop for every network: AdamW, warm-up and cosine, averaged weights, early stopping.

Step k draws its batch and its dropout from (seed, k) alone, and a checkpoint holds everything
else. So a run that was killed goes on where it was and ends in the same weights as one that was
not, and equal seeds give equal metrics on the same machine and thread count.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.training.folds import unreadable
from agents.training.watch import Watch
from domain.canonical import short_hash
from domain.errors import ModelError, UsageError

LOSS = "loss"  # the validation metric that early stopping goes by; lower is better
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes
    ----------
    steps : optimiser steps at most; the learning rate falls along a cosine over them.
    check_every : steps between validations, each of which leaves a checkpoint.
    patience : validations without a new best before it stops.
    average : decay of the exponential moving average of the weights, which is what is validated.
    """

    steps: int = 2000
    batch: int = 256
    rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 1e-2
    clip: float = 1.0
    average: float = 0.995
    check_every: int = 200
    patience: int = 5


@dataclass(slots=True)
class Fitted:
    """What came of a run.

    Attributes
    ----------
    scores : of the best weights, which the network now has.
    history : scores of every validation, with its ``step``.
    steps : done in all. ``samples`` and ``seconds`` : of this process, for the speed.
    """

    scores: Scores = field(default_factory=dict)
    history: list[Scores] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned.

    Attributes
    ----------
    batch : step → tensors; a pure function of the step.
    loss : network and batch → scalar to minimise.
    validate : network in evaluation mode → scores, ``loss`` among them.
    identity : everything the result depends on; a checkpoint of something else is not resumed.
    """

    batch: Callable[[int], tuple[Tensor, ...]]
    loss: Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
    validate: Callable[[nn.Module], Scores]
    identity: object


def device_of(name: str = "auto") -> torch.device:
    """Return the accelerator if there is one, else the CPU; or the device that is named.

    Raises
    ------
    UsageError : for a device that this machine does not have.
    """
    if name != "auto":
        try:
            return torch.zeros(1, device=name).device
        except (RuntimeError, AssertionError) as error:  # unknown, or torch without it
            raise UsageError(
                "device", f"must be auto or one that torch has: {error}", name
            ) from error
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    network: nn.Module, task: Task, schedule: Schedule, seed: int, watch: Watch | None = None
) -> Fitted:
    """Train ``network`` in place, from ``watch.checkpoint`` if it is there; leave it at its best.

    Raises
    ------
    ModelError : if the loss is no longer finite, or the checkpoint cannot be read.
    """
    run = _Run(network, task, schedule, seed, watch or Watch())
    run.resume()
    return run.finish()


class _Run:
    def __init__(
        self, network: nn.Module, task: Task, schedule: Schedule, seed: int, watch: Watch
    ) -> None:
        self._network, self._task, self._schedule = network, task, schedule
        self._seed, self._path, self._watch = seed, watch.checkpoint, watch
        self._average = copy.deepcopy(network).eval()
        self._best = copy.deepcopy(network.state_dict())
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=schedule.rate, weight_decay=schedule.weight_decay
        )
        self._identity = short_hash([task.identity, schedule, seed], 16)
        self._result = Fitted()

    def resume(self) -> None:
        if self._path is None or not self._path.is_file():
            return
        try:
            state = torch.load(self._path, weights_only=True, map_location="cpu")
            if state["identity"] != self._identity:
                self._watch.say("the checkpoint is of another training: begun anew")
                return
            self._restore(state)
        except Exception as error:  # whatever torch says to a file that was cut off
            raise unreadable(self._path, error) from error
        self._watch.say(f"resumed at step {self._result.steps}")

    def _restore(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]
        done = self._result
        done.steps, done.history, done.scores = state["steps"], state["history"], state["scores"]

    def finish(self) -> Fitted:
        done, schedule, began = self._result, self._schedule, time.perf_counter()
        while done.steps < schedule.steps and not self._stale():
            loss = self._step(done.steps)
            done.steps += 1
            done.samples += schedule.batch
            if done.steps % 10 == 0 or done.steps == schedule.steps:
                done.seconds = time.perf_counter() - began
                speed = done.samples / done.seconds
                self._watch.tick(
                    done.steps, schedule.steps, f"loss {float(loss):.4f}, {speed:.0f} samples/s"
                )
            if done.steps % schedule.check_every == 0 or done.steps == schedule.steps:
                self._check()
        done.seconds = time.perf_counter() - began
        self._network.load_state_dict(self._best)
        self._network.eval()
        self._watch.scored(done.scores)
        return done

    def _step(self, step: int) -> Tensor:
        schedule = self._schedule
        torch.manual_seed(self._seed * 1_000_003 + step)
        for group in self._optimiser.param_groups:
            group["lr"] = schedule.rate * _share(step, schedule)
        self._network.train()
        loss = self._task.loss(self._network, self._task.batch(step))
        _require_finite(float(loss.detach()), f"its loss must stay finite (step {step})")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), schedule.clip)
        self._optimiser.step()
        decay = min(schedule.average, (1.0 + step) / (10.0 + step))
        with torch.no_grad():
            mine = self._network.state_dict()
            for name, value in self._average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(mine[name], 1.0 - decay)
                else:
                    value.copy_(mine[name])
        return loss.detach()

    def _check(self) -> None:
        done = self._result
        with torch.no_grad():
            scores = self._task.validate(self._average)
        _require_finite(scores[LOSS], f"its validation loss must stay finite (step {done.steps})")
        done.history.append({"step": float(done.steps), **scores})
        if not done.scores or scores[LOSS] < done.scores[LOSS]:
            done.scores = scores
            self._best = copy.deepcopy(self._average.state_dict())
        if self._path is not None:
            self._save(self._path)
        self._watch.checked(done.steps, scores)

    def _save(self, path: Path) -> None:
        done = self._result
        state = {
            "identity": self._identity, "network": self._network.state_dict(),
            "average": self._average.state_dict(), "optimiser": self._optimiser.state_dict(),
            "best": self._best, "steps": done.steps, "history": done.history,
            "scores": done.scores,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def _stale(self) -> bool:
        losses = [scores[LOSS] for scores in self._result.history]
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= (
            self._schedule.patience
        )


def _require_finite(loss: float, rule: str) -> None:
    if not math.isfinite(loss):
        hint = "Lower the learning rate, or look at the data."
        raise ModelError("training", rule, loss, hint)


def _share(step: int, schedule: Schedule) -> float:
    """The learning rate at a step, as a share of the highest."""
    if step < schedule.warm_up:
        return (step + 1) / schedule.warm_up
    along = (step - schedule.warm_up) / max(1, schedule.steps - schedule.warm_up)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, along)))
