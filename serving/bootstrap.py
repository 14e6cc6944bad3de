"""The composition root: the only place that names concrete classes and hands them to each other."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
from sqlalchemy import Engine

from agents.host import AgentHost, threaded
from agents.reloading import Reloading
from data.memory import LIVE_BARS, MarketMemory
from domain.market import BarFrame
from domain.operations import RiskEvent
from domain.ports import Agent, BookSource, LiveSource, Needs, Strategy
from domain.times import timeframe_ms
from execution.funding import else_usual, no_funding
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker
from serving.asserting import Asserting, Measuring
from serving.asserting_setup import limits_of, session_backtest, suggesting
from serving.auth import token_of
from serving.control import LEASE_TTL_MS, Control
from serving.counters import Counters, TimedLedger
from serving.debating import debating
from serving.deciders import build_strategy
from serving.desk import Desk, Progress
from serving.feed_watch import feed_watch
from serving.feeds import Feed, feed_of, generated_books, symbols_of
from serving.folds import Fold
from serving.gate_models import desk_gate
from serving.going_live import account_in_use
from serving.going_live_execution import executing
from serving.jobs import JOBS_LEASE, Worker
from serving.journal_desk import JournalRules
from serving.killing import KILL_FILE
from serving.market_clock import MarketClock
from serving.monitoring import Monitor
from serving.opinions import InProcessOpinions, Opinions, ServeOpinions
from serving.pacing import Pacer
from serving.plan import RunPlan
from serving.planning import Wish
from serving.promotion import Refresher, following
from serving.recovering import sound_storage
from serving.reports import SignalReports
from serving.resources import uses
from serving.rules import (
    ACCOUNT,
    CURRENCY,
    levels,
    market_for,
    risk_limits,
    sizing,
    venue,
)
from serving.scoreboard import Scoreboard
from serving.service import CouncilService
from serving.sessions import Rates, SessionLog, Terms, shaping
from serving.settings import Settings, load_settings
from serving.settings.names import Key, from_environment
from serving.sights import Sights
from serving.streaming import Streams
from serving.surface import Limits, Surface
from serving.system import SystemClock, environment, git_commit
from serving.telling import Teller
from serving.tokens import Known, TokenFile
from serving.upkeep import upkeep_of
from serving.watching_symbols import Watchlist
from sim.drift import shipped_reference
from sim.opinions import widest
from storage.audit import Audit
from storage.engine import database_file, open_database
from storage.events import EventLog
from storage.inbox import Inbox
from storage.jobs import Jobs
from storage.leases import Lease
from storage.migrate import upgrade
from storage.proposals import Proposals
from storage.queries import Reader
from storage.seen_books import SqlBooks
from storage.settled_funding import SqlFunding
from storage.snapshots import SqlSnapshots
from storage.symbols import Symbols

DESK_LEASE = "desk"
ASKING_MS = 2_000  # how long the API waits for the database before it tells its caller to come back
QUICK_MS = 25  # and for how long it lets nobody else be answered meanwhile
DOTENV = Path(".env")


def settings_of(plan: RunPlan) -> Settings:
    """Load the settings a plan was made with; the same in every process of a run."""
    return load_settings(
        env=environment(),
        profile=plan.profile,
        config_files=[Path(name) for name in plan.config_files],
        overrides=dict(plan.overrides),
        dotenv=DOTENV,
    )


def settings_wished(wish: Wish, profile: str | None) -> Settings:
    """Load settings as the environment, files and the flags of a wish give them."""
    return load_settings(
        env=environment(),
        profile=profile,
        config_files=wish.config_files,
        overrides=dict(wish.overrides),
        dotenv=DOTENV,
    )


def open_storage(settings: Settings, *, busy_ms: int = 10_000) -> Engine:
    """Open the database and bring its schema up to date; ``busy_ms`` as in ``open_database``."""
    engine = open_database(settings.database_url(), busy_ms=busy_ms)
    upgrade(engine)
    return engine


def live_agents(
    settings: Settings, names: Iterable[str] | None = None, plan: RunPlan | None = None
) -> dict[str, Reloading]:
    """Build agents that can move to what is promoted later.

    Parameters
    ----------
    names : None = all that the settings name.
    plan : its stored bars are what agents are examined on; None = no examination.
    """
    names = settings.models.agents if names is None else names
    if plan is None:
        return following(names, settings)
    world = plan.world

    def past() -> list[BarFrame]:
        reader = Reader(open_storage(settings), world)
        frames = (
            reader.newest_bars(symbol, settings.data.timeframe, LIVE_BARS)
            for symbol in settings.data.symbols
        )
        return [frame for frame in frames if len(frame)]

    return following(names, settings, past)


# The service behind the API


def council_service(
    plan: RunPlan, settings: Settings, agents: Mapping[str, AgentHost]
) -> CouncilService:
    """Wire what answers HTTP; it reads the database and appends nothing."""
    engine = open_storage(settings, busy_ms=ASKING_MS)
    symbols = symbols_of(plan, settings)
    seen = SqlBooks(engine, plan.world) if plan.live else generated_books(plan, settings)
    memories = _memories(symbols, settings.data.timeframe, seen)
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


def job_worker(settings: Settings, leaving: Callable[[], bool]) -> Worker:
    """Wire the worker of jobs."""
    engine, clock, data = open_storage(settings), SystemClock(), settings.data
    places = {
        "VAR_DIR": data.var_dir, "DATA_DIR_RAW": data.raw_dir, "MODELS_DIR": data.models_dir,
        "DATA_DIR_PROCESSED": data.processed_dir, "LOGS_DIR": data.logs_dir,
    }  # fmt: skip
    shared = {"MODELS_URL": data.models_url, "CONCLAVE_MODELS_ENDPOINT": data.models_endpoint}
    store = {name: told for name, told in shared.items() if told is not None}
    store["CONCLAVE_MODELS_REGION"] = data.models_region
    # The worker's own row is what people are told of: the process must not note the work again.
    token = Key("notify", "telegram_bot_token")
    names = {
        "TELEGRAM_BOT_TOKEN",
        *(name for name in environment() if from_environment(name) == token),
    }
    silent = dict.fromkeys(names, "none")
    return Worker(
        Jobs(engine),
        Lease(engine, JOBS_LEASE, _owner(), LEASE_TTL_MS, clock),
        clock,
        data.raw_dir,
        data.var_dir.absolute() / "jobs",
        {
            **environment(),
            **store,
            **silent,
            **{name: str(path.absolute()) for name, path in places.items()},
        },
        leaving,
    )


def api_token(settings: Settings) -> str:
    """Return the API's token, making one in VAR_DIR if none is configured."""
    configured = settings.serving.api_token
    return token_of(
        settings.data.var_dir, None if configured is None else configured.get_secret_value()
    )


