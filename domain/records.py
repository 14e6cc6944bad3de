"""Changing what never changes: a copy of a frozen record with some fields replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

R = TypeVar("R")
_Layout = tuple[Callable[[Any], tuple[Any, ...]], dict[str, int]]
_layouts: dict[type[Any], _Layout] = {}


def changed(record: R, **changes: Any) -> R:
    """Return a copy of a dataclass record of two fields or more with some replaced.

    As :func:`dataclasses.replace`, in a fifth of its time: the loop does this at every bar.

    Raises
    ------
    KeyError : for a name that is no field.
    """
    of: type[Any] = type(record)
    read, places = _layouts.get(of) or _layout(of)
    values = list(read(record))
    for name, value in changes.items():
        values[places[name]] = value
    copy: R = of(*values)
    return copy


def _layout(of: type[Any]) -> _Layout:
    names = [field.name for field in fields(of)]
    _layouts[of] = attrgetter(*names), {name: i for i, name in enumerate(names)}
    return _layouts[of]
