"""How a live feed is told to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WAITING = "waiting:"  # begins what the desk says it does


def feed_line(feed: Mapping[str, Any]) -> str:
    """Return one line about a feed as :meth:`serving.feed_watch.FeedWatch.view` gives it."""
    if not feed["ready"]:
        held = "too late, nothing is entered" if feed["late"] else "waiting"
        return f"feed: {held}: {feed['waiting']}"
    fewest = min(row["bars"] for row in feed["timeframes"])
    said = [
        f"{len(feed['timeframes'])} timeframes, {fewest:,} bars each or more",
        *(one["said"] for one in feed["criteria"] if one["name"] in ("messages", "spread")),
        f"{feed['bytes'] / 1e6:,.1f} MB, {feed['reconnects']} reconnects",
    ]
    if feed["listeners_broken"]:
        said.append(f"{feed['listeners_broken']} listeners begun anew over an error (see the log)")
    if feed["executed_late"]:
        said.append(f"{feed['executed_late']} bars to execute in came late")
    if feed["gaps"]:
        said.append(f"{feed['gaps']} bars missing")
    if feed["different"]:
        said.append(f"{feed['different']} of {feed['compared']:,} bars are not those of 1m")
    if feed["problem"]:
        said.append(feed["problem"])
    return f"feed: {', '.join(said)}"
