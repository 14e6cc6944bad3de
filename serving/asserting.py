"""What must hold of the running ledger, looked at by the desk once a day of market time.

It measures a day when the first bar of the next has been decided on (sim.assertions judges). Where
an assertion begins to fail, and where it holds again, a risk event goes to the ledger; of the
first :mod:`serving.telling` makes an event and a proposal. A day is ticked off after that, so that
a restart neither forgets nor repeats one. A failure of its own never reaches a decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from domain.canonical import plain
from domain.errors import ConclaveError
from domain.market import Floats
from domain.operations import Reflection, RiskEvent
from domain.times import DAY_MS, iso, timeframe_ms
from domain.trading import ZERO, ClosedTrade, EquityMark, Fill
from execution.dispatch import RECONCILIATION
from execution.journal import JournalMode
from serving.monitoring import scored_days
from sim import assertions
from sim.assertions import ASSERTION, Verdict, not_measured
from sim.drift import coverage
from sim.metrics import MIN_DAYS, Run, daily_returns
from storage.queries import Reader
from storage.snapshots import SqlSnapshots

log = structlog.get_logger("asserting")

SNAPSHOT, TOLD, DONE = "assertions", "told", "done"
WINDOW_DAYS = MIN_DAYS  # of Sharpe ratios, fills and marks
WEEK_MS = 7 * DAY_MS
_MONDAY = 4  # days since 1970 modulo 7: that was a Thursday
_PAGE = 1_000

Backtest = Callable[[int, int], Sequence[EquityMark]]
"""Trades the session again from one instant to another (ms); returns the marks in between."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits, and what the figures are compared with.

    Attributes
    ----------
    modelled_bps : half the spread and the slippage of a side, basis points.
    """

    sharpe_gap: float
    slippage_bps: float
    win_rate_error: float
    drawdown: float
    data_age_bars: int
    adherence: float
    grace_ms: int
    modelled_bps: float
    journal: JournalMode


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to do about a failure: in words, and as a setting where one helps."""

    action: str
    setting: str | None = None
    now: Any = None
    to: Any = None


