"""The look-ahead check: change what comes after t, and nothing that was said at t may change.

It runs on the whole decision: features, agents, council, thresholds and the fold of past outcomes,
and compares every field of each, to the last bit. A leak in an agent that has no weight is found
as well as one in an agent that has.

*Future scramble.* Random rows are decided three times: with the bars that really followed, with
garbage in their place, and with nothing after them.
*Prefix stability.* A stretch is decided in one run over all its bars, and again from the file cut
off inside it, in batches of other sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from itertools import islice
from typing import Any

import numpy as np

from agents.contract import MIN_BARS, sleep_reason
from data.features.run import TAIL
from data.memory import MarketMemory
from domain.canonical import plain
from domain.decision import Decision
from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from domain.opinion import Opinion
from domain.ports import Agent, Strategy
from domain.times import iso
from sim.opinions import BATCH, CouncilRun, ask, widest
from sim.panel import Range, outcome_due
from sim.progress import Progress, Ticker

FOLD = 40  # decisions before a scrambled row whose outcomes the council has seen
STRETCH, CUTS = 600, 6  # bars that are decided in one run, and again from prefixes of the file
FUTURES = ("real", "garbage", "absent")
COUNCIL = "consensus"

_AHEAD = 24  # bars after a scrambled row that are within reach of a leak
_AFTER = 288  # the same after a stretch
_BATCHES = (1, 97, BATCH)  # states an agent sees at a time when a prefix is decided
_CAUSES = ("inputs", "weights")  # of a decision; compared before what follows from them
_MISSING = "missing"

MemoryMaker = Callable[[str, str], MarketMemory]  # symbol, timeframe → an empty memory


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Everything that was said at one bar.

    Attributes
    ----------
    features : name → newest value.
    opinions : agent → opinion.
    """

    features: Mapping[str, float]
    opinions: Mapping[str, Opinion]
    decision: Decision

    def body(self) -> dict[str, Any]:
        """Return what is compared: causes first, then the fields of the decision."""
        names = (*_CAUSES, *(field.name for field in fields(self.decision)))
        told = {name: getattr(self.decision, name) for name in dict.fromkeys(names)}
        return {"features": self.features, "opinions": self.opinions, **told}

    def awake(self) -> Iterator[str]:
        """Iterate over who said something, the council included."""
        for name, opinion in self.opinions.items():
            content = (opinion.p_up, opinion.quantiles, opinion.risk_down, opinion.risk_up)
            if sleep_reason(opinion) is None and any(part is not None for part in content):
                yield name
        if self.decision.prob_up is not None:
            yield COUNCIL


DecideAt = Callable[[BarFrame, int], Answer]  # bars, future included, and the deciding row


@dataclass(frozen=True, slots=True)
class Difference:
    """An answer that knew its future.

    Attributes
    ----------
    row, as_of : the deciding bar's index and its close (UTC ms).
    future : what followed it, ``garbage``, ``absent`` or ``cut`` (a prefix of the file).
    field : first field that differs, e.g. ``features.rv_12``, ``inputs.kappa`` or
        ``opinions.baseline.quantiles.values[3]``.
    real, scrambled : its value with the real future and with the other one, in JSON's types;
        ``"missing"``, ``"nan"`` and ``"inf"`` where it is that.
    """

    row: int
    as_of: int
    future: str
    field: str
    real: Any
    scrambled: Any

    def __str__(self) -> str:
        return (
            f"decision at {iso(self.as_of)} (row {self.row}): {self.field} is {self.real!r} with "
            f"the bars that followed, {self.scrambled!r} with a future that is {self.future}"
        )


