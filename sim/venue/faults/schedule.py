"""A file of faults: some at their times, and a random one every so often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.errors import UsageError
from sim.venue.faults.kinds import KINDS, PLACES, Choice, Number, Parameter, Value
from sim.venue.faults.model import Fault, Target, fault_of, known, meant, number

_EVERY = Number(0.1, 86_400, 60, (1, 1), whole=False)
_LONGEST = Number(0.1, 86_400, 20, (1, 1), whole=False)
_SEED = Number(0, 2**53, 0, (0, 0))
_SHARES = (0.05, 0.5)
_SHORTEST_S = 1.0


@dataclass(frozen=True, slots=True)
class Random:
    """A random fault every so often, for ever.

    Attributes
    ----------
    every_s : between two, s of the wall. ``longest_s`` : that one lasts, s of the wall.
    kinds : names, from which each is drawn with the same chance.
    """

    every_s: float
    longest_s: float
    seed: int
    kinds: tuple[str, ...]

    def fault(self, n: int) -> Fault:
        """Return the n-th fault, n ≥ 1, which begins ``n · every_s`` after the start."""
        rng = np.random.default_rng([self.seed, n])
        kind = KINDS[self.kinds[int(rng.integers(len(self.kinds)))]]
        least = min(_SHORTEST_S, self.longest_s)
        lasts = 0.0 if kind.instant else _tidy(rng.uniform(least, self.longest_s))
        share = _tidy(rng.uniform(*_SHARES)) if kind.shares and not kind.instant else 1.0
        values = {name: _drawn(rng, each) for name, each in kind.parameters.items()}
        return Fault(
            kind.name, _tidy(n * self.every_s), lasts, share=share, target=Target(paths=kind.paths),
            values=values,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a file asks for.

    Attributes
    ----------
    seed : of the draws of shares.
    """

    seed: int = 0
    faults: tuple[Fault, ...] = ()
    random: Random | None = None


def schedule_of(body: object, name: str) -> Schedule:
    """Read a schedule.

    Parameters
    ----------
    body : ``{"seed", "faults": […], "random": {…}}``, each of which may be missing.
    name : of the file, for errors.

    Raises
    ------
    UsageError : for what is unknown or out of range.
    """
    if body is None:
        return Schedule()
    if not isinstance(body, Mapping):
        raise UsageError(name, "must hold seed, faults or random", body)
    known(body, ("seed", "faults", "random"), name)
    faults = body.get("faults") or ()
    if not isinstance(faults, Sequence) or isinstance(faults, str):
        raise UsageError(f"{name}: faults", "must be a list", faults, "Begin each with  - fault:")
    return Schedule(
        int(number(body, "seed", name, _SEED)),
        tuple(fault_of(each, f"{name}: faults[{at}]") for at, each in enumerate(faults)),
        _random(body["random"], f"{name}: random") if body.get("random") is not None else None,
    )


def _random(body: object, where: str) -> Random:
    if not isinstance(body, Mapping):
        raise UsageError(where, "must hold every_s, longest_s, seed or classes", body)
    known(body, ("every_s", "longest_s", "seed", "classes"), where)
    every = number(body, "every_s", where, _EVERY)
    longest = number(body, "longest_s", where, Number(
        _LONGEST.low, _LONGEST.high, min(_LONGEST.usual, every), _LONGEST.drawn, whole=False
    ))  # fmt: skip
    return Random(every, longest, int(number(body, "seed", where, _SEED)),
                  _classes(body.get("classes", "all"), where))  # fmt: skip


def _classes(wanted: Any, where: str) -> tuple[str, ...]:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, Sequence) or not names:
        raise UsageError(f"{where}.classes", "must be a list of places or faults", wanted)
    found: dict[str, None] = {}
    for name in names:
        matching = [kind.name for kind in KINDS.values() if name in ("all", kind.place, kind.name)]
        if not matching:
            raise UsageError(f"{where}.classes", "must be places or faults", name,
                             meant(str(name), ("all", *PLACES, *KINDS)))  # fmt: skip
        found |= dict.fromkeys(matching)
    return tuple(found)


def _drawn(rng: np.random.Generator, parameter: Parameter) -> Value:
    if isinstance(parameter, Number):
        low, high = parameter.drawn
        return int(rng.integers(int(low), int(high) + 1)) if parameter.whole else _tidy(
            rng.uniform(low, high)
        )  # fmt: skip
    if isinstance(parameter, Choice):
        return parameter.options[int(rng.integers(len(parameter.options)))]
    return bool(rng.random() < 0.5)


def _tidy(value: float) -> float:
    return round(float(value), 3)
