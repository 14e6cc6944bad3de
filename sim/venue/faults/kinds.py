"""Every fault that the venue can be asked for, with its parameters and their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = float | int | str | bool
Place = Literal["stream", "rest", "order", "market"]
PLACES: tuple[Place, ...] = ("stream", "rest", "order", "market")
BROKEN = ("no_json", "wrong_types", "truncated", "huge")


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter that is a number.

    Attributes
    ----------
    low, high : both allowed. ``also`` : allowed outside of them.
    usual : where nothing is said. ``drawn`` : from where to where a random fault draws it.
    whole : no fraction.
    """

    low: float
    high: float
    usual: float
    drawn: tuple[float, float]
    whole: bool = True
    also: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is one of a few; the first where nothing is said."""

    options: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """A parameter that is true or false."""

    usual: bool


Parameter = Number | Choice | Flag


@dataclass(frozen=True, slots=True)
class Kind:
    """One class of faults.

    Attributes
    ----------
    place : where it strikes.
    about : what it does, for people.
    instant : happens once, at its beginning, and lasts no time.
    paths : ``METHOD /path`` that it strikes where no other is named; a pattern.
    shares : whether it can strike a share only.
    """

    name: str
    place: Place
    about: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    instant: bool = False
    paths: str = "*"
    shares: bool = True


_EFFECT = Flag(usual=True)
_PLACING = "POST *rder"  # /api/v3/order, /fapi/v1/order, /fapi/v1/algoOrder
_ASKING = "GET *"
_LATER = Number(1, 86_400_000, 5_000, (1_000, 60_000))

_ALL = (
    Kind("disconnect", "stream", "cuts connections; `code: 0` without a word of closing",
         {"code": Number(1_000, 4_999, 0, (1_000, 1_013), also=(0,))}, instant=True),
    Kind("refuse", "stream", "takes no new connections; `status: 0` resets them",
         {"status": Number(400, 599, 503, (500, 504), also=(0,))}),
    Kind("silence", "stream", "lines stand and nothing is said; what would have been is lost",
         {"pings": Flag(usual=True)}),
    Kind("delay", "stream", "messages come late, in their order",
         {"least_ms": Number(0, 60_000, 500, (50, 500)),
          "most_ms": Number(0, 60_000, 2_000, (500, 3_000))}),
    Kind("reorder", "stream", "a message comes after the `span` that followed it",
         {"span": Number(1, 100, 1, (1, 5))}),
    Kind("duplicate", "stream", "a message comes again, `copies` times",
         {"copies": Number(1, 10, 1, (1, 3))}),
    Kind("drop", "stream", "messages are lost"),
    Kind("gap", "stream", "`count` changes of a book in a row are lost: the numbers skip",
         {"count": Number(1, 1_000, 3, (1, 20))}),
    Kind("garbage", "stream", "messages arrive broken",
         {"what": Choice(("any", *BROKEN)), "kilobytes": Number(1, 65_536, 2_048, (8, 2_048))}),
    Kind("error", "rest", "a status of 5xx instead of an answer; nothing has happened",
         {"status": Number(500, 599, 503, (500, 504)), "body": Choice(("json", "html", "empty"))}),
    Kind("rate_limit", "rest", "429 with `Retry-After`",
         {"retry_after_s": Number(0, 3_600, 5, (1, 5))}),
    Kind("ban", "rest", "418 with `Retry-After`",
         {"retry_after_s": Number(1, 86_400, 30, (1, 10))}),
    Kind("slow", "rest", "the answer comes late",
         {"seconds": Number(0.001, 600, 5, (0.5, 5), whole=False)}),
    Kind("timeout", "rest", "no answer at all, then the connection is cut; nothing has happened",
         {"seconds": Number(0.001, 600, 30, (5, 30), whole=False)}),
    Kind("reset", "rest", "the connection is cut at once; nothing has happened"),
    Kind("truncate", "rest", "half of the answer, then the connection is cut"),
    Kind("corrupt", "rest", "the answer arrives broken",
         {"what": Choice(("any", *BROKEN)), "kilobytes": Number(1, 65_536, 2_048, (8, 2_048))}),
    Kind("stale", "rest", "answers are `age_s` of market time old; younger orders are unknown",
         {"age_s": Number(1, 86_400, 60, (5, 300), whole=False)}, paths=_ASKING),
    Kind("skew", "rest", "the exchange's clock is wrong: what it tells, stamps and accepts",
         {"ms": Number(-3_600_000, 3_600_000, 2_000, (-5_000, 5_000))}, shares=False),
    Kind("no_answer", "order", "the order is taken (unless `effect: false`), and no answer comes",
         {"seconds": Number(0, 600, 10, (1, 15), whole=False), "effect": _EFFECT}, paths=_PLACING),
    Kind("unknown_status", "order", "−1007 or −1006, *execution status unknown*, with or without "
         "effect", {"code": Choice((-1007, -1006)), "effect": _EFFECT}, paths=_PLACING),
    Kind("refused", "order", "−1001 or −1015; nothing has happened",
         {"code": Choice((-1001, -1015))}, paths=_PLACING),
    Kind("partial", "order", "only a `part` of what the book has is filled at once",
         {"part": Number(0.0, 0.99, 0.5, (0.1, 0.9), whole=False)}, paths=_PLACING),
    Kind("late_fill", "order", "acknowledged as NEW, filled `after_ms` of market time later",
         {"after_ms": _LATER}, paths=_PLACING),
    Kind("expire", "order", "acknowledged as NEW, EXPIRED unfilled `after_ms` of market time later",
         {"after_ms": _LATER}, paths=_PLACING),
    Kind("double_fill", "order", "a fill is told twice under its number, on the user's stream and "
         "among the trades; it happened once"),
    Kind("halt", "market", "no trading: no prints, no bars, orders refused; they can be cancelled",
         shares=False),
    Kind("listen_key", "market", "listen keys expire", instant=True),
)  # fmt: skip

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
