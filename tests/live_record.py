"""A paper account with a past that may go live, and an exchange in the wall's own time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from domain.decision import Action, Decision
from domain.opinion import Outcome
from domain.trading import ClosedTrade, EquityMark
from serving.bootstrap.storage import open_storage
from serving.commands.common import settings_from
from serving.plan import RunPlan
from sim.venue.market import Markets, VenueClock
from sim.venue.signing import Key
from sim.venue.trading import Trading
from sim.worlds import DemoMarket
from storage.ledger import SqlLedger
from tests.venue_server import BTC, key_for, trading, venue, wall

WORLD = "binance-live"
DAY, STEP, EVERY = 86_400_000, 300_000, 3 * 3_600_000


@cache
def _world() -> DemoMarket:
    return DemoMarket(7, BTC)


@contextmanager
def exchange(keys: tuple[Key, ...] = (), ahead_ms: int = 0) -> Iterator[tuple[str, Trading]]:
    """An exchange whose market is now, or a little ahead; yields its address and its accounts."""
    made = Markets({BTC: _world()}, VenueClock(wall() + ahead_ms, wall), seed=7)
    accounts = trading(made, {"USDT": "5000"}, keys=keys or (key_for(),))
    with venue(made=made, accounts=accounts) as url:
        yield url, accounts


@dataclass
class Past:
    """What a paper account has shown; every attribute may be changed for the worse.

    Attributes
    ----------
    p_up : None = as calibrated as can be.
    """

    days: int = 31
    trades: int = 60
    p_up: float | None = None
    drawdown: float = 0.02
    more: list[Any] = field(default_factory=list)

    def write(self, var_dir: Path, url: str) -> RunPlan:
        """Store it, as a run of the exchange at ``url`` would have."""
        plan = RunPlan("live", WORLD, "strict", 1.0, exchange_url=url)
        plan.save(var_dir)
        settings = settings_from(None, None, [f"VAR_DIR={var_dir}"])
        SqlLedger(open_storage(settings), WORLD).append([*self._rows(), *self.more])
        return plan

    def _rows(self) -> Iterator[Any]:
        rng, first = np.random.default_rng(7), wall() // DAY * DAY - self.days * DAY
        for at in range(first, first + self.days * DAY, EVERY):
            p = float(rng.uniform(0.4, 0.6))
            up = rng.random() < p
            said = p if self.p_up is None else self.p_up
            yield decision(at, said)
            yield Outcome(BTC, "5m", at, 5, at + 5 * STEP, 0.001 if up else -0.001, 0.001, 0.001)
        for number in range(self.trades):
            yield trade(first + number * EVERY)
        equity = Decimal(10_000) * (1 - Decimal(str(self.drawdown)))
        yield EquityMark("paper", first, equity, equity, Decimal(10_000))


def decision(at: int, p_up: float) -> Decision:
    action = Action.NO_TRADE
    return Decision(
        BTC, "5m", at, at, 5, "council", action, action, ("below_cost",), "Too dear.", p_up, None,
        None, None, None, None, None, None, None,
    )  # fmt: skip


def trade(at: int) -> ClosedTrade:
    one = Decimal(1)
    return ClosedTrade(
        f"{BTC}:USDT", "LONG", one, at, at + STEP, one, one, one, one, one, one, one, "horizon"
    )


def environment(url: str, key: Key, var_dir: Path) -> Mapping[str, str]:
    """What a person sets who wants to go live there."""
    return {
        "VAR_DIR": str(var_dir), "LIVE_MODE": "true", "PAPER_MODE": "false", "EXCHANGE_URL": url,
        "EXCHANGE_API_KEY": key.key, "EXCHANGE_API_SECRET": key.secret,
        "CONCLAVE_LIVE__REHEARSAL_ORDERS": "10",
        "CONCLAVE_LIVE__CLOCK_SKEW_MS": "5000",  # a busy machine answers late
    }  # fmt: skip
