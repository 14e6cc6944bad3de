"""A finished session and its backtest: found in a database, run again, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from consensus.replay import ELSEWHERE
from domain.decision import Decision
from domain.errors import DataRefused, LedgerError, SettingError
from domain.market import BarFrame
from domain.ports import Clock
from serving.bootstrap.storage import open_storage
from serving.deciders import build_strategy
from serving.market_files import load_bars
from serving.rerunning import Session, stages_of
from serving.sessions import settings_under
from serving.settings import Settings
from serving.settings.model import LEDGER_FILE
from serving.system import platform_name
from sim.parity import Parity, compare
from sim.progress import Progress
from sim.rerun import Rerun, Stage
from storage.engine import open_database, sqlite_url
from storage.migrate import upgrade
from storage.queries import worlds


def open_session(settings: Settings, name: str | None) -> Session:
    """Find a session.

    Parameters
    ----------
    name : a world of this VAR_DIR's database; or the path of another VAR_DIR or ledger file, with
        ``@WORLD`` where it holds several. None = the only one there is.

    Raises
    ------
    DataRefused : if there is no such session, or it cannot be read; names those that are there.
    """
    path, _, world = (name or "").rpartition("@") if "@" in (name or "") else (name or "", "", "")
    elsewhere = _ledger_file(path)
    if elsewhere is None:
        world = world or path
    try:
        engine = open_storage(settings) if elsewhere is None else _opened(elsewhere)
        known = [each.world for each in worlds(engine)]
        chosen = world or (known[0] if len(known) == 1 else "")
        if chosen in known:
            return Session(engine, chosen)
    except LedgerError as error:
        raise DataRefused(name or "the ledger", f"cannot be read: {error.message}") from error
    rule = "must be one that this ledger holds" if chosen else "must be named"
    there = f"It holds {', '.join(known)}." if known else "It holds none: run `conclave up` first."
    raise DataRefused("session", rule, name, there)


def _ledger_file(path: str) -> Path | None:
    place = Path(path)
    if not path or not place.exists():
        return None
    return place / LEDGER_FILE if place.is_dir() else place


def _opened(path: Path) -> Engine:
    if not path.is_file():
        raise DataRefused("session", "must lie in a folder with a ledger", str(path.parent))
    engine = open_database(sqlite_url(path))
    upgrade(engine)
    return engine


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What ``parity`` tells.

    Attributes
    ----------
    inputs : how many rows of what went in from outside. ``bars_from`` : the ledger, or files.
    exact : False where the session ran on another machine; then numbers are compared within
        ``tolerance``.
    """

    world: str
    profile: str
    source: str
    strategy: str
    parity: Parity
    inputs: Mapping[str, int]
    bars_from: str
    exact: bool
    tolerance: float

    def as_json(self) -> dict[str, Any]:
        """Return JSON's types only."""
        about = {
            "session": self.world,
            "profile": self.profile,
            "source": self.source,
            "strategy": self.strategy,
            "inputs": {"from": self.bars_from, **self.inputs},
            "exact": self.exact,
            "tolerance": self.tolerance,
        }
        return about | self.parity.as_json()


def parity_of(session: Session, files: Sequence[Path], clock: Clock, progress: Progress) -> Answer:
    """Run a session through the backtester and compare.

    Parameters
    ----------
    files : bars to take instead of the session's own.

    Raises
    ------
    DataRefused : if the session cannot be read, has no bar, or a file is of no use to it.
    """
    try:
        terms = session.terms()
        stages = stages_of(session, build_strategy)
        given = _given(files, stages, clock)
        rerun = Rerun(session, stages, given)
        rerun.run(progress)
        if not rerun.inputs["bars"]:
            raise DataRefused(f"session {session.world}", "must hold bars to run again")
        exact = _same_machine(session)
        tolerance = 0.0 if exact else ELSEWHERE
        found = compare(session, rerun.ledger, tolerance)
    except (LedgerError, SettingError) as error:
        raise DataRefused(
            f"session {session.world}", f"cannot be read: {error.message}", hint=error.hint
        ) from error
    last = terms[-1][1]
    return Answer(
        session.world, last.profile, last.source, settings_under(last).execution.strategy, found,
        dict(sorted(rerun.inputs.items())),
        ", ".join(path.name for path in files) or "ledger", exact, tolerance,
    )  # fmt: skip


def _same_machine(session: Session) -> bool:
    here = platform_name()
    return all(
        record.inputs.get("platform", here) == here for _, record in session.records(Decision)
    )


def _given(files: Sequence[Path], stages: Sequence[Stage], clock: Clock) -> dict[str, BarFrame]:
    wanted = {symbol for stage in stages for pair in stage.routes.items() for symbol in pair}
    found = {}
    for path in files:
        frame = load_bars(path, clock).frame
        if frame.symbol not in wanted or frame.timeframe != stages[0].timeframe:
            raise DataRefused(
                path.name, f"must hold {stages[0].timeframe} bars that the session traded",
                f"{frame.symbol} {frame.timeframe}", f"It traded {', '.join(sorted(wanted))}.",
            )  # fmt: skip
        found[frame.symbol] = frame
    return found
