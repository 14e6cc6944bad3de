"""What the desk takes down in the journal, and the closes that come with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.canonical import plain
from domain.errors import NotFound, UsageError
from domain.operations import Reflection
from domain.times import iso
from execution.journal import AUTHOR, require_text, tags_of
from execution.loop import TradingLoop
from storage.queries import Reader


@dataclass(frozen=True, slots=True)
class JournalRules:
    """What a reflection must have: so many characters, and tags from a list (empty = any)."""

    min_characters: int = 20
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What a person says about a trade."""

    author: str
    text: str
    tags: tuple[str, ...]
    followed_plan: bool | None

    @classmethod
    def of(cls, body: Mapping[str, Any], rules: JournalRules) -> Said:
        """Read it from a request.

        Raises
        ------
        UsageError : if the text is too short, a tag is none, or the author is the draft's.
        """
        author = str(body["author"])
        if author == AUTHOR:
            raise UsageError("author", "must be a person", author)
        return cls(
            author, require_text(str(body["text"]), rules.min_characters),
            tags_of(body["tags"], rules.tags), body["followed_plan"],
        )  # fmt: skip


def reflection(
    reader: Reader, account: str, place: tuple[str, str], said: Said, now: int
) -> tuple[Reflection, bool]:
    """Return the row to append, and whether it is new: the same words again are the same row.

    Parameters
    ----------
    place : the trade's execution symbol and the decision that opened it.
    now : ms, market time.
    """
    symbol, decision_id = place
    known = [one for one in reader.reflections([decision_id])[decision_id] if not one.draft]
    words = (said.text, said.tags, said.followed_plan)
    if known and (known[-1].text, known[-1].tags, known[-1].followed_plan) == words:
        return known[-1], False
    at = max([now, *(one.at + 1 for one in known)])  # the ledger tells them apart by their instant
    made = Reflection(
        account, symbol, decision_id, at, said.author, said.text, said.tags,
        followed_plan=said.followed_plan,
    )  # fmt: skip
    return made, True


def place_of(reader: Reader, trade_id: str) -> tuple[str, str]:
    """Return the symbol and the decision of a closed trade.

    Raises
    ------
    NotFound : if there is no such trade.
    """
    found = reader.trade(trade_id)
    if found is None:
        hint = "conclave journal list shows the last."
        raise NotFound("trade", "is not in the ledger", trade_id, hint)
    return found[1].symbol, found[1].decision_id


def reflected(
    loop: TradingLoop, reader: Reader, rules: JournalRules, body: Mapping[str, Any], now: int
) -> dict[str, Any]:
    """Append what a person says of a closed trade.

    Raises
    ------
    NotFound : if there is no such trade.
    UsageError : if the text is too short, or a tag is none.
    """
    said = Said.of(body, rules)
    place = place_of(reader, str(body["trade_id"]))
    made, new = reflection(reader, loop.settings.account, place, said, now)
    if new:
        loop.note(made)
    return {"reflection": reflection_of(made), "new": new}


def closed(
    loop: TradingLoop, reader: Reader, rules: JournalRules, body: Mapping[str, Any], now: int
) -> dict[str, Any]:
    """Close a position at the market, its reflection first.

    Parameters
    ----------
    body : ``symbol`` may be the one forecast or the one traded.

    Raises
    ------
    UsageError : if the text is too short, nothing is open, or it is being closed already.
    """
    said = Said.of(body, rules)
    symbol = str(body["symbol"])
    route = loop.settings.routes.get(symbol, symbol)
    position = loop.portfolio(now).positions.get(route)
    if position is None:
        raise UsageError("close", "needs an open position", symbol, "See conclave status.")
    place = (route, position.decision_id)
    made, _ = reflection(reader, loop.settings.account, place, said, now)
    order = loop.close(made, now)
    return {"reflection": reflection_of(made), "order": order.id, "symbol": route}


def reflection_of(one: Reflection) -> dict[str, Any]:
    """Return the public form of a reflection."""
    return {**plain(one), "at": iso(one.at)}
