"""Negative controls: results that are known beforehand, whatever the market did.

shuffled_labels   outcomes shuffled by blocks of a day or more, all that learns learns them: no gain
random_walk       a generated market without an edge: no gain
planted_edge      a generated market with a known edge: it is found
leak              features of the next bar: an AUC that no honest forecast has
delay             features of the bar before: part of the skill is kept

The first two find a pipeline that gains where nothing is to be gained, the third one that finds
nothing at all, the last two one whose rows are shifted. Two things are put to the test: a learner
(by default a logistic regression on the 54 features of the project's reference) and the council.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agents.training.dataset import VOLUME_FROM
from data.features import REFERENCE_54
from data.features.run import TAIL
from data.labels import Labels
from data.memory import MarketMemory
from domain.errors import UsageError
from domain.market import BarFrame, MarketState
from domain.opinion import Outcome
from domain.ports import Agent, Strategy
from sim.learners import Learner, Score, Table, min_test, no_test
from sim.opinions import CouncilRun, widest
from sim.panel import Range, outcome_due
from sim.processes import each_in_order
from sim.progress import Progress, Ticker
from sim.scoring import Floats, Truth, day_block_shuffles, directional
from sim.statistics.comparing import block_bars
from sim.tapes import Tape, TapeStore
from sim.worlds import GeneratedWorld, PlantedEdge, RandomWalk

Due = Callable[[Labels, Truth, int, MarketState], Outcome | None]
"""What a council is told at the close of a row's bar, of what it is said to have happened."""

LEAK_AUC = 0.65
FOUND_T = 3.0
NOISE = 2.0  # standard errors
BASE_RATE = "climatology"  # the agent that says how often the price rises, and no more

_GROUP = 3  # councils that sit side by side over one reading of the tape


@dataclass(frozen=True, slots=True)
class Control:
    """One control's verdict.

    Attributes
    ----------
    ok : None where it could not be made; ``note`` says why.
    expected : what must come out, in words.
    figures : gains are Brier gains against ½ × 10⁴; None where there is nothing to score.
    """

    ok: bool | None
    expected: str
    figures: Mapping[str, float | int | None] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is put to the test; a learner, a council, or both.

    Attributes
    ----------
    learner : None leaves out what needs one.
    agents, council : None and empty leave out the council.
    training_end : agent → UTC ms; it is not asked about bars that open earlier.
    due : how outcomes reach the council.
    """

    learner: Learner | None = None
    agents: Mapping[str, Agent] = field(default_factory=dict)
    council: Callable[[], Strategy] | None = None
    training_end: Mapping[str, int] = field(default_factory=dict)
    due: Due = outcome_due


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is tried.

    Attributes
    ----------
    shuffles : of the labels; below 20 it is no test.
    council_rows : newest rows of the range on which councils are refolded (90 days).
    world_bars : length of each generated market.
    strength : of the planted edge, 1 is as weak as on real bars; 3 can be proved in 30 000 bars.
    train_from_ms : bars that open earlier are not trained on, UTC ms.
    processes : at work at a time, where the system can fork; changes no figure.
    """

    shuffles: int = 20
    council_rows: int = 25_920
    world_bars: int = 30_000
    strength: float = 3.0
    train_from_ms: int = VOLUME_FROM
    processes: int = 1


def run_controls(
    frame: BarFrame,
    subject: Subject,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    horizon: int = 5,
    sizes: Sizes | None = None,
    seed: int = 7,
    tapes: TapeStore | None = None,
    progress: Progress | None = None,
) -> dict[str, Control]:
    """Run all controls.

    Parameters
    ----------
    frame : bars of one symbol, those before the range included: the learner trains on them.
    start_ms, end_ms : bars that open in [start, end) are scored; None means all there are, and
        then there is nothing to train on.
    tapes : where the agents' opinions are kept; None forgets them afterwards.
    progress : called with steps done and in all.

    Raises
    ------
    DataRefused : if no bar opens in the range.
    UsageError : if there is not a shuffle to make.
    """
    sizes = sizes or Sizes()
    if sizes.shuffles < 1:
        raise UsageError("shuffles", "must be at least 1, and 20 to be a test", sizes.shuffles)
    tick = Ticker(2 * sizes.shuffles + 8, progress)
    where = Range.of(frame, start_ms, end_ms, horizon)
    table = Table.of(where.past, where.start_ms, horizon, sizes.train_from_ms)
    world = frame.symbol, frame.timeframe
    out = {"shuffled_labels": shuffled_labels(where, table, subject, sizes, seed, tapes, tick)}
    walk = RandomWalk(seed, *world)
    out["random_walk"] = random_walk(walk, subject, horizon, sizes, tick)
    planted = PlantedEdge(seed, sizes.strength, *world)
    out["planted_edge"] = planted_edge(planted, subject, horizon, sizes, tick)
    out |= shifted(table, subject.learner, tick)
    tick.finish()
    return out


