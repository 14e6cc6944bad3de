"""A week of trades and what was written about them, as figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

from domain.canonical import plain
from domain.errors import UsageError
from domain.operations import Reflection
from domain.times import HOUR_MS, iso
from domain.trading import ZERO, ClosedTrade

UNTAGGED = "(none)"
_WEEK = re.compile(r"(\d{4})-W(\d{2})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A closed trade with all that was written about it, oldest first."""

    trade: ClosedTrade
    reflections: tuple[Reflection, ...] = ()

    @property
    def words(self) -> Reflection | None:
        """The newest of a person's reflections, or None."""
        return next((one for one in reversed(self.reflections) if not one.draft), None)

    @property
    def shown(self) -> Reflection | None:
        """A person's newest words; where there are none, the draft."""
        return self.words or (self.reflections[-1] if self.reflections else None)

    @property
    def followed_plan(self) -> bool | None:
        """The newest word on it, a person's before the draft's; None where nobody said."""
        said = [one for one in self.reflections if one.followed_plan is not None]
        people = [one for one in said if not one.draft]
        found = people or said
        return found[-1].followed_plan if found else None

    @property
    def hours(self) -> float | None:
        """Market hours from the close to a person's first words, 0 if they came before it."""
        first = next((one for one in self.reflections if not one.draft), None)
        return None if first is None else max(0, first.at - self.trade.closed_at) / HOUR_MS


def week_of(at_ms: int) -> str:
    """Return the ISO week of an instant: ``2025-W05``."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%G-W%V")


def span_of(week: str) -> tuple[int, int]:
    """Return a week's first instant and that of the next (ms).

    Raises
    ------
    UsageError : if it is no ISO week.
    """
    found = _WEEK.fullmatch(week)
    try:
        year, number = (int(part) for part in found.groups()) if found else (0, 0)
        monday = datetime.fromisocalendar(year, number, 1).replace(tzinfo=UTC)
    except ValueError:
        raise UsageError("--week", "must be an ISO week", week, "Try 2025-W05.") from None
    start = round(monday.timestamp() * 1000)
    return start, round((monday + timedelta(days=7)).timestamp() * 1000)


def review(week: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the review of a week, JSON's types; money is decimal text in quote units.

    Parameters
    ----------
    entries : those closed within the week, in closing order.
    """
    start, end = span_of(week)
    ranked = sorted(entries, key=lambda one: one.trade.pnl)
    body: dict[str, Any] = plain(
        {
            "week": week,
            "start": iso(start),
            "end": iso(end),
            **_sums(entries),
            "by_tag": _grouped(entries, _tags),
            "by_exit": _grouped(entries, lambda one: [one.trade.reason]),
            "by_side": _grouped(entries, lambda one: [one.trade.side]),
            "best": ranked[-1].trade.id if ranked else None,
            "worst": ranked[0].trade.id if ranked else None,
            "adherence": adherence(entries),
            "entries": [told(one) for one in entries],
        }
    )
    return body


def adherence(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return how well the journal was kept: shares as fractions, hours of market time.

    ``followed_plan`` is the share among those of whom somebody, or the draft, said so.
    """
    hours = [one.hours for one in entries if one.hours is not None]
    said = [one.followed_plan for one in entries if one.followed_plan is not None]
    return {
        "trades": len(entries),
        "reflected": len(hours) / len(entries) if entries else None,
        "followed_plan": sum(said) / len(said) if said else None,
        "median_hours": median(hours) if hours else None,
    }


def told(one: Entry) -> dict[str, Any]:
    """Return a trade with its reflection, as lists show it."""
    trade, shown = one.trade, one.shown
    return {
        "id": trade.id,
        **plain(trade),
        "opened_at": iso(trade.opened_at),
        "closed_at": iso(trade.closed_at),
        "reflection": None if shown is None else {**plain(shown), "at": iso(shown.at)},
        "followed_plan": one.followed_plan,
        "missing": one.words is None,
    }


def _tags(one: Entry) -> Iterable[str]:
    return one.words.tags if one.words is not None and one.words.tags else (UNTAGGED,)


def _sums(entries: Sequence[Entry]) -> dict[str, Any]:
    pnl = [one.trade.pnl for one in entries]
    won = sum(value > 0 for value in pnl)
    return {
        "trades": len(pnl),
        "won": won,
        "win_rate": won / len(pnl) if pnl else None,
        "pnl": sum(pnl, ZERO),
        "fee": _total(entries, lambda trade: trade.fee),
        "slippage": _total(entries, lambda trade: trade.slippage),
        "spread": _total(entries, lambda trade: trade.spread),
        "funding": _total(entries, lambda trade: trade.funding),
    }


def _total(entries: Sequence[Entry], amount: Callable[[ClosedTrade], Decimal]) -> Decimal:
    return sum((amount(one.trade) for one in entries), ZERO)


def _grouped(
    entries: Sequence[Entry], names: Callable[[Entry], Iterable[str]]
) -> list[dict[str, Any]]:
    groups: dict[str, list[Entry]] = {}
    for one in entries:
        for name in names(one):
            groups.setdefault(name, []).append(one)
    rows = [{"name": name, **_sums(members)} for name, members in groups.items()]
    return sorted(rows, key=lambda row: (-row["pnl"], row["name"]))
