"""Read a scoreboard that may be old or partial, and write its numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from domain.errors import UsageError
from domain.times import DAY_MS, parse_iso

COUNCIL = "consensus"
DASH = "–"
YEAR_ROWS = 105_120  # decisions behind the resolutions of the reference table
_HUGE = 1e100
_DAYS = 2.9e6  # since 1970, that a calendar has
PINBALL_NOISE = 0.24  # % against EWMA, two standard errors at YEAR_ROWS
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Kind = Literal["agent", "council", "baseline"]
Board = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """One row of the scoreboard.

    Attributes
    ----------
    scores : S of DESIGN.md, possibly without some keys.
    same : the same scores on the rows common to all.
    style : 0 for the council, 1 and on for the agents, −1 for a baseline; its colour everywhere.
    """

    name: str
    kind: Kind
    scores: Mapping[str, Any]
    same: Mapping[str, Any]
    style: int


def members(board: Board) -> list[Member]:
    """Return the agents, the council and the baselines, in this order."""
    same = part(board, "common")
    found = [
        Member(name, "agent", part(row), part(same, name), 1 + k)
        for k, (name, row) in enumerate(part(board, "agents").items())
    ]
    found.append(Member(COUNCIL, "council", part(board, COUNCIL), part(same, COUNCIL), 0))
    found += [
        Member(name, "baseline", part(row), part(same, name), -1)
        for name, row in part(board, "baselines").items()
    ]
    return found


def council(board: Board) -> Member:
    """Return the row of the council."""
    return next(member for member in members(board) if member.kind == "council")


def best_agents(board: Board, key: str, count: int, sign: float = 1.0) -> list[Member]:
    """Return the agents with the largest ``sign × key``, best first."""
    agents = [
        (value, member)
        for member in members(board)
        if member.kind == "agent" and (value := number(member.scores, key)) is not None
    ]
    agents.sort(key=lambda pair: (-sign * pair[0], pair[1].name))
    return [member for _, member in agents[:count]]


def dig(value: Any, *keys: str) -> Any:
    """Return what lies under the keys, None where anything on the way is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def part(value: Any, *keys: str) -> Mapping[str, Any]:
    """Return the mapping under the keys, an empty one where there is none."""
    found = dig(value, *keys)
    return found if isinstance(found, Mapping) else {}


def rows(value: Any, *keys: str) -> list[Any]:
    """Return the list under the keys, an empty one where there is none."""
    found = dig(value, *keys)
    return found if isinstance(found, list) else []


def number(value: Any, *keys: str) -> float | None:
    """Return the finite number under the keys, at most ±10¹⁰⁰, or None."""
    found = dig(value, *keys)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    # a sum or a product of two such numbers is still finite
    return min(max(float(found), -_HUGE), _HUGE) if math.isfinite(found) else None


def floats(value: Any, *keys: str) -> list[float]:
    """Return the finite numbers of the list under the keys."""
    return [v for item in rows(value, *keys) if (v := number({"item": item}, "item")) is not None]


def numbers(value: Any, *keys: str) -> list[float] | None:
    """Return the numbers under each of the keys, or None if one is missing."""
    found = [number(value, key) for key in keys]
    return None if None in found else [x for x in found if x is not None]


def timed(curve: Any, key: str) -> list[tuple[float, float]]:
    """Return a curve's points (day, value), without those that hold no number or no date."""
    return [
        (point[0], point[1])
        for at, value in zip(rows(curve, "day"), rows(curve, key), strict=False)
        if (point := numbers({"at": at, "value": value}, "at", "value")) is not None
        and 0.0 <= point[0] < _DAYS
    ]


def word(value: Any, *keys: str) -> str:
    """Return the text or number under the keys, a dash where there is none."""
    found = dig(value, *keys)
    return DASH if found is None or found == "" or isinstance(found, list | Mapping) else str(found)


def day(value: Any) -> float | None:
    """Return an ISO-8601 instant as days since 1970, or None."""
    try:
        return parse_iso(value) / DAY_MS if isinstance(value, str) else None
    except UsageError:
        return None


