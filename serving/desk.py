"""The desk: feed → opinions → loop → ledger → events. The only process that appends.

An ordinary asyncio program outside Ray. It rebuilds itself from the ledger, asks the agents
through Serve, and thinks with the light agents in its own process when Serve does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from agents.contract import out_of_sample, trim
from data.memory import MarketMemory
from domain.canonical import plain
from domain.decision import Decision
from domain.market import Bar, BarFrame, Instant, MarketState
from domain.opinion import Opinion
from domain.ports import Agent, LiveSource, MarketSource, Needs
from domain.times import iso
from execution.loop import Seen, TradingLoop
from rl.following import FollowingGate
from serving.asserting import Asserting
from serving.broker_health import BrokerHealth
from serving.control import Control, LeaseLost
from serving.counters import Counters
from serving.debating import Debating
from serving.desk_requests import Requests
from serving.feed_watch import FeedWatch
from serving.folds import Fold
from serving.journal_desk import JournalRules
from serving.market_clock import MarketClock
from serving.monitoring import Monitor
from serving.opinions import Opinions
from serving.pacing import Pacer, instants
from serving.promotion import Refresher
from serving.reports import SignalReports
from serving.risk_desk import told_of
from serving.schema import portfolio_of
from serving.sessions import SessionLog
from serving.sights import Sights
from serving.stored_bars import follow
from serving.telling import Teller
from serving.upkeep import Upkeep
from storage.ledger import SqlLedger
from storage.queries import Reader

log = structlog.get_logger("desk")
T = TypeVar("T")

SETTLED_BARS = 2  # so few new ones end the fetching of history
WARM_UP_BATCH = 512  # bars opined on at a time
BREATH_SECONDS = 0.02  # between two of them, for whoever else is in this process
HOUSEKEEPING_SECONDS = 0.02
TENDING_SECONDS = 2.0  # between two looks at orders that are not certain
ASKED_SECONDS = 0.005  # the same, while somebody keeps asking and is quickly answered
ASKING_SECONDS = 0.2  # and for how long after the last request that is so
TELL_SECONDS = 0.2  # at most this often, weights and books are told to the API
COUNT_SECONDS = 5.0  # and what was counted
SNAPSHOT_EVERY = 500  # decisions between two saved folds, at least,
SNAPSHOT_BARS = 50  # and bars of each symbol: a fold is as large as there are symbols
AGENTS_SECONDS = 90.0  # how long an unpaced replay waits for Serve
TOLD_AGAIN = 500  # newest ledger rows whose events are written again after a restart


@dataclass(slots=True)
class Progress:
    """What the desk is doing, as ``status`` shows it."""

    pid: int = 0
    phase: str = "starting"
    done: float | None = None  # share of the phase, where it has an end
    decided: int = 0
    via: str = "in_process"
    as_of: str | None = None
    feed: dict[str, Any] | None = None  # how a live market's feed does
    execution: str = "paper"
    broker: BrokerHealth | None = None  # whose orders go to an exchange


@dataclass(slots=True)
class Desk:
    """Everything the desk needs, handed in by the composition root.

    Attributes
    ----------
    routes : forecast symbol → execution symbol.
    needs : returns the most any agent reads of a state; a newer model may read more.
    history : opined, scored and folded, but never traded, before the first live bar.
    monitor : looks for drift once a day of market time, or None.
    asserting : looks at what must hold of the ledger once a day of market time.
    journal : what a reflection must have.
    debating : who may answer once the agents have spoken.
    refresher : lets ``agents`` move to models that are promoted while they are here.
    upkeep : state file, backups, measurements.
    gate : judges the loop's decisions; told about here.
    sights : what a live market shows beside its bars.
    feed_watch : holds entries until a live market's feed is sure.
    counters : what it does, counted and timed for Prometheus.
    let_go : end what the broker and the source hold on to.
    """

    loop: TradingLoop
    fold: Fold
    source: MarketSource | LiveSource
    reader: Reader
    memories: dict[str, MarketMemory]
    routes: Mapping[str, str]
    needs: Callable[[], Needs]
    agents: Mapping[str, Agent]
    opinions: Opinions
    control: Control
    ledger: SqlLedger
    teller: Teller
    reports: SignalReports
    pacer: Pacer
    market_clock: MarketClock
    refresher: Refresher
    asserting: Asserting
    journal: JournalRules
    upkeep: Upkeep
    counters: Counters
    debating: Debating = field(default_factory=Debating)
    history: Sequence[BarFrame] = ()
    monitor: Monitor | None = None
    session: SessionLog | None = None
    gate: FollowingGate | None = None
    sights: Sights | None = None
    let_go: Sequence[Callable[[], None]] = ()
    feed_watch: FeedWatch | None = None
    progress: Progress = field(default_factory=Progress)
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    _requests: Requests = field(init=False)
    _told: float = 0.0
    _counted: float = 0.0
    _asked: float = -math.inf
    _tended: float = -math.inf
    _unsaved: int = 0  # decisions that the saved fold lacks
    _moved: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._requests = Requests(
            self.loop, self.ledger, self.reader, self.memories, self.agents, self.control,
            self.market_clock, self.asserting, self.journal, self._state, self._news,
        )  # fmt: skip

    def idle(self) -> float:
        """Return for how many seconds the desk has not looked after its house."""
        return time.monotonic() - self._moved

    async def run(self) -> None:
        """Carry on from the ledger until the feed ends or somebody asks to leave.

        Raises
        ------
        LeaseLost : if another desk is running, or took over.
        """
        self.control.take_lease(plain(self.progress))
        self.refresher.start()
        try:
            await self._catch_up()
            # While history is asked for, too: an exchange may be silent for as long as it likes.
            housekeeping = asyncio.create_task(self._keep_house())
            try:
                await self._warm_up()
                await self._market(housekeeping)
            finally:
                self.leave.set()
                await housekeeping
            # Only after a good end: what failed may have left the fold ahead of the ledger.
            self.loop.shutdown(self.market_clock.now())
            for order in self.loop.unsent():
                log.warning("left_open", symbol=order.symbol, order=order.id, intent=order.intent)
            self.fold.save()
            self.upkeep.close()
        finally:
            for let_go in self.let_go:
                let_go()
            self.upkeep.stop()
            self.refresher.stop()
            self.reports.close()
            self.control.release_lease()

    # From the ledger to the last bar known

    async def _catch_up(self) -> None:
        self.progress.phase = "catching up"
        if self.session is not None:
            self.session.begin()
        self.fold.resume(self.loop)
        self.control.keep_lease(plain(self.progress), now=True)  # it may have taken long
        self.loop.witness = self._hear
        self.teller.hear_again(self.ledger.records_since(self.ledger.head()[0] - TOLD_AGAIN))
        self.teller.tell()
        for symbol, memory in self.memories.items():
            follow(self.reader, symbol, memory)
            self.market_clock.reach(memory.last_as_of or 0)
        states = [
            state
            for memory in self.memories.values()
            if (state := self._state(memory)) is not None
            and state.as_of > self.loop.decided_up_to(state.symbol)
        ]
        if self.feed_watch is None:  # a feed that this run does not have holds nothing
            self.loop.release_entries("no feed to wait for", self.market_clock.now())
        if self.monitor is not None:
            self.monitor.resume(self.reader, self.memories)
        self.asserting.resume()
        self.upkeep.begin()
        self._house()  # a kill that was ordered meanwhile comes first
        if states:
            log.info("finishing_bar", symbols=[state.symbol for state in states])
            await self._decide(states)

    async def _warm_up(self) -> None:
        if not isinstance(self.source, LiveSource):
            await self._learn([self._undecided(frame) for frame in self.history])
            return
        # A symbol with a past goes on where that ends, whoever is new learns first.
        new = {symbol for symbol in self.memories if not self.loop.decided_up_to(symbol)}
        while new and not self.leave.is_set():  # what closed meanwhile is history as well
            self.progress.phase = "fetching history"
            more = await self._unless_leaving(self._closed_meanwhile(self.source, sorted(new)))
            if more is None:
                return
            await self._learn(more)
            # what two bars cost to ask for may be another bar: the feed tells of the last ones
            new = {frame.symbol for frame in more if len(frame) > SETTLED_BARS}

    async def _closed_meanwhile(self, source: LiveSource, symbols: Sequence[str]) -> list[BarFrame]:
        return [
            await source.closed_since(name, self.memories[name].last_as_of or source.begins_ms)
            for name in symbols
        ]

    async def _unless_leaving(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what some work brings; None if somebody asks to leave before that."""
        working, leaving = asyncio.create_task(work), asyncio.create_task(self.leave.wait())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            leaving.cancel()
            working.cancel()

    async def _learn(self, new: Sequence[BarFrame]) -> None:
        bars, done = sum(map(len, new)), 0
        for fresh in filter(len, new):
            memory = self.memories[fresh.symbol]
            log.info("warm_up", symbol=fresh.symbol, bars=len(fresh))
            self.progress.phase = "warming up"
            for first in range(0, len(fresh), WARM_UP_BATCH):
                part = fresh.slice(first, first + WARM_UP_BATCH)
                memory.append(part)  # piece by piece: a live memory keeps no more than it needs
                needs = self.needs()
                batch = list(memory.states(int(part.ts[0]), None, needs.bars, needs.feature_rows))
                self._unsaved += self.loop.warm_up(_spoken(self.agents, batch))
                self._watch([fresh.symbol])
                self.market_clock.reach(batch[-1].as_of)
                done += len(part)
                self.progress.done = done / bars
                self.progress.as_of = iso(batch[-1].as_of)
                await asyncio.sleep(BREATH_SECONDS)  # and for the house, which is looked after
                if self.leave.is_set():
                    return
            self._save_fold()
        self.progress.done = None

    def _undecided(self, frame: BarFrame) -> BarFrame:
        # A bar that closes where decisions end opened before.
        return frame.between(self.loop.decided_up_to(frame.symbol), None)

    # Bar by bar

    async def _market(self, housekeeping: asyncio.Task[None]) -> None:
        if self.pacer.speed is None:  # nothing presses: let every agent take its seat first
            self.progress.phase = "waiting for agents"
            await self._unless_leaving(self.opinions.arrived(AGENTS_SECONDS))
        if self.leave.is_set():
            return
        self._tell(force=True)  # who asks before the first bar is answered too
        self.progress.phase = "live"
        known = {
            symbol: self.loop.absorbed_up_to(symbol) - memory.step_ms
            for symbol, memory in self.memories.items()
        }
        if isinstance(self.source, LiveSource):  # a bar that it is executed in may still be missing
            step = {self.routes[symbol]: memory.step_ms for symbol, memory in self.memories.items()}
            known |= {
                route: executed - step[route]
                for route in step if (executed := self.loop.executed_up_to(route))
            }  # fmt: skip
        known = {symbol: open_ms for symbol, open_ms in known.items() if open_ms > 0}
        coming = instants(self.source, known, self.pacer, self.leave)
        async with contextlib.aclosing(coming):
            async for instant in coming:
                if housekeeping.done():
                    return
                await self._step(instant)
        if self.leave.is_set():
            return
        self.progress.phase = "finished"
        self._tell(force=True)

    async def _step(self, instant: Instant) -> None:
        """Take one instant: every bar is in the ledger before anybody is asked about it."""
        began = time.monotonic()
        states = []
        told = {bar.symbol for bar in instant.bars}
        for symbol, late in instant.executed.items():
            if symbol not in told and self.sights is not None:
                self.loop.absorb_execution(late, self.sights.late(symbol, late))
                self.teller.tell()
        for bar in instant.bars:
            self.market_clock.reach(bar.close_ms)
            self.loop.absorb(bar, *self._beside(bar, instant))
            memory = self.memories[bar.symbol]
            memory.append(bar)
            state = self._state(memory)
            if state is not None:
                states.append(state)
        await self._decide(states)
        for _ in states:
            self.counters.decided_after(time.monotonic() - began)

    def _beside(self, bar: Bar, instant: Instant) -> tuple[Bar | None, Sequence[Seen]]:
        """Return the bar that a bar is executed in, if that is another, and what was seen in it."""
        if self.sights is not None:
            return self.sights.beside(bar, instant)
        route = self.routes[bar.symbol]
        if route == bar.symbol:
            return None, ()
        span = (bar.timeframe, bar.open_ms, bar.open, bar.high, bar.low, bar.close, bar.volume)
        return Bar(route, *span), ()

    def _state(self, memory: MarketMemory, as_of: int | None = None) -> MarketState | None:
        needs = self.needs()
        return memory.state(as_of, needs.bars, needs.feature_rows)

    async def _decide(self, states: Sequence[MarketState]) -> None:
        if self.feed_watch is not None:
            self.feed_watch.hold()
        gathered = await self.opinions.ask(states)
        self.progress.via = self.opinions.via
        heard = [
            out_of_sample(self.agents, state, row.values(), absent)
            for state, (row, absent) in zip(states, gathered.each(), strict=True)
        ]
        answers = await self._debate(states, heard)
        now = self.market_clock.now()
        decided: list[Decision] = []
        try:
            for state, (opinions, absent), more in zip(states, heard, answers, strict=True):
                decided.append(self.loop.decide(state, [*opinions, *more], absent, now))
                self._note(decided[-1])
                await asyncio.sleep(0)  # a kill must not wait for the last of many symbols
        finally:
            self.reports.write(decided)
        self._save_fold()
        self.teller.tell()
        self._watch([state.symbol for state in states])
        if states:
            await self.asserting.look(states[0].as_of, self.market_clock.wall_now())
            self.teller.tell()
        self._tell()

    async def _debate(
        self,
        states: Sequence[MarketState],
        heard: Sequence[tuple[Sequence[Opinion], Mapping[str, str]]],
    ) -> list[list[Opinion]]:
        if not self.debating.debaters:
            return [[] for _ in states]
        views = [self.loop.view(state, *said) for state, said in zip(states, heard, strict=True)]
        return await self.debating.answer(states, views)

    def _hear(self, record: Any) -> None:
        self.teller.hear(record)
        self.upkeep.hear(record)
        self.counters.hear(record)
        if self.monitor is not None:
            self.monitor.hear(record)

    def _watch(self, symbols: Sequence[str]) -> None:
        if self.monitor is not None:
            for symbol in symbols:
                self.monitor.look(self.memories[symbol])

    def _note(self, decision: Decision) -> None:
        self.progress.decided += 1
        self._unsaved += 1
        self.progress.as_of = iso(decision.as_of)

    def _save_fold(self) -> None:
        enough = max(SNAPSHOT_EVERY, SNAPSHOT_BARS * len(self.memories))
        if self._unsaved >= enough:
            self._unsaved = 0
            self.fold.save()

    # What it tells, and what it is told

    def _tell(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if now - self._told < TELL_SECONDS and not force:
            return
        self._told = now
        self.fold.tell(
            {
                "weights": [row for s in self.memories for row in self.fold.weights(s)],
                "portfolio": portfolio_of(self.loop.portfolio(self.market_clock.now())),
                **told_of(self.loop),
                "gate": None if self.gate is None else self.gate.view(),
            }
        )
        if now - self._counted >= COUNT_SECONDS or force:
            self._counted = now
            for symbol, memory in self.memories.items():
                age = self.market_clock.now() - (memory.last_as_of or 0)
                self.counters.aged(symbol, age / 1000.0)
            self.counters.tell(self.fold.snapshots)

    def _news(self) -> None:
        self.teller.tell()
        self._tell(force=True)

    async def _keep_house(self) -> None:
        try:
            while not self.leave.is_set():
                self._house()
                await asyncio.sleep(self._rest())
        finally:
            self.leave.set()  # a desk that hears nothing must not go on

    def _rest(self) -> float:
        """Return how long to let be: no shorter than the answers took, so that more go together."""
        if self._moved - self._asked >= ASKING_SECONDS:
            return HOUSEKEEPING_SECONDS
        took = time.monotonic() - self._moved
        return min(max(took, ASKED_SECONDS), HOUSEKEEPING_SECONDS)

    def _house(self) -> None:
        self._moved = time.monotonic()
        news = self.feed_watch is not None and self.feed_watch.look(self.progress)
        try:
            self.control.keep_lease(plain(self.progress), now=news)
        except LeaseLost:
            raise
        except Exception:  # the database is away: what makes the account safer goes out
            self._requests.obey_file()
            raise
        self._requests.obey_file()
        if self._moved - self._tended >= TENDING_SECONDS:
            self.loop.tend()
            self._tended = time.monotonic()
        if self.control.serve(self._requests.now(), self._requests.later()):
            self._asked = self._moved
        self.upkeep.look(self.progress)


def _spoken(
    agents: Mapping[str, Agent], states: Sequence[MarketState]
) -> Iterator[tuple[MarketState, list[Opinion], dict[str, str]]]:
    columns = [
        agent.opine([trim(state, agent.needs) for state in states]) for agent in agents.values()
    ]
    for state, opinions in zip(states, zip(*columns, strict=True), strict=True):
        yield state, *out_of_sample(agents, state, opinions, {})
