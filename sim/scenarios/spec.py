"""A scenario as it is written down: a market, what happens to it, and what must come of it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from domain.decision import ExitReason, Reason
from domain.errors import UsageError
from domain.market import parse_symbol, symbol_on
from domain.times import DAY_MS
from domain.trading import RiskMode
from sim.scenarios.shocks import SHOCKS, SPAN_RULE, Shock, Span

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Symbol = Annotated[str, AfterValidator(lambda text: symbol_on(parse_symbol(text), "spot"))]

ActKind = Literal["kill", "pause", "resume", "arm", "restart"]
ACTS: tuple[ActKind, ...] = ("kill", "pause", "resume", "arm", "restart")


@dataclass(frozen=True, slots=True, config=_STRICT)
class Act:
    """What somebody does, at the first close that is ``at`` after trading began or later.

    Attributes
    ----------
    kind : an operator's word; ``restart`` = the process dies and comes back from its ledger.
    flatten : of kill and pause: close what is open as well.
    """

    at: Span
    kind: ActKind = "kill"
    flatten: bool = True


@dataclass(frozen=True, slots=True, config=_STRICT)
class Expected:
    """What must be seen, or the scenario has shown nothing.

    Attributes
    ----------
    entries : positions entered, at least.
    refused : codes for which entries were refused.
    exits : reasons for which positions were closed.
    modes : that were reached. ``ends`` : the mode at the end.
    flat_within : bars after a kill or a halt until nothing is open, at most.
    fall : of equity from its peak, fraction, at most.
    funding : paid or received in all, quote units, at least.
    """

    entries: Annotated[int, Field(ge=0)] = 1
    refused: tuple[Reason, ...] = ()
    exits: tuple[ExitReason, ...] = ()
    modes: tuple[RiskMode, ...] = ()
    ends: RiskMode | None = None
    flat_within: Annotated[int, Field(ge=1)] | None = None
    fall: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    funding: Annotated[float, Field(ge=0.0)] = 0.0


@dataclass(frozen=True, slots=True, config=_STRICT)
class Written:
    """A scenario as its file has it; what it does not say (None) others may, else it is usual.

    Attributes
    ----------
    about : one sentence.
    uses : scenarios whose shocks, acts and settings come before its own.
    symbols : ccxt-unified, on spot; they are traded on ``market``.
    world : of the bars where no files are given.
    lasts, warm_up : how long is traded, and how much is known before.
    strategy : who decides; None = the profile's.
    settings : that differ, by dotted name.
    regimes : of the blocks that are drawn from files, in order.
    """

    name: str
    about: str = ""
    uses: tuple[str, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    market: Literal["perp", "spot"] | None = None
    world: Literal["walk", "demo", "weak_edge"] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    warm_up: Span | None = None
    lasts: Span | None = None
    strategy: str | None = None
    settings: dict[str, str | float | bool | None] = field(default_factory=dict)
    regimes: tuple[str, ...] = ()
    shocks: tuple[Shock, ...] = ()
    acts: tuple[Act, ...] = ()
    expect: Expected = field(default_factory=Expected)


@plain_dataclass(frozen=True, slots=True)
class Scenario:
    """A market, what happens, and what must come of it; fields as in :class:`Written`."""

    name: str
    about: str
    symbols: tuple[str, ...]
    market: Literal["perp", "spot"]
    world: Literal["walk", "demo", "weak_edge"]
    seed: int
    warm_up: int
    lasts: int
    strategy: str | None
    settings: Mapping[str, str | float | bool | None]
    regimes: tuple[str, ...]
    shocks: tuple[Shock, ...]
    acts: tuple[Act, ...]
    expect: Expected


USUAL: Mapping[str, Any] = {
    "symbols": ("BTC/USDT",), "market": "perp", "world": "walk", "seed": 7,
    "warm_up": 2 * DAY_MS, "lasts": DAY_MS,
}  # fmt: skip
_SPANS = ("at", "lasts", "down", "back", "warm_up")
_WRITTEN = TypeAdapter(Written)
_ONE_KEY = "must be a mapping of one name to its values"


def read(name: str, body: Any) -> Written:
    """Read a scenario from YAML's types.

    Raises
    ------
    UsageError : for what is unknown or out of range: where, the rule, the value.
    """
    where = f"scenario {name}"
    if not isinstance(body, Mapping):
        rule = "must be a mapping of names to values"
        raise UsageError(where, rule, type(body).__name__)
    _known(where, body, Written.__dataclass_fields__.keys() - {"name"})
    made = {**body, "name": name}
    made["shocks"] = [_shock(name, n, item) for n, item in enumerate(_listed(name, body, "shocks"))]
    made["acts"] = [_act(name, n, item) for n, item in enumerate(_listed(name, body, "acts"))]
    written: Written = _checked(where, _WRITTEN, made)
    return written


def composed(parts: Sequence[Written], name: str, about: str, expect: Expected) -> Scenario:
    """Return one scenario in which all happen.

    The longest stretch and all symbols count; of settings, market, world, seed, strategy and
    regimes the last word. What is expected of the parts is not expected of the whole: a desk that
    one has halted is not there for the other.
    """
    settings: dict[str, Any] = {}
    for part in parts:
        settings |= part.settings
    symbols = tuple(dict.fromkeys(symbol for part in parts for symbol in part.symbols))
    market, world, seed = (_last(parts, key) for key in ("market", "world", "seed"))
    warm_up, lasts = (max(_all(parts, key), default=USUAL[key]) for key in ("warm_up", "lasts"))
    strategies = _all(parts, "strategy")
    return Scenario(
        name, about, symbols or USUAL["symbols"], market, world, seed, warm_up, lasts,
        strategies[-1] if strategies else None, settings,
        next((part.regimes for part in reversed(parts) if part.regimes), ()),
        tuple(shock for part in parts for shock in part.shocks),
        tuple(sorted((act for part in parts for act in part.acts), key=lambda act: act.at)),
        expect,
    )  # fmt: skip


def _all(parts: Sequence[Written], key: str) -> list[Any]:
    return [value for part in parts if (value := getattr(part, key)) is not None]


def _last(parts: Sequence[Written], key: str) -> Any:
    return next(reversed(_all(parts, key)), USUAL[key])


def _listed(name: str, body: Mapping[str, Any], key: str) -> Sequence[Any]:
    items = body.get(key, ())
    if not isinstance(items, list | tuple):
        raise UsageError(f"scenario {name}: {key}", "must be a list", items)
    return items


def _shock(name: str, number: int, item: Any) -> Any:
    example = "- gap: {at: 6h, size: -0.1}"
    kind, values = _one(f"scenario {name}: shocks[{number}]", item, example)
    where = f"scenario {name}: {kind}"
    _known(f"scenario {name}: shocks", [kind], SHOCKS)
    made = SHOCKS[kind]
    _known(where, values, getattr(made, "__dataclass_fields__", {}))
    return _checked(where, TypeAdapter(made), values)


def _act(name: str, number: int, item: Any) -> Any:
    kind, values = _one(f"scenario {name}: acts[{number}]", item, "- kill: {at: 6h}")
    _known(f"scenario {name}: acts", [kind], ACTS)
    return _checked(f"scenario {name}: {kind}", TypeAdapter(Act), {**values, "kind": kind})


def _one(where: str, item: Any, example: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(item, Mapping) or len(item) != 1:
        raise UsageError(where, _ONE_KEY, item, f"Try  {example}")
    kind, values = next(iter(item.items()))
    if not isinstance(values, Mapping):
        raise UsageError(where, _ONE_KEY, item, f"Try  {example}")
    return str(kind), dict(values)


def _known(where: str, given: Any, known: Any) -> None:
    names = sorted(map(str, known))
    for name in map(str, given):
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f'Did you mean "{close[0]}"?' if close else f"There are {', '.join(names)}."
            raise UsageError(where, "has no such name", name, hint)


def _checked(where: str, adapter: TypeAdapter[Any], values: Mapping[str, Any]) -> Any:
    for name in _SPANS:  # a number alone has no unit
        if isinstance(values.get(name), int | float) and values[name] != 0:
            raise UsageError(f"{where}: {name}", SPAN_RULE, values[name])
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field_name = ".".join(str(part) for part in first["loc"])
        rule = (
            str(first["msg"])
            .removeprefix("Value error, ")
            .replace("Input should", "must")
            .replace("valid tuple", "list")
        )
        what = f"{where}: {field_name}" if field_name else where
        raise UsageError(what, rule, first.get("input")) from error