@dataclass(slots=True)
class Measuring:
    """Reads one world's ledger and judges it.

    Attributes
    ----------
    symbols : what is forecast. ``monitored`` : whether coverage is kept by the drift monitor.
    backtest : trades the session again; ConclaveError says why that cannot be done.
    suggest : what to do about a failed verdict.
    """

    reader: Reader
    snapshots: SqlSnapshots
    account: str
    symbols: Sequence[str]
    timeframe: str
    limits: Limits
    suggest: Callable[[Verdict], Suggestion]
    backtest: Backtest
    monitored: bool = True

    def all(self, at: int, now: int | None, *, backtest: bool) -> list[Verdict]:
        """Judge everything that ended by ``at``.

        Parameters
        ----------
        at : UTC ms, market time.
        now : by the clock that ages the data; None where bars themselves are the clock.
        backtest : whether the session is traded again, which takes seconds.
        """
        marks = self._marks(at)
        return [
            self._sharpe(marks, at) if backtest else not_measured(
                "sharpe_gap", "Sharpe", "measured on Mondays, and when asked for"
            ),
            self._slippage(at),
            self._win_rate(at),
            self._drawdown(marks),
            self._reconciliation(),
            self._coverage(),
            self._data_age(now),
            self._adherence(at),
        ]  # fmt: skip

    def _marks(self, at: int) -> list[EquityMark]:
        since = (at // DAY_MS - WINDOW_DAYS) * DAY_MS
        found = _newest(self.reader, EquityMark, lambda mark: mark.at, since, account=self.account)
        return [mark for mark in found if mark.at <= at][::-1]

    def _sharpe(self, marks: Sequence[EquityMark], at: int) -> Verdict:
        name, unit = "sharpe_gap", "Sharpe"
        end = at // DAY_MS * DAY_MS
        start = end - WINDOW_DAYS * DAY_MS
        if not marks or marks[0].at > start:
            first = marks[0].at if marks else end
            days = max(0, (end - first) // DAY_MS)
            return not_measured(name, unit, f"{days} of {WINDOW_DAYS} whole days", days)
        try:
            again = self.backtest(start, end)
        except ConclaveError as error:
            return not_measured(name, unit, f"{error.message} {error.hint}".strip())
        paper = [mark for mark in marks if start < mark.at <= end]
        ours, theirs = (_daily(each, start, marks[0]) for each in (paper, again))
        return assertions.sharpe_gap(ours, theirs, self.limits.sharpe_gap)

    def _slippage(self, at: int) -> Verdict:
        since = at - WINDOW_DAYS * DAY_MS
        fills = _newest(self.reader, Fill, lambda fill: fill.at, since, account=self.account)
        return assertions.slippage_gap(fills, self.limits.modelled_bps, self.limits.slippage_bps)

    def _win_rate(self, at: int) -> Verdict:
        trades = self._trades(0, at)
        pnl = [float(trade.pnl) for trade in trades]
        return assertions.win_rate_drift(pnl, self.limits.win_rate_error)

    def _drawdown(self, marks: Sequence[EquityMark]) -> Verdict:
        equity = np.array([float(mark.equity) for mark in marks], dtype=np.float64)
        peak = np.array([float(mark.high_water) for mark in marks], dtype=np.float64)
        return assertions.drawdown(equity, peak, self.limits.drawdown)

    def _reconciliation(self) -> Verdict:
        page = self.reader.page(RiskEvent, limit=1, account=self.account, kind=RECONCILIATION)
        apart = [event for _, event in page.items if event.level == "error"]
        rows = self.reader.trial_balance()
        sums = dict.fromkeys((row.asset for row in rows), ZERO)
        for row in rows:
            sums[row.asset] += row.amount
        wrong = {asset: f"{total:f}" for asset, total in sums.items() if total}
        return assertions.reconciliation(apart[0].body if apart else {}, wrong, len(rows))

    def _coverage(self) -> Verdict:
        if not self.monitored:
            return not_measured("coverage_80", "fraction", "serving.monitor is off")
        days = {symbol: scored_days(self.snapshots, symbol) for symbol in self.symbols}
        found = {symbol: c for symbol, told in days.items() if (c := coverage(told)) is not None}
        return assertions.coverage_80(found, max(map(len, days.values()), default=0))

    def _data_age(self, now: int | None) -> Verdict:
        if now is None:
            return not_measured("data_age", "bars", "the newest bar is this market's clock")
        step, last = timeframe_ms(self.timeframe), self.reader.last_bars()
        ages = {
            symbol: now - last[symbol, self.timeframe] - step
            for symbol in self.symbols
            if (symbol, self.timeframe) in last
        }
        return assertions.data_age(ages, step, self.limits.data_age_bars)

    def _adherence(self, at: int) -> Verdict:
        if self.limits.journal == "off":
            return not_measured("adherence", "fraction", "journal.reflections is off")
        until = at - self.limits.grace_ms
        trades = self._trades(until - WEEK_MS, until)
        told = self.reader.reflections(trade.decision_id for trade in trades)
        written = [by_person(told[trade.decision_id]) for trade in trades]
        return assertions.adherence(written, self.limits.adherence)

    def _trades(self, since: int, until: int) -> list[ClosedTrade]:
        found = _newest(self.reader, ClosedTrade, _closed_at, since, account=self.account)
        return [trade for trade in found if trade.closed_at <= until][::-1]


def by_person(reflections: Sequence[Reflection]) -> bool:
    """Return whether one of them is a person's."""
    return any(not one.draft for one in reflections)


@dataclass(slots=True)
class Asserting:
    """Follows the verdicts of one world from day to day.

    Attributes
    ----------
    write : appends a risk event to the ledger.
    """

    measuring: Measuring
    write: Callable[[RiskEvent], None]
    _done: int | None = None
    _last: dict[str, RiskEvent] = field(default_factory=dict)

    def resume(self) -> None:
        """Read which day was looked at last, and what failed then."""
        saved = self.measuring.snapshots.latest(SNAPSHOT, DONE)
        self._done = None if saved is None else int(saved[1]["day"])
        reader, account = self.measuring.reader, self.measuring.account
        for event in _newest(reader, RiskEvent, lambda e: e.at, 0, account=account, kind=ASSERTION):
            self._last.setdefault(event.subject, event)

    async def look(self, at: int, now: int | None) -> None:
        """Look at the days that ended by ``at`` (ms, market time); nothing to do within a day."""
        day = at // DAY_MS
        if self._done is None:
            self._done = day  # the first day is still going on
            self._tick(day)
            return
        if day <= self._done:
            return
        monday = any(d % 7 == _MONDAY for d in range(self._done + 1, day + 1))
        try:
            verdicts = await self._measured(day * DAY_MS, now, backtest=monday)
        except Exception as error:  # noqa: BLE001 - decisions go on without it
            log.warning("assertions_failed", error=f"{type(error).__name__}: {error}")
        else:
            self.record(verdicts, day * DAY_MS)
        self._done = day
        self._tick(day)

    async def now(self, at: int, now: int | None) -> dict[str, Any]:
        """Look at everything up to ``at`` (ms), write down what changed and return the verdicts."""
        self.record(await self._measured(at, now, backtest=True), at)
        return told(self.measuring.snapshots)

    async def _measured(self, at: int, now: int | None, *, backtest: bool) -> list[Verdict]:
        # In a thread: kills and the lease do not wait while a session is traded again.
        return await asyncio.to_thread(self.measuring.all, at, now, backtest=backtest)

    def _tick(self, day: int) -> None:
        self.measuring.snapshots.save(SNAPSHOT, DONE, 0, {"day": day})

    def record(self, verdicts: Sequence[Verdict], at: int) -> None:
        """Write down what began to fail and what holds again, and tell the API all of it."""
        for verdict in verdicts:
            last = self._last.get(verdict.name)
            failing = last is not None and last.level != "info"
            if verdict.passed is None or failing is not verdict.passed:
                continue
            moment = at if last is None else max(at, last.at + 1)  # the ledger tells them apart so
            event = self._event(verdict, moment)
            self.write(event)
            self._last[verdict.name] = event
        body = {"at": iso(at), "items": [plain(verdict) for verdict in verdicts]}
        self.measuring.snapshots.save(SNAPSHOT, TOLD, 0, body)

    def _event(self, verdict: Verdict, at: int) -> RiskEvent:
        body: dict[str, Any] = plain(verdict)
        if not verdict.passed:
            body["suggestion"] = plain(self.measuring.suggest(verdict))
        level: Any = "info" if verdict.passed else "warning"
        return RiskEvent(
            self.measuring.account, at, ASSERTION, verdict.name, level, "assertions", body
        )


def told(snapshots: SqlSnapshots) -> dict[str, Any]:
    """Return the verdicts as they were last measured: ``at`` (null: never) and ``items``."""
    saved = snapshots.latest(SNAPSHOT, TOLD)
    return {"at": None, "items": []} if saved is None else saved[1]


def _daily(marks: Sequence[EquityMark], start: int, before: EquityMark) -> Floats:
    """Return the returns of the UTC days from ``start`` on."""
    if not marks:
        return np.empty(0)
    at = np.array([mark.at for mark in marks], dtype=np.int64)
    equity = np.array([float(mark.equity) for mark in marks], dtype=np.float64)
    return daily_returns(Run(start, at, equity, equity, float(before.equity), (), (), ()))


def _closed_at(trade: ClosedTrade) -> int:
    return trade.closed_at


def _newest(
    reader: Reader, of: type[Any], at: Callable[[Any], int], since: int, **where: Any
) -> Iterator[Any]:
    """Iterate over records, newest first, as long as they are not older than ``since`` (ms)."""
    before: int | None = None
    while True:
        page = reader.page(of, limit=_PAGE, before_seq=before, **where)
        for _, record in page.items:
            if at(record) < since:
                return
            yield record
        before = page.next
        if before is None:
            return
