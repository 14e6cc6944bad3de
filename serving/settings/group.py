"""What all groups of settings share: their base, and the types of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _path(value: Path) -> Path:
    if value == Path():
        raise ValueError("must name a folder")
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("must not start with ~ and a user that does not exist") from None


def not_empty(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names, of which there is one at least; ValueError if there is none."""
    if not names:
        raise ValueError("must name at least one")
    return names


def one_of(value: T, known: tuple[T, ...]) -> T:
    """Return a value that is one of those known; ValueError names them."""
    if value not in known:
        raise ValueError(f"must be one of {', '.join(map(str, known))}")
    return value


Folder = Annotated[Path, AfterValidator(_path)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Group(BaseModel):
    """What all groups share: frozen, closed, finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )
