"""How functions are compiled: once per version of the sources, and without reordering sums."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

_ROOT = Path(__file__).parent.parent
_SOURCES = ("consensus", "data", "domain", "execution", "rl")
_CACHE = Path(__file__).parent / "__pycache__"


def jit(function: F) -> F:
    """Compile a function; it is written so that it would run, slowly, without."""
    return cast(F, numba.njit(cache=True, fastmath=False)(function))


def sources_stamp(root: Path = _ROOT) -> str:
    """Return a digest that changes with any source that compiled code may have been made of."""
    digest = blake2b(digest_size=8)
    for package in _SOURCES:
        for path in sorted((root / package).rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path.relative_to(root)} {stat.st_mtime_ns} {stat.st_size}\n".encode())
    return digest.hexdigest()


def _keep_apart() -> None:
    """Give each version of the sources a cache of its own.

    Numba looks only at the file a function stands in: where a function that it calls has changed,
    in another file, it would go on with the old one.
    """
    if getattr(numba.config, "CACHE_DIR", ""):  # somebody has chosen a place
        return
    own = _CACHE / f"compiled-{sources_stamp()}"
    try:
        if not own.is_dir():
            own.mkdir(parents=True, exist_ok=True)
            for other in _CACHE.glob("compiled-*"):
                if other != own:
                    shutil.rmtree(other, ignore_errors=True)
    except OSError:  # a read-only installation: Numba finds a place, or compiles each time
        return
    setattr(numba.config, "CACHE_DIR", str(own))  # noqa: B010 - not in its types


_keep_apart()
