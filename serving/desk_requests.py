"""What people and programs ask of a running desk, answered between two looks at the market."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from agents.contract import out_of_sample
from data.memory import MarketMemory
from domain.errors import UsageError
from domain.market import MarketState
from domain.ports import Agent
from domain.trading import RiskMode
from execution.loop import TradingLoop
from serving.asserting import Asserting
from serving.control import Confirmation, Control
from serving.journal_desk import JournalRules, closed, reflected
from serving.killing import KillOrder
from serving.market_clock import MarketClock
from serving.risk_desk import happened, reported
from serving.trade_desk import imported
from serving.wire import opinion_from
from storage.ledger import SqlLedger
from storage.queries import Reader

log = structlog.get_logger("desk")

Body = Mapping[str, Any]
Answer = dict[str, Any]


@dataclass(slots=True)
class Requests:
    """Answers to what lies in one desk's inbox, and the file that kills.

    Attributes
    ----------
    state : memory, as_of (ms) → what was knowable then.
    news : tells everybody what has just been written down.
    """

    loop: TradingLoop
    ledger: SqlLedger
    reader: Reader
    memories: Mapping[str, MarketMemory]
    agents: Mapping[str, Agent]
    control: Control
    market_clock: MarketClock
    asserting: Asserting
    journal: JournalRules
    state: Callable[[MarketMemory, int], MarketState | None]
    news: Callable[[], None]
    confirmation: Confirmation = field(default_factory=Confirmation)
    _obeyed: KillOrder | None = None  # the file's, as long as it is there

    def now(self) -> dict[str, Callable[[Body], Answer]]:
        """Return who answers at once, by kind of request."""
        return {
            "kill": self._kill,
            "arm": self._arm,
            "pause": self._pause,
            "resume": self._resume,
            "signal": self._on_demand,
            "operator": self._report,
            "risk_event": self._event,
            "reflect": self._reflect,
            "close": self._close,
            "external_trade": self._external,
        }

    def later(self) -> dict[str, Callable[[Body], Awaitable[Answer]]]:
        """Return who takes a while, by kind of request."""
        return {"assertions": self._assert}

    def obey_file(self) -> None:
        """Kill if the file says so; what is killed already is flattened, once by each content."""
        order = self.control.killed_by_file()
        if order is None:
            self._obeyed = None
        elif order != self._obeyed or self.loop.mode is not RiskMode.KILLED:
            self._kill({"by": "file", "why": order.why, "flatten": order.flatten})
            self._obeyed = order

    def _kill(self, body: Body) -> Answer:
        flatten = bool(body.get("flatten", True))
        now = self.market_clock.now()
        change = self.loop.kill(str(body["by"]), str(body["why"]), now, flatten=flatten)
        if change is not None:
            log.warning("killed", by=change.by, why=change.why)
        self.news()
        return {"mode": self.loop.mode.value, "changed": change is not None}

    def _arm(self, body: Body) -> Answer:
        if self.control.killed_by_file() is not None:
            raise UsageError(
                "arm", "the file KILL in VAR_DIR still says kill", hint="Remove it first."
            )
        if self.loop.mode is RiskMode.ACTIVE:
            return {"mode": self.loop.mode.value, "changed": False}
        code = body.get("confirm")
        if not code:
            return {
                "mode": self.loop.mode.value,
                "changed": False,
                "confirm": self.confirmation.ask(),
                "message": "Repeat with this code within two minutes to allow trading again.",
            }
        self.confirmation.check(str(code))
        change = self.loop.arm(str(body["by"]), str(body["why"]), self.market_clock.now())
        self.news()
        return {"mode": self.loop.mode.value, "changed": change is not None}

    def _pause(self, body: Body) -> Answer:
        by, why, flatten = str(body["by"]), str(body["why"]), bool(body.get("flatten", False))
        change = self.loop.pause(by, why, self.market_clock.now(), flatten=flatten)
        return self._noted({"mode": self.loop.mode.value, "changed": change is not None})

    def _resume(self, body: Body) -> Answer:
        by, why = str(body["by"]), str(body["why"])
        change = self.loop.resume_entries(by, why, self.market_clock.now())
        return self._noted({"mode": self.loop.mode.value, "changed": change is not None})

    def _report(self, body: Body) -> Answer:
        return self._noted(reported(self.loop, body, self.market_clock.now()))

    def _event(self, body: Body) -> Answer:
        return self._noted(happened(self.loop, self.ledger, body, self.market_clock.now()))

    def _reflect(self, body: Body) -> Answer:
        now = self.market_clock.now()
        return self._noted(reflected(self.loop, self.reader, self.journal, body, now))

    def _close(self, body: Body) -> Answer:
        now = self.market_clock.now()
        return self._noted(closed(self.loop, self.reader, self.journal, body, now))

    def _external(self, body: Body) -> Answer:
        return self._noted(imported(self.loop, self.reader, body, self.market_clock.now()))

    async def _assert(self, body: Body) -> Answer:
        del body
        now, wall = self.market_clock.now(), self.market_clock.wall_now()
        return self._noted(await self.asserting.now(now, wall))

    def _noted(self, answer: Answer) -> Answer:
        self.news()
        return answer

    def _on_demand(self, body: Body) -> Answer:
        memory = self.memories.get(str(body["symbol"]))
        state = None if memory is None else self.state(memory, int(body["as_of"]))
        if memory is None or state is None or state.as_of != int(body["as_of"]):
            raise UsageError("as_of", "is a bar that this desk remembers", body["as_of"])
        said = [opinion_from(opinion) for opinion in body["opinions"]]
        opinions, absent = out_of_sample(self.agents, state, said, body["absent"])
        last = state.as_of == memory.last_as_of
        # An earlier bar is answered as of then: its age today says nothing.
        now = self.market_clock.now() if last else state.as_of
        decision = self.loop.decide(state, opinions, absent, now, origin="on_demand")
        return {"id": decision.id}