def shuffled_labels(
    where: Range,
    table: Table,
    subject: Subject,
    sizes: Sizes,
    seed: int,
    tapes: TapeStore | None = None,
    tick: Callable[[], object] = lambda: None,
) -> Control:
    """Let learner and council learn from shuffled labels, and score them on the same.

    Labels are shuffled by blocks of a day, or of two horizons if they are longer.


    With outcomes that have nothing to do with the forecasts the mean of (p − y)² over shuffles is
    at least that of the best constant, so the gain over that constant must not be positive beyond
    two standard errors of its mean over the shuffles.
    """
    figures: dict[str, float | int | None] = {"shuffles": sizes.shuffles}
    verdicts, notes = [], []
    if subject.learner is not None and not table.trouble:
        scored = list(_relearned(table, subject.learner, sizes.shuffles, seed, tick))
        figures |= _spread("learner", scored)
        verdicts.append(_nothing_gained(scored[1:]))
    elif subject.learner is not None:
        notes.append(f"no learner: {table.trouble}")
    if subject.council is not None:
        newest = _newest(where, sizes.council_rows)
        scored = _refolded(newest, subject, sizes, seed, tapes, tick)
        if len(scored) > 1:
            figures |= _spread("council", scored)
            verdicts.append(_nothing_gained(scored[1:]))
        else:
            notes.append(f"no council: {no_test(where.labels.horizon)}")
    return Control(
        all(verdicts) if verdicts else None,
        f"mean gain over the base rate ≤ 0 (within {NOISE:g} s.e.) on shuffled labels",
        figures, "; ".join(notes),
    )  # fmt: skip


def random_walk(
    world: GeneratedWorld,
    subject: Subject,
    horizon: int,
    sizes: Sizes,
    tick: Callable[[], object] = lambda: None,
) -> Control:
    """Let learner and council forecast a market in which nothing can be forecast."""
    seen = _in_world(world, subject, horizon, sizes, tick)
    return Control(
        all(score.t <= NOISE for score in seen.scores.values()) if seen.scores else None,
        f"gain ≤ {NOISE:g} s.e. where there is no edge",
        _named(seen.scores), "; ".join(seen.notes),
    )  # fmt: skip


def planted_edge(
    world: PlantedEdge,
    subject: Subject,
    horizon: int,
    sizes: Sizes,
    tick: Callable[[], object] = lambda: None,
) -> Control:
    """Let learner and council look for a known edge; beside them stands who was told.

    The oracle is the same learner with one column, the drift that is planted in the next bar in
    units of the bar's volatility. It is a yardstick, no limit: in a strong world the bars before
    also tell something about the drift of the bars after that.

    The council must find it too if one of its agents looks for a direction. Without one it has
    nothing to learn it from, and what it gained is told but not judged.
    """
    seen = _in_world(world, subject, horizon, sizes, tick)
    figures = {"strength": sizes.strength, **_named(seen.scores)}
    if subject.learner is not None and "learner" in seen.scores:
        figures |= _named({"oracle": _oracle(world, subject.learner, horizon, sizes)})
    counted, notes = dict(seen.scores), list(seen.notes)
    if "council" in counted and not seen.directed:
        del counted["council"]
        notes.append(f"council not judged: no agent but {BASE_RATE} has a direction that varies")
    return Control(
        all(score.t >= FOUND_T for score in counted.values()) if counted else None,
        f"gain ≥ {FOUND_T:g} s.e. where an edge is planted",
        figures, "; ".join(notes),
    )  # fmt: skip


