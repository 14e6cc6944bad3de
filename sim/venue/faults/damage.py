"""What is done to texts: broken ones, wrong stamps, fills told twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sim.venue.faults.kinds import BROKEN

_STAMPS = {"E", "T", "serverTime", "time", "updateTime", "transactTime", "workingTime"}
_NO_STAMP = {"markPriceUpdate"}  # whose T is when funding is paid


def broken(text: str, what: str, kilobytes: int, chance: Callable[[], float]) -> tuple[str, str]:
    """Return a text that is broken, and how.

    Parameters
    ----------
    what : ``no_json``, ``wrong_types``, ``truncated``, ``huge`` or ``any`` of them by lot.
    kilobytes : of a huge one, which is JSON, and no message.
    chance : numbers in [0, 1).
    """
    if what == "any":
        what = BROKEN[int(chance() * len(BROKEN))]
    if what == "no_json":
        return f"<html>{text[:16]}\x00\ufffd", what
    if what == "truncated":
        return text[: max(int(len(text) * chance()), 1)], what
    if what == "huge":
        return json.dumps({"e": "x" * (kilobytes * 1_024)}), what
    try:
        return json.dumps(_mistyped(json.loads(text)), separators=(",", ":")), what
    except ValueError:
        return "null", what


def _mistyped(value: Any) -> Any:
    """Return numbers as lists, texts as numbers, lists as texts; names stay."""
    if isinstance(value, dict):
        return {name: _mistyped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_mistyped(each) for each in value] if value else "none"
    if isinstance(value, str):
        return {"value": value}
    return [value] if isinstance(value, int | float) else 0


def restamped(text: str, ms: int) -> str:
    """Return a text of JSON with its stamps moved; other texts as they are."""
    try:
        body = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_restamped(body, ms), separators=(",", ":"))


def _restamped(body: Any, ms: int) -> Any:
    if isinstance(body, list):
        return [_restamped(each, ms) if isinstance(each, dict) else each for each in body]
    if not isinstance(body, dict):
        return body
    moved = dict(body)
    for name, value in body.items():
        if name in ("data", "event", "o") and isinstance(value, dict):
            moved[name] = _restamped(value, ms)
        elif name in _STAMPS and type(value) is int and body.get("e") not in _NO_STAMP:
            moved[name] = value + ms
    return moved


def fill_symbol(text: str) -> str:
    """Return the symbol of which a user's stream tells a fill; empty = it tells something else."""
    try:
        body = json.loads(text)
    except ValueError:
        return ""
    event = body.get("event", body) if isinstance(body, dict) else {}
    inner = event.get("o")
    told: dict[str, Any] = inner if isinstance(inner, dict) else event
    return str(told.get("s", "")) if told.get("x") == "TRADE" else ""


def doubled(text: str, twice: Callable[[dict[str, Any]], bool]) -> tuple[str, int]:
    """Return a list of trades with some of them twice, and how many.

    Parameters
    ----------
    twice : whether a trade is.
    """
    try:
        rows = json.loads(text)
    except ValueError:
        return text, 0
    if not isinstance(rows, list):
        return text, 0
    told = [row for each in rows for row in ([each, each] if twice(each) else [each])]
    return json.dumps(told), len(told) - len(rows)
