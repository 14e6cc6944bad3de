"""Whether orders may go to the exchange: what was enabled and disabled, by whom, and since when.

Every act is an event of the world, insert-only, and a row of the audit. The desk trades on paper
unless the settings say live, live trading was enabled for the very account that they name, and the
cool-down is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine

from domain.canonical import short_hash
from domain.times import iso
from domain.trading import Event
from serving.plan import RunPlan
from serving.rules import ACCOUNT
from serving.settings import Settings
from storage.audit import Audit
from storage.events import EventLog

LIVE_ACCOUNT = "live"
KIND = "live"  # of the events
Execution = Literal["paper", "live"]
Act = Literal["enabled", "disabled", "rehearsed"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where live trading stands.

    Attributes
    ----------
    state : ``off``; ``cooling`` until ``ready_at`` (ms); ``on``.
    why : in words.
    """

    state: Literal["off", "cooling", "on"]
    why: str
    by: str = ""
    at: int | None = None
    ready_at: int | None = None


class LiveRecord:
    """The acts of one world.

    Parameters
    ----------
    world : of the run whose paper account is to go live.
    """

    def __init__(self, engine: Engine, world: str) -> None:
        self._events, self._audit = EventLog(engine, world), Audit(engine)

    def note(self, act: Act, at: int, by: str, body: Mapping[str, Any]) -> None:
        """Write an act down, for good; ``body`` names no key.

        Parameters
        ----------
        at : wall time, ms.
        """
        told = {"act": act, "by": by, **body}
        level: Literal["info", "warning"] = "info" if act == "rehearsed" else "warning"
        self._events.append(Event(KIND, at, told, level), f"{KIND} {act} {at}")
        self._audit.note(at, by, f"live.{act}", dict(body))

    def acts(self) -> list[Event]:
        """Return all acts, oldest first."""
        return self._events.of_kind(KIND)

    @property
    def account(self) -> str:
        """The account that live trading was last enabled for; empty if it never was."""
        enabled = [event for event in self.acts() if event.body["act"] == "enabled"]
        return str(enabled[-1].body["account"]) if enabled else ""

    def last(self, act: Act, account: str) -> Event | None:
        """Return the newest act of a kind for an account, as :func:`account_of` names it."""
        found = [
            event for event in self.acts()
            if event.body["act"] == act and event.body.get("account") == account
        ]  # fmt: skip
        return found[-1] if found else None

    def standing(self, settings: Settings, now: int) -> Standing:
        """Return where live trading stands for the account that settings name.

        Parameters
        ----------
        now : wall time, ms.
        """
        switched = [event for event in self.acts() if event.body["act"] != "rehearsed"]
        if not switched:
            return Standing("off", "live trading was never enabled")
        last = switched[-1]
        by, at = str(last.body["by"]), last.at
        if last.body["act"] == "disabled":
            return Standing("off", f"disabled by {by}: {last.body['why']}", by, at)
        if last.body["account"] != account_of(settings):
            return Standing("off", "was enabled for another account or exchange", by, at)
        ready_at = int(last.body["ready_at"])
        if now < ready_at:
            return Standing("cooling", f"cooling down until {iso(ready_at)}", by, at, ready_at)
        return Standing("on", f"enabled by {by} at {iso(at)}", by, at, ready_at)


def account_of(settings: Settings) -> str:
    """Return a name for exchange, market and key, which tells nothing of the key."""
    key, data = settings.live.exchange_api_key, settings.data
    secret = "" if key is None else key.get_secret_value()
    return short_hash([data.exchange, data.exchange_url, settings.execution.market, secret], 12)


def configured(settings: Settings) -> bool:
    """Return whether the settings ask for live orders."""
    return settings.execution.live_mode and not settings.execution.paper_mode


def execution_of(
    source: str, settings: Settings, record: LiveRecord, now: int, *, holds: bool = False
) -> tuple[Execution, str]:
    """Return how a run executes, and why.

    Parameters
    ----------
    source : of its market; only that of an exchange can be traded live.
    now : wall time, ms.
    holds : whether the world's live account has something open: that is closed by a live broker,
        which enters nothing while live trading is off.
    """
    if not configured(settings):
        return "paper", "LIVE_MODE is off"
    if source != "live":
        return "paper", f"the market is {source}, not an exchange's"
    standing = record.standing(settings, now)
    if standing.state == "on":
        return "live", standing.why
    if standing.state == "off" and holds and record.account == account_of(settings):
        return "live", f"{standing.why}; it enters nothing, and looks after what is open"
    return "paper", standing.why


def account_in_use(plan: RunPlan) -> str:
    """Return the account that a run trades with."""
    return LIVE_ACCOUNT if plan.execution == "live" else ACCOUNT
