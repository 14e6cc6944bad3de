"""What is told: every event has a topic, and every topic is on, silent or off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from domain.trading import Event

Topic = Literal[
    "system", "job", "error", "metrics", "signal", "no_trade", "fill", "trade", "refusal", "risk",
    "journal", "drift", "daily",
]  # fmt: skip
Loudness = Literal["on", "silent", "off"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
_SAME = frozenset(TOPICS) - {"signal", "no_trade", "refusal"}  # these are kinds of events, too
_QUIET = frozenset({"session"})  # terms of a session, for programs


@dataclass(frozen=True, slots=True)
class Matrix:
    """How loud each topic is."""

    of: Mapping[Topic, Loudness]

    def loudness(self, event: Event) -> Loudness:
        """Return how an event is told; ``off`` also for what has no topic."""
        topic = topic_of(event)
        return "off" if topic is None else self.of[topic]


def topic_of(event: Event) -> Topic | None:
    """Return an event's topic; None for what is not for people.

    A kind that is not known here is an error if its level says so, else it concerns the system.
    """
    if event.kind == "decision":
        return "no_trade" if event.body.get("decision") == "NO_TRADE" else "signal"
    if event.kind in _QUIET:
        return None
    if event.kind == "risk" and "rule" in event.body:
        return "refusal"
    if event.kind == "job" and event.level == "error":
        return "error"
    for topic in TOPICS:
        if event.kind == topic and topic in _SAME:
            return topic
    return "system" if event.level == "info" else "error"
