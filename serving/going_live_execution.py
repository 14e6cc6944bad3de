"""Which broker a desk trades with: simulated fills, or the exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from domain.errors import SettingError
from domain.market import Instrument
from domain.ports import Broker, Clock
from serving.broker_health import BrokerHealth
from serving.going_live import LiveRecord, account_in_use
from serving.going_live_open import open_by_ledger
from serving.plan import RunPlan
from serving.rules import CURRENCY, Market
from serving.settings import Settings
from storage.accounts import ensure_account
from storage.queries import Reader

if TYPE_CHECKING:  # paper does not wait for an exchange's client
    from execution.adapters.gateway import Gateway


@dataclass(frozen=True, slots=True)
class Executing:
    """A broker, whose account it is, and what a ledger without a past begins with.

    Attributes
    ----------
    let_go : ends what it holds on to.
    health : how it stands with its exchange; None = it has none.
    """

    broker: Broker
    account: str
    cash: Decimal
    let_go: Callable[[], None] = lambda: None
    health: BrokerHealth | None = None


def account_of_plan(plan: RunPlan, settings: Settings, clock: Clock) -> Gateway | None:
    """Return the connection to the account that a plan trades with; None on paper.

    Raises
    ------
    SettingError, ServiceUnreachable : if the exchange's account cannot be traded as it is.
    """
    if plan.execution == "paper":
        return None
    from serving.going_live_venue import signed_in

    return signed_in(settings, clock)


def listed_to(
    gateway: Gateway | None, listed: Mapping[str, Instrument] | None
) -> Mapping[str, Instrument] | None:
    """Return what is listed, with the fees and the tiers of margin of an account.

    On paper nobody has signed in, so it is as everybody is told.

    Raises
    ------
    ServiceUnreachable : if the exchange does not answer.
    """
    if gateway is None or listed is None:
        return listed
    mine = [each for symbol, each in listed.items() if symbol in gateway.symbols]
    return {**listed, **{each.symbol: each for each in gateway.terms(mine)}}


def executing(
    plan: RunPlan, settings: Settings, engine: Engine, market: Market, clock: Clock,
    gateway: Gateway | None, paper: Callable[[], Broker],
) -> Executing:  # fmt: skip
    """Open a plan's account and return its broker.

    Parameters
    ----------
    gateway : to the exchange's account; None on paper.
    paper : makes the broker that simulates.

    Raises
    ------
    SettingError, ServiceUnreachable : if the exchange's account cannot be traded as it is, or has
        something open that the market lacks.
    """
    account = account_in_use(plan)
    ensure_account(engine, plan.world, account, CURRENCY, plan.execution)
    if gateway is None:
        return Executing(paper(), account, Decimal(str(settings.execution.initial_cash)))
    from serving.going_live_venue import live_broker

    missing = [s for s in open_by_ledger(engine, plan.world) if s not in market.instruments]
    if missing:
        raise SettingError(
            "SYMBOLS", "must name all that the live account has open, or nobody closes it",
            ", ".join(missing), "Add it, and take it away again once it is closed.",
        )  # fmt: skip
    record = LiveRecord(engine, plan.world)
    began = record.standing(settings, clock.now())  # what was enabled since waits for a start

    def allowed() -> str:
        now = record.standing(settings, clock.now())
        return next((one.why for one in (began, now) if one.state != "on"), "")

    live = live_broker(gateway, settings, market.instruments, allowed)
    capital = Reader(engine, plan.world).postings(limit=1, account=account, book="capital").items
    cash = -capital[0][1].amount if capital else live.cash
    return Executing(live.broker, account, cash, live.stream.stop, live.health)
