"""A live feed beside the desk: what it waits for before anything is entered, and its reports.

The desk decides and looks after what is open from the first close on. Only entries wait until every
start criterion has been met once: what holds them is on the ledger, as a person's pause is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from data.sources.live_ingest import LiveIngest
from data.start_criteria import unmet
from data.timeframes import TIMEFRAMES
from domain.canonical import plain
from domain.errors import ConclaveError
from domain.ports import Clock, LiveSource
from domain.times import DAY_MS, iso
from execution.loop import TradingLoop
from serving.feed_words import WAITING
from serving.feeds import Feed
from serving.report_files import write_report
from serving.settings import Settings

log = structlog.get_logger("feed")

LIVE = "live"


class Doing(Protocol):
    """What the desk says of itself."""

    phase: str
    feed: dict[str, Any] | None


@dataclass(slots=True)
class FeedWatch:
    """Watches the feed of one desk.

    Attributes
    ----------
    counted : what went wrong in the source, by name.
    folder : of the reports.
    market, wall : clocks; the wall's names the reports.
    holds : whether entries wait.
    patience_s : wall time until what is not met is told as a fault.
    starting_s, started_s : between two looks.
    """

    ingest: LiveIngest
    counted: Callable[[], Mapping[str, int]]
    loop: TradingLoop
    folder: Path
    market: Clock
    wall: Clock
    holds: bool
    patience_s: float
    starting_s: float = 0.25
    started_s: float = 2.5
    _began: float | None = field(default=None, init=False)  # monotonic; so is the next
    _looked: float = field(default=0.0, init=False)
    _reported: int = field(default=0, init=False)  # market time of the last report
    _late: bool = field(default=False, init=False)
    _met: bool = field(default=False, init=False)  # at the last look

    def look(self, doing: Doing) -> bool:
        """Bring what the desk says of itself up to date, once it is live; True if it is news."""
        now, phase = time.monotonic(), doing.phase
        if phase != LIVE and not phase.startswith(WAITING):
            return False
        if self._began is None:
            self._began = now
        if now - self._looked < (self.started_s if self._met else self.starting_s):
            return False
        self._looked, met = now, self.ingest.met
        self._met = met
        missing = [] if met else [one.said for one in unmet(self.ingest.criteria())]
        self._late = not met and now - self._began >= self.patience_s
        doing.phase = f"{WAITING} {missing[0]}" if missing and not self._late else LIVE
        doing.feed = self.view("; ".join(missing))
        if met or not self.holds:
            self.loop.release_entries("the feed is sure enough", self.market.now())
        elif self._late:
            self.hold()
        if met or self._late:
            self._report()
        return doing.phase != phase

    def hold(self) -> None:
        """Hold entries if the feed is not sure yet; asked before anything is decided."""
        if self.holds and not self.ingest.met:
            self.loop.hold_entries("the feed has not met its start criteria", self.market.now())

    def view(self, missing: str) -> dict[str, Any]:
        """Return how the feed is, JSON's types; bars are those of the symbol that has fewest."""
        kept = [each.kept for each in self.ingest.kept.values()]
        return {
            "ready": not missing,
            "waiting": missing,
            "late": self._late,
            "problem": self.ingest.problem,
            "criteria": plain(self.ingest.criteria()),
            "timeframes": [
                {
                    "timeframe": name,
                    "bars": min(len(each[name].frame) for each in kept),
                    "whole": min(each[name].whole for each in kept),
                    "gaps": sum(each[name].gaps for each in kept),
                    "different": sum(each[name].different for each in kept),
                }
                for name in TIMEFRAMES
            ],
            **self.ingest.figures(),
            **self.counted(),
        }

    def _report(self) -> None:
        now = self.market.now()
        if now - self._reported < DAY_MS:
            return
        self._reported = now
        try:
            write_report(self.folder, {"at": iso(now), **self.ingest.report()}, self.wall.now())
        except ConclaveError as error:  # a full disk: the ledger says it louder
            log.warning("ingest_report_failed", why=error.message)


def feed_watch(
    settings: Settings, feed: Feed, loop: TradingLoop, market: Clock, wall: Clock
) -> FeedWatch | None:
    """Wire the watch over a feed; None where there is none to watch."""
    if feed.ingest is None or not isinstance(feed.source, LiveSource):
        return None
    folder = settings.data.var_dir / "reports" / "ingest"
    return FeedWatch(
        feed.ingest, feed.source.figures, loop, folder, market, wall,
        settings.feed.start_criteria, settings.feed.start_patience_min * 60.0,
    )  # fmt: skip
