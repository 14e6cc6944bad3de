"""How a live broker's standing with its exchange is told to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def broker_problems(broker: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a broker as a desk tells of it, in sentences."""
    venue, stream = broker["venue"], broker["stream"]
    problems = []
    if venue["open"]:
        silent = "does not answer and is left alone between tries"
        what = silent if venue["in_vain"] else "asked to be left alone"
        problems.append(f"The exchange {what}, nothing is entered: {venue['problem']}")
    if stream["problem"]:
        problems.append(
            f"The account's stream is not heard, fills are asked for: {stream['problem']}"
        )
    return problems


def broker_line(broker: Mapping[str, Any]) -> str:
    """Return one line about it."""
    said = "; ".join(broker_problems(broker)) or "it answers, and the account's stream is heard"
    return f"exchange: {said}"
