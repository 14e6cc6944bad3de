"""``conclave up``: decide what runs, start it, show it, and clean up after it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import httpx
import structlog
from rich.markup import escape
from sqlalchemy import Engine

from domain.errors import ServiceUnreachable
from domain.trading import Event
from notifications.progress import Cursor
from serving.auth import token_of
from serving.bootstrap.common import api_token
from serving.bootstrap.settings import settings_wished
from serving.commands.common import err, out
from serving.control import DESK_LEASE, LEASE_TTL_MS
from serving.feed_words import feed_line
from serving.going_live import (
    Execution,
    LiveRecord,
    account_in_use,
    configured,
    execution_of,
)
from serving.going_live_open import open_by_ledger, refuse_to_leave
from serving.local_exchange import answers, at_local_exchange, at_told_exchange
from serving.logs import start_logging
from serving.plan import RunPlan
from serving.planning import Resolved, Wish, resolve
from serving.processes import alive, choose_port, port_free, spawn
from serving.recovering import sound_storage
from serving.resources import KIND as RESOURCES
from serving.resources import accountant
from serving.settings import Settings
from serving.supervisor import Keeper, Supervisor, venue_child
from serving.system import SystemClock, environment
from serving.watching_symbols import watched
from storage.events import EventLog
from storage.leases import Lease
from storage.queries import Reader
from storage.snapshots import SqlSnapshots
from storage.symbols import Symbols

log = structlog.get_logger("up")

PROXY_CHECK_SECONDS = "2"  # Serve replaces a proxy after three: with its own 10 nobody is heard
HEAD_SECONDS = "10"  # a head that is gone does not come back here: end, and be started anew
PATIENCE_SECONDS = 20.0  # for a run that was killed to let go of its ports


def start(wish: Wish) -> int:
    """Run the system until it is done or asked to leave; return the exit code."""
    resolved = resolve(wish, partial(settings_wished, wish), answers)
    settings, why = resolved.settings, resolved.why
    if resolved.kind == "live" and wish.source != "auto" and not answers(settings):
        raise ServiceUnreachable(
            settings.data.exchange, "does not answer", settings.data.exchange_url,
            "--source live never falls back; --source auto takes the simulated market then.",
        )  # fmt: skip
    if wish.local or not settings.serving.ray:
        resolved = replace(resolved, wish=replace(resolved.wish, local=True))
    start_logging(settings, "up")
    token_of(settings.data.var_dir, None)  # the first write: says clearly if it cannot
    engine = sound_storage(settings, SystemClock(), lambda text: err.print(text, markup=False))
    _refuse_second(Lease(engine, DESK_LEASE, "up", LEASE_TTL_MS, SystemClock()))
    resolved = _following(resolved, watched(Symbols(engine), settings))
    settings = resolved.settings
    plan = resolved.plan(_ports(settings, local=resolved.wish.local))
    plan = _at_exchange(plan, resolved, engine)
    execution, because = _execution(plan, settings, engine)
    plan = replace(plan, execution=execution)
    refuse_to_leave(engine, plan, settings, lambda text: err.print(text, markup=False))
    if configured(settings):
        why = f"{why}; execution {execution}: {because}"
    path = plan.save(settings.data.var_dir)
    if settings.serving.job_worker:  # it ends with this process
        log_file = settings.data.logs_dir / "jobs.log"
        spawn("serving.job_process", [str(path)], environment(), log_file)
    watching = Lease(engine, DESK_LEASE, "screen", LEASE_TTL_MS, SystemClock())
    screen = Screen(
        plan, settings, why, EventLog(engine, plan.world), Reader(engine, plan.world), watching
    )
    screen.open()
    accounting = accountant(plan, settings, engine)

    def tick() -> None:
        screen.tick()
        accounting.look()

    if settings.notify.wanted:  # what happens from here on is told
        Cursor(SqlSnapshots(engine, plan.world)).begin(screen.events.last_id())
    if plan.local:
        with contextlib.ExitStack() as kept:
            if plan.venue is not None:
                child = venue_child(settings.data.logs_dir)
                kept.enter_context(Keeper(child, path, environment(), screen.say))
            from serving.running_here import run_here  # with Ray, other processes import all that

            code = asyncio.run(run_here(plan, settings, tick))
            screen.tick()
            screen.close()
            return code
    supervisor = Supervisor(
        plan,
        path,
        settings.data.logs_dir,
        _beside_ray(settings),
        screen.say,
        notifies=settings.notify.wanted,
    )
    supervisor.install_signals()
    code = supervisor.run(tick)
    screen.close()
    return code


def _execution(plan: RunPlan, settings: Settings, engine: Engine) -> tuple[Execution, str]:
    """Return how a run executes, and why."""
    record, now = LiveRecord(engine, plan.world), SystemClock().now()
    holds = configured(settings) and bool(open_by_ledger(engine, plan.world))
    execution, because = execution_of(plan.source, settings, record, now, holds=holds)
    if execution == "live":
        from serving.going_live_conditions import broken_since  # it asks for the whole scoreboard

        if broken := broken_since(engine, plan.world, settings, record, now):
            return "paper", f"what it was enabled for holds no more ({broken})"
    return execution, because


def _beside_ray(settings: Settings) -> dict[str, str]:
    """Return the environment of Ray's processes, and of what is started beside them."""
    env = {
        **environment(), "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "1",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": api_token(settings),
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": PROXY_CHECK_SECONDS,
        "RAY_gcs_rpc_server_reconnect_timeout_s": HEAD_SECONDS,
        "RAY_worker_niceness": "0",  # agents have deadlines: they must not give way to all else
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.proxy_replies.middlewares",
    }  # fmt: skip
    if settings.serving.throughput_optimized:
        env["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
    if settings.serving.ha_proxy:
        env["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    return env


def _at_exchange(plan: RunPlan, resolved: Resolved, engine: Engine) -> RunPlan:
    """Add what an exchange of this machine, or another server, decides of a run."""
    settings, clock = resolved.settings, SystemClock()
    if resolved.traded:
        return at_local_exchange(plan, settings, Reader(engine, plan.world), clock)
    if plan.exchange_url is not None:
        return at_told_exchange(plan, settings, engine, clock)
    return plan


def _following(resolved: Resolved, symbols: tuple[str, ...]) -> Resolved:
    """Follow what is watched; a replay follows its files."""
    if resolved.kind == "replay" or symbols == resolved.settings.data.symbols:
        return resolved
    told = ("SYMBOLS", ",".join(symbols))
    wish = replace(resolved.wish, overrides=(*resolved.wish.overrides, told))
    return replace(resolved, wish=wish, settings=settings_wished(wish, wish.profile))


def _refuse_second(lease: Lease) -> None:
    """Wait for a desk that was killed, refuse while one lives."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (holder := lease.holder()) is not None:
        pid = int(holder.info.get("pid") or 0)
        if alive(pid) and time.monotonic() > until - PATIENCE_SECONDS + 8:
            raise ServiceUnreachable(
                "conclave", "is already running on this VAR_DIR", f"pid {pid}",
                "Stop it first, or give this one its own: VAR_DIR=… conclave up",
            )  # fmt: skip
        if time.monotonic() > until:
            return
        time.sleep(0.25)


def _ports(settings: Settings, *, local: bool) -> tuple[int, int]:
    serving = settings.serving
    wanted = [serving.api_port] if local else [serving.api_port, serving.ray_dashboard_port]
    until = time.monotonic() + 8  # a run that was just killed lets go within seconds
    while time.monotonic() < until and not all(
        port == 0 or port_free(serving.api_host, port) for port in wanted
    ):
        time.sleep(0.25)
    api = choose_port(serving.api_host, serving.api_port, "API_PORT")
    if local:
        return api, 0
    return api, choose_port("127.0.0.1", serving.ray_dashboard_port, "RAY_DASHBOARD_PORT")


@dataclass(slots=True)
class Screen:
    """What a person at the terminal sees."""

    plan: RunPlan
    settings: Settings
    why: str
    events: EventLog
    reader: Reader
    desk: Lease
    _feed: str | None = None  # what was said of it last
    _last: int = 0
    _ready: bool = False
    _started: float = field(default_factory=time.monotonic)
    _asked: float = 0.0
    _shown: float = 0.0
    _passed: int = 0

    def open(self) -> None:
        """Say what is being started, and how much of it is simulated."""
        plan = self.plan
        self._last = self.events.last_id()
        speed = "as fast as possible" if plan.speed is None else f"×{plan.speed:g}"
        mode = "[bold red]LIVE[/]" if plan.execution == "live" else "paper"
        out.print(f"[bold]Conclave[/] · {mode} · {plan.source} · profile {plan.profile} · {speed}")
        out.print(f"market: {self.why}", markup=False)
        if plan.simulated:
            planted = " with a documented planted edge" if plan.source == "demo" else ""
            out.print(
                f"SIMULATED MARKET{planted}: no figure here says anything about a real market.",
                style="bold yellow",
            )
        out.print(f"world {plan.world}, files under {self.settings.data.var_dir}", style="dim")
        if not plan.local:
            out.print("starting Ray, the agents and the desk …", style="dim")

    def say(self, text: str) -> None:
        """Show one line of trouble."""
        err.print(text, style="yellow", markup=False)

    def tick(self) -> None:
        """Show what happened since the last tick."""
        if not self._ready and time.monotonic() - self._asked > 0.5:
            self._asked = time.monotonic()
            self._greet()
        if self.plan.live and self._feed != "":
            self._tell_feed()
        for number, event in self.events.after(self._last, 500):
            self._last = number
            for line in self._lines(event):
                out.print(line)

    def close(self) -> None:
        """Say what came of it."""
        counts = self.reader.counts()
        mark = self.reader.latest_equity(account_in_use(self.plan))
        equity = "–" if mark is None else f"{mark[1].equity:.2f} USDT"
        out.print(
            f"stopped: {counts['decisions']:,} decisions, {counts['outcomes']:,} scored instants, "
            f"{counts['fills']:,} fills, {counts['trades']:,} closed trades, equity {equity}"
        )

    def _greet(self) -> None:
        try:
            reply = httpx.get(f"{self.plan.address}/health/ready", timeout=2.0)
        except httpx.HTTPError:
            return
        if reply.status_code != 200:
            return
        self._ready = True
        seconds = time.monotonic() - self._started
        out.print(f"[green]ready[/] after {seconds:.0f} s: {self.plan.address}  (API: /docs)")
        if not self.plan.local:
            out.print(
                f"Ray dashboard: http://127.0.0.1:{self.plan.ray_dashboard_port}  "
                f"(token: {self.settings.data.var_dir}/api_token)"
            )
        out.print("Ctrl-C stops everything.", style="dim")

    def _tell_feed(self) -> None:
        """Say what the feed waits for, until it has all of it."""
        holder = self.desk.holder()
        feed = None if holder is None else holder.info.get("feed")
        if feed is None or feed["waiting"] == self._feed:
            return
        self._feed = feed["waiting"]
        out.print(feed_line(feed), style="dim" if feed["ready"] else "yellow", markup=False)

    def _lines(self, event: Event) -> Iterator[str]:
        body = event.body
        if event.kind == "decision":
            yield from self._decision(body)
        elif event.kind == "trade":
            pnl = float(body["pnl"])
            color = "green" if pnl > 0 else "red"
            yield (
                f"  closed {body['side']} {body['qty']} {body['symbol']} by {body['reason']}: "
                f"[{color}]{pnl:+.2f} USDT[/] net"
            )
        elif event.kind == "fill":
            yield f"  filled {body['side']} {body['qty']} {body['symbol']} at {body['price']}"
        elif event.kind == RESOURCES:
            yield f"  [yellow]{escape(str(body['why']))}[/]"
        elif event.kind == "risk":
            yield f"  [yellow]risk: {escape(str(body.get('why') or body.get('rule', '')))}[/]"

    def _decision(self, body: object) -> Iterator[str]:
        assert isinstance(body, dict)
        now = time.monotonic()
        quiet = self.plan.speed is None and body["decision"] == "NO_TRADE"
        if quiet and now - self._shown < 1.0:
            self._passed += 1
            return
        self._shown = now
        color = {"LONG": "green", "SHORT": "red"}.get(body["decision"], "dim")
        p_up = "  –  " if body["prob_up"] is None else f"{body['prob_up']:.3f}"
        more = f"  (+{self._passed} more)" if self._passed else ""
        self._passed = 0
        yield (
            f"{body['as_of'][:16]}Z {body['symbol']} [{color}]{body['decision']:<8}[/] "
            f"P(up) {p_up}  {escape(str(body['reason']))}{more}"
        )
