"""The future-scramble test: change what comes after t, and the decision at t must not change.

It runs on the whole decision: features, agents, council, thresholds and the fold of past outcomes.
Each chosen row is decided three times: with the bars that really followed, with garbage in their
place, and with nothing after it. Any difference in any field of the decision is a leak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from domain.canonical import plain
from domain.decision import Decision
from domain.errors import UsageError
from domain.market import BarFrame
from domain.ports import Agent, Strategy
from domain.times import iso
from sim.evaluate import forecast

DecideAt = Callable[[BarFrame, int], Decision]  # bars, future included, and the deciding row

_AHEAD = 24  # bars after the row that are within reach of a leak


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that knew its future.

    Attributes
    ----------
    row, as_of : the deciding bar's index and its close (UTC ms).
    future : what followed it, ``garbage`` or ``absent``.
    field : first field that differs, e.g. ``prob_up`` or ``inputs.kappa``.
    real, scrambled : its value with the real future and with the other one.
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


def scramble_check(
    decide_at: DecideAt,
    frame: BarFrame,
    n_rows: int = 200,
    seed: int = 7,
    first: int = 0,
) -> list[Difference]:
    """Decide ``n_rows`` random rows with three futures each and return what differs.

    Parameters
    ----------
    decide_at : decides one row of the bars it is given; same bars, same decision.
    first : rows before it are not chosen (they lack history); nor is the last row.

    Returns
    -------
    At most one difference a row and future, by row; empty when nothing sees the future.

    Raises
    ------
    UsageError : if there are not ``n_rows`` rows to choose from.
    """
    last = len(frame) - 1
    if n_rows < 1 or last - first < n_rows:
        raise UsageError(
            "lookahead rows", f"must be 1 to {max(last - first, 0)} with these bars", n_rows
        )
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(np.arange(first, last), size=n_rows, replace=False)).tolist()
    found: list[Difference] = []
    for row in rows:
        real = decide_at(frame, row)
        for future, bars in (
            ("garbage", scrambled(frame, row, rng)),
            ("absent", frame.slice(0, row + 1)),
        ):
            field = first_difference(plain(real), plain(decide_at(bars, row)))
            if field is not None:
                as_of = int(frame.ts[row]) + frame.step_ms
                found.append(Difference(row, as_of, future, *field))
    return found


def council_decider(
    agents: Mapping[str, Agent],
    council: Callable[[], Strategy],
    *,
    history: int = 400,
    fold: int = 40,
    horizon: int = 5,
) -> DecideAt:
    """Return a decider through the path of the scoreboard: memory, agents, a fresh council.

    Parameters
    ----------
    history : bars before the row that feed features and agents.
    fold : decisions before the row whose outcomes the council has seen.
    """

    def decide_at(frame: BarFrame, row: int) -> Decision:
        start = max(0, row - history)
        window = frame.slice(start, min(len(frame), row + 1 + _AHEAD))
        begin = int(window.ts[max(0, row - start - fold)])
        as_of = int(frame.ts[row]) + frame.step_ms
        decided: dict[int, Decision] = {}
        forecast(
            window, agents, council, start_ms=begin, horizon=horizon,
            on_decision=lambda decision: decided.setdefault(decision.as_of, decision),
        )  # fmt: skip
        return decided[as_of]

    return decide_at


def scrambled(frame: BarFrame, row: int, rng: np.random.Generator) -> BarFrame:
    """Return the bars with everything after ``row`` replaced by other bars, valid but wild."""
    columns = {name: getattr(frame, name).copy() for name in ("open", "high", "low", "close")}
    n = len(frame) - row - 1
    price = frame.close[row] * np.exp(rng.normal(0.0, 0.5, (4, n)))
    columns["open"][row + 1 :], columns["close"][row + 1 :] = price[0], price[1]
    columns["high"][row + 1 :], columns["low"][row + 1 :] = price.max(axis=0), price.min(axis=0)
    volume = frame.volume.copy()
    volume[row + 1 :] = rng.lognormal(10.0, 2.0, n)
    return replace(frame, **columns, volume=volume)


def first_difference(left: Any, right: Any) -> tuple[str, Any, Any] | None:
    """Return (path, left, right) of the first value that differs between two JSON values."""
    return next(_differences("", left, right), None)


def _differences(path: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in dict.fromkeys((*left, *right)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(inner, left.get(key), right.get(key))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            yield from _differences(f"{path}[{i}]", a, b)
    elif left != right or type(left) is not type(right):
        yield path, left, right