def shifted(
    table: Table, learner: Learner | None, tick: Callable[[], object] = lambda: None
) -> dict[str, Control]:
    """Give a learner the features of the next bar (``leak``) and of the bar before (``delay``)."""
    screams = f"AUC above {LEAK_AUC} and the honest one with the features of the next bar"
    keeps = "0 < gain ≤ the undelayed gain (+ 2 s.e.) with the features of the bar before"
    trouble = "no learner" if learner is None else table.trouble
    if learner is None or trouble:
        return {
            "leak": Control(None, screams, note=trouble),
            "delay": Control(None, keeps, note=trouble),
        }
    honest, ahead, behind = (table.shifted(bars).learn(learner) for bars in (0, 1, -1))
    tick()
    leak = Control(
        ahead.auc > max(LEAK_AUC, honest.auc), screams, _named({"leak": ahead, "honest": honest})
    )
    figures = _named({"delay": behind, "honest": honest})
    if honest.gain <= 0.0 or not honest.ranks:
        why = f"no skill to keep a part of: gain {honest.gain:.1f}, AUC {honest.auc:.4f}"
        return {"leak": leak, "delay": Control(None, keeps, figures, why)}
    limit = honest.gain + NOISE * math.hypot(honest.se, behind.se)
    return {"leak": leak, "delay": Control(0.0 < behind.gain <= limit, keeps, figures)}


def _relearned(
    table: Table, learner: Learner, shuffles: int, seed: int, tick: Callable[[], object]
) -> Iterator[Score]:
    """Score the real labels first, then each shuffle."""
    yield table.learn(learner)
    for k in range(shuffles):
        yield table.shuffled(np.random.default_rng([seed, 1, k])).learn(learner)
        tick()


def _refolded(
    where: Range,
    subject: Subject,
    sizes: Sizes,
    seed: int,
    tapes: TapeStore | None,
    tick: Callable[[], object],
) -> list[Score]:
    """Score the council told the truth first, then each council told a shuffle; the same opinions.

    Empty if it does not speak on enough rows.
    """
    rng = np.random.default_rng([seed, 2])
    block = block_bars(where.labels.horizon, where.past.step_ms)
    shuffles = list(day_block_shuffles(len(where.truth), sizes.shuffles, rng, block))
    told = [where.truth, *(where.truth.take(order) for order in shuffles)]
    sitting = _Sitting.of(where, subject, subject.training_end, tapes)
    groups = [told[at : at + _GROUP] for at in range(0, len(told), _GROUP)]
    scored: list[Score] = []
    for group, chances in zip(
        groups, each_in_order(sitting.sit, groups, sizes.processes), strict=True
    ):
        for truth, p in zip(group, chances, strict=True):
            score = _scored(p, truth, where.labels)
            if score is None:
                return []
            scored.append(score)
            tick()
    return scored


@dataclass(frozen=True, slots=True, eq=False)
class _Sitting:
    """Opinions that councils sit over: asked for once, heard as often as needed."""

    where: Range
    subject: Subject
    memory: MarketMemory
    tape: Tape

    @classmethod
    def of(
        cls,
        where: Range,
        subject: Subject,
        training_end: Mapping[str, int],
        tapes: TapeStore | None = None,
    ) -> _Sitting:
        memory = where.memory()
        tape = (tapes or TapeStore()).record(
            subject.agents, memory, where.start_ms, horizon=where.labels.horizon,
            asleep_until=training_end,
        )  # fmt: skip
        return cls(where, subject, memory, tape)

    @property
    def directed(self) -> bool:
        """Whether an agent, other than the one that stands for the base rate, has a direction."""
        names = [name for name in self.subject.agents if name != BASE_RATE]
        return any(directional(self.tape.columns(name).p_up) for name in names)

    def sit(self, told: Sequence[Truth]) -> list[Floats]:
        """Return what each council published, p (n,), when it is told one of ``told``."""
        subject, need = self.subject, widest(self.subject.agents)
        if subject.council is None:
            return []
        labels, names = self.where.labels, list(subject.agents)
        runs = [CouncilRun(subject.council(), len(labels), names) for _ in told]
        states = self.memory.states(self.where.start_ms, None, need.bars, need.feature_rows)
        rounds = zip(states, self.tape.rounds(), strict=True)
        for row, (state, (opinions, absent)) in enumerate(rounds):
            for run, truth in zip(runs, told, strict=True):
                due = subject.due(labels, truth, row, state)
                run.sit(row, state, opinions, absent, due)
        return [run.recorder.forecasts.p_up for run in runs]


