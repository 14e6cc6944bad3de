"""One fault as it is asked for: what, when, whom, how often."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

from domain.errors import UsageError
from domain.market import Market
from sim.venue.faults.kinds import KINDS, Choice, Kind, Number, Parameter, Value

_LONGEST_S = 30 * 86_400.0
_MOST_TIMES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What a fault might strike; an empty text = it has none.

    Attributes
    ----------
    symbol : the venue's own, ``BTCUSDT``. ``stream`` : name, ``btcusdt@trade`` or ``user``.
    path : ``METHOD /path``.
    """

    market: str = ""
    symbol: str = ""
    stream: str = ""
    path: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault strikes: patterns, ``*`` = everybody.

    Attributes
    ----------
    streams, paths : of stream names and of ``METHOD /path`` (a path alone = of any method).
    """

    market: Market | Literal["*"] = "*"
    symbol: str = "*"
    streams: str = "*"
    paths: str = "*"
    account: str = "*"

    def covers(self, subject: Subject) -> bool:
        """Return whether a subject is meant."""
        pairs = (
            (self.market, subject.market), (self.symbol.upper(), subject.symbol.upper()),
            (self.streams, subject.stream), (self.account, subject.account),
        )  # fmt: skip
        if not all(fnmatchcase(name, pattern) for pattern, name in pairs):
            return False
        pattern = self.paths if " " in self.paths or self.paths == "*" else f"* {self.paths}"
        return fnmatchcase(subject.path, pattern)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was asked for.

    Attributes
    ----------
    kind : name in :data:`sim.venue.faults.kinds.KINDS`.
    from_s : until it begins, from the venue's start or from when it is asked for, s.
    for_s : how long it lasts, s; None = until it is taken back.
    clock : whose seconds these are, the wall's or the market's.
    share : of what it could strike, (0, 1].
    times : how often it strikes at most; None = without end.
    values : of the kind's parameters, all of them.
    """

    kind: str
    from_s: float = 0.0
    for_s: float | None = None
    clock: Literal["wall", "market"] = "wall"
    share: float = 1.0
    times: int | None = None
    target: Target = field(default_factory=Target)
    values: Mapping[str, Value] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Return it as it would be asked for."""
        usual = asdict(Target())
        target = {name: value for name, value in asdict(self.target).items()
                  if value != usual[name]}  # fmt: skip
        return {"fault": self.kind, "from_s": self.from_s, "for_s": self.for_s,
                "clock": self.clock, "share": self.share, "times": self.times,
                **target, **self.values}  # fmt: skip


_TARGETS = tuple(each.name for each in fields(Target))
_COMMON = ("fault", "from_s", "for_s", "clock", "share", "times", *_TARGETS)


def fault_of(body: object, where: str) -> Fault:
    """Read a fault.

    Parameters
    ----------
    body : ``{"fault": KIND, …}``; other keys are of :class:`Fault`, :class:`Target` and the kind.
    where : it stands, for errors.

    Raises
    ------
    UsageError : for what is missing, unknown or out of range.
    """
    if not isinstance(body, Mapping) or "fault" not in body:
        raise UsageError(where, "must say which fault", body, "Try  fault: disconnect")
    kind = _kind(body["fault"], where)
    known(body, (*_COMMON, *kind.parameters), where)
    return Fault(
        kind.name,
        number(body, "from_s", where, Number(0, _LONGEST_S, 0, (0, 0), whole=False)),
        _lasts(body, kind, where),
        "market" if _one_of(body, "clock", where, ("wall", "market")) == "market" else "wall",
        number(body, "share", where, Number(1e-6, 1, 1, (0, 1), whole=False)),
        None if body.get("times") is None
        else int(number(body, "times", where, Number(1, _MOST_TIMES, 1, (1, 1)))),
        _target(body, kind, where),
        {name: _value(body, name, where, parameter)
         for name, parameter in kind.parameters.items()},
    )  # fmt: skip


def _kind(name: object, where: str) -> Kind:
    if not isinstance(name, str) or name not in KINDS:
        raise UsageError(f"{where}.fault", "must be a fault that there is", name,
                         meant(str(name), KINDS))  # fmt: skip
    return KINDS[name]


def _lasts(body: Mapping[Any, Any], kind: Kind, where: str) -> float | None:
    if kind.instant:
        if body.get("for_s") not in (None, 0):
            raise UsageError(f"{where}.for_s", f"must not be given: {kind.name} lasts no time",
                             body["for_s"])  # fmt: skip
        return 0.0
    if body.get("for_s") is None:
        return None
    return number(body, "for_s", where, Number(0.001, _LONGEST_S, 1, (1, 1), whole=False))


def _target(body: Mapping[Any, Any], kind: Kind, where: str) -> Target:
    usual = {"paths": kind.paths}
    found = {name: body.get(name, usual.get(name, "*")) for name in _TARGETS}
    for name, value in found.items():
        if not isinstance(value, str) or not value:
            raise UsageError(f"{where}.{name}", "must be a text, a pattern", value)
    _one_of(found, "market", where, ("*", "spot", "perp"))
    if not kind.shares and body.get("share") not in (None, 1):
        raise UsageError(f"{where}.share", f"must not be given: {kind.name} is for all or none",
                         body["share"])  # fmt: skip
    return Target(**found)


def _value(body: Mapping[Any, Any], name: str, where: str, parameter: Parameter) -> Value:
    if isinstance(parameter, Number):
        return number(body, name, where, parameter)
    if isinstance(parameter, Choice):
        return _one_of(body, name, where, parameter.options)
    value = body.get(name, parameter.usual)
    if not isinstance(value, bool):
        raise UsageError(f"{where}.{name}", "must be true or false", value)
    return value


def _one_of(
    body: Mapping[Any, Any], name: str, where: str, options: tuple[str | int, ...]
) -> str | int:
    value = body.get(name, options[0])
    for option in options:
        if value == option and isinstance(value, type(option)) and not isinstance(value, bool):
            return option
    rule = f"must be one of {', '.join(map(str, options))}"
    raise UsageError(f"{where}.{name}", rule, value, _close(str(value), map(str, options)))


def number(body: Mapping[Any, Any], name: str, where: str, rule: Number) -> float:
    """Return a number of a mapping; whole ones as such.

    Raises
    ------
    UsageError : if it is none, or out of its range.
    """
    value = body.get(name, rule.usual)
    kind = "a whole number" if rule.whole else "a number"
    also = "".join(f" or {each:g}" for each in rule.also)
    words = f"must be {kind} from {rule.low:g} to {rule.high:g}{also}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where}.{name}", words, value)
    inside = rule.low <= value <= rule.high or value in rule.also
    if not inside or (rule.whole and value != int(value)):
        raise UsageError(f"{where}.{name}", words, value)
    return int(value) if rule.whole else float(value)


def known(body: Mapping[Any, Any], names: Iterable[str], where: str) -> None:
    """Refuse keys that nobody knows.

    Raises
    ------
    UsageError : for the first of them.
    """
    names = tuple(names)
    for name in body:
        if name not in names:
            raise UsageError(f"{where}.{name}", "is no such key", hint=meant(str(name), names))


def meant(name: str, names: Iterable[str]) -> str:
    """Return a hint at what was meant, or at all that there is."""
    names = tuple(names)
    return _close(name, names) or f"There are {', '.join(names)}."


def _close(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, tuple(names), n=1)
    return f'Did you mean "{close[0]}"?' if close else ""
