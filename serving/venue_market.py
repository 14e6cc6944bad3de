"""The market of ``conclave venue``: simulated, of bars, or recorded; from when on, how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.files import file_sha256
from domain.canonical import short_hash
from domain.errors import UsageError
from domain.market import symbol_on
from domain.times import DAY_MS, iso
from serving.market_files import load_bars
from serving.system import SystemClock
from sim.venue.market import Markets, Stored, VenueClock
from sim.venue.recorded import Recording, recording
from sim.worlds import DemoSource, World

_LONGEST_MS = 10 * 365 * DAY_MS  # of the simulated market, which is made from its beginning on


@dataclass(frozen=True, slots=True)
class Wares:
    """What a venue may show.

    Attributes
    ----------
    what : it is, in words.
    name : of the market; another seed, or other bars, make another.
    begins_ms : where it begins unless told otherwise.
    first_ms, last_ms : it can begin in [first, last).
    ends_ms : when it is over; None = never.
    """

    what: str
    name: str
    worlds: dict[str, World]
    begins_ms: int
    first_ms: int
    last_ms: int
    ends_ms: int | None
    seed: int
    recordings: tuple[Recording, ...] = ()

    def markets(self, at_ms: int, speed: float, funding_hours: int) -> Markets:
        """Return the markets, beginning now with market time ``at_ms``."""
        clock = VenueClock(at_ms, SystemClock().now, speed)
        return Markets(
            self.worlds, clock, seed=self.seed, funding_hours=funding_hours, name=self.name,
            recordings=self.recordings,
        )  # fmt: skip

    def begin(self, wanted_ms: int | None, kept_ms: int) -> int:
        """Return the market time to begin with, ms.

        Parameters
        ----------
        wanted_ms : by a flag; None = where it usually begins.
        kept_ms : as far as a kept account is, from which it goes on; 0 = there is none.

        Raises
        ------
        UsageError : for a time that the market does not have.
        """
        if wanted_ms is not None and not self.first_ms <= wanted_ms < self.last_ms:
            raise UsageError(
                "--start", f"must lie from {iso(self.first_ms)} to before {iso(self.last_ms)}",
                iso(wanted_ms),
            )  # fmt: skip
        return kept_ms or (self.begins_ms if wanted_ms is None else wanted_ms)


def wares_of(
    data: Sequence[Path], books: Sequence[Path], wanted: Sequence[str], usual: Sequence[str],
    seed: int,
) -> Wares:  # fmt: skip
    """Return the market that was asked for.

    Parameters
    ----------
    data, books : files of bars, and of recorded books.
    wanted, usual : symbols of the simulated market, by a flag and by the settings.

    Raises
    ------
    UsageError, DataRefused : for flags that exclude each other, or files that must not be used.
    """
    if wanted and (data or books):
        rule = "is of the simulated market, which --data and --books replace"
        raise UsageError("--symbol", rule, list(wanted))
    if data and books:
        raise UsageError("--books", "bring bars of their own", hint="Leave --data out.")
    if books:
        return of_recordings(books, seed)
    return of_files(data, seed) if data else simulated(wanted or usual, seed)


def simulated(symbols: Sequence[str], seed: int) -> Wares:
    """Return the simulated market, which begins behind the history that is learned from."""
    demo = DemoSource(symbols, seed=seed)
    last = demo.start_ms + _LONGEST_MS
    return Wares(
        "simulated market", f"demo-{seed}", dict(demo.worlds), demo.live_ms, demo.start_ms, last,
        None, seed,
    )  # fmt: skip


def of_files(paths: Sequence[Path], seed: int) -> Wares:
    """Return the market of files of bars, one a pair, which begins in the middle of them.

    Raises
    ------
    UsageError, DataRefused : for files that must not be used, or have no time in common.
    """
    files = [load_bars(path, SystemClock()) for path in paths]
    stored = {symbol_on(file.frame.symbol, "spot"): Stored(file.frame) for file in files}
    start = max(one.start_ms for one in stored.values())
    end = min(one.end_ms for one in stored.values())
    if len(stored) < len(files) or start >= end:
        raise UsageError(
            "--data", "needs one file a pair, and a time that all of them have",
            [path.name for path in paths],
        )  # fmt: skip
    begins = max((start + end) // 2 // DAY_MS * DAY_MS, start)
    what = sorted(f"{file.frame.symbol} {file.frame.timeframe} {file.sha256}" for file in files)
    return Wares(
        "bars of files", f"bars-{short_hash([what, seed], 10)}", dict(stored), begins, start, end,
        end, seed,
    )  # fmt: skip


def of_recordings(paths: Sequence[Path], seed: int) -> Wares:
    """Return the market of recorded order books, whose trades lie beside them; begins with them.

    Raises
    ------
    UsageError, DataRefused : for files that must not be used, or have no time in common.
    """
    found = [recording(path) for path in paths]
    start, end = max(one.start_ms for one in found), min(one.end_ms for one in found)
    if len({one.symbol for one in found}) < len(found) or start >= end:
        raise UsageError(
            "--books", "needs one file a symbol, and a time that all of them have",
            [path.name for path in paths],
        )  # fmt: skip
    what = sorted(f"{path.name} {file_sha256(path)}" for path in paths)
    name = f"books-{short_hash([what, seed], 10)}"
    return Wares(
        "recorded books and trades", name, {}, start, start, end, end, seed, tuple(found)
    )  # fmt: skip
