"""What the desk does beside trading: state file, backups, and measurements of itself.

:meth:`Upkeep.look` is called many times a second and does what is due; nothing in it waits. What
fails here is told and tried again, and stops no trading.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil
import structlog

from domain.canonical import plain
from domain.errors import ConclaveError, LedgerError
from domain.market import Bar
from domain.ports import Clock
from domain.times import HOUR_MS
from domain.trading import ClosedTrade, Event
from execution.loop import TradingLoop
from serving.backups import Backups
from serving.folds import Fold
from serving.market_clock import MarketClock
from serving.recovering import backup_folder
from serving.settings import Settings
from serving.state_file import STATE_FILE, TRADES, State, StateFile, differences, state_of
from storage.engine import database_file
from storage.events import EventLog
from storage.health import LearnedPattern, ServiceHealth, note_health, note_patterns
from storage.ledger import SqlLedger
from storage.queries import Reader, hash_at

log = structlog.get_logger("upkeep")

STATE_SECONDS = 300.0
AFTER_TRADE_SECONDS = 1.0  # trades that close faster share one file
HEALTH_SECONDS = 60.0
PATTERN_SECONDS = 1.0  # at most this often when market hours fly by


class Doing(Protocol):
    """What the desk says of itself."""

    phase: str
    decided: int
    via: str
    feed: dict[str, Any] | None


@dataclass(slots=True)
class Upkeep:
    """Looks after one desk.

    Attributes
    ----------
    symbols : forecast symbols.
    clock : the wall's.
    """

    world: str
    symbols: Sequence[str]
    loop: TradingLoop
    fold: Fold
    ledger: SqlLedger
    reader: Reader
    events: EventLog
    state_file: StateFile
    backups: Backups
    clock: Clock
    market_clock: MarketClock
    _writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "state"))
    _written: Future[None] | None = None
    _state_at: float = 0.0  # monotonic; these three: when it was done last
    _health_at: float = 0.0
    _pattern_at: float = 0.0
    _hour: int = 0  # market hour of the newest patterns
    _closed: bool = False  # a trade has, since the last state
    _bar_at: float | None = None
    _looked: float | None = None
    _lag: float = 0.0

    def begin(self) -> list[str]:
        """Hold the state file against the ledger, tell differences, and write it anew."""
        now = self.state()
        found: list[str] = []
        try:
            told = self.state_file.load()
        except LedgerError as error:
            self._tell("state", error.message, error.hint)
            told = self.state_file.newest_copy()
        if told is not None:
            found = differences(told, now, hash_at(self.ledger.engine, told.head_seq))
        if found:
            hint = "The ledger is the truth; state.json is written anew."
            self._tell("state", f"state.json differs from the ledger: {'; '.join(found)}", hint)
        self._save(now, copy=True)
        return found

    def hear(self, record: Any) -> None:
        """Take note of a row that was appended."""
        if isinstance(record, ClosedTrade):
            self._closed = True
        elif isinstance(record, Bar):
            self._bar_at = time.monotonic()

    def look(self, doing: Doing) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._looked is not None:
            self._lag = max(self._lag, now - self._looked)
        self._looked = now
        since = now - self._state_at
        if since >= STATE_SECONDS:
            self._save(self.state(), copy=True)
        elif self._closed and since >= AFTER_TRADE_SECONDS:
            self._save(self.state(), copy=False)
        if now - self._health_at >= HEALTH_SECONDS:
            self._health_at = now
            self._try(lambda: note_health(self.ledger.engine, self._health(doing, now)))
        self._learned(now)
        told = self.backups.look()
        if told is not None:
            self._backed_up(told)

    def close(self) -> None:
        """Write the last state and wait until it is on the disk."""
        self._save(self.state(), copy=True)
        self.stop()

    def stop(self) -> None:
        """Let go of threads and processes."""
        self.backups.close()
        self._writer.shutdown(wait=True)
        self._check_written()

    def state(self) -> State:
        """Return the account as it is now."""
        portfolio = self.loop.portfolio(self.market_clock.now())
        account = portfolio.account
        trades = self.reader.trades(limit=TRADES, account=account).items[::-1]
        seq, digest = self.ledger.head()
        weights = {
            symbol: {row["agent"]: row["weight"] for row in self.fold.weights(symbol)}
            for symbol in self.symbols
        }
        return state_of(
            portfolio, [trade for _, trade in trades], self.loop.open_orders(),
            capital=float(self.loop.settings.initial_cash), wins=self.reader.wins(account),
            written_at=self.clock.now(), world=self.world, mode=self.loop.mode.value,
            weights=weights, breakers=[plain(check) for check in self.loop.risk_checks()],
            head_seq=seq, head_hash=digest,
        )  # fmt: skip

    def _save(self, state: State, *, copy: bool) -> None:
        self._state_at, self._closed = time.monotonic(), False
        self._check_written()
        # Waiting for the disk is the thread's business; one thread keeps them in order.
        self._written = self._writer.submit(self.state_file.save, state, copy=copy)

    def _check_written(self) -> None:
        if self._written is None or not self._written.done():
            return
        error, self._written = self._written.exception(), None
        if isinstance(error, OSError):
            self._tell("state", f"state.json cannot be written: {error.strerror}", "")
        elif error is not None:
            raise error

    def _health(self, doing: Doing, now: float) -> ServiceHealth:
        process = psutil.Process()
        spent = process.cpu_times()
        lag, self._lag = self._lag, 0.0
        feed = doing.feed or {}
        return ServiceHealth(
            "desk", self.clock.now(), self.world, os.getpid(), doing.phase,
            process.memory_info().rss, spent.user + spent.system, lag, doing.decided, doing.via,
            None if self._bar_at is None else now - self._bar_at, feed.get("bytes"),
            feed.get("reconnects"),
        )  # fmt: skip

    def _learned(self, now: float) -> None:
        hour = self.market_clock.now() // HOUR_MS
        if hour <= self._hour or now - self._pattern_at < PATTERN_SECONDS:
            return
        self._hour, self._pattern_at = hour, now
        rows = [
            LearnedPattern(
                self.world, symbol, row["agent"], hour * HOUR_MS, row["weight"],
                row["decayed_brier"], row["skill_1e4"], row["n"], _seat(row),
            )
            for symbol in self.symbols
            for row in self.fold.weights(symbol)
        ]  # fmt: skip
        self._try(lambda: note_patterns(self.ledger.engine, rows))

    def _backed_up(self, told: Any) -> None:
        if "error" in told:
            self._tell("backup", told["error"], told["hint"])
        else:
            log.info("backed_up", **told)

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except ConclaveError as error:  # a full disk or a lock: the ledger says it louder
            log.warning("not_measured", why=error.message)

    def _tell(self, kind: str, why: str, hint: str) -> None:
        log.warning(kind, why=why)
        body = {"why": why, "hint": hint}
        self._try(lambda: self.events.append(Event(kind, self.market_clock.now(), body, "warning")))


def upkeep_of(
    settings: Settings,
    loop: TradingLoop,
    fold: Fold,
    ledger: SqlLedger,
    symbols: Sequence[str],
    clock: Clock,
    market_clock: MarketClock,
) -> Upkeep:
    """Wire what looks after a desk, as the settings say."""
    data, folder = settings.data, backup_folder(settings)
    making = Backups(
        database_file(settings.database_url()), folder, data.backup_minutes, data.backup_hourly,
        data.backup_daily, clock,
    )  # fmt: skip
    return Upkeep(
        world=ledger.world,
        symbols=symbols,
        loop=loop,
        fold=fold,
        ledger=ledger,
        reader=Reader(ledger.engine, ledger.world),
        events=EventLog(ledger.engine, ledger.world),
        state_file=StateFile(data.var_dir / STATE_FILE, folder),
        backups=making,
        clock=clock,
        market_clock=market_clock,
    )


def _seat(row: dict[str, Any]) -> str:
    return "probation" if row["probation"] else "grace" if row["grace"] else "member"
