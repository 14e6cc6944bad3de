"""One way to write a value down, so that equal values have equal bytes and equal hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np

# Tuples and one encoder: this runs several times a bar, and unions and new encoders cost more.
_AS_IT_IS = (str, bool)
_REAL = (float, np.floating)
_WHOLE = (int, np.integer)
_MANY = (list, tuple, set, frozenset)
_write = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def plain(value: Any) -> Any:  # noqa: C901 - a flat list of types
    """Turn a value into JSON's types: NaN and infinities → None, Decimal → text, arrays → lists."""
    if value is None or isinstance(value, _AS_IT_IS):
        return value
    if isinstance(value, _REAL):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, _WHOLE):
        return int(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, _MANY):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no canonical form")


def canonical_json(value: Any) -> str:
    """Write one line of JSON: sorted keys, no spaces, no NaN, shortest round-trip floats."""
    return _write(plain(value))


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def short_hash(value: Any, length: int = 16) -> str:
    """Return the first ``length`` digits of :func:`digest`: enough for an id."""
    return digest(value)[:length]
