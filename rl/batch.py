"""Many copies of :class:`rl.env.TradingEnv` in one compiled call (Stable-Baselines3 VecEnv)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from execution.kernel.state import Ints
from rl.actions import CHOICES
from rl.course import Course
from rl.env import Style, action_space, observation_space
from rl.stepping import begin_all, masks_of, new_accounts, new_copies, step_all

_OVER = 1  # the episode's bars, as :func:`rl.stepping.step_all` says


class BatchedTradingEnv(VecEnv):  # type: ignore[misc] # SB3 is not followed by mypy
    """n accounts on one course, each in an episode of its own; what one does changes no other.

    Copy i goes through the same steps as a :class:`~rl.env.TradingEnv` with ``number=i``.

    Parameters
    ----------
    starts, lasts : rows at which episodes begin and end, taken in turn; None = anywhere that an
        episode fits.
    """

    def __init__(
        self, course: Course, copies: int = 64, style: Style | None = None, seed: int = 0,
        starts: Ints | None = None, lasts: Ints | None = None,
    ) -> None:  # fmt: skip
        self.course, self.style = course, style or Style()
        self.render_mode: None = None
        ordered = starts is not None
        self._play = self.style.play(course, seed, ordered=ordered)
        self._starts = course.starts(self.style.length) if starts is None else starts
        self._lasts = self._starts + self.style.length if lasts is None else lasts
        super().__init__(copies, observation_space(course), action_space())
        self.accounts, self.copies = new_accounts(copies), new_copies(copies)
        shape = (copies, len(course.schema.names))
        self._final = np.zeros(shape, dtype=np.float32)
        self._told = new_copies(copies)
        self._chosen = np.zeros((copies, 3), dtype=np.int64)
        self._shape = shape

    def reset(self) -> VecEnvObs:
        """Begin every copy's next episode, (n, columns)."""
        seen = np.empty(self._shape, dtype=np.float32)
        course = self.course
        begin_all(
            self.accounts, self.copies, self._starts, self._lasts, course.bars, course.market,
            course.sigma, self._play, course.rules, seen,
        )  # fmt: skip
        return seen

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the actions, (n, 3)."""
        self._chosen = np.ascontiguousarray(actions, dtype=np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """Let every copy act and meet its next bar."""
        course = self.course
        seen = np.empty(self._shape, dtype=np.float32)
        rewards = np.empty(self.num_envs, dtype=np.float32)
        ends = np.empty(self.num_envs, dtype=np.int8)
        over = step_all(
            self._chosen, self.accounts, self.copies, self._starts, self._lasts, course.bars,
            course.market, course.intent, course.sigma, course.tiers, self._play, course.rules,
            seen, rewards, ends, self._final, self._told,
        )  # fmt: skip
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if over:
            for i in np.flatnonzero(ends).tolist():
                copy = self._told[i]
                infos[i] = {
                    "terminal_observation": self._final[i].copy(),
                    "TimeLimit.truncated": bool(ends[i] == _OVER),
                    "episode": {
                        "r": float(copy["earned"]), "l": self.style.length, "t": 0.0,
                        "gained": float(copy["gained"]),
                    },
                }  # fmt: skip
        return seen, rewards, ends > 0, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which choices are allowed, (n, kinds + sizes + levels)."""
        mask = np.empty((self.num_envs, CHOICES), dtype=bool)
        masks_of(
            self.accounts, self.copies, self.course.intent, self._play, self.course.rules, mask
        )
        return mask

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the batch, once a copy."""
        value = getattr(self, attr_name)
        return [value for _ in self._indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: copies have no attributes of their own."""
        raise NotImplementedError(f"{attr_name} cannot be set: copies share one course")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:  # fmt: skip
        """Call a method of the batch and return each copy's row of its result."""
        rows = getattr(self, method_name)(*method_args, **method_kwargs)
        return [rows[i] for i in self._indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No copy is."""
        del wrapper_class
        return [False for _ in self._indices(indices)]

    def _indices(self, indices: VecEnvIndices) -> Sequence[int]:
        return list(self._get_indices(indices))