@dataclass(frozen=True, slots=True)
class Lookahead:
    """What was tried, and what was found.

    Attributes
    ----------
    differences : by kind, then by row; empty when nothing sees the future.
    rows : random rows, each decided with every one of ``futures``.
    stretch, prefixes : bars decided in one run, and how often again from a cut-off file.
    history, history_wanted : bars before each row, and how many the longest window would take.
    awake : agent, and ``consensus`` → tested bars at which it said something.
    """

    differences: tuple[Difference, ...]
    rows: int
    stretch: int
    prefixes: int
    history: int
    history_wanted: int
    awake: Mapping[str, int]
    futures: tuple[str, ...] = FUTURES

    @property
    def ok(self) -> bool:
        """Whether nothing differed; look at :attr:`not_tested` too."""
        return not self.differences

    @property
    def not_tested(self) -> tuple[str, ...]:
        """Who never spoke, so that nothing is known about it."""
        return tuple(name for name, count in self.awake.items() if not count)


@dataclass(frozen=True, slots=True, eq=False)
class CouncilPath:
    """The path of the scoreboard: a memory, its features, the agents, a fresh council.

    Attributes
    ----------
    history : bars before a row that feed features and agents.
    fold : decisions before the row whose outcomes the council has seen.
    """

    agents: Mapping[str, Agent]
    council: Callable[[], Strategy]
    history: int
    fold: int
    horizon: int
    memory: MemoryMaker

    def __call__(self, frame: BarFrame, row: int) -> Answer:
        """Decide one row; a few bars after it, where there are any, are within reach."""
        start = max(0, row - self.history)
        window = frame.slice(start, min(len(frame), row + 1 + _AHEAD))
        begin = max(0, row - start - self.fold)
        *_, last = islice(self.answers(window, begin), row - start - begin + 1)
        return last

    def answers(self, frame: BarFrame, first: int, batch: int = BATCH) -> Iterator[Answer]:
        """Decide rows ``first``, ``first`` + 1, … of the bars in order, with one council."""
        where = Range.of(frame, int(frame.ts[first]), None, self.horizon)
        since = int(frame.bars_since_gap()[first])
        memory = self.memory(frame.symbol, frame.timeframe)
        memory.append(frame.slice(first - since + 1, len(frame)))
        need = widest(self.agents)
        states = memory.states(where.start_ms, None, need.bars, need.feature_rows)
        run = CouncilRun(self.council(), len(states), list(self.agents))
        for at in range(0, len(states), batch):
            piece = list(states[at : at + batch])
            said, _ = ask(self.agents, piece, {})
            for k, state in enumerate(piece):
                opinions = {name: each[k] for name, each in said.items()}
                due = outcome_due(where.labels, where.truth, at + k, state)
                decision = run.sit(at + k, state, list(opinions.values()), {}, due)
                newest = state.features.last().tolist()
                features = dict(zip(state.features.names, newest, strict=True))
                yield Answer(features, opinions, decision)


