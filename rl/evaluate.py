"""What a gate is worth: against no gate, chance, abstinence and holding, on bars it never saw.

Everybody trades the same closes in the fill engine: the gates that were trained from several
seeds, the strategy without a gate, gates that veto as often but at random, nobody, and a position
that is bought at the first close and kept. The year is walked through: for every fold each gate
is trained on what lies before it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.times import DAY_MS, iso
from rl.actions import BUY, COUNTS, SKIP, verb_of
from rl.batch import BatchedTradingEnv
from rl.course import Course
from rl.env import Style
from rl.learning import GateConfig, choosing, learn
from rl.observation import ACCOUNT
from rl.playing import Chooser, allow_all, skip_all
from rl.policy import Flags, Policy, Rows
from sim.statistics.comparing import block_bootstrap
from sim.worlds import REGIMES

Floats = NDArray[np.float64]
GATE, NONE, RANDOM, SKIPS, HOLD = "gate", "no gate", "random gate", "always skip", "buy and hold"
REGIME = "feature:regime"
_VETO = ("veto", "shrink", "override", "allow")


@dataclass(frozen=True, slots=True)
class Walk:
    """Folds in order: what is learned on, and the closes after it that are judged."""

    fit: Course
    test: Course


@dataclass(slots=True)
class Track:
    """One contestant's way through the closes that were judged.

    Attributes
    ----------
    at : close of every bar, ms (n,). ``gain`` : of it, bps of the stake (n,).
    verbs : how often it said what, about sides that the strategy wanted.
    by_regime : the same, by regime.
    fills, trades : how many. ``turnover`` : stakes that were traded, entries and exits.
    costs : fees, spread, slippage and funding, bps of the stake.
    """

    at: list[int] = field(default_factory=list)
    gain: list[float] = field(default_factory=list)
    verbs: Counter[str] = field(default_factory=Counter)
    by_regime: dict[str, Counter[str]] = field(default_factory=dict)
    fills: int = 0
    trades: int = 0
    turnover: float = 0.0
    costs: float = 0.0


def walk_of(course: Course, start_ms: int, end_ms: int, folds: int) -> list[Walk]:
    """Cut [start, end) into folds of equal length, each with everything before it to learn on.

    The horizon before a fold is left out: what was decided there ends in it.
    """
    edges = np.linspace(start_ms, end_ms, folds + 1).astype(np.int64).tolist()
    first, gap = int(course.bars.open_ms[0]), course.rules.horizon_ms
    return [
        Walk(course.between(first, start - gap), course.between(start, end))
        for start, end in pairwise(edges)
    ]


def trained_on(
    walks: Sequence[Walk], config: GateConfig, seeds: Sequence[int],
    tick: Callable[[int, int, str], None],
) -> dict[int, list[Policy]]:  # fmt: skip
    """Train a gate for every fold and seed; the newest part of what it learns on compares them."""
    from rl.training import divided  # which imports this package's training

    made: dict[int, list[Policy]] = {seed: [] for seed in seeds}
    done, total = 0, len(walks) * len(seeds)
    for walk in walks:
        fit, valid = divided(walk.fit, config.valid)
        for seed in seeds:
            made[seed].append(learn(fit, config, seed, valid=valid).policy)
            done += 1
            tick(done, total, "gates trained")
    return made


def compared(
    walks: Sequence[Walk], policies: Mapping[int, Sequence[Policy]], style: Style, seed: int
) -> dict[str, Any]:
    """Play everybody over all folds and return the report, JSON's types."""
    tracks: dict[str, Track] = {}
    for number, mine in policies.items():
        tracks[f"{GATE}, seed {number}"] = _played(walks, [choosing(one) for one in mine], style)
    tracks[NONE] = _played(walks, [allow_all(walk.test) for walk in walks], style)
    for number in policies:
        rate = _veto_rate(tracks[f"{GATE}, seed {number}"])
        tracks[f"{RANDOM}, seed {number}"] = _played(
            walks, [_at_random(walk.test, rate, seed + number) for walk in walks], style
        )
    free = Style(style.length, style.penalty, guard=False)
    tracks[SKIPS] = _played(walks, [skip_all for _ in walks], style)
    tracks[HOLD] = _played(walks, [_hold for _ in walks], free)
    base = _daily(tracks[NONE])
    days = np.unique(np.array(tracks[NONE].at) // DAY_MS)
    rows = {name: _row(track, base) for name, track in tracks.items()}
    rows[GATE] = _mean_of(tracks, GATE, base)
    rows[RANDOM] = _mean_of(tracks, RANDOM, base)
    gate = np.mean([_daily(track) for name, track in tracks.items() if name.startswith(f"{GATE},")],
                   axis=0)  # fmt: skip
    return {
        "contestants": rows,
        "by_regime": {
            name: {regime: dict(found) for regime, found in sorted(track.by_regime.items())}
            for name, track in tracks.items() if name.startswith(f"{GATE},")
        },
        "daily": {
            "day": [iso(int(day) * DAY_MS)[:10] for day in days],
            GATE: gate.tolist(), NONE: base.tolist(), HOLD: _daily(tracks[HOLD]).tolist(),
        },
        "folds": [_told(walk) for walk in walks],
    }  # fmt: skip


def _told(walk: Walk) -> dict[str, Any]:
    opens = walk.test.bars.open_ms
    return {
        "start": iso(int(opens[0])), "end": iso(int(opens[-1])), "learned_on": len(walk.fit)
    }  # fmt: skip


def _played(walks: Sequence[Walk], choosers: Sequence[Chooser], style: Style) -> Track:
    track = Track()
    for walk, chooser in zip(walks, choosers, strict=True):
        for first, last in walk.test.runs.tolist():
            _follow(walk.test, chooser, style, first, last - 1, track)
    return track


def _follow(
    course: Course, chooser: Chooser, style: Style, first: int, last: int, track: Track
) -> None:
    starts, lasts = np.array([first]), np.array([last])
    env = BatchedTradingEnv(course, 1, style, 0, starts, lasts)
    seen, stake = env.reset(), course.terms.stake
    regime = course.schema.names.index(REGIME) - len(ACCOUNT)
    worth = float(env.copies["worth"][0])
    paid = ("fees", "spread", "slippage", "funding", "liquidation")
    for t in range(first, last):
        chosen = chooser(seen, env.action_masks())
        intent = int(course.intent[t])
        if intent and style.guard:
            verb, _ = verb_of(int(chosen[0, 0]), int(chosen[0, 1]), intent)
            track.verbs[verb] += 1
            told = track.by_regime.setdefault(REGIMES[int(course.market[t, regime])], Counter())
            told[verb] += 1
        held, costs = float(env.accounts["lots"][0]), _sum(env, paid)
        fills, trades = int(env.accounts["fills"][0]), int(env.accounts["trades"][0])
        seen, _, ends, infos = env.step(chosen)
        now = _worth(env, ends, infos, course)
        track.at.append(int(course.bars.open_ms[t + 1]) + course.rules.bar_ms)
        track.gain.append(1e4 * (now - worth) / stake)
        worth = now
        if not ends[0]:
            track.fills += int(env.accounts["fills"][0]) - fills
            track.trades += int(env.accounts["trades"][0]) - trades
            track.costs += 1e4 * (_sum(env, paid) - costs) / stake
            moved = abs(float(env.accounts["lots"][0]) - held) * course.rules.step
            track.turnover += moved * float(course.bars.open[t + 1]) / stake


def _worth(env: BatchedTradingEnv, ends: Any, infos: Sequence[Any], course: Course) -> float:
    if ends[0]:
        gained: float = infos[0]["episode"]["gained"]
        return course.terms.cash + gained * course.terms.stake / 1e4
    return float(env.copies["worth"][0])


def _sum(env: BatchedTradingEnv, names: Sequence[str]) -> float:
    return math.fsum(float(env.accounts[name][0]) for name in names)


def _hold(seen: Rows, masks: Flags) -> NDArray[np.int64]:
    del masks
    chosen = np.zeros((len(seen), 3), dtype=np.int64)
    chosen[:, 0], chosen[:, 1] = BUY, COUNTS[1] - 1
    return chosen


def _at_random(course: Course, rate: float, seed: int) -> Chooser:
    """Veto a share of the sides, drawn anew at each."""
    rng, usual = np.random.default_rng(seed), allow_all(course)

    def choose(seen: Rows, masks: Flags) -> NDArray[np.int64]:
        chosen = usual(seen, masks)
        chosen[rng.random(len(seen)) < rate, 0] = SKIP
        return chosen

    return choose


def _veto_rate(track: Track) -> float:
    asked = sum(track.verbs.values())
    return track.verbs["veto"] / asked if asked else 0.0


def _daily(track: Track) -> Floats:
    """Gain of each day, bps of the stake."""
    days = np.array(track.at) // DAY_MS
    _, which = np.unique(days, return_inverse=True)
    return np.asarray(np.bincount(which, weights=np.array(track.gain)), dtype=np.float64)


def _row(track: Track, base: Floats) -> dict[str, Any]:
    daily, asked = _daily(track), sum(track.verbs.values())
    return {
        **_figures(daily, base),
        "trades": track.trades, "turnover": track.turnover, "costs_bps": track.costs,
        "asked": asked,
        **{verb: track.verbs[verb] / asked if asked else None for verb in _VETO},
    }  # fmt: skip


def _mean_of(tracks: Mapping[str, Track], kind: str, base: Floats) -> dict[str, Any]:
    mine = [track for name, track in tracks.items() if name.startswith(f"{kind},")]
    rows = [_row(track, base) for track in mine]
    kept = ("trades", "turnover", "costs_bps", "asked", *_VETO)
    means = {
        name: float(np.mean([row[name] for row in rows])) for name in kept
        if all(row[name] is not None for row in rows)
    }  # fmt: skip
    totals = [row["net_bps"] for row in rows]
    return {
        **_figures(np.mean([_daily(track) for track in mine], axis=0), base), **means,
        "seeds": len(mine), "net_bps_by_seed": totals,
    }  # fmt: skip


def _figures(daily: Floats, base: Floats) -> dict[str, Any]:
    n, sd = len(daily), float(daily.std(ddof=1)) if len(daily) > 1 else 0.0
    over = block_bootstrap(daily - base, block=1)
    own = block_bootstrap(daily, block=1)
    return {
        "net_bps": float(daily.sum()),
        "net_bps_interval": None if own is None else [n * float(own.lo), n * float(own.hi)],
        "over_no_gate_bps": float((daily - base).sum()),
        "over_no_gate_interval": None if over is None else [n * float(over.lo), n * float(over.hi)],
        "sharpe": float(daily.mean() / sd * math.sqrt(365.0)) if sd > 0.0 else None,
        "days": n,
    }  # fmt: skip
