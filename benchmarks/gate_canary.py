"""What PPO finds where it is known what is there: ``python -m benchmarks.gate_canary``.

Three markets that are random walks, on which a policy may trade as it likes at the usual costs
(13 bp a round trip):

leaked     one column of the observation is the return of the next five bars
shuffled   the same column, its values in another order: it says nothing
walk       no such column

With the future in sight a policy must come close to the best rule that acts on that column (long
above, short below a threshold, chosen on the bars it learns on); without, it must learn not to
trade. The bound is what somebody would earn who knew every close to come and traded at closes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.training.watch import Watch
from benchmarks.scores import show
from data.instruments import instrument_for
from data.memory import MarketMemory
from domain.decision import Decision
from domain.market import MarketState
from execution.fills import CostModel, Frictions
from execution.strategies import EmaCross
from rl.actions import BUY, SELL
from rl.course import Course, Terms, course_of
from rl.env import Style
from rl.learning import GateConfig, Schedule, choosing, learn
from rl.observation import ACCOUNT, SIGNAL, Schema
from rl.playing import Chooser, play_all
from rl.policy import Flags, Rows
from sim.worlds import RANDOM_WALK, GeneratedWorld

HEADING, TOOL, OUT = (
    "What it finds where it is known",
    "benchmarks.gate_canary",
    Path("docs/gate.md"),
)
HEAD = (
    "market", "seed", "steps", "best rule, bp a bar", "policy, bp a bar", "of the rule",
    "of the bound", "skips",
)  # fmt: skip
SYMBOL, BARS, LEARNED = "BTC/USDT:USDT", 60_000, 48_000
AHEAD = 5
THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)  # σ of the horizon
PLACE = SIGNAL.index("logit")  # of the column that is replaced, after the account's
STEPS = {"leaked": 800_000, "shuffled": 1_600_000, "walk": 1_600_000}


class Parts(NamedTuple):
    """What is learned on, and what is judged."""

    fit: Course
    test: Course


def main() -> None:
    """Train on every market from every seed, print and write the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    rows = [HEAD, ("---",) * len(HEAD)]
    for kind in STEPS:
        for seed in range(1, told.seeds + 1):
            rows.append((kind, str(seed), *measured(kind, seed)))
            print("  " + " | ".join(rows[-1]), flush=True)
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


def measured(kind: str, seed: int) -> tuple[str, ...]:
    """Return the cells of one training."""
    config = GateConfig(Schedule(steps=STEPS[kind], patience=1_000), mode="free")
    parts, style = market(kind, seed), config.style
    learned = learn(parts.fit, config, seed, watch=Watch())
    played = play_all(parts.test, choosing(learned.policy), style)
    rule = best_rule(parts, style) if kind == "leaked" else 0.0
    bound = foresight(parts.test)
    return (
        f"{learned.steps:,}", f"{rule:+.3f}", f"{played.per_bar:+.4f}",
        f"{played.per_bar / rule:.0%}" if rule else "",
        f"{played.per_bar / bound:.0%}", f"{played.kinds[0] / played.kinds.sum():.1%}",
    )  # fmt: skip


def market(kind: str, seed: int) -> Parts:
    """Return a random walk with what is to be seen of it."""
    course = walk(seed)
    if kind != "walk":
        course = course.having(leaking(course, seed, shuffled=kind == "shuffled"))
    cut = int(course.bars.open_ms[LEARNED])
    gap = course.rules.horizon_ms
    return Parts(course.between(0, cut - gap), course.between(cut, 2**62))


def walk(seed: int) -> Course:
    """Return a random walk, on which ``ema_cross`` says what it says."""
    world = GeneratedWorld(RANDOM_WALK, 100 + seed, SYMBOL)
    frame = world.bars(world.start_ms, BARS)
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    strategy, instrument = EmaCross(), instrument_for(SYMBOL)

    def decided() -> Iterator[tuple[MarketState, Decision]]:
        for state in memory.states(None, None, 250):
            prepared = strategy.prepare_state(state, (), {})
            yield state, strategy.generate_signal(prepared, state.as_of)

    terms = Terms(instrument, CostModel.of(instrument, Frictions()))
    return course_of(frame, decided(), Schema(), terms)


def leaking(course: Course, seed: int, *, shuffled: bool) -> Rows:
    """Return what is seen, with the return of the next bars in one column."""
    close = course.bars.close
    ahead = np.zeros(len(close))
    ahead[:-AHEAD] = np.log(close[AHEAD:] / close[:-AHEAD])
    told = np.clip(ahead / course.sigma, -10.0, 10.0)
    if shuffled:
        told = np.random.default_rng(seed).permutation(told)
    market = course.market.copy()
    market[:, PLACE] = np.where(np.isfinite(told), told, 0.0)
    return market


def best_rule(parts: Parts, style: Style) -> float:
    """Return what the best threshold earns on the bars that are judged, bp a bar."""
    found = {cut: play_all(parts.fit, above(cut), style).per_bar for cut in THRESHOLDS}
    return play_all(parts.test, above(max(found, key=lambda cut: found[cut])), style).per_bar


def above(cut: float) -> Chooser:
    """Long where the column says more than ``cut``, short where less than −``cut``."""

    def choose(seen: Rows, masks: Flags) -> NDArray[np.int64]:
        del masks
        told = seen[:, len(ACCOUNT) + PLACE]
        kind = np.where(told > cut, BUY, np.where(told < -cut, SELL, 0))
        return np.stack((kind, np.full_like(kind, 3), np.zeros_like(kind)), axis=1)

    return choose


def foresight(course: Course) -> float:
    """Return what the best path through long, flat and short earns at closes, bp a bar."""
    half = 0.5 * course.terms.round_trip
    sides = np.array([-1.0, 0.0, 1.0])
    paid = half * np.abs(sides[:, None] - sides[None, :])  # (to, from)
    total, bars = 0.0, 0
    for first, last in course.runs.tolist():
        moves = np.diff(np.log(course.bars.close[first:last]))
        best = np.array([-np.inf, 0.0, -np.inf])
        for move in moves:
            best = (best[None, :] - paid).max(axis=1) + sides * move
        total, bars = total + float(best.max()), bars + len(moves)
    return 1e4 * total / bars


if __name__ == "__main__":
    main()
