"""What has to hold before real orders, from what was shown on paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine

from domain.operations import RiskEvent
from domain.times import HOUR_MS, iso
from domain.trading import Order, RiskMode
from execution.dispatch import RECONCILIATION
from serving.going_live import LIVE_ACCOUNT, LiveRecord, configured
from serving.killing import KILL_FILE, read_kill
from serving.rules import ACCOUNT
from serving.scoreboard import CONSENSUS, DRAWS, LEAST, Columns
from serving.settings import Settings
from serving.system import git_commit
from sim.statistics.calibration import OverlapDraws, ece, ece_noise
from storage.paper_record import decided_days
from storage.queries import Reader
from storage.scored import scored


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the things that must hold.

    Attributes
    ----------
    value, limit : as people read them. ``hint`` : what to do where it does not hold.
    """

    name: str
    ok: bool
    value: str
    limit: str
    hint: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)


def settings_conditions(settings: Settings) -> Iterator[Condition]:
    """Iterate over what the settings must say."""
    execution = settings.execution
    live, paper = (str(on).lower() for on in (execution.live_mode, execution.paper_mode))
    yield Condition(
        "configuration", configured(settings), f"LIVE_MODE={live}, PAPER_MODE={paper}",
        "LIVE_MODE=true, PAPER_MODE=false",
        "Set LIVE_MODE=true and PAPER_MODE=false in the environment or a file of settings.",
    )  # fmt: skip
    key = settings.live.exchange_api_key is not None
    yield Condition(
        "key", key, "set" if key else "missing", "EXCHANGE_API_KEY and EXCHANGE_API_SECRET",
        "Set EXCHANGE_API_KEY and EXCHANGE_API_SECRET in the environment; a key that may trade and "
        "not withdraw.",
    )  # fmt: skip
    yield Condition(
        "market", execution.market == "perp" and execution.leverage == 1,
        f"{execution.market} at {execution.leverage:g}×", "perp at 1×",
        "Set EXECUTION_MARKET=perp and execution.leverage=1: nothing else is traded live.",
    )  # fmt: skip


def paper_conditions(
    engine: Engine, world: str, settings: Settings, record: LiveRecord, now: int
) -> Iterator[Condition]:
    """Iterate over what paper trading must have shown.

    Parameters
    ----------
    now : wall time, ms.
    """
    reader, live = Reader(engine, world), settings.live
    days = decided_days(engine, world, settings.execution.strategy)
    yield Condition(
        "paper days", days >= live.paper_days, f"{days} days", f"at least {live.paper_days}",
        "Let it decide on paper for longer: conclave up --source live",
    )  # fmt: skip
    trades, _ = reader.wins(ACCOUNT)
    yield Condition(
        "paper trades", trades >= live.paper_trades, f"{trades} closed",
        f"at least {live.paper_trades}", "Fewer say too little; wait for more.",
    )  # fmt: skip
    for symbol in settings.data.symbols:
        yield _calibration(engine, world, settings, symbol)
    worst = max((_drawdown(mark) for mark in reader.equity_marks(ACCOUNT, max_points=10**9)),
                default=0.0)  # fmt: skip
    yield Condition(
        "drawdown", worst <= live.paper_drawdown, f"{worst:.2%}",
        f"at most {live.paper_drawdown:.2%}", "It lost too much on paper to be trusted with money.",
    )  # fmt: skip
    yield _reconciled(reader)
    yield _mode(reader, settings)
    yield from _rehearsals(record, settings, now)


def broken_since(
    engine: Engine, world: str, settings: Settings, record: LiveRecord, now: int
) -> str:
    """Return what paper trading no longer shows before the first real order; empty if nothing.

    Once an account has traded it is not asked: who holds a position must be able to close it.
    """
    if Reader(engine, world).page(Order, limit=1, account=LIVE_ACCOUNT).items:
        return ""
    unmet = (one for one in paper_conditions(engine, world, settings, record, now) if not one.ok)
    return "; ".join(f"{one.name}: {one.value}, must be {one.limit}" for one in unmet)


