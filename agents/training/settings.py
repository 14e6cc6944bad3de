"""Settings of a training by their names: ``schedule.rate`` is ``rate`` of the config's schedule."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from domain.errors import UsageError

Setting = int | float | str
Settings = Mapping[str, Setting]
T = TypeVar("T")

_FRACTIONS = (
    "dropout", "average", "synthetic", "sparse", "mix", "shrink", "feature_share", "gamma", "trace",
    "valid",
)  # fmt: skip
_MAY_BE_ZERO = ("warm_up",)


def configured(config: T, settings: Settings) -> T:
    """Return a config with other settings; text is read as what the setting holds.

    Parameters
    ----------
    config : a dataclass, of which some fields may be dataclasses.
    settings : dotted name → value, e.g. ``{"schedule.rate": 0.001, "trend_leaves": "7,15"}``.

    Raises
    ------
    UsageError : for a name that no setting has, or a value that it cannot have.
    """
    for name, value in settings.items():
        known = dict(named(config))
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'Did you mean "{close[0]}"?' if close else f"There are: {', '.join(known)}."
            raise UsageError("setting", "must be one that this training has", name, hint)
        config = _with(config, name.split("."), _read(name, value, known[name]))
    return config


def named(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over all settings of a config: dotted name and value."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from named(value, f"{prefix}{field.name}.")
        elif isinstance(value, int | float | str | tuple):
            yield prefix + field.name, value


def values_of(config: Any, names: Iterable[str]) -> dict[str, Setting]:
    """Return a config's values of some settings."""
    values = dict(named(config))
    return {name: as_setting(values[name]) for name in names}


def differing(config: Any, own: Any, names: Iterable[str]) -> dict[str, Setting]:
    """Return a config's values of those settings that are not the usual config's."""
    mine, usual = dict(named(config)), dict(named(own))
    return {name: as_setting(mine[name]) for name in names if mine[name] != usual[name]}


def as_setting(value: Any) -> Setting:
    """Return a config's value as a setting: a tuple is text, e.g. ``7,15,31``."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def _with(config: Any, path: Sequence[str], value: Any) -> Any:
    first, *rest = path
    return replace(config, **{first: _with(getattr(config, first), rest, value) if rest else value})


def _read(name: str, value: Setting, now: Any) -> Any:
    try:
        if isinstance(now, tuple):
            made: Any = tuple(_number(name, part, now[0]) for part in str(value).split(","))
        else:
            made = str(value) if isinstance(now, str) else _number(name, value, now)
    except ValueError:
        raise UsageError(f"setting {name}", f"must be like {as_setting(now)}", value) from None
    return made


def _number(name: str, value: Setting, now: Any) -> Any:
    number = type(now)(value)
    if number != float(value):
        raise ValueError  # 1.5 is no whole number
    last = name.rpartition(".")[2]
    least = 1 if isinstance(now, int) and last not in _MAY_BE_ZERO else 0
    most = 1 if last in _FRACTIONS else math.inf
    if not (math.isfinite(number) and least <= number <= most):
        rule = f"must lie in [{least}, {most}]" if most == 1 else f"must be at least {least}"
        raise UsageError(f"setting {name}", rule, value)
    return number