def deadline(plan: RunPlan, settings: Settings) -> float:
    """Return how long the agents have, wall-clock seconds: min(2 s, a quarter of a bar)."""
    if plan.speed is None:
        return settings.serving.agent_deadline_s
    bar = timeframe_ms(settings.data.timeframe) / 1000.0 / plan.speed
    return min(settings.serving.agent_deadline_s, bar / 4.0)


# The desk


def build_desk(plan: RunPlan, settings: Settings) -> Desk:
    """Wire the desk of a plan."""
    return build_desk_on(plan, settings, feed_of(plan, settings))


def build_desk_on(plan: RunPlan, settings: Settings, feed: Feed) -> Desk:
    """Wire a desk on a feed."""
    engine = sound_storage(settings, SystemClock())
    market = market_for(
        settings, feed.symbols, feed.price, keep_market=feed.keep_market, listed=feed.listed
    )
    seen = SqlBooks(engine, plan.world) if plan.live else None
    books = seen or feed.books
    funding = SqlFunding(engine, plan.world) if plan.live and settings.execution.funding else None
    rate = feed.funding if funding is None else else_usual(funding.look)
    commit = git_commit()
    bar_ms = timeframe_ms(settings.data.timeframe)
    round_trip = partial(market.round_trip, bar_ms, settings.data.pred_horizon_steps)
    strategy = build_strategy(settings, round_trip, feed.source.label, commit)
    # beside Serve these only stand in: they are not examined, and Chronos is not loaded
    agents = live_agents(settings, plan=plan if plan.local else None)
    counters = Counters()
    ledger = TimedLedger(engine, plan.world, counters)
    follower = desk_gate(settings, market, feed.symbols[0])
    gate = None if follower is None else follower.gate
    paper = partial(
        PaperBroker, market.instruments, market.costs, account=ACCOUNT, currency=CURRENCY,
        funding=rate if settings.execution.funding else no_funding,
        venue=replace(venue(settings), books=seen),
    )  # fmt: skip
    execution = executing(plan, settings, engine, market, feed.wall or SystemClock(), paper)
    loop = TradingLoop(
        strategy,
        execution.broker,
        ledger,
        market.instruments,
        LoopSettings(
            routes=market.routes,
            horizon_bars=settings.data.pred_horizon_steps,
            account=execution.account,
            currency=CURRENCY,
            initial_cash=execution.cash,
            spread_bps=dict.fromkeys(market.instruments, settings.execution.spread_bps),
            source=feed.source.label,
            git_commit=commit,
            on_shutdown=settings.execution.on_shutdown,
        ),
        limits=risk_limits(settings, feed.source.label),
        sizing=sizing(settings),
        levels=levels(settings),
        gate=gate,
        journal=settings.journal.reflections,
    )  # fmt: skip
    var_dir = settings.data.var_dir
    clock = SystemClock()
    fold = Fold(strategy, SqlSnapshots(engine, plan.world))
    market_clock = MarketClock(wall=feed.wall)
    return Desk(
        loop=loop,
        fold=fold,
        source=feed.source,
        reader=Reader(engine, plan.world),
        memories=_memories(feed.symbols, settings.data.timeframe, books),
        routes=market.routes,
        needs=lambda: _with_strategy(widest(agents), strategy),
        agents=agents,
        opinions=_opinions(plan, settings, agents),
        control=Control(
            Lease(engine, DESK_LEASE, _owner(), LEASE_TTL_MS, clock),
            Inbox(engine, plan.world),
            var_dir / KILL_FILE,
        ),
        ledger=ledger,
        teller=Teller(EventLog(engine, plan.world), Proposals(engine)),
        reports=SignalReports(var_dir / "reports" / "signals"),
        pacer=Pacer(plan.speed),
        market_clock=market_clock,
        refresher=Refresher([*agents.values(), *([] if follower is None else [follower])]),
        upkeep=upkeep_of(settings, loop, fold, ledger, list(market.routes), clock, market_clock),
        counters=counters,
        gate=gate,
        sights=_sights(loop, feed, market.routes, seen, funding),
        let_go=(execution.let_go, feed.let_go),
        feed_watch=feed_watch(settings, feed, loop, market_clock, clock),
        debating=debating(settings),
        history=feed.history,
        monitor=_monitor(plan, settings, engine),
        session=SessionLog(
            EventLog(engine, plan.world),
            ledger,
            _terms(plan, settings, feed, commit, _with_strategy(widest(agents), strategy)),
        ),
        asserting=asserting_on(plan.world, settings, feed.symbols, engine, loop.note),
        journal=journal_rules(settings),
        progress=Progress(os.getpid(), execution=plan.execution, broker=execution.health),
        leave=asyncio.Event(),
    )


