"""What all replies share.

A field more than these breaks no client; a test holds every route to having none.
Times are ISO-8601 ``Z`` (market time unless said otherwise), money is text with every digit,
probabilities and returns are fractions, nothing is ever NaN.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
Money = Annotated[
    str,
    Field(
        pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["99322.80"],
        description="decimal text, quote currency unless said otherwise",
    ),
]  # fmt: skip
Instant = Annotated[str, Field(examples=["2025-01-31T00:05:00Z"], description="ISO-8601, UTC")]
Fraction = Annotated[float, Field(ge=0, le=1)]
TradeSide = Literal["LONG", "SHORT"]
OrderSide = Literal["buy", "sell"]
Mode = Literal["ACTIVE", "REDUCING", "HALTED", "KILLED"]
Level = Literal["info", "warning", "error"]


class Strict(BaseModel):
    """Refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Strict):
    """What went wrong, in words for people and a code for programs."""

    code: str
    message: str
    hint: str = ""
    request_id: str = ""


class ErrorReply(Strict):
    """Every error, the framework's own included, has this shape."""

    error: ErrorBody


class Reply(BaseModel):
    """What every reply is: frozen, and open to fields of a newer version."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Listing(Reply, Generic[T]):
    """A page of a list, and the cursor of the next one."""

    items: list[T]
    next: str | None = Field(None, description="`cursor` of the next page; null: this is the last")