def _drawdown(mark: Any) -> float:
    return float(1 - mark.equity / mark.high_water) if mark.high_water > 0 else 0.0


def _calibration(engine: Engine, world: str, settings: Settings, symbol: str) -> Condition:
    data, last = settings.data, settings.live.calibration_outcomes
    where = (engine, world, symbol, data.timeframe, data.pred_horizon_steps)
    rows = scored(*where, settings.execution.strategy, last)
    columns = Columns.of(rows, symbol, data.timeframe, data.pred_horizon_steps)
    said = columns.said[CONSENSUS]
    used = np.flatnonzero(np.isfinite(said.p_up))
    name, hint = f"calibration {symbol}", "Its probabilities do not hold; see /v1/calibration."
    if len(used) < LEAST:
        limit = f"{LEAST} outcomes, of which calibration can be told"
        return Condition(name, False, f"{len(used)} outcomes", limit, "Wait for more outcomes.")
    p, up = said.p_up[used], columns.truth.up[used]
    bars = (columns.at[used] - columns.at[0]) // columns.step_ms
    draws = OverlapDraws.of(int(bars[-1]) + 1, data.pred_horizon_steps, DRAWS).at(bars)
    error, noise = ece(p, up), ece_noise(p, draws)
    assert error is not None
    assert noise is not None
    return Condition(
        name, error <= noise[1], f"error {error:.4f} over {len(p)} outcomes",
        f"at most {noise[1]:.4f}, as calibrated forecasts stay within in 95 of 100 cases", hint,
    )  # fmt: skip


def _reconciled(reader: Reader) -> Condition:
    found = reader.page(RiskEvent, limit=1, account=ACCOUNT, kind=RECONCILIATION).items
    apart = found[0][1].subject if found and found[0][1].body else ""
    return Condition(
        "reconciliation", not apart, apart or "no open difference", "no open difference",
        "Ledger and broker differ: conclave ledger verify",
    )  # fmt: skip


def _mode(reader: Reader, settings: Settings) -> Condition:
    change = reader.latest_mode(ACCOUNT)
    mode = RiskMode.ACTIVE if change is None else change[1].mode
    killed = read_kill(settings.data.var_dir / KILL_FILE) is not None
    stopped = mode in (RiskMode.HALTED, RiskMode.KILLED)
    return Condition(
        "risk mode", not stopped and not killed, KILL_FILE if killed else mode,
        "neither HALTED nor KILLED, and no file KILL", "Find out why, then: conclave arm",
    )  # fmt: skip


def _rehearsals(record: LiveRecord, settings: Settings, now: int) -> Iterator[Condition]:
    live, command = settings.live, "conclave live rehearse"
    yield _rehearsed(record, settings, now, "rehearsal", live.rehearsal_orders, command)
    if live.testnet_orders:
        command += " --testnet"
        yield _rehearsed(record, settings, now, "testnet", live.testnet_orders, command)
    else:
        value = "live.testnet_orders is 0"
        yield Condition("testnet", True, value, "nothing is asked for", "")


def _rehearsed(
    record: LiveRecord, settings: Settings, now: int, name: str, orders: int, command: str
) -> Condition:
    hours = settings.live.rehearsal_hours
    limit = f"{orders} orders by this version within {hours:g} h, none lost or doubled"
    done = [
        event for event in record.acts()
        if event.body["act"] == "rehearsed"
        and event.body.get("testnet", False) == (name == "testnet")
    ]  # fmt: skip
    if not done:
        return Condition(name, False, "none", limit, command)
    body, age = done[-1].body, now - done[-1].at
    ok = (
        body["passed"]
        and body["commit"] == git_commit()
        and body["orders"] >= orders
        and age <= hours * HOUR_MS
    )
    value = f"{body['orders']} orders at {body['where']}, {iso(done[-1].at)}, {body['commit']}"
    return Condition(name, ok, value if body["passed"] else f"{value}: failed", limit, command)
