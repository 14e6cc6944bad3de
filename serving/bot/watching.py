"""What the bot tells by itself: trouble that begins and ends, jobs, and the day that is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from domain.canonical import short_hash
from domain.decision import Decision
from domain.errors import ConclaveError
from domain.ports import Clock
from domain.times import DAY_MS, HOUR_MS, iso
from domain.trading import EquityMark, Event
from notifications.figures import percent
from notifications.progress import SNAPSHOT
from notifications.relay import Relay
from serving.bot.facts import Facts
from serving.bot.job_watch import JobWatch
from serving.earnings import Earned, closed_trades
from storage.ledger import SqlLedger
from storage.views import cost_days

log = structlog.get_logger("watching")

_DAY = "day"
_PATIENCE = 3  # looks in a row before trouble counts as trouble
_PAGE = 500


@dataclass(slots=True)
class Watching:
    """Looks at the system now and then and queues messages, each once.

    Parameters
    ----------
    grace_s : how long the system may take to start before what is missing counts as trouble.
    every_s : seconds between two looks.
    """

    facts: Facts
    relay: Relay
    ledger: SqlLedger
    jobs: JobWatch
    clock: Clock
    daily_hour: int
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    grace_s: float = 60.0
    every_s: float = 5.0
    _since: float | None = None
    _seen: Counter[str] = field(default_factory=Counter)
    _told: set[str] = field(default_factory=set)

    async def run(self, leave: asyncio.Event) -> None:
        """Look until told to leave; nothing that fails ends it."""
        self._since = self.monotonic()
        while not leave.is_set():
            try:
                self.look()
            except ConclaveError as error:  # a busy database
                log.info("not_looked", why=str(error))
            except Exception as error:  # noqa: BLE001 - messages go on without it
                log.error("look_failed", error=f"{type(error).__name__}: {error}")
            await self.sleep(self.every_s)

    def look(self) -> None:
        """Look once."""
        self.jobs.look()
        if self.monotonic() - (self._since or 0.0) > self.grace_s:
            self.look_at_health()
        self.look_at_days()

    # Trouble

    def look_at_health(self) -> None:
        """Tell trouble once it has lasted, and its end; a change of mode is told by the desk."""
        now = set(self.facts.service.problems())
        for problem in list(self._seen):
            if problem not in now:
                del self._seen[problem]
        for problem in sorted(now):
            self._seen[problem] += 1
            if self._seen[problem] == _PATIENCE and problem not in self._told:
                self._told.add(problem)
                self._tell("error", {"what": "Trouble", "why": problem}, "error")
        for problem in sorted(self._told - now):
            self._told.discard(problem)
            self._tell("error", {"icon": "💚", "what": "Over", "why": problem}, "info")

    def _tell(self, kind: str, body: dict[str, Any], level: Any = "info", key: str = "") -> None:
        at = self.clock.now()
        self.relay.notify(Event(kind, at, body, level), key or f"{kind} {at} {short_hash(body, 8)}")

    # The day

    def look_at_days(self) -> None:
        """Tell every day that is over and not told yet, oldest first."""
        now = self.facts.market_now()
        over = (now - self.daily_hour * HOUR_MS) // DAY_MS - 1  # the last whole day to be told
        store = self.relay.cursor.snapshots
        saved = store.latest(SNAPSHOT, _DAY)
        if now == 0:
            return
        last = over if saved is None else int(saved[1]["day"])
        for day in range(last + 1, over + 1):
            body = self.day(day)
            if body is not None:
                at = (day + 1) * DAY_MS + self.daily_hour * HOUR_MS
                self.relay.notify(Event("daily", at, body), f"daily {body['day']}")
                self.relay.notify(Event("metrics", at, self.metrics(body["day"])),
                                  f"metrics {body['day']}")  # fmt: skip
        if saved is None or over > last:
            store.save(SNAPSHOT, _DAY, 0, {"day": max(over, last)})

    def day(self, day: int) -> dict[str, Any] | None:
        """Return what a UTC day (days since 1970) came to; None if the account did not exist."""
        service, start, end = self.facts.service, day * DAY_MS, (day + 1) * DAY_MS
        marks = [m for m in self._marks(start - DAY_MS) if m.at <= end]
        today = [m for m in marks if m.at > start]
        if not today:
            return None
        before = [m for m in marks if m.at <= start]
        opening = float(before[-1].equity) if before else self.facts.settings.execution.initial_cash
        equity = float(today[-1].equity)
        closed = Earned("day")
        for trade in closed_trades(service.reader, service.account, start):
            closed = closed.plus(trade) if trade.closed_at < end else closed
        costs = {
            c.day: c.costs
            for c in cost_days(self.ledger.engine, self.ledger.world, service.account)
        }
        head = self.ledger.head()
        account, high = service.portfolio(), float(today[-1].high_water)
        return {
            "day": iso(start)[:10], "currency": self.facts.currency,
            "simulated": service.plan.simulated,
            "pnl": equity - opening, "equity": equity, "return": equity / opening - 1.0,
            "drawdown": 1.0 - equity / high if high else 0.0,
            "trades": closed.trades, "wins": closed.wins, "closed_pnl": str(closed.pnl),
            "decisions": self._decisions(start, end), "mode": service.risk()["mode"],
            "open": 0 if account is None else len(account["positions"]),
            "costs": {k: str(v) for k, v in costs.get(start, {}).items()},
            "root": {"seq": head[0], "hash": head[1]},
            "picture": {"chart": "equity", "data": self.facts.equity_data()},
        }  # fmt: skip

    def _marks(self, since_ms: int) -> list[EquityMark]:
        service = self.facts.service
        return service.reader.equity_marks(service.account, max_points=100_000, since_ms=since_ms)

    def _decisions(self, start: int, end: int) -> dict[str, int]:
        found: Counter[str] = Counter()
        before: int | None = None
        while True:
            page = self.facts.service.reader.page(Decision, limit=_PAGE, before_seq=before)
            for _, decision in page.items:
                if start < decision.as_of <= end and decision.origin == "bar":
                    found[decision.action.value] += 1
            before = page.next
            if before is None or page.items[-1][1].as_of <= start:
                return dict(sorted(found.items()))

    def metrics(self, day: str) -> dict[str, Any]:
        """Return the agents' scores as they are now, and the calibration picture."""
        boards: dict[str, list[list[str]]] = {}
        for row in self.facts.service.weights():
            name = f"{row['symbol']} {row['timeframe']}"
            board = boards.setdefault(name, [["agent", "weight", "Brier", "skill", "n"]])
            brier, skill = row["decayed_brier"], row["skill_1e4"]
            board.append([
                row["agent"], percent(row["weight"], 1), "–" if brier is None else f"{brier:.4f}",
                "–" if skill is None else f"{skill:+.1f}", f"{row['n']:,d}",
            ])  # fmt: skip
        body = self.facts.calibration(self.facts.symbols()[0])
        data = {**body, **self.facts.look()}
        picture = {"chart": "calibration", "data": data} if body["bins"] else None
        return {"what": f"Scores after {day}", "boards": boards, "picture": picture}
