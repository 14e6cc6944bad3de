"""What closed trades earned by day, week, month and symbol: sums over the ledger's rows, exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from domain.times import DAY_MS
from domain.trading import ClosedTrade
from storage.kinds import EXACT
from storage.queries import Reader

Period = Literal["day", "week", "month"]
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Earned:
    """What some trades earned, after all costs; money in quote currency.

    Attributes
    ----------
    name : the period's first day or the symbol.
    costs : fees, spread, slippage and funding; positive is paid.
    """

    name: str
    trades: int = 0
    wins: int = 0
    pnl: Decimal = Decimal(0)
    costs: Decimal = Decimal(0)

    def plus(self, trade: ClosedTrade) -> Earned:
        """Return the sum with one more trade."""
        costs = self.costs
        for part in (trade.fee, trade.spread, trade.slippage, trade.funding):
            costs = EXACT.add(costs, part)
        won = self.wins + (trade.pnl > 0)
        return Earned(self.name, self.trades + 1, won, EXACT.add(self.pnl, trade.pnl), costs)


def closed_trades(reader: Reader, account: str, since_ms: int = 0) -> Iterator[ClosedTrade]:
    """Iterate over an account's closed trades, newest first, back to ``since_ms``."""
    before: int | None = None
    while True:
        page = reader.trades(limit=_PAGE, before_seq=before, account=account)
        for _, trade in page.items:
            if trade.closed_at < since_ms:
                return
            yield trade
        before = page.next
        if before is None:
            return


def by_period(
    reader: Reader, account: str, period: Period, now_ms: int, count: int
) -> list[Earned]:
    """Return the newest ``count`` UTC periods up to the one of ``now_ms``, newest first.

    Periods without a trade are there too.
    """
    starts = [_start(period, _day(now_ms))]
    while len(starts) < count:
        starts.append(_start(period, starts[-1] - timedelta(days=1)))
    sums = {start: Earned(start.isoformat()) for start in starts}
    since = int(datetime(*starts[-1].timetuple()[:3], tzinfo=UTC).timestamp() * 1000)
    for trade in closed_trades(reader, account, since):
        start = _start(period, _day(trade.closed_at))
        if start in sums:
            sums[start] = sums[start].plus(trade)
    return list(sums.values())


def by_symbol(reader: Reader, account: str) -> list[Earned]:
    """Return what each symbol earned, the best first."""
    sums: dict[str, Earned] = {}
    for trade in closed_trades(reader, account):
        sums[trade.symbol] = sums.get(trade.symbol, Earned(trade.symbol)).plus(trade)
    return sorted(sums.values(), key=lambda one: (-one.pnl, one.name))


def total(parts: Iterable[Earned], name: str = "all") -> Earned:
    """Return the sum of several."""
    trades, wins, pnl, costs = 0, 0, Decimal(0), Decimal(0)
    for one in parts:
        trades, wins = trades + one.trades, wins + one.wins
        pnl, costs = EXACT.add(pnl, one.pnl), EXACT.add(costs, one.costs)
    return Earned(name, trades, wins, pnl, costs)


def _day(at_ms: int) -> date:
    return datetime.fromtimestamp(at_ms // DAY_MS * DAY_MS / 1000, UTC).date()


def _start(period: Period, day: date) -> date:
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day
