"""What answers HTTP: the service behind the API, with agents or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine

from agents.host import AgentHost
from data.memory import MarketMemory
from serving.bootstrap.common import api_token, deadline, memories_of
from serving.bootstrap.storage import open_storage
from serving.control import DESK_LEASE, LEASE_TTL_MS
from serving.feeds import generated_books, symbols_of
from serving.going_live import account_in_use
from serving.killing import KILL_FILE
from serving.plan import RunPlan
from serving.resources import uses
from serving.scoreboard import Scoreboard
from serving.service import CouncilService
from serving.settings import Settings
from serving.streaming import Streams
from serving.surface import Limits, Surface
from serving.system import SystemClock
from serving.tokens import Known, TokenFile
from serving.watching_symbols import Watchlist
from storage.audit import Audit
from storage.engine import database_file, open_database
from storage.events import EventLog
from storage.inbox import Inbox
from storage.jobs import Jobs
from storage.leases import Lease
from storage.proposals import Proposals
from storage.queries import Reader
from storage.seen_books import SqlBooks
from storage.snapshots import SqlSnapshots
from storage.symbols import Symbols

ASKING_MS = 2_000  # how long the API waits for the database before it tells its caller to come back
QUICK_MS = 25  # and for how long it lets nobody else be answered meanwhile


def council_service(
    plan: RunPlan, settings: Settings, agents: Mapping[str, AgentHost]
) -> CouncilService:
    """Wire what answers HTTP; it reads the database and appends nothing."""
    engine = open_storage(settings, busy_ms=ASKING_MS)
    symbols = symbols_of(plan, settings)
    seen = SqlBooks(engine, plan.world) if plan.live else generated_books(plan, settings)
    memories = memories_of(symbols, settings.data.timeframe, seen)
    return _service(plan, settings, engine, agents, memories, symbols)


def reading_service(plan: RunPlan, settings: Settings) -> CouncilService:
    """Wire the same without agents and bars: it reads, and asks the desk."""
    engine = open_storage(settings, busy_ms=ASKING_MS)
    return _service(plan, settings, engine, {}, {}, symbols_of(plan, settings))


def _service(
    plan: RunPlan,
    settings: Settings,
    engine: Engine,
    agents: Mapping[str, AgentHost],
    memories: dict[str, MarketMemory],
    symbols: Sequence[str],
) -> CouncilService:
    clock = SystemClock()
    return CouncilService(
        plan=plan,
        reader=Reader(engine, plan.world),
        inbox=Inbox(engine, plan.world),
        quick=_quick_inbox(settings, plan.world),
        desk=Lease(engine, DESK_LEASE, "api", LEASE_TTL_MS, clock),
        snapshots=SqlSnapshots(engine, plan.world),
        proposals=Proposals(engine),
        agents=agents,
        remote=frozenset(() if plan.local else settings.models.remote),
        memories=memories,
        timeframe=settings.data.timeframe,
        strategy=settings.execution.strategy,
        account=account_in_use(plan),
        deadline_s=deadline(plan, settings),
        token=api_token(settings),
        clock=clock,
        kill_file=settings.data.var_dir / KILL_FILE,
        surface=_surface(plan, settings, engine, symbols),
    )


def _quick_inbox(settings: Settings, world: str) -> Inbox | None:
    if database_file(settings.database_url()) is None:
        return None  # a server is waited for elsewhere
    return Inbox(open_database(settings.database_url(), busy_ms=QUICK_MS), world)


def _surface(plan: RunPlan, settings: Settings, engine: Engine, symbols: Sequence[str]) -> Surface:
    serving, timeframe = settings.serving, settings.data.timeframe
    return Surface(
        symbols=Watchlist(Symbols(engine), timeframe, frozenset(symbols)),
        jobs=Jobs(engine),
        raw_dir=settings.data.raw_dir,
        audit=Audit(engine),
        streams=Streams(EventLog(engine, plan.world), serving.max_streams, serving.heartbeat_s),
        scoreboard=Scoreboard(
            engine, plan.world, tuple((symbol, timeframe) for symbol in symbols),
            settings.data.pred_horizon_steps, settings.execution.strategy,
        ),
        tokens=Known(TokenFile(settings.tokens_file())),
        limits=Limits(
            {"read": serving.rate_reads, "signal": serving.rate_signals,
             "write": serving.rate_writes},
            serving.max_ongoing_requests, serving.patience_s,
            frozenset(name.lower() for name in serving.allowed_hosts),
        ),
        uses=lambda: uses(engine, settings, SystemClock().now(), plan.speed),
    )  # fmt: skip