def check(
    frame: BarFrame,
    agents: Mapping[str, Agent],
    council: Callable[[], Strategy],
    *,
    n_rows: int = 200,
    seed: int = 7,
    horizon: int = 5,
    fold: int = FOLD,
    history: int | None = None,
    stretch: int = STRETCH,
    cuts: int = CUTS,
    memory: MemoryMaker | None = None,
    progress: Progress | None = None,
) -> Lookahead:
    """Scramble the futures of random rows and cut the file inside a random stretch.

    Parameters
    ----------
    council : makes a council whose fold starts from its prior.
    history : bars before each row; None takes :func:`history_wanted`, or what a short file has.
    stretch, cuts : fewer where the file is too short for them.
    memory : makes what the features come from; None is the memory that everybody uses.
    progress : called with decisions or runs done and in all.

    Raises
    ------
    UsageError : if there are not ``n_rows`` rows with a past to choose from.
    """
    wanted = history_wanted(agents, fold)
    if history is None:
        history = min(wanted, max(MIN_BARS + fold, len(frame) // 2))
    path = council_decider(
        agents, council, history=history, fold=fold, horizon=horizon, memory=memory
    )
    rng = np.random.default_rng([seed, 1])
    first, stop = _stretch(len(frame), history, stretch, rng)
    inside = np.arange(first + 1, stop + 1)
    ends = np.sort(rng.choice(inside, size=min(cuts, len(inside)), replace=False)).tolist()
    total = len(FUTURES) * n_rows + 1 + len(ends)
    tick = Ticker(total, progress)
    heard = dict.fromkeys((*agents, COUNCIL), 0)
    found = scramble_check(
        path, frame, n_rows, seed, history, on_answer=lambda answer: _count(heard, answer),
        on_step=tick,
    )  # fmt: skip
    found += prefix_check(
        path, frame, first, stop, ends, on_answer=lambda answer: _count(heard, answer),
        on_step=tick,
    )  # fmt: skip
    return Lookahead(tuple(found), n_rows, stop - first, len(ends), history, wanted, heard)


def history_wanted(agents: Mapping[str, Agent], fold: int = FOLD) -> int:
    """Return the bars before a row that fill every window of agents, features and fold."""
    need = widest(agents)
    return max(need.bars, need.feature_rows + TAIL) + fold


def council_decider(
    agents: Mapping[str, Agent],
    council: Callable[[], Strategy],
    *,
    history: int | None = None,
    fold: int = FOLD,
    horizon: int = 5,
    memory: MemoryMaker | None = None,
) -> CouncilPath:
    """Return a decider through the path of the scoreboard; parameters as :func:`check`."""
    long = history_wanted(agents, fold) if history is None else history
    return CouncilPath(agents, council, long, fold, horizon, memory or _remember_all)


def scramble_check(
    decide_at: DecideAt,
    frame: BarFrame,
    n_rows: int = 200,
    seed: int = 7,
    first: int = 0,
    *,
    on_answer: Callable[[Answer], object] | None = None,
    on_step: Callable[[], object] | None = None,
) -> list[Difference]:
    """Decide ``n_rows`` random rows with three futures each and return what differs.

    Parameters
    ----------
    decide_at : decides one row of the bars it is given; same bars, same answer.
    first : rows before it are not chosen (they lack history); nor is the last row.
    on_answer : called with each answer that had the real future.
    on_step : called after every decision.

    Returns
    -------
    At most one difference a row and future, by row; empty when nothing sees the future.

    Raises
    ------
    UsageError : if there are not ``n_rows`` rows to choose from.
    DataRefused : if there is none.
    """
    last = len(frame) - 1
    if last - first < 1:
        raise DataRefused(
            f"{frame.symbol} {frame.timeframe}", f"needs more than {first + 1} bars to look ahead",
            len(frame), "Give a longer file or range.",
        )  # fmt: skip
    if n_rows < 1 or last - first < n_rows:
        raise UsageError("lookahead rows", f"must be 1 to {last - first} with these bars", n_rows)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(np.arange(first, last), size=n_rows, replace=False)).tolist()
    step = on_step or _nothing
    found: list[Difference] = []
    for row in rows:
        real = decide_at(frame, row)
        step()
        if on_answer is not None:
            on_answer(real)
        garbage, absent = scrambled(frame, row, rng), frame.slice(0, row + 1)
        for future, bars in zip(FUTURES[1:], (garbage, absent), strict=True):
            found += _compared(frame, row, future, real, decide_at(bars, row))
            step()
    return found


def prefix_check(
    path: CouncilPath,
    frame: BarFrame,
    first: int,
    stop: int,
    ends: Iterable[int],
    *,
    on_answer: Callable[[Answer], object] | None = None,
    on_step: Callable[[], object] | None = None,
) -> list[Difference]:
    """Decide rows [first, stop) in one run, then again from the bars before each of ``ends``.

    Returns
    -------
    The first difference of each prefix, in the order of ``ends``.
    """
    start, step = max(0, first - path.history), on_step or _nothing
    window = frame.slice(start, min(len(frame), stop + _AFTER))
    whole = list(islice(path.answers(window, first - start), stop - first))
    step()
    for answer in whole:
        (on_answer or _nothing)(answer)
    found: list[Difference] = []
    for k, end in enumerate(ends):
        prefix = frame.slice(start, end)
        again = path.answers(prefix, first - start, _BATCHES[k % len(_BATCHES)])
        found += islice(_cut(frame, first, whole, again), 1)
        step()
    return found


def scrambled(frame: BarFrame, row: int, rng: np.random.Generator) -> BarFrame:
    """Return the bars with everything after ``row`` replaced by other bars, valid but wild."""
    near = frame.slice(0, min(len(frame), row + 1 + _AFTER))  # nobody is shown what lies beyond
    columns = {name: getattr(near, name).copy() for name in ("open", "high", "low", "close")}
    n = len(near) - row - 1
    price = near.close[row] * np.exp(rng.normal(0.0, 0.5, (4, n)))
    columns["open"][row + 1 :], columns["close"][row + 1 :] = price[0], price[1]
    columns["high"][row + 1 :], columns["low"][row + 1 :] = price.max(axis=0), price.min(axis=0)
    volume = near.volume.copy()
    volume[row + 1 :] = rng.lognormal(10.0, 2.0, n)
    return replace(near, **columns, volume=volume)


def first_difference(left: Any, right: Any) -> tuple[str, Any, Any] | None:
    """Return (path, left, right) of the first value that differs, or None.

    Values may be dataclasses, mappings, sequences, arrays and scalars. Types count, a missing key
    counts, −0.0 is not 0.0, NaN equals NaN and nothing else.
    """
    return next(_differences("", left, right), None)


def _differences(path: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    if type(left) is not type(right):
        yield path, _told(left), _told(right)
    elif isinstance(left, Mapping):
        for key in dict.fromkeys((*left, *right)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(inner, left.get(key, _Missing), right.get(key, _Missing))
    elif isinstance(left, list | tuple | np.ndarray) and len(left) == len(right):
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            yield from _differences(f"{path}[{i}]", a, b)
    elif is_dataclass(left) and not isinstance(left, type):
        for field in fields(left):
            inner = f"{path}.{field.name}" if path else field.name
            yield from _differences(inner, getattr(left, field.name), getattr(right, field.name))
    elif not _same(left, right):
        yield path, _told(left), _told(right)


class _Missing:
    """Stands for a key that is not there."""


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1.0, left) == math.copysign(1.0, right)
    if isinstance(left, np.ndarray | list | tuple):
        return False  # of other lengths
    return bool(left == right)


def _told(value: Any) -> Any:
    if value is _Missing:
        return _MISSING
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, Enum):
        return value.value
    return plain(value)


def _compared(
    frame: BarFrame, row: int, future: str, real: Answer, other: Answer
) -> Iterator[Difference]:
    field = first_difference(real.body(), other.body())
    if field is not None:
        yield Difference(row, int(frame.ts[row]) + frame.step_ms, future, *field)


def _cut(
    frame: BarFrame, first: int, whole: Iterable[Answer], again: Iterable[Answer]
) -> Iterator[Difference]:
    for row, (real, other) in enumerate(zip(whole, again, strict=False), first):
        yield from _compared(frame, row, "cut", real, other)


def _stretch(n: int, history: int, wanted: int, rng: np.random.Generator) -> tuple[int, int]:
    length = max(1, min(wanted, n - history - 1))
    first = int(rng.integers(min(history, n - length), n - length + 1))
    return first, first + length


def _count(heard: dict[str, int], answer: Answer) -> None:
    for name in answer.awake():
        heard[name] += 1


def _remember_all(symbol: str, timeframe: str) -> MarketMemory:
    return MarketMemory(symbol, timeframe, keep=None)


def _nothing(*_: object) -> None:
    return None
