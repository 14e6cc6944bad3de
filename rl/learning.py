"""PPO over the batched environment: Stable-Baselines3, resumable to the bit.

A checkpoint holds everything the next step depends on: network, optimiser, the running mean and
variance of what is seen and earned, every copy's account and place, both random generators. So a
training that was killed goes on where it was and ends in the same weights as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from agents.training.folds import unreadable
from agents.training.watch import Watch
from domain.canonical import short_hash
from domain.errors import ModelError, UsageError
from rl.actions import CHOICES
from rl.batch import BatchedTradingEnv
from rl.course import Course
from rl.env import Style
from rl.observation import LARGEST
from rl.playing import Chooser, Played, allow_all, play_all
from rl.policy import Policy

MODES = ("guard", "override", "free")
_TAIL = 5e-4  # of each column, on either side, that counts as strange
_ODD = 1e-3  # of the training rows that may be unknown


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes
    ----------
    steps : of the environment, all copies together.
    copies : accounts at a time; ``rollout`` : steps of each before the policy changes.
    batch, epochs, rate, clip, entropy, gamma, trace : of PPO; ``trace`` is λ of the advantages.
    check_every : rollouts between validations; ``patience`` : of them without a new best.
    """

    steps: int = 2_000_000
    copies: int = 256
    rollout: int = 64
    batch: int = 2_048
    epochs: int = 5
    rate: float = 3e-4
    clip: float = 0.2
    entropy: float = 0.002
    gamma: float = 0.95
    trace: float = 0.9
    check_every: int = 10
    patience: int = 6


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What a training of the gate can be told.

    Attributes
    ----------
    hidden : units of each layer.
    length : bars of an episode. ``penalty`` : of a drawdown, see :mod:`rl.stepping`.
    mode : ``guard`` may veto and shrink, ``override`` turn a side as well, ``free`` trade alone.
    valid : share of the bars, the newest, on which policies are compared and nothing is learned.
    """

    schedule: Schedule = field(default_factory=Schedule)
    hidden: tuple[int, ...] = (64, 64)
    length: int = 288
    penalty: float = 0.1
    mode: str = "guard"
    valid: float = 0.25

    @property
    def style(self) -> Style:
        """How it is played.

        Raises
        ------
        UsageError : for a mode that there is not.
        """
        if self.mode not in MODES:
            raise UsageError("mode", f"must be one of {', '.join(MODES)}", self.mode)
        return Style(self.length, self.penalty, self.mode != "free", self.mode == "override")


@dataclass(slots=True)
class Learned:
    """What came of it.

    Attributes
    ----------
    policy : the best by validation, or the last without one.
    scores : of that one. ``history`` : of every validation.
    steps : learned from in all. ``seconds`` : of this process.
    """

    policy: Policy
    scores: dict[str, float]
    history: list[dict[str, float]]
    steps: int
    seconds: float


def learn(
    course: Course, config: GateConfig, seed: int, *, valid: Course | None = None,
    watch: Watch | None = None, identity: object = "", board: Path | None = None,
) -> Learned:  # fmt: skip
    """Train a policy, from ``watch.checkpoint`` if it is there.

    Parameters
    ----------
    valid : course on which policies are compared, every ``check_every`` rollouts.
    identity : everything the result depends on beside config and seed.
    board : folder for TensorBoard; None = nothing is written.

    Raises
    ------
    ModelError : if the checkpoint cannot be read, or what is learned is no longer finite.
    """
    torch.set_num_threads(1)  # two were four times slower on networks this small
    return _Run(course, config, seed, valid, watch or Watch(), identity, board).finish()


class _Run:
    def __init__(
        self, course: Course, config: GateConfig, seed: int, valid: Course | None, watch: Watch,
        identity: object, board: Path | None,
    ) -> None:  # fmt: skip
        self.config, self.watch, self._valid = config, watch, valid
        self.style, plan = config.style, config.schedule
        self.batch = BatchedTradingEnv(course, plan.copies, self.style, seed)
        self.env = VecNormalize(self.batch, gamma=plan.gamma, clip_obs=LARGEST)
        self.model = MaskablePPO(
            "MlpPolicy", self.env, plan.rate, plan.rollout, plan.batch, plan.epochs, plan.gamma,
            plan.trace, plan.clip, ent_coef=plan.entropy, seed=seed, device="cpu",
            policy_kwargs={"net_arch": list(config.hidden)},
        )  # fmt: skip
        self.model.set_logger(configure(str(board) if board else None, _formats(board)))
        self._low, self._high, self._strange = _territory(course)
        self._identity = short_hash([identity, config, seed], 16)
        self.best: dict[str, Any] | None = None
        self.scores: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.baseline: Played | None = None

    def finish(self) -> Learned:
        began, plan = time.perf_counter(), self.config.schedule
        self._resume()
        left = plan.steps - self.model.num_timesteps
        if left > 0 and not self.stale:
            self.model.learn(left, _Follow(self), log_interval=1, reset_num_timesteps=False)
        if not self.history or not (self.stale or self.history[-1]["step"] >= plan.steps):
            self.pause(check=True)
        policy = _exported(self.best, self._low, self._high, self._strange)
        self.watch.scored(self.scores)
        seconds = time.perf_counter() - began
        return Learned(policy, self.scores, self.history, int(self.history[-1]["step"]), seconds)

    @property
    def stale(self) -> bool:
        """Whether validation has found nothing better for too long."""
        if self._valid is None or not self.history:
            return False
        best = max(range(len(self.history)), key=lambda k: self.history[k]["gain"])
        return len(self.history) - 1 - best >= self.config.schedule.patience

    def pause(self, *, check: bool) -> None:
        """Compare policies if it is time, and write all down before anybody is told.

        Whoever is told may end the process, or take the checkpoint with them.
        """
        if check:
            self._check()
        self._save()
        if check and self._valid is not None:
            self.watch.checked(self.model.num_timesteps, self.scores)

    def _check(self) -> None:
        weights = {name: value.clone() for name, value in self.model.policy.state_dict().items()}
        state = {"weights": weights, "mean": self.env.obs_rms.mean, "var": self.env.obs_rms.var}
        if not all(torch.isfinite(value).all() for value in weights.values()):
            raise ModelError("gate", f"must stay finite (step {self.model.num_timesteps})")
        scores = {"step": float(self.model.num_timesteps), **self._validated(state)}
        self.history.append(scores)
        if self.best is None or scores.get("gain", 0.0) > self.scores.get("gain", -np.inf):
            self.best = {
                "weights": weights,
                "mean": state["mean"].copy(),
                "var": state["var"].copy(),
            }
            self.scores = {name: value for name, value in scores.items() if name != "step"}

    def _validated(self, state: Mapping[str, Any]) -> dict[str, float]:
        if self._valid is None:
            return {}
        style = self.style
        if self.baseline is None:
            self.baseline = play_all(self._valid, allow_all(self._valid), style)
        policy = _exported(state, self._low, self._high, self._strange)
        played = play_all(self._valid, choosing(policy), style)
        return {
            "gain": played.per_bar - self.baseline.per_bar,
            "gate_bps_a_bar": played.per_bar,
            "no_gate_bps_a_bar": self.baseline.per_bar,
            "skipped": float(played.kinds[0] / played.kinds.sum()),
        }

    def _save(self) -> None:
        path = self.watch.checkpoint
        if path is None:
            return
        model, env = self.model, self.env
        assert model._last_obs is not None
        drawn: Any = np.random.get_state()  # noqa: NPY002 - SB3 draws from it
        key, words, place, has, cached = drawn
        state = {
            "identity": self._identity,
            "policy": model.policy.state_dict(),
            "optimiser": model.policy.optimizer.state_dict(),
            "steps": model.num_timesteps, "updates": model._n_updates,
            "seen": _moments(env.obs_rms), "earned": _moments(env.ret_rms),
            "returns": torch.from_numpy(env.returns.copy()),
            "last": torch.from_numpy(np.asarray(model._last_obs).copy()),
            "begun": torch.from_numpy(np.asarray(model._last_episode_starts).copy()),
            "old": torch.from_numpy(np.asarray(env.old_obs).copy()),
            "accounts": _bytes(self.batch.accounts), "copies": _bytes(self.batch.copies),
            "torch": torch.get_rng_state(),
            "numpy": [str(key), torch.from_numpy(words.astype(np.int64)), place, has, cached],
            "best": _plain(self.best), "scores": self.scores, "history": self.history,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def _resume(self) -> None:
        path = self.watch.checkpoint
        if path is None or not path.is_file():
            return
        try:
            state = torch.load(path, weights_only=True)
            if state["identity"] != self._identity:
                self.watch.say("the checkpoint is of another training: begun anew")
                return
            self._restore(state)
        except Exception as error:  # whatever torch says to a file that was cut off
            raise unreadable(path, error) from error
        self.watch.say(f"resumed at step {self.model.num_timesteps}")

    def _restore(self, state: dict[str, Any]) -> None:
        model, env = self.model, self.env
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimiser"])
        model.num_timesteps, model._n_updates = state["steps"], state["updates"]
        env.obs_rms, env.ret_rms = _running(state["seen"]), _running(state["earned"])
        env.returns = state["returns"].numpy()
        env.old_obs = state["old"].numpy()
        model._last_obs = state["last"].numpy()
        model._last_episode_starts = state["begun"].numpy()
        for mine, kept in ((self.batch.accounts, "accounts"), (self.batch.copies, "copies")):
            mine[:] = np.frombuffer(state[kept].numpy().tobytes(), dtype=mine.dtype)
        torch.set_rng_state(state["torch"])
        key, words, *rest = state["numpy"]
        np.random.set_state((key, words.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        self.best, self.scores = _unplain(state["best"]), state["scores"]
        self.history = state["history"]


class _Follow(BaseCallback):  # type: ignore[misc] # SB3 is not followed by mypy
    """Checks, keeps and tells between rollouts."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self._run, self._begun, self._began = run, -1, 0.0

    def _on_rollout_start(self) -> None:
        run, plan = self._run, self._run.config.schedule
        done = self.model.num_timesteps
        if self._begun < 0:
            self._begun, self._began = done, time.perf_counter()
            return
        due = (done // (plan.copies * plan.rollout)) % plan.check_every == 0
        run.pause(check=due)
        if due:
            for name, value in run.history[-1].items():
                self.logger.record(f"valid/{name}", value)
        speed = (done - self._begun) / (time.perf_counter() - self._began)
        gain = run.scores.get("gain")
        told = "" if gain is None else f", best {gain:+.4f} bps a bar over no gate"
        run.watch.tick(done, plan.steps, f"{speed:.0f} steps/s{told}")

    def _on_step(self) -> bool:
        # Asked after every step of a rollout; a rollout is not left half way.
        fresh = self.n_calls % self._run.config.schedule.rollout == 1
        return not (fresh and self._run.stale)


def choosing(policy: Policy) -> Chooser:
    """Return what a policy likes best."""
    return lambda seen, masks: policy.choose(seen, masks)[0]


def _formats(board: Path | None) -> list[str]:
    return [] if board is None else ["tensorboard"]


def _territory(course: Course) -> tuple[Any, Any, int]:
    """Range of each column, and how many may lie beyond it."""
    known = course.market[np.isfinite(course.market).all(axis=1)]
    low, high = np.quantile(known, (_TAIL, 1.0 - _TAIL), axis=0).astype(np.float32)
    beyond = ((known < low) | (known > high)).sum(axis=1)
    own = np.full(4, -LARGEST, np.float32)  # an account's own columns are bounded as they are
    strange = int(np.quantile(beyond, 1.0 - _ODD)) + 1
    return np.concatenate((own, low)), np.concatenate((-own, high)), strange


def _exported(state: Mapping[str, Any] | None, low: Any, high: Any, strange: int) -> Policy:
    assert state is not None
    weights = {name: value.numpy() for name, value in state["weights"].items()}
    inner = sorted(
        {
            name.rpartition(".")[0]
            for name in weights
            if name.startswith("mlp_extractor.policy_net")
        },
        key=lambda name: int(name.rpartition(".")[2]),
    )
    layers = [*inner, "action_net"]
    assert len(weights["action_net.bias"]) == CHOICES
    return Policy(
        tuple(weights[f"{name}.weight"].copy() for name in layers),
        tuple(weights[f"{name}.bias"].copy() for name in layers),
        np.array(state["mean"]), np.array(state["var"]), low, high, strange,
    )  # fmt: skip


def _moments(running: RunningMeanStd) -> list[Any]:
    return [
        torch.from_numpy(np.array(running.mean)), torch.from_numpy(np.array(running.var)),
        float(running.count),
    ]  # fmt: skip


def _running(moments: list[Any]) -> RunningMeanStd:
    made = RunningMeanStd(shape=tuple(moments[0].shape))
    made.mean, made.var, made.count = moments[0].numpy(), moments[1].numpy(), moments[2]
    return made


def _bytes(rows: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(rows.tobytes()), dtype=torch.uint8)


def _plain(best: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if best is None:
        return None
    return {
        "weights": dict(best["weights"]),
        "mean": torch.from_numpy(best["mean"]), "var": torch.from_numpy(best["var"]),
    }  # fmt: skip


def _unplain(kept: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    return {**kept, "mean": kept["mean"].numpy(), "var": kept["var"].numpy()}
