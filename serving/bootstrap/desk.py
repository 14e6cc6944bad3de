"""The desk: what decides and trades, on any feed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import httpx
from sqlalchemy import Engine

from agents.host import threaded
from domain.operations import RiskEvent
from domain.ports import Agent, LiveSource, Needs, Strategy
from domain.times import timeframe_ms
from execution.funding import else_usual, no_funding
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker
from serving.asserting import Asserting, Measuring
from serving.asserting_setup import limits_of, session_backtest, suggesting
from serving.bootstrap.agents import live_agents
from serving.bootstrap.common import api_token, deadline, memories_of, owner
from serving.control import DESK_LEASE, LEASE_TTL_MS, Control
from serving.counters import Counters, TimedLedger
from serving.debating import debating
from serving.deciders import build_strategy
from serving.desk import Desk, Progress
from serving.feed_watch import feed_watch
from serving.feeds import Feed, feed_of
from serving.folds import Fold
from serving.gate_models import desk_gate
from serving.going_live_execution import account_of_plan, executing, listed_to
from serving.journal_desk import JournalRules
from serving.killing import KILL_FILE
from serving.market_clock import MarketClock
from serving.monitoring import Monitor
from serving.opinions import InProcessOpinions, Opinions, ServeOpinions
from serving.pacing import Pacer
from serving.plan import RunPlan
from serving.promotion import Refresher
from serving.recovering import sound_storage
from serving.reports import SignalReports
from serving.rules import ACCOUNT, CURRENCY, Market, levels, market_for, risk_limits, sizing, venue
from serving.sessions import Rates, SessionLog, Terms, shaping
from serving.settings import Settings
from serving.sights import Sights
from serving.system import SystemClock, git_commit
from serving.telling import Teller
from serving.upkeep import upkeep_of
from sim.drift import shipped_reference
from sim.opinions import widest
from storage.aside import FileAside
from storage.events import EventLog
from storage.inbox import Inbox
from storage.leases import Lease
from storage.proposals import Proposals
from storage.queries import Reader
from storage.seen_books import SqlBooks
from storage.settled_funding import SqlFunding
from storage.snapshots import SqlSnapshots


def build_desk(plan: RunPlan, settings: Settings) -> Desk:
    """Wire the desk of a plan."""
    return build_desk_on(plan, settings, feed_of(plan, settings))


def build_desk_on(plan: RunPlan, settings: Settings, feed: Feed) -> Desk:
    """Wire a desk on a feed."""
    engine = sound_storage(settings, SystemClock())
    wall = feed.wall or SystemClock()
    gateway = account_of_plan(plan, settings, wall)
    feed = replace(feed, listed=listed_to(gateway, feed.listed))
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
    execution = executing(plan, settings, engine, market, wall, gateway, paper)
    var_dir = settings.data.var_dir
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
        aside=FileAside(var_dir / f"unwritten-{plan.world}.jsonl"),
    )  # fmt: skip
    clock = SystemClock()
    fold = Fold(strategy, SqlSnapshots(engine, plan.world))
    market_clock = MarketClock(wall=feed.wall)
    return Desk(
        loop=loop,
        fold=fold,
        source=feed.source,
        reader=Reader(engine, plan.world),
        memories=memories_of(feed.symbols, settings.data.timeframe, books),
        routes=market.routes,
        needs=lambda: _with_strategy(widest(agents), strategy),
        agents=agents,
        opinions=_opinions(plan, settings, agents),
        control=Control(
            Lease(engine, DESK_LEASE, owner(), LEASE_TTL_MS, clock),
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
        sights=_sights(loop, feed, market, seen, funding),
        let_go=(execution.let_go, feed.let_go),
        feed_watch=feed_watch(settings, feed, loop, market_clock, clock),
        debating=debating(settings),
        history=feed.history,
        monitor=_monitor(plan, settings, engine),
        session=SessionLog(
            EventLog(engine, plan.world),
            ledger,
            _terms(plan, settings, feed, market, commit, _with_strategy(widest(agents), strategy)),
        ),
        asserting=asserting_on(plan.world, settings, feed.symbols, engine, loop.note),
        journal=journal_rules(settings),
        progress=Progress(os.getpid(), execution=plan.execution, broker=execution.health),
        leave=asyncio.Event(),
    )


def _sights(
    loop: TradingLoop, feed: Feed, market: Market, books: SqlBooks | None,
    funding: SqlFunding | None,
) -> Sights | None:  # fmt: skip
    if books is None or not isinstance(feed.source, LiveSource):
        return None
    every_ms = {symbol: each.funding_ms for symbol, each in market.instruments.items()}
    return Sights(loop, feed.source, market.routes, every_ms, books, funding)


def _terms(
    plan: RunPlan, settings: Settings, feed: Feed, market: Market, commit: str, needs: Needs
) -> Terms:
    rates = None
    if feed.span is not None:
        first = feed.symbols[0]
        every_ms = market.instruments[market.routes[first]].funding_ms
        rates = Rates.sampled(feed.funding, first, feed.span, every_ms)
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


def _with_strategy(needs: Needs, strategy: Strategy) -> Needs:
    own = getattr(strategy, "needs", Needs())
    rows = max(1, needs.feature_rows, own.feature_rows)  # one for stop and target by ATR
    return Needs(max(needs.bars, own.bars), rows)