def show(value: float | None, form: str = ".2f", unit: str = "") -> str:
    """Write a number with a true minus sign; a dash for None."""
    return DASH if value is None else format(value, form).replace("-", "−") + unit


def usdt(value: float | None, form: str = ",.2f") -> str:
    """Write an amount of money."""
    return show(value, form, " USDT")


def price(value: float | None) -> str:
    """Write a price: one decimal from 1,000 on, six digits below."""
    return show(value, ",.1f" if value is not None and abs(value) >= 1_000.0 else ",.6g")


def percent(value: float | None, digits: int = 1) -> str:
    """Write a fraction as per cent."""
    return show(None if value is None else 100.0 * value, f".{digits}f", " %")


def evidence(value: float | None) -> str:
    """Write an e-value: plain up to 1 000, a power of ten beyond."""
    if value is None:
        return DASH
    return show(value, ".3g") if value <= 0.0 else evidence_of(math.log10(value))


def evidence_of(tens: float) -> str:
    """Write an e-value given its decimal logarithm, which no exponent is too large for."""
    if -2.0 <= tens < 3.0:
        return show(10.0**tens, ".3g")
    if tens > 50.0:
        return "over 10⁵⁰"
    power = math.floor(tens)
    first = round(10.0 ** (tens - power))
    if first == 10:
        first, power = 1, power + 1
    return ("" if first == 1 else f"{first}×") + power_of_ten(power)


def power_of_ten(power: int) -> str:
    """Write 10 to an integer power; 0 is ``1``."""
    return "1" if power == 0 else "10" + str(power).translate(_RAISED)


def with_error(value: float | None, error: float | None) -> str:
    """Write a difference ± its standard error, to the digits that the error leaves."""
    if value is None or not error or error < 0.0:
        return show(value, "+.3g")
    power = math.floor(math.log10(error))
    digits = min(max(0, -power + (error / 10.0**power < 3.0)), 6)
    return f"{show(value, f'+.{digits}f')} ± {error:.{digits}f}"


def title(name: str) -> str:
    """Return a member's name as people read it: ``har_ranges`` → ``har ranges``."""
    return name.replace("_", " ")


def comparison(board: Board, a: str, b: str, score: str) -> Mapping[str, Any]:
    """Return the comparison of a with b, turned round if it is stored the other way; {} if none."""
    for row in rows(board, "comparisons"):
        if dig(row, "score") != score:
            continue
        if (dig(row, "a"), dig(row, "b")) == (a, b):
            return part(row)
        if (dig(row, "a"), dig(row, "b")) == (b, a):
            return _turned(row)
    return {}


def _turned(row: Mapping[str, Any]) -> dict[str, Any]:
    def minus(key: str) -> float | None:
        value = number(row, key)
        return None if value is None else -value

    return {
        **row, "a": row["b"], "b": row["a"], "difference": minus("difference"),
        "dm_t": minus("dm_t"), "lo": minus("hi"), "hi": minus("lo"), "cs_lo": minus("cs_hi"),
        "cs_hi": minus("cs_lo"), "e_value": None,
    }  # fmt: skip


def beyond_noise(value: float | None, error: float | None) -> bool | None:
    """Return whether a difference is beyond two standard errors; None where nobody can say."""
    if value is None or error is None or error <= 0.0:
        return None
    return abs(value) > 2.0 * error


def fewer(rows_scored: float) -> float:
    """Return by how much noise grows with fewer rows than the reference year has, at least 0."""
    return math.sqrt(YEAR_ROWS / max(rows_scored, 1.0))


def versus_ewma(board: Board, member: Member) -> tuple[float | None, bool | None]:
    """Return the pinball loss against EWMA's in % (negative is better) and whether it is no noise.

    The noise is the reference table's resolution, widened by the square root of the rows.
    """
    pct, n = number(member.scores, "pinball_vs_ewma_pct"), number(member.scores, "n")
    mine, ewma = number(member.same, "pinball_bps"), number(board, "common", "ewma", "pinball_bps")
    if pct is None and mine is not None and ewma:
        pct = 100.0 * (mine / ewma - 1.0)
    if pct is None or not n:
        return pct, None
    return pct, abs(pct) > PINBALL_NOISE * fewer(n)
