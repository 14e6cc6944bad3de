"""The notifier: everything that talks to Telegram, wired. What fails here never touches trading."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Engine

from domain.errors import ConclaveError, ServiceUnreachable
from domain.trading import Event
from notifications.matrix import Loudness, Matrix, Topic
from notifications.pacing import Pace, Rates
from notifications.progress import Cursor, Patience
from notifications.relay import Relay
from notifications.telegram import Line, make_line
from serving.bootstrap.service import reading_service
from serving.bootstrap.settings import settings_of
from serving.bootstrap.storage import open_storage
from serving.bot.access import Access
from serving.bot.acting import Acting
from serving.bot.commands import Answering
from serving.bot.confirming import Confirmations
from serving.bot.facts import Facts
from serving.bot.job_watch import JOBS_WORLD, JobWatch
from serving.bot.listening import Listening
from serving.bot.watching import Watching
from serving.control import LEASE_TTL_MS
from serving.plan import RUN_FILE, RunPlan
from serving.rules import CURRENCY
from serving.settings import Settings
from serving.system import SystemClock, set_defaults
from storage.audit import Audit
from storage.events import EventLog
from storage.jobs import Jobs
from storage.leases import Lease
from storage.ledger import SqlLedger
from storage.outbox import SqlOutbox
from storage.snapshots import SqlSnapshots

log = structlog.get_logger("notifier")

LEASE = "telegram"
RENEW_SECONDS = 2.5
LAST_WORDS_SECONDS = 5.0  # for what waits when the system is stopped


def matrix_of(settings: Settings) -> Matrix:
    """Return how loud each topic is."""
    notify = settings.notify
    of: dict[Topic, Loudness] = {
        "system": notify.tell_system,
        "job": notify.tell_job,
        "error": notify.tell_error,
        "metrics": notify.tell_metrics,
        "signal": notify.tell_signal,
        "no_trade": notify.tell_no_trade,
        "fill": notify.tell_fill,
        "trade": notify.tell_trade,
        "refusal": notify.tell_refusal,
        "risk": notify.tell_risk,
        "journal": notify.tell_journal,
        "drift": notify.tell_drift,
        "daily": notify.tell_daily,
    }
    return Matrix(of)


@dataclass(slots=True)
class Notifier:
    """Relay, listening and watching under one lease, so that nothing is sent by two processes."""

    plan: RunPlan
    settings: Settings
    line: Line
    relay: Relay
    listening: Listening
    watching: Watching
    lease: Lease
    leave: asyncio.Event
    _renewed: float = field(default=0.0)

    async def run(self) -> None:
        """Work until told to leave, then say so."""
        try:
            if not await self._take_lease():
                return
            self.relay.begin()
            self._say("start", "🚀", "Conclave is at work")
            keeping = asyncio.create_task(self._keep_lease())
            await asyncio.gather(
                self.relay.run(self.leave), self.listening.run(self.leave),
                self.watching.run(self.leave),
            )  # fmt: skip
            keeping.cancel()
            if self.fresh():
                await self._last_words()
        finally:
            await self.line.close()

    def fresh(self) -> bool:
        """Whether the lease is certainly still ours: a process that slept must not send."""
        return time.monotonic() - self._renewed < LEASE_TTL_MS / 1000.0 - 1.0

    async def _take_lease(self) -> bool:
        waiting = False
        while not self.leave.is_set():
            try:
                if self.lease.acquire({"pid": os.getpid()}):
                    self._renewed = time.monotonic()
                    return True
                if not waiting:
                    waiting = True
                    log.info("another_notifier_runs", holder=self.lease.holder())
            except ConclaveError as error:
                log.info("lease_waits", why=str(error))
            await self.relay.sleep(0.5)
        return False

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if not self.lease.renew() and not self.lease.acquire({"pid": os.getpid()}):
                    log.error("lease_lost")
                    self.leave.set()
                    return
                self._renewed = time.monotonic()
            except ConclaveError as error:
                log.info("lease_not_renewed", why=str(error))

    async def _last_words(self) -> None:
        """Take in what the desk left, say goodbye, and deliver for a few seconds."""
        try:
            while self.relay.take_in():
                pass
            self._say("stop", "🏁", "Conclave has stopped")
            staying = asyncio.Event()
            delivering = asyncio.create_task(self._deliver_all(staying))
            await asyncio.wait({delivering}, timeout=LAST_WORDS_SECONDS)
            staying.set()
            await asyncio.wait({delivering}, timeout=self.settings.notify.telegram_timeout_s)
            self.lease.release()
        except ConclaveError as error:
            log.info("last_words_failed", why=str(error))

    async def _deliver_all(self, staying: asyncio.Event) -> None:
        while not staying.is_set() and self.relay.outbox.pending(1):
            if not await self.relay.deliver(staying):
                return

    def _say(self, what: str, icon: str, text: str) -> None:
        plan = self.plan
        body: dict[str, Any] = {
            "what": text, "icon": icon, "why": _SIMULATED if plan.simulated else "",
            "figures": {
                "source": plan.source, "profile": plan.profile, "world": plan.world,
                "speed": "max" if plan.speed is None else f"x{plan.speed:g}",
                "mode": plan.execution,
            },
        }  # fmt: skip
        path = self.settings.data.var_dir / RUN_FILE
        born = path.stat().st_mtime_ns if path.exists() else 0
        event = Event("system", SystemClock().now(), body)
        self.relay.notify(event, f"{what} {plan.pid} {born}")


_SIMULATED = "Simulated market: no figure says anything about a real one."


def relay_of(
    engine: Engine, settings: Settings, world: str, nap: Callable[[float], Awaitable[None]]
) -> Relay:
    """Wire a relay of one world's events to the chat of the settings.

    Raises
    ------
    ServiceUnreachable : if there is no bot or no chat to write to.
    """
    notify = settings.notify
    token, chat = notify.telegram_bot_token, notify.telegram_chat_id
    if token is None or chat is None:
        raise ServiceUnreachable("telegram", "has no bot or no chat")
    set_defaults(PTB_TIMEDELTA="true")  # else the library warns of itself at every 429
    line = make_line(
        token.get_secret_value(), notify.telegram_api,
        Pace(rates_of(settings), time.monotonic, asyncio.sleep),
        timeout_s=notify.telegram_timeout_s,
        environment_proxies=notify.telegram_api.startswith("https://"),
    )  # fmt: skip
    return Relay(
        EventLog(engine, world), SqlOutbox(engine, world), Cursor(SqlSnapshots(engine, world)),
        line, chat, matrix_of(settings), SystemClock(), nap, Patience(notify.telegram_retry_max_s),
    )  # fmt: skip


def rates_of(settings: Settings) -> Rates:
    """Return how fast messages may go."""
    notify = settings.notify
    return Rates(notify.telegram_per_second, notify.telegram_group_per_minute / 60.0)


def job_watch(engine: Engine, relay: Relay) -> JobWatch:
    """Wire who tells jobs."""
    return JobWatch(relay, Jobs(engine), SqlSnapshots(engine, JOBS_WORLD))


def begin_jobs(engine: Engine) -> None:
    """Note where the jobs stand, unless they were told before."""
    JobWatch.start(Jobs(engine), SqlSnapshots(engine, JOBS_WORLD))


async def tell_jobs(settings: Settings, seconds: float) -> None:
    """Tell the jobs that began or ended, for so long at most, if no notifier runs that will."""
    engine, leave = open_storage(settings), asyncio.Event()
    lease = Lease(engine, LEASE, _owner(), LEASE_TTL_MS, SystemClock())
    if not lease.acquire({"pid": os.getpid()}):
        return
    relay = relay_of(engine, settings, JOBS_WORLD, napping(leave))
    try:
        job_watch(engine, relay).look()
        delivering = asyncio.create_task(relay.deliver(leave))
        await asyncio.wait({delivering}, timeout=seconds)
        leave.set()
        await asyncio.wait({delivering}, timeout=settings.notify.telegram_timeout_s)
    finally:
        await relay.line.close()
        lease.release()


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def build_notifier(plan: RunPlan, settings: Settings) -> Notifier:
    """Wire the notifier of a run.

    Raises
    ------
    ServiceUnreachable : if there is no bot or no chat to write to.
    """
    notify, engine = settings.notify, open_storage(settings)
    clock, leave = SystemClock(), asyncio.Event()
    nap = napping(leave)
    relay = relay_of(engine, settings, plan.world, nap)
    line, chat, snapshots = relay.line, relay.chat, relay.cursor.snapshots
    facts = Facts(reading_service(plan, settings), settings, CURRENCY)
    ledger = SqlLedger(engine, plan.world)
    watching = Watching(
        facts,
        relay,
        ledger,
        job_watch(engine, relay),
        clock,
        notify.daily_hour,
        time.monotonic,
        nap,
    )
    confirmations = Confirmations(notify.telegram_confirm_s, time.monotonic)
    acting = Acting(facts, confirmations, Audit(engine), clock, _nothing)
    access = Access.of(chat, notify.telegram_chats)
    answering = Answering(facts, acting, relay.outbox)
    listening = Listening(
        line, access, answering, snapshots, nap, Patience(notify.telegram_retry_max_s)
    )
    notifier = Notifier(
        plan, settings, line, relay, listening, watching,
        Lease(engine, LEASE, _owner(), LEASE_TTL_MS, clock), leave,
    )  # fmt: skip
    relay.allowed = notifier.fresh
    acting.reload = lambda: _reload(notifier)
    return notifier


async def _nothing() -> str:
    return "nothing to reload yet"


async def _reload(notifier: Notifier) -> str:
    """Read the settings again; what concerns messages holds at once, the rest at the next start."""
    fresh = settings_of(notifier.plan)
    before, after = notifier.settings.describe(), fresh.describe()
    changed = [
        f"{group}.{name}"
        for group, values in after.items()
        for name, value in values.items()
        if value != before[group][name]
    ]
    notify = fresh.notify
    notifier.relay.matrix = matrix_of(fresh)
    notifier.listening.access = Access.of(notifier.relay.chat, notify.telegram_chats)
    notifier.watching.daily_hour = notify.daily_hour
    notifier.listening.answering.acting.confirmations.seconds = notify.telegram_confirm_s
    notifier.relay.line.pace.rates = rates_of(fresh)
    notifier.listening.answering.facts.settings = fresh
    notifier.settings = fresh
    later = [
        name for name in changed if name not in _AT_ONCE and not name.startswith("notify.tell")
    ]
    if not changed:
        return "nothing has changed"
    told = f"changed: {', '.join(changed)}"
    return told if not later else f"{told}; from the next start: {', '.join(later)}"


_AT_ONCE = frozenset(
    f"notify.{name}"
    for name in (
        "telegram_chats", "daily_hour", "telegram_confirm_s", "telegram_per_second",
        "telegram_group_per_minute", "chart_theme",
    )
)  # fmt: skip


def napping(leave: asyncio.Event) -> Callable[[float], Awaitable[None]]:
    """Return a sleep that ends when we are told to leave."""

    async def nap(seconds: float) -> None:
        waiting = asyncio.ensure_future(leave.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()

    return nap
