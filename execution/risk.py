"""Limits on what may be entered, as a fold over marks and mode changes.

Every check says its value, its limit and the margin between them. All of them stop entries only;
the total stop halts the account and closes its positions as well. Limits are on mark-to-market
equity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from domain.decision import Reason
from domain.market import BookSnapshot
from domain.times import DAY_MS
from domain.trading import ZERO, EquityMark, ModeChange, Portfolio, RiskMode
from execution.money import dec


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """The limits; None turns one off.

    Attributes
    ----------
    max_symbol_exposure, max_total_exposure : fraction of equity.
    daily_loss : fraction of the equity at the start of the UTC day; stops entries until the next.
    total_stop : fall from the high-water mark (fraction) that halts the account.
    max_spread_bps : basis points, to enter.
    min_liquidity : quote units in the book's top five levels, where a book is present.
    drawdown_start : fall from the high-water mark (fraction) at which sizes lose a quarter; each
        further 1 % takes another, so that nothing is entered 3 % below it.
    recovery_risk : largest loss at the stop (fraction of equity) from such a fall until equity is
        above every mark before it, arming notwithstanding; goes with ``drawdown_start``.
    """

    max_symbol_exposure: float | None = 0.5
    max_total_exposure: float | None = 1.0
    daily_loss: float | None = 0.03
    total_stop: float | None = 0.08
    max_spread_bps: float | None = 10.0
    min_liquidity: float | None = 50_000.0
    drawdown_start: float | None = 0.05
    recovery_risk: float = 0.005


EXERCISE = RiskLimits(
    daily_loss=None, total_stop=None, max_spread_bps=None, min_liquidity=None, drawdown_start=None
)
"""Filters, breaker, total stop and drawdown reduction off; exposure stays on."""

_DRAWDOWN_STEP = Decimal("0.01")  # of the fall; each takes a quarter of the size
_QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Check:
    """One limit at one moment; ``margin`` ≥ 0 passes, None where it was not measured."""

    name: str
    code: Reason
    value: float | str | None
    limit: float | str | None
    margin: float | None
    stops: str = "entries"

    @property
    def passed(self) -> bool:
        """Whether it stops nothing."""
        return self.margin is None or self.margin >= 0


class RiskState:
    """Mode, day start and high-water mark of one account.

    ``fold`` takes equity marks and mode changes in the ledger's order. Arming a halted account
    starts the high-water mark of the total stop anew at the last equity; the daily breaker stays
    tripped until the next UTC day.
    """

    def __init__(self, limits: RiskLimits, account: str) -> None:
        self.limits, self.account = limits, account
        self.mode = RiskMode.ACTIVE
        self.change: ModeChange | None = None
        self.peak = ZERO
        self._summit = ZERO  # as peak, but arming leaves it
        self._recovering = False
        self._equity = ZERO
        self._day = -1
        self._day_start = ZERO
        self._tripped = False

    def fold(self, record: Any) -> None:
        """Take in one ledger row; rows of no interest pass."""
        if isinstance(record, EquityMark) and record.account == self.account:
            self._mark(record)
        elif isinstance(record, ModeChange) and record.account == self.account:
            if record.mode is RiskMode.ACTIVE and self.mode is not RiskMode.ACTIVE:
                self.peak = self._equity
            self.mode, self.change = record.mode, record

    def _mark(self, mark: EquityMark) -> None:
        # The mark at 00:00 closes the old day and opens the new one.
        day = mark.at // DAY_MS
        if day != self._day:
            first = mark.at % DAY_MS == 0 or self._day < 0
            self._day_start = mark.equity if first else self._equity
            self._day, self._tripped = day, False
        self._equity = mark.equity
        self.peak = max(self.peak, mark.equity)
        if mark.equity > self._summit:
            self._summit, self._recovering = mark.equity, False
        self._recovering |= self._quarters_lost > 0
        limit = self.limits.daily_loss
        self._tripped |= limit is not None and self.day_loss > limit

    @property
    def day_loss(self) -> float:
        """Loss since the start of the UTC day, as a fraction of the equity then."""
        return float(1 - self._equity / self._day_start) if self._day_start > 0 else 0.0

    @property
    def fall(self) -> float:
        """Fall from the high-water mark, as a fraction."""
        return float(self._fall)

    @property
    def _fall(self) -> Decimal:
        return 1 - self._equity / self.peak if self.peak > 0 else ZERO

    @property
    def _quarters_lost(self) -> int:
        # In decimals: 6 % less 5 % must be a whole step.
        start = self.limits.drawdown_start
        if start is None or self._fall < dec(start):
            return 0
        return min(_QUARTERS, 1 + int((self._fall - dec(start)) / _DRAWDOWN_STEP))

    @property
    def size_factor(self) -> float:
        """The share of an entry's size that the drawdown leaves: 1, .75, .5, .25 or 0."""
        return 1 - self._quarters_lost / _QUARTERS

    @property
    def risk_cap(self) -> float | None:
        """Largest loss at the stop while a drawdown is not made good, fraction; None = no cap."""
        return self.limits.recovery_risk if self._recovering else None

    @property
    def must_halt(self) -> bool:
        """Whether the total stop is hit while the account still trades."""
        stop = self.limits.total_stop
        return stop is not None and self.mode is RiskMode.ACTIVE and self.fall >= stop

    def state_checks(self) -> tuple[Check, ...]:
        """Return the checks that need no order: mode, daily loss, drawdown, total stop."""
        code = {RiskMode.KILLED: Reason.KILLED, RiskMode.HALTED: Reason.BREAKER}
        active = self.mode is RiskMode.ACTIVE
        mode = Check(
            "mode", code.get(self.mode, Reason.RISK_VETO), self.mode.value,
            RiskMode.ACTIVE.value, 0.0 if active else -1.0,
        )  # fmt: skip
        checks = [mode]
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
        return tuple(checks)

    def entry_checks(
        self,
        portfolio: Portfolio,
        symbol: str,
        notional: Decimal,
        spread_bps: float,
        book: BookSnapshot | None = None,
        pending: Decimal = ZERO,
    ) -> tuple[Check, ...]:
        """Return the checks on an entry.

        Parameters
        ----------
        portfolio : as it will be when the entry fills, that is without a position it replaces.
        notional : of the entry, quote units.
        spread_bps : the modelled spread, used where there is no book of two sides.
        pending : entries of other symbols on their way, quote units.
        """
        exposures = self._exposures(portfolio, symbol, notional, pending)
        checks = [*self.state_checks(), *exposures]
        if (widest := self.limits.max_spread_bps) is not None:
            spread = book.spread_bps if book is not None and book.two_sided else spread_bps
            checks.append(Check("spread_bps", Reason.WIDE_SPREAD, spread, widest, widest - spread))
        if (least := self.limits.min_liquidity) is not None:
            deep = None if book is None else book.liquidity()
            margin = None if deep is None else deep - least
            value = "not_measured" if deep is None else deep
            checks.append(Check("liquidity", Reason.THIN_BOOK, value, least, margin))
        return tuple(checks)

    def _exposures(
        self, portfolio: Portfolio, symbol: str, notional: Decimal, pending: Decimal
    ) -> list[Check]:
        if portfolio.equity <= 0:
            return [Check("equity", Reason.RISK_VETO, float(portfolio.equity), 0.0, -1.0)]
        held = {
            s: abs(p.qty) * portfolio.marks.get(s, p.entry_price)
            for s, p in portfolio.positions.items()
        }
        one = float((held.get(symbol, ZERO) + notional) / portfolio.equity)
        every = float((sum(held.values(), ZERO) + pending + notional) / portfolio.equity)
        limits = self.limits
        return [
            Check(name, Reason.RISK_VETO, value, limit, limit - value)
            for name, value, limit in (
                ("symbol_exposure", one, limits.max_symbol_exposure),
                ("total_exposure", every, limits.max_total_exposure),
            )
            if limit is not None
        ]


def failed(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that stop the entry."""
    return [check for check in checks if not check.passed]
