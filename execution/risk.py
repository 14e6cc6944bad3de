"""Limits on what may be entered, as a fold over marks, mode changes, bars and reports.

Every check says its value, its limit and the margin between them. All of them stop entries only;
the total stop halts the account and closes its positions as well, and a book that is too wide or
too thin makes an exit of choice wait for some bars. Limits are on mark-to-market equity.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from domain.decision import Reason
from domain.market import Bar, BookSnapshot
from domain.operations import OperatorReport
from domain.times import DAY_MS
from domain.trading import ZERO, EquityMark, ModeChange, Portfolio, RiskMode
from execution.correlation import Correlations
from execution.exposure import exposure_checks, exposures
from execution.limits import NOT_MEASURED, Check, RiskLimits
from execution.money import dec
from execution.readiness import Readiness, Reading

RISK = "risk"  # who changes the mode when a limit does

_DRAWDOWN_STEP = Decimal("0.01")  # of the fall; each takes a quarter of the size
_QUARTERS = 4


class RiskState:
    """Mode, day start, high-water mark, correlations and the operator's reports of one account.

    ``fold`` takes rows in the ledger's order. Arming a halted account starts the high-water mark
    of the total stop anew at the last equity; the daily breaker stays tripped until the next UTC
    day. Market time is that of the newest mark or report.

    Parameters
    ----------
    routes : symbol of the bars → execution symbol, for correlations.
    """

    def __init__(
        self, limits: RiskLimits, account: str, routes: Mapping[str, str] | None = None
    ) -> None:
        self.limits, self.account = limits, account
        self.mode = RiskMode.ACTIVE
        self.change: ModeChange | None = None
        self.peak = ZERO
        self._summit = ZERO  # as peak, but arming leaves it
        self._recovering = False
        self._equity = ZERO
        self._fallen, self._lost = ZERO, 0  # below the mark; quarters of the size lost by it
        self._day = -1
        self._day_start = ZERO
        self._tripped = False
        self._now = 0
        self._readiness = Readiness(account, limits.operator, limits.operator_hold_ms)
        self._correlations = Correlations(
            (routes or {}) if limits.max_correlation is not None else {},
            limits.correlation_bars, limits.correlation_least,
        )  # fmt: skip

    def fold(self, record: Any) -> None:
        """Take in one ledger row; rows of no interest pass."""
        if isinstance(record, Bar):
            self._correlations.fold(record)
        elif isinstance(record, EquityMark):
            if record.account == self.account:
                self._mark(record)
        elif isinstance(record, ModeChange):
            if record.account == self.account:
                self._changed(record)
        elif isinstance(record, OperatorReport) and record.account == self.account:
            self._now = max(self._now, record.at)
            self._readiness.fold(record)

    def _changed(self, change: ModeChange) -> None:
        armed = change.mode is RiskMode.ACTIVE
        if armed and self.mode in (RiskMode.HALTED, RiskMode.KILLED):
            self.peak = self._equity
            self._measure()
        self.mode, self.change = change.mode, change

    def _mark(self, mark: EquityMark) -> None:
        self._now = max(self._now, mark.at)
        # The mark at 00:00 closes the old day and opens the new one.
        day = mark.at // DAY_MS
        if day != self._day:
            first = mark.at % DAY_MS == 0 or self._day < 0
            self._day_start = mark.equity if first else self._equity
            self._day, self._tripped = day, False
        self._equity = mark.equity
        self.peak = max(self.peak, mark.equity)
        self._measure()
        if mark.equity > self._summit:
            self._summit, self._recovering = mark.equity, False
        self._recovering |= self._lost > 0
        limit = self.limits.daily_loss
        self._tripped |= limit is not None and self.day_loss > limit

    @property
    def day_loss(self) -> float:
        """Loss since the start of the UTC day, as a fraction of the equity then."""
        return float(1 - self._equity / self._day_start) if self._day_start > 0 else 0.0

    @property
    def fall(self) -> float:
        """Fall from the high-water mark, as a fraction."""
        return float(self._fallen)

    def _measure(self) -> None:
        # In decimals: 6 % less 5 % must be a whole step.
        self._fallen = 1 - self._equity / self.peak if self.peak > 0 else ZERO
        self._lost, start = 0, self.limits.drawdown_start
        if start is not None and self._fallen > 0 and self._fallen >= dec(start):
            self._lost = min(_QUARTERS, 1 + int((self._fallen - dec(start)) / _DRAWDOWN_STEP))

    @property
    def size_factor(self) -> float:
        """The share of an entry's size that the drawdown leaves: 1, .75, .5, .25 or 0."""
        return 1 - self._lost / _QUARTERS

    @property
    def risk_cap(self) -> float | None:
        """Largest loss at the stop while a drawdown is not made good, fraction; None = no cap."""
        return self.limits.recovery_risk if self._recovering else None

    @property
    def must_halt(self) -> bool:
        """Whether the total stop is hit while positions may still be open."""
        stop = self.limits.total_stop
        trades = self.mode in (RiskMode.ACTIVE, RiskMode.REDUCING)
        return stop is not None and trades and self.fall >= stop

    @property
    def breaker(self) -> str | None:
        """What stops every entry until it lifts by itself, in words; None if nothing does."""
        if self._tripped:
            return f"loss of the day beyond {self.limits.daily_loss:.2%}"
        if not self.size_factor:
            return f"equity is {self.fall:.2%} below its high-water mark: no size is left"
        return None

    def due_change(self, at: int) -> ModeChange | None:
        """Return the change of mode that the limits demand at ``at`` (ms), if any.

        HALTED by the total stop; REDUCING while a breaker is tripped, and ACTIVE once it has
        lifted. What a person set is left to people.
        """
        change = self.change
        at = at if change is None else max(at, change.at + 1)
        if self.must_halt:
            limit = self.limits.total_stop
            why = f"equity is {self.fall:.2%} below its high-water mark, limit {limit:.2%}"
            return ModeChange(self.account, at, RiskMode.HALTED, RISK, why)
        breaker = self.breaker
        if self.mode is RiskMode.ACTIVE and breaker is not None:
            return ModeChange(self.account, at, RiskMode.REDUCING, RISK, breaker)
        mine = change is not None and change.by == RISK
        if self.mode is RiskMode.REDUCING and mine and breaker is None:
            return ModeChange(self.account, at, RiskMode.ACTIVE, RISK, "the breaker has lifted")
        return None

    def readings(self) -> list[Reading]:
        """Return the operator's newest reading of every source."""
        return self._readiness.readings()

    def state_checks(self) -> tuple[Check, ...]:
        """Return the checks that need no order: mode, daily loss, drawdown, total stop, operator.

        REDUCING comes last: it follows from a breaker, which is told first.
        """
        checks: list[Check] = []
        if (daily := self.limits.daily_loss) is not None:
            margin = daily - self.day_loss
            margin = min(margin, -1e-12) if self._tripped else margin
            checks.append(Check("daily_loss", Reason.BREAKER, self.day_loss, daily, margin))
        if (start := self.limits.drawdown_start) is not None:
            end = float(dec(start) + (_QUARTERS - 1) * _DRAWDOWN_STEP)
            margin = end - self.fall
            margin = margin if self.size_factor else min(margin, -1e-12)
            checks.append(Check("drawdown", Reason.BREAKER, self.fall, end, margin))
        if (stop := self.limits.total_stop) is not None:
            margin = stop - self.fall
            checks.append(
                Check("total_stop", Reason.BREAKER, self.fall, stop, margin, "everything")
            )
        if self._readiness.watched:
            checks.append(self._operator())
        last = self.mode is RiskMode.REDUCING
        return (*checks, self._mode()) if last else (self._mode(), *checks)

    def _mode(self) -> Check:
        code = {RiskMode.KILLED: Reason.KILLED, RiskMode.HALTED: Reason.BREAKER}
        active = self.mode is RiskMode.ACTIVE
        return Check(
            "mode", code.get(self.mode, Reason.RISK_VETO), self.mode.value,
            RiskMode.ACTIVE.value, 0.0 if active else -1.0,
        )  # fmt: skip

    def _operator(self) -> Check:
        reading = self._readiness.reading(self._now)
        if reading is None:
            return _NOBODY_REPORTED
        return Check(
            "operator", Reason.OPERATOR_PAUSE, reading.value, reading.limit, reading.margin
        )

    def entry_checks(
        self,
        portfolio: Portfolio,
        symbol: str,
        notional: Decimal,
        spread_bps: float,
        book: BookSnapshot | None = None,
        pending: Mapping[str, Decimal] | None = None,
    ) -> tuple[Check, ...]:
        """Return the checks on an entry.

        Parameters
        ----------
        portfolio : as it will be when the entry fills, that is without a position it replaces.
        notional : of the entry, quote units.
        spread_bps : the modelled spread, used where there is no book of two sides.
        pending : entries of other symbols on their way, quote units.
        """
        others = dict(pending or {})
        for held, exposure in exposures(portfolio).items():
            others[held] = others.get(held, ZERO) + exposure
        checks = [*self.state_checks(), *self._exposure(portfolio, symbol, notional, others)]
        if self.limits.needs_book:
            checks.append(self._book_age(book, portfolio.at))
        spread = book.spread_bps if book is not None and book.two_sided else spread_bps
        deep = None if book is None else book.liquidity()
        return (*checks, *self._market_checks("", spread, deep))

    def exit_checks(self, book: BookSnapshot | None, at: int) -> tuple[Check, ...]:
        """Return the checks on an exit of choice at ``at`` (ms): spread and liquidity.

        None where there is no fresh book of two sides: what is not known makes nobody wait.
        """
        if book is None or not book.two_sided or at - book.at > self.limits.book_age_ms:
            return ()
        return self._market_checks("exit_", book.spread_bps, book.liquidity())

    def exposure_checks(self, portfolio: Portfolio) -> tuple[Check, ...]:
        """Return what is held against the exposure limits: the largest symbol, and all."""
        held = exposures(portfolio)
        largest = max(held, key=lambda symbol: held[symbol], default="")
        return tuple(self._exposure(portfolio, largest, ZERO, held))

    def _exposure(
        self, portfolio: Portfolio, symbol: str, notional: Decimal, held: Mapping[str, Decimal]
    ) -> list[Check]:
        return exposure_checks(
            self.limits, self._correlations, portfolio.equity, symbol, notional, held
        )

    def _market_checks(self, prefix: str, spread: float, deep: float | None) -> tuple[Check, ...]:
        checks, stops = [], "exits" if prefix else "entries"
        if (widest := self.limits.max_spread_bps) is not None:
            name = f"{prefix}spread_bps"
            checks.append(Check(name, Reason.WIDE_SPREAD, spread, widest, widest - spread, stops))
        if (least := self.limits.min_liquidity) is not None:
            margin = None if deep is None else deep - least
            value = NOT_MEASURED if deep is None else deep
            name = f"{prefix}liquidity"
            checks.append(Check(name, Reason.THIN_BOOK, value, least, margin, stops))
        return tuple(checks)

    def _book_age(self, book: BookSnapshot | None, at: int) -> Check:
        oldest = float(self.limits.book_age_ms)
        if book is None or not book.two_sided:
            seen = "no_book" if book is None else "one_sided"
            return Check("book_age", Reason.THIN_BOOK, seen, oldest, -oldest)
        age = float(at - book.at)
        return Check("book_age", Reason.THIN_BOOK, age, oldest, oldest - age)


_NOBODY_REPORTED = Check("operator", Reason.OPERATOR_PAUSE, NOT_MEASURED, None, None)