def _sights(
    loop: TradingLoop, feed: Feed, routes: Mapping[str, str], books: SqlBooks | None,
    funding: SqlFunding | None,
) -> Sights | None:  # fmt: skip
    if books is None or not isinstance(feed.source, LiveSource):
        return None
    return Sights(loop, feed.source, routes, books, funding)


def _terms(plan: RunPlan, settings: Settings, feed: Feed, commit: str, needs: Needs) -> Terms:
    rates = None
    if feed.span is not None:
        rates = Rates.sampled(feed.funding, feed.symbols[0], feed.span)
    return Terms(
        profile=plan.profile,
        source=feed.source.label,
        commit=commit,
        seed=plan.seed,
        warm_up_days=plan.warm_up_days,
        price=feed.price,
        keep_market=feed.keep_market,
        listed=feed.listed,
        seen_books=plan.live,
        bars=needs.bars,
        feature_rows=needs.feature_rows,
        funding=rates,
        settings=shaping(settings),
    )


def asserting_on(
    world: str,
    settings: Settings,
    symbols: Sequence[str],
    engine: Engine,
    write: Callable[[RiskEvent], None],
) -> Asserting:
    """Wire what must hold of a world's ledger."""
    backtest = session_backtest(engine, world, build_strategy)
    measuring = Measuring(
        Reader(engine, world), SqlSnapshots(engine, world), ACCOUNT, symbols,
        settings.data.timeframe, limits_of(settings), suggesting(settings), backtest,
        settings.serving.monitor,
    )  # fmt: skip
    return Asserting(measuring, write)


def journal_rules(settings: Settings) -> JournalRules:
    """Translate settings into what a reflection must have."""
    return JournalRules(settings.journal.min_characters, settings.journal.tags)


def _monitor(plan: RunPlan, settings: Settings, engine: Engine) -> Monitor | None:
    if not settings.serving.monitor:
        return None
    reference, why = None, "the market is simulated"
    if not plan.simulated:
        reference, why = shipped_reference(), "no reference ships with this version"
    return Monitor(
        plan.world,
        settings.data.pred_horizon_steps,
        Proposals(engine),
        EventLog(engine, plan.world),
        SqlSnapshots(engine, plan.world),
        settings.data.var_dir / "reports" / "monitoring",
        reference,
        why,
        history=plan.source != "replay",  # a replay can be had again
    )


def _opinions(plan: RunPlan, settings: Settings, agents: Mapping[str, Agent]) -> Opinions:
    here = InProcessOpinions(
        {name: threaded(agent) for name, agent in agents.items()}, deadline(plan, settings)
    )
    if plan.local:
        return here
    client = httpx.AsyncClient(
        base_url=plan.address, headers={"Authorization": f"Bearer {api_token(settings)}"}
    )
    return ServeOpinions(client, here, deadline(plan, settings))


def _owner() -> str:
    # Two containers may both be pid 1: host and chance tell them apart.
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _with_strategy(needs: Needs, strategy: Strategy) -> Needs:
    own = getattr(strategy, "needs", Needs())
    rows = max(1, needs.feature_rows, own.feature_rows)  # one for stop and target by ATR
    return Needs(max(needs.bars, own.bars), rows)


def _memories(
    symbols: Iterable[str], timeframe: str, books: BookSource | None
) -> dict[str, MarketMemory]:
    return {symbol: MarketMemory(symbol, timeframe, books=books) for symbol in symbols}
