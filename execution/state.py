"""What the trading loop knows: a fold over ledger rows, the same live and after a restart."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from domain.decision import Decision
from domain.market import Bar
from domain.opinion import Outcome
from domain.trading import ClosedTrade, EquityMark, Portfolio, RiskMode
from execution.account import Account
from execution.history import History
from execution.journal import Journal, JournalMode
from execution.kelly import Stake, TrackRecord
from execution.limits import Check, RiskLimits
from execution.messages import LoopSettings
from execution.money import dec
from execution.risk import RiskState
from execution.sizing import SizingSettings


class LoopState:
    """Account, risk, track record, journal, and where each symbol stands.

    Parameters
    ----------
    settings : routes, horizon, account and currency are read.
    strategy : its name, written on closed trades.
    """

    def __init__(
        self,
        settings: LoopSettings,
        strategy: str,
        limits: RiskLimits,
        sizing: SizingSettings,
        journal: JournalMode,
    ) -> None:
        self.settings = settings
        self._routes: Mapping[str, str] = dict(settings.routes)
        self._traded = set(self._routes.values())
        self._account = Account(settings.account, settings.currency, self._routes, strategy)
        self._risk = RiskState(limits, settings.account, self._routes)
        self._record = TrackRecord(
            sizing.kelly, settings.account, self._routes, sizing.risk_fraction
        )
        self._journal = None if journal == "off" else Journal(journal, settings.account)
        self._history = History(settings.horizon_bars)
        self._marks: dict[str, Decimal] = {}  # execution symbol → last close
        self._marked: dict[str, int] = {}  # execution symbol → when that bar closed
        self._equity_at = 0
        self._decided: dict[str, Decision] = {}  # on bars, warm-up included
        self._answered: deque[tuple[str, int]] = deque(maxlen=256)  # asked on demand, lately

    @property
    def mode(self) -> RiskMode:
        """What risk allows now."""
        return self._risk.mode

    @property
    def risk(self) -> RiskState:
        """What risk knows; to be read."""
        return self._risk

    def absorbed_up_to(self, symbol: str) -> int:
        """Return the close (ms) of the last bar taken in for a forecast symbol; 0 for none."""
        last = self._history.last(symbol)
        return 0 if last is None else last.close_ms

    def executed_up_to(self, symbol: str) -> int:
        """Return the close (ms) of the last bar taken in for an execution symbol; 0 for none."""
        return self._marked.get(symbol, 0)

    def decided_up_to(self, symbol: str) -> int:
        """Return ``as_of`` (ms) of the last decision on a bar, warm-up included; 0 for none."""
        last = self._decided.get(symbol)
        return 0 if last is None else last.as_of

    def last_decision(self, symbol: str) -> Decision | None:
        """Return the last decision on a bar, warm-up included."""
        return self._decided.get(symbol)

    def portfolio(self, at: int) -> Portfolio:
        """Return the account marked to the last closes."""
        return self._account.portfolio(at, self._marks)

    def risk_checks(self) -> tuple[Check, ...]:
        """Return every limit that needs no order, with its value now and its margin."""
        held = self.portfolio(self._equity_at)
        return (*self._risk.state_checks(), *self._risk.exposure_checks(held))

    def stakes(self) -> dict[str, Stake]:
        """Return what Kelly's rule would risk now, by forecast symbol."""
        return {symbol: self._record.stake(symbol) for symbol in sorted(self._routes)}

    # One way in for every row, live and on resume

    def _enter(self, record: Any) -> ClosedTrade | Outcome | None:
        if self._journal is not None:
            self._journal.fold(record)
        kind = type(record)
        if kind is Bar:
            return self._bar(record)
        if kind is Decision:
            self._history.asked(record)
            if record.origin == "on_demand":
                self._answered.append((record.symbol, record.as_of))
            else:
                self._decided[record.symbol] = record
        else:
            if kind is EquityMark:
                self._equity_at = max(self._equity_at, record.at)
            self._risk.fold(record)
            self._record.fold(record)
        return self._account.fold(record)

    def _bar(self, bar: Bar) -> Outcome | None:
        if bar.symbol in self._traded or self._account.position(bar.symbol) is not None:
            self._marks[bar.symbol] = dec(bar.close)
            self._marked[bar.symbol] = bar.close_ms
        if bar.symbol not in self._routes:
            return None
        self._risk.fold(bar)
        self._record.fold(bar)
        return self._history.push(bar)
