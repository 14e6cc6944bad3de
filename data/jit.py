"""How functions are compiled: once per machine, and without reordering sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Compile a function; it is written so that it would run, slowly, without."""
    return cast(F, numba.njit(cache=True, fastmath=False)(function))