def _scored(p: Floats, truth: Truth, labels: Labels) -> Score | None:
    rows, horizon = labels.valid & np.isfinite(truth.log_return) & np.isfinite(p), labels.horizon
    return Score.of(p[rows], truth.up[rows], horizon) if rows.sum() >= min_test(horizon) else None


def _newest(where: Range, rows: int) -> Range:
    skip = max(0, len(where.labels) - rows)
    if not skip:
        return where
    return Range.of(where.past, int(where.labels.ts[skip]), None, where.labels.horizon)


@dataclass(frozen=True, slots=True)
class _World:
    """How learner and council did in a market; ``directed`` if an agent forecasts direction."""

    scores: Mapping[str, Score]
    notes: Sequence[str]
    directed: bool


def _in_world(
    world: GeneratedWorld,
    subject: Subject,
    horizon: int,
    sizes: Sizes,
    tick: Callable[[], object],
) -> _World:
    """Score learner (on the last third) and council (after its features' warm-up)."""
    bars = world.bars(world.start_ms, sizes.world_bars)
    scores: dict[str, Score] = {}
    notes, directed = [], False
    if subject.learner is not None:
        table = _world_table(bars, horizon)
        if table.trouble:
            notes.append(f"no learner: {table.trouble}")
        else:
            scores["learner"] = table.learn(subject.learner)
    tick()
    if subject.council is not None:
        where = Range.of(bars, int(bars.ts[min(TAIL, len(bars) - 1)]), None, horizon)
        sitting = _Sitting.of(where, subject, {})
        (p,) = sitting.sit([where.truth])
        score, directed = _scored(p, where.truth, where.labels), sitting.directed
        if score is None:
            notes.append(f"no council: {no_test(horizon)}")
        else:
            scores["council"] = score
    tick()
    return _World(scores, notes, directed)


def _world_table(bars: BarFrame, horizon: int) -> Table:
    return Table.of(bars, int(bars.ts[2 * len(bars) // 3]), horizon, int(bars.ts[0]))


def _oracle(world: PlantedEdge, learner: Learner, horizon: int, sizes: Sizes) -> Score:
    bars = world.bars(world.start_ms, sizes.world_bars)
    table = _world_table(bars, horizon)
    planted = world.planted_drift(int(bars.ts[0]) + bars.step_ms, len(bars))
    scale = np.exp(table.x[:, REFERENCE_54.index("log_s")])
    x = np.where(table.usable, planted / scale, np.nan)[:, None]
    return replace(table, x=x).learn(learner)


def _nothing_gained(scored: Sequence[Score]) -> bool:
    left = np.array([score.over_base for score in scored])
    noise = float(left.std(ddof=1)) / math.sqrt(len(left)) if len(left) > 1 else 0.0
    return bool(float(left.mean()) <= NOISE * noise)


def _spread(who: str, scored: Sequence[Score]) -> dict[str, float | int | None]:
    real, shuffles = scored[0], scored[1:]
    gains = [score.gain for score in shuffles]
    areas = [score.auc for score in shuffles]
    return {
        f"{who}_rows": real.n,
        f"{who}_gain_real": real.gain,
        f"{who}_gain_mean": float(np.mean(gains)),
        f"{who}_gain_min": min(gains),
        f"{who}_gain_max": max(gains),
        f"{who}_over_base_mean": float(np.mean([score.over_base for score in shuffles])),
        f"{who}_auc_min": min(areas),
        f"{who}_auc_max": max(areas),
    }


def _named(scores: Mapping[str, Score]) -> dict[str, float | int | None]:
    return {
        f"{who}_{name}": value
        for who, score in scores.items()
        for name, value in (
            ("rows", score.n), ("gain", score.gain), ("t", score.t), ("auc", score.auc)
        )
    }  # fmt: skip
