"""The council as the API sees it: reads the ledger, asks the agents, leaves appends to the desk."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.contract import trim
from agents.host import AgentHost, Gathered, describe, gather
from data.memory import MarketMemory
from domain.canonical import plain
from domain.cards import AgentCard
from domain.decision import Decision
from domain.errors import ConclaveError, NotFound, ServiceUnreachable, UsageError
from domain.market import MarketState, parse_symbol
from domain.ports import Clock, Needs
from domain.times import iso, parse_iso
from domain.trading import RiskMode
from execution.dispatch import RECONCILIATION
from serving.answers import Answers
from serving.broker_words import broker_problems
from serving.desk_notes import COUNTERS_KEY, DRIFT, VIEW, VIEW_KEY
from serving.explaining import explanation
from serving.killing import KillOrder, write_kill
from serving.plan import RunPlan
from serving.requests import SignalRequest
from serving.risk_view import risk_state
from serving.schema import agent_of, signal_of, trade_of
from serving.stored_bars import follow
from serving.surface import Surface
from serving.wire import opinion_to
from sim.assertions import ASSERTION
from storage.inbox import Inbox
from storage.leases import Holder, Lease
from storage.proposals import Proposals
from storage.queries import Reader
from storage.snapshots import SqlSnapshots

ANSWER_SECONDS = 3.0  # how long an API call waits for the desk
LOCKED_SECONDS = 1.0  # for how long a database that was locked is taken to be
CARD_SECONDS = 2.0  # for how long an agent's word about itself is taken
DESCRIBE_SECONDS = 0.5  # patience with it


class DeskUnavailable(ConclaveError):
    """Nobody appends: the desk is not running, or does not answer."""

    code, exit_code = "desk_unavailable", 4


def _nothing(gathered: Gathered) -> None:
    del gathered


@dataclass(slots=True)
class CouncilService:
    """One world's council, for one process.

    Parameters
    ----------
    agents : hosted agents.
    quick : the inbox by way of a connection that hardly waits for others; None: there is none.
    remote : those that have a deployment of their own.
    desk : the lease that a running desk holds.
    surface : what the API has beside the council.
    heard : told what came of every question to the agents.
    """

    plan: RunPlan
    reader: Reader
    inbox: Inbox
    desk: Lease
    snapshots: SqlSnapshots
    proposals: Proposals
    agents: Mapping[str, AgentHost]
    remote: frozenset[str]
    memories: dict[str, MarketMemory]
    timeframe: str
    strategy: str
    account: str
    deadline_s: float
    token: str
    clock: Clock
    kill_file: Path
    surface: Surface
    quick: Inbox | None = None
    heard: Callable[[Gathered], None] = _nothing
    answers: Answers = field(init=False)
    cards: dict[str, AgentCard] = field(default_factory=dict)
    _met_at: float = -math.inf
    _locked_until: float = -math.inf
    _meeting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.answers = Answers(self.inbox)

    # Who the agents are

    async def meet(self) -> None:
        """Ask the agents what they are, unless that was done a moment ago.

        Who does not answer is remembered as it was.
        """
        async with self._meeting:
            if time.monotonic() - self._met_at < CARD_SECONDS:
                return
            self.cards |= await describe(self.agents, DESCRIBE_SECONDS)
            self._met_at = time.monotonic()

    async def greet(self) -> None:
        """Meet every agent once, however long it takes, so that no caller waits for first words."""
        while not self.cards.keys() >= self.agents.keys():
            await self.meet()
            await asyncio.sleep(CARD_SECONDS)

    @property
    def needs(self) -> Needs:
        """The most that any agent met so far reads of a state."""
        needs = [card.needs for card in self.cards.values()]
        return Needs(
            max((need.bars for need in needs), default=1),
            max((need.feature_rows for need in needs), default=1),
        )

    def agents_view(self) -> list[dict[str, Any]]:
        """Return each agent, where it runs, and the models it answers with, by name."""
        return [
            agent_of(name, self.cards.get(name), remote=name in self.remote)
            for name in sorted(self.agents)
        ]

    # What the agents say

    def states(self, wanted: Sequence[tuple[str, int | None]]) -> list[MarketState]:
        """Return the state of each (symbol, as_of); None means the last closed bar.

        Raises
        ------
        NotFound : for a symbol that is not followed, or an instant that is not remembered.
        """
        return [self._state(symbol, as_of) for symbol, as_of in wanted]

    async def opine(self, states: Sequence[MarketState]) -> Gathered:
        """Ask every agent about ``states`` and say who is absent and why."""
        gathered = await gather(self.agents, states, self.deadline_s)
        self.heard(gathered)
        return gathered

    async def signal(self, request: SignalRequest) -> Decision:
        """Ask the council now; the desk appends the answer as ``on_demand``.

        Raises
        ------
        DeskUnavailable : if no desk runs.
        NotFound, UsageError : for a symbol, timeframe, strategy or instant that is not there.
        """
        symbol, as_of = self._wanted(request)
        self.running_desk()
        await self.meet()
        state = self._state(symbol, as_of)
        gathered = await self.opine([trim(state, self.needs)])
        body = {
            "symbol": symbol,
            "as_of": state.as_of,
            "opinions": [opinion_to(opinion) for opinion in gathered.opinions[0].values()],
            "absent": dict(gathered.absent),
        }
        answer = await self.ask_desk("signal", body)
        found = self.reader.decision(answer["id"])
        if found is None:
            raise DeskUnavailable("desk", "answered, but its decision is not in the ledger")
        return found[1]

    # What the desk does

    def running_desk(self) -> Holder:
        """Return the lease of the running desk.

        Raises
        ------
        DeskUnavailable : if there is none.
        """
        holder = self.desk.holder()
        if holder is None:
            raise DeskUnavailable(
                "desk", "is not running, so nothing can be appended",
                hint="It is restarted within seconds; see `conclave status`.",
            )  # fmt: skip
        return holder

    async def ask_desk(
        self, kind: str, body: Mapping[str, Any], seconds: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Leave a request in the desk's inbox and wait so long for its answer.

        Raises
        ------
        DeskUnavailable : if it does not answer in time (the request stays and is still carried
            out when the desk is back).
        ConclaveError : what the desk refused, as it said it.
        """
        return await self._answer(await self._ask(kind, body), seconds)

    async def _ask(self, kind: str, body: Mapping[str, Any]) -> int:
        # Here: by a thread a fifth fewer signals a second came through. But while somebody else
        # holds the database, all others must still be answered.
        if self.quick is not None and time.monotonic() >= self._locked_until:
            try:
                return self.quick.put(kind, body, at=self.clock.now())
            except ServiceUnreachable:
                self._locked_until = time.monotonic() + LOCKED_SECONDS
        return await asyncio.to_thread(self.inbox.put, kind, body, at=self.clock.now())

    async def _answer(self, number: int, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        result = await self.answers.wait(number, seconds)
        if result is not None:
            return _checked(result)
        raise DeskUnavailable(
            "desk", f"did not answer within {seconds:.0f} s", hint="Try again in a moment."
        )

    async def kill(self, by: str, order: KillOrder) -> dict[str, Any]:
        """Have the desk stop; where the request cannot even be stored, leave the kill file.

        Raises
        ------
        DeskUnavailable : as :meth:`ask_desk`.
        SettingError : if the file cannot be written either.
        """
        try:
            body = {"by": by, "why": order.why, "flatten": order.flatten}
            number = await self._ask("kill", body)
        except ServiceUnreachable:
            path = write_kill(self.kill_file.parent, order)
            return {"mode": RiskMode.KILLED.value, "changed": True, "file": str(path)}
        return await self._answer(number)

    # What is known

    def ping(self) -> None:
        """Raise if the database cannot be read."""
        self.reader.last_bars()

    def why(self, decision_id: str) -> dict[str, Any]:
        """Return the full explanation of a decision.

        Raises
        ------
        NotFound : if there is no such decision.
        """
        found = explanation(self.reader, decision_id)
        if found is None:
            raise NotFound("signal", "is not in the ledger", decision_id)
        return found

    def weights(self, symbol: str | None = None, history: int = 0) -> list[dict[str, Any]]:
        """Return each agent's published weight and record, as the desk last told.

        Parameters
        ----------
        history : bars; if above 0 each row also has ``history``, ``as_of`` and ``weight`` in the
            last decisions on so many bars, oldest first; a weight is null where it was not pooled.
        """
        told: list[dict[str, Any]] = self._told().get("weights", [])
        rows = [row for row in told if symbol is None or row["symbol"] == symbol]
        if not history:
            return rows
        markets = {(row["symbol"], row["timeframe"]) for row in rows}
        past = {market: self._past(*market, history) for market in markets}
        return [
            row
            | {
                "history": [
                    {"as_of": iso(decision.as_of), "weight": decision.weights.get(row["agent"])}
                    for decision in past[row["symbol"], row["timeframe"]]
                ]
            }
            for row in rows
        ]

    def _past(self, symbol: str, timeframe: str, bars: int) -> list[Decision]:
        page = self.reader.decisions(
            symbol, limit=bars, timeframe=timeframe, strategy=self.strategy
        )
        return [x for _, x in reversed(page.items) if x.origin != "on_demand"]

    def portfolio(self) -> dict[str, Any] | None:
        """Return the account as the desk last told, or None before the first bar."""
        found: dict[str, Any] | None = self._told().get("portfolio")
        return found

    def risk(self) -> dict[str, Any]:
        """Return the risk mode and each limit with its margin; see :mod:`serving.risk_view`."""
        return risk_state(self.reader, self.account, self._told())

    def health(self) -> dict[str, Any]:
        """Return whether the parts work, what is wrong, and how old the data is (market time)."""
        holder = self.desk.holder()
        info: Mapping[str, Any] = {} if holder is None else holder.info
        problems = self._problems(holder)
        status = "degraded" if problems else "ok"
        mode = self.risk()["mode"]
        if mode != RiskMode.ACTIVE:
            status = status if problems else mode.lower()
            problems.append(f"Risk mode is {mode}: no new positions.")
        return {
            "status": status,
            "problems": problems,
            "source": self.plan.source,
            "world": self.plan.world,
            "simulated": self.plan.simulated,
            "execution": self.plan.execution,
            "speed": self.plan.speed,
            "desk": {k: info.get(k) for k in ("phase", "done", "decided", "via", "as_of", "pid")},
            "drifts": self.proposed(DRIFT),
            "failures": [*self.proposed(RECONCILIATION), *self.proposed(ASSERTION)],
            "gate": self._told().get("gate"),
            "feed": info.get("feed"),
            "broker": info.get("broker"),
            "resources": [plain(use) for use in self.surface.uses()],
            "rows": self.reader.counts(),
        }

    def problems(self) -> list[str]:
        """Return what is wrong now, in words; the risk mode aside."""
        return self._problems(self.desk.holder())

    def _problems(self, holder: Holder | None) -> list[str]:
        problems = []
        if holder is None:
            problems.append("The desk is not running: nothing is decided or appended.")
        elif self._alone(holder):
            problems.append("The desk thinks in its own process: Ray Serve did not answer it.")
        feed = None if holder is None else holder.info.get("feed")
        if feed and feed["late"]:
            problems.append(f"The feed is not sure, nothing is entered: {feed['waiting']}")
        broker = None if holder is None else holder.info.get("broker")
        problems += broker_problems(broker) if broker else []
        gate = self._told().get("gate")
        if gate and gate["problem"]:
            problems.append(f"No usable gate, everything passes: {gate['problem']}")
        return problems + [text for card in self.cards.values() for text in card.problems]

    def _alone(self, holder: Holder) -> bool:
        """Whether a live desk thinks by itself though Ray should answer it."""
        live = holder.info.get("phase") == "live"
        return live and holder.info.get("via") == "in_process" and not self.plan.local

    def overview(self) -> dict[str, Any]:
        """Return what the status page shows."""
        decisions = [
            signal_of(decision).model_dump()
            for _, decision in self.reader.decisions(limit=20).items
            if decision.origin != "warm_up"
        ]
        marks = self.reader.equity_marks(self.account, max_points=200)
        return {
            "world": self.plan.world,
            "profile": self.plan.profile,
            "simulated": self.plan.simulated,
            "as_of": decisions[0]["as_of"] if decisions else None,
            "decisions": decisions,
            "weights": self.weights(),
            "portfolio": self.portfolio(),
            "equity": [plain(mark) for mark in marks],
            "risk": self.risk(),
            "trades": [
                trade_of(trade)
                for _, trade in self.reader.trades(limit=20, account=self.account).items
            ],
            "health": self.health(),
        }

    def proposed(self, kind: str) -> list[dict[str, Any]]:
        """Return the open proposals of a kind in this world, newest first."""
        return [
            {"id": one.id, "at": one.body["at"], "what": one.body["what"]}
            for one in self.proposals.list(state="open", limit=1000)
            if one.kind == kind and one.body.get("world") == self.plan.world
        ]

    def counters(self) -> str:
        """Return what the desk has counted, as it last told, in Prometheus's text format."""
        found = self.snapshots.latest(VIEW, COUNTERS_KEY)
        return "" if found is None else str(found[1]["text"])

    def _told(self) -> dict[str, Any]:
        found = self.snapshots.latest(VIEW, VIEW_KEY)
        return {} if found is None else found[1]

    def _wanted(self, request: SignalRequest) -> tuple[str, int | None]:
        symbol = parse_symbol(request.symbol)
        if request.timeframe not in (None, self.timeframe):
            raise UsageError(
                "timeframe", f"this council decides on {self.timeframe}", request.timeframe
            )
        if request.strategy not in (None, self.strategy):
            raise UsageError("strategy", f"this desk runs {self.strategy}", request.strategy)
        if request.as_of is None:
            return symbol, None
        if self.plan.source == "live":
            raise UsageError("as_of", "may be chosen in replay and demo only", request.as_of)
        return symbol, parse_iso(request.as_of)

    def _state(self, symbol: str, as_of: int | None) -> MarketState:
        memory = self.memories.get(symbol)
        if memory is None:
            known = ", ".join(sorted(self.memories))
            raise NotFound("symbol", "is not followed", symbol, f"Followed: {known}.")
        if as_of is None or as_of > (memory.last_as_of or 0):
            follow(self.reader, symbol, memory)
        state = memory.state(as_of, self.needs.bars, self.needs.feature_rows)
        if state is None or (as_of is not None and state.as_of != as_of):
            when = "yet" if as_of is None else f"at {iso(as_of)}"
            raise NotFound(
                "bar", f"none of {symbol} closed {when} is remembered",
                hint="as_of is the close of a bar, e.g. 12:05:00Z for 5m.",
            )  # fmt: skip
        return state


def _checked(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        error = ConclaveError(result["error"]["message"], hint=result["error"]["hint"])
        error.code = result["error"]["code"]
        raise error
    return result
