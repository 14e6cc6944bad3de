"""Every command: who may give it, what it does, how it is shown in the menu."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from domain.errors import UsageError
from notifications import replies
from notifications.markup import Note
from serving.bot import reading
from serving.bot.access import Role
from serving.bot.acting import Acting
from serving.bot.asked import Asked
from serving.bot.facts import Facts
from storage.outbox import SqlOutbox

Kind = Literal["reads", "changes"]


@dataclass(frozen=True, slots=True)
class Command:
    """A command; ``usage`` begins with its name, ``role`` is the least that may give it."""

    usage: str
    text: str
    answer: reading.Answer | None = None
    act: Callable[[Acting, Asked], Awaitable[Note]] | None = None
    role: Role = "viewer"

    @property
    def name(self) -> str:
        """The command without its slash."""
        return self.usage.split()[0].removeprefix("/")


_READS = (
    Command("/status", "mode, open positions, trouble", reading.status),
    Command("/profit", "what the account earned, with its picture", reading.profit),
    Command("/daily [n]", "closed trades by day", reading.earned("day", "By day", 7)),
    Command("/weekly [n]", "by week", reading.earned("week", "By week", 8)),
    Command("/monthly [n]", "by month", reading.earned("month", "By month", 6)),
    Command("/balance", "cash, equity, high-water mark", reading.balance),
    Command("/trades [n]", "the last closed trades", reading.trades),
    Command("/performance", "closed trades by symbol", reading.performance),
    Command("/signal [symbol]", "ask the council now; never trades", reading.signal),
    Command("/why [id or symbol]", "a decision in full; the last one", reading.why),
    Command("/chart [symbol]", "price with decisions and trades", reading.chart),
    Command("/agents", "weights, records, trouble", reading.agents),
    Command("/consensus", "what the council said last", reading.consensus),
    Command("/calibration [symbol]", "what was said against what came", reading.calibration),
    Command("/risk", "every limit and the distance to it", reading.risk),
    Command("/paper", "the terms of the paper account", reading.paper),
    Command("/version", "code and models", reading.version),
)
_ACTS = (
    Command("/start", "allow new positions after /pause or /stop", act=Acting.start),
    Command("/pause [why]", "no new positions", act=Acting.pause, role="operator"),
    Command("/stop [why]", "the same, and maybe close all", act=Acting.stop, role="operator"),
    Command(
        "/forceexit [symbol why]", "close a position", act=Acting.forceexit, role="operator"
    ),
    Command("/kill [why]", "refuse everything until /arm", act=Acting.kill, role="operator"),
    Command("/arm [why]", "trade again after a kill or halt", act=Acting.arm, role="operator"),
    Command("/reload_config", "read the settings again", act=Acting.reload_config,
            role="operator"),
    Command("/show_config [group]", "settings, secrets hidden", reading.show_config,
            role="operator"),
    Command("/logs [process n]", "the last warnings and errors", reading.logs, role="operator"),
)  # fmt: skip
_OWN = (
    Command("/health", "parts, ledger, messages"),
    Command("/help", "this list"),
)
COMMANDS: Mapping[str, Command] = {one.name: one for one in (*_ACTS, *_READS, *_OWN)}
REFRESHED = frozenset(
    {"status", "balance", "daily", "weekly", "monthly", "trades", "performance", "logs", "agents",
     "consensus", "risk", "paper", "health"}
)  # fmt: skip


@dataclass(slots=True)
class Answering:
    """Gives every command to who answers it."""

    facts: Facts
    acting: Acting
    outbox: SqlOutbox

    async def answer(self, asked: Asked) -> Note:
        """Return the answer to a command.

        Raises
        ------
        ConclaveError : what the command refused.
        """
        command = COMMANDS.get(asked.command)
        if command is None:
            raise UsageError("command", "is not one of /help", asked.command)
        if command.role == "operator" and asked.role != "operator":
            raise UsageError(f"/{command.name}", "is for operators; you are a viewer")
        if command.act is not None:
            return await self._act(command, asked)
        if command.answer is not None:
            return await command.answer(self.facts, asked)
        return self._health(asked) if command.name == "health" else self._help(asked)

    async def _act(self, command: Command, asked: Asked) -> Note:
        assert command.act is not None
        if command.name == "start" and asked.role != "operator":
            return self._help(asked)
        return await command.act(self.acting, asked)

    def _health(self, asked: Asked) -> Note:
        body = {**self.facts.service.health(), "outbox": self.outbox.counts()}
        return Note(replies.health(body), reading.again(asked))

    def _help(self, asked: Asked) -> Note:
        mine = [
            (one.usage, one.text, one.role)
            for one in COMMANDS.values()
            if one.role == "viewer" or asked.role == "operator"
        ]
        return Note(replies.help_text(mine, asked.role))
