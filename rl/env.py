"""A market to trade on, for one agent at a time (gymnasium), played by the paper broker's rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from execution.kernel.account import absorb, decide, equity
from execution.kernel.state import Moment
from rl.actions import ADJUST, BUY, CHOICES, COUNTS, HEDGE, LEVELS, SELL, SIZES, SKIP, allowed
from rl.course import Course
from rl.observation import LARGEST, account_row
from rl.stepping import Play, began, new_accounts, new_copies

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Style:
    """How it is played.

    Attributes
    ----------
    length : steps of an episode.
    penalty : of a drawdown, see :mod:`rl.stepping`.
    guard : whether only what a gate can do is allowed; ``override`` : also against the strategy.
    """

    length: int = 288
    penalty: float = 0.1
    guard: bool = True
    override: bool = False

    def play(self, course: Course, seed: int, *, ordered: bool = False) -> Play:
        """Return it in plain numbers."""
        terms = course.terms
        return Play(terms.stake, terms.cash, self.penalty, self.guard, self.override, seed, ordered)


def observation_space(course: Course) -> spaces.Box:
    """Return the space of what is seen."""
    shape = (len(course.schema.names),)
    return spaces.Box(-LARGEST, LARGEST, shape, np.float32)


def action_space() -> spaces.MultiDiscrete:
    """Return the space of what can be done."""
    return spaces.MultiDiscrete(list(COUNTS))


class TradingEnv(gymnasium.Env):  # type: ignore[misc] # gymnasium is not followed by mypy
    """One account on a course, from a flat start drawn for every episode.

    What is seen: :mod:`rl.observation`. What can be done: :mod:`rl.actions`. The reward:
    :mod:`rl.stepping`. An action at a close is carried out from the next bar's open on. An episode
    is ``length`` steps without a gap (truncated), or ends with the account (terminated). Episode k
    of ``number`` begins where copy ``number`` of :class:`rl.batch.BatchedTradingEnv` begins its
    k-th.

    Parameters
    ----------
    seed : of where episodes begin; ``reset(seed=…)`` begins again at episode 0.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    render_mode = None

    def __init__(
        self, course: Course, style: Style | None = None, seed: int = 0, number: int = 0
    ) -> None:
        self.course, self.style, self._number = course, style or Style(), number
        self._play = self.style.play(course, seed)
        self._starts = course.starts(self.style.length)
        self._lasts = self._starts + self.style.length
        self._account, self._copy = new_accounts(1), new_copies(1)
        self.observation_space, self.action_space = observation_space(course), action_space()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Begin the next episode."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._play = self._play._replace(seed=seed)
            self._copy["episode"] = 0
        began(
            self._account[0], self._copy[0], self._number, 1, self._starts, self._lasts, self._play
        )
        return self._seen(), self._told()

    def step(self, action: NDArray[np.int64]) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Act at the close, meet the next bar."""
        course, copy, play = self.course, self._copy[0], self._play
        kind, size, levels = (int(part) for part in action)
        if not self.action_masks()[kind]:
            kind = SKIP
        self._act(kind, size, 0 if play.guard else levels)
        t = int(copy["row"]) + 1
        bars = course.bars
        bar = Moment(t, *(column[t] for column in bars))
        absorb(self._account[0], course.tiers, bar, course.rules)
        worth = equity(self._account[0], course.rules, bars.close[t])
        gain = 1e4 * (worth - copy["worth"]) / play.stake
        peak = max(float(copy["peak"]), worth)
        fallen = 1e4 * (peak - worth) / play.stake
        reward = gain - play.penalty * max(0.0, fallen - copy["fallen"])
        copy["worth"], copy["peak"], copy["fallen"], copy["row"] = worth, peak, fallen, t
        copy["earned"] += reward
        copy["gained"] += gain
        lost = worth <= 0.0
        over = not lost and t >= int(copy["last"])
        return self._seen(), float(reward), lost, over, self._told()

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which choices are allowed, (kinds + sizes + levels,)."""
        lots, rules = float(self._account["lots"][0]), self.course.rules
        wants = int(self.course.intent[int(self._copy["row"][0])])
        mask = np.ones(CHOICES, dtype=bool)
        for kind in range(COUNTS[0]):
            mask[kind] = allowed(
                kind, lots, wants, rules.spot, self._play.guard, self._play.override
            )
        if self._play.guard:
            mask[COUNTS[0] + COUNTS[1] + 1 :] = False
        return mask

    def _act(self, kind: int, size: int, levels: int) -> None:
        course, account = self.course, self._account[0]
        t = int(self._copy["row"][0])
        rules, close = course.rules, float(course.bars.close[t])
        closed = int(course.bars.open_ms[t]) + rules.bar_ms
        side = {BUY: 1, SELL: -1}.get(kind, 0)
        held = float(account["lots"])
        if kind == HEDGE:
            if held and not account["leave"]:
                account["leave"] = abs(held)
            return
        stop = target = math.nan
        if levels:
            turned = side or (1 if held > 0.0 else -1)
            below, above = (turned * far * course.sigma[t] for far in LEVELS[levels])
            stop = float(math.floor(close * math.exp(-below) / rules.tick + 0.5))
            target = float(math.floor(close * math.exp(above) / rules.tick + 0.5))
        if kind == ADJUST and held:
            account["stop"], account["target"] = stop, target
        if side or 0 < int(account["due"]) <= closed:
            whole = self._play.stake * SIZES[size] / close / rules.step
            lots = float(math.floor(whole + 5e-7))
            decide(account, closed, side, lots, stop, target, rules)

    def _seen(self) -> Rows:
        course, account = self.course, self._account[0]
        t = int(self._copy["row"][0])
        closed = int(course.bars.open_ms[t]) + course.rules.bar_ms
        left = 0.0
        if account["lots"]:
            left = max(int(account["due"]) - closed, 0) / course.rules.horizon_ms
        own = account_row(
            float(account["lots"]), float(account["entry"]), float(course.bars.close[t]),
            self._play.stake, course.rules.step, left, float(course.sigma[t]),
        )  # fmt: skip
        return np.concatenate((np.array(own, dtype=np.float32), course.market[t]))

    def _told(self) -> dict[str, Any]:
        account, copy = self._account[0], self._copy[0]
        paid = ("fees", "spread", "slippage", "funding", "liquidation", "fills", "trades")
        return {
            "worth": float(copy["worth"]), "gained": float(copy["gained"]),
            "lots": float(account["lots"]), **{name: account[name].item() for name in paid},
        }  # fmt: skip
