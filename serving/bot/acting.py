"""The commands that change something: asked once, confirmed by a button, left with the desk.

Each leaves a row in the audit: who, what, with which answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.errors import ConclaveError, UsageError
from domain.ports import Clock
from domain.trading import RiskMode
from execution.journal import require_text
from notifications.markup import Button, Note, Rows, bold, escape
from notifications.replies import positions
from serving.bot.asked import Asked
from serving.bot.confirming import Confirmations, Pending
from serving.bot.facts import Facts
from serving.killing import KillOrder, clean_text
from serving.schema import symbol_in
from storage.audit import Audit

NO_TEXT = "telegram"  # the reason where nobody gave one
_REASON = 300

Reload = Callable[[], Awaitable[str]]


@dataclass(slots=True)
class Acting:
    """Asks for confirmations and carries out what was confirmed.

    Parameters
    ----------
    reload : reads the settings again and says what came of it.
    """

    facts: Facts
    confirmations: Confirmations
    audit: Audit
    clock: Clock
    reload: Reload

    # The first step

    async def start(self, asked: Asked) -> Note:
        """/start: says hello, or asks whether entries are allowed again."""
        mode = self.facts.service.risk()["mode"]
        if mode == RiskMode.ACTIVE:
            return Note(f"👋 {bold('Conclave')} is at work: entries are allowed. /help, /status")
        if mode != RiskMode.REDUCING:
            return Note(f"🛑 Risk mode {bold(mode)}: /arm allows trading again, in two steps.")
        return self._question(asked, "Allow new positions again?", {"yes": "▶️ Allow entries"})

    async def pause(self, asked: Asked) -> Note:
        """/pause: no new positions; what is open runs on."""
        text = "Refuse new positions until /start? What is open runs to its own exit."
        return self._question(asked, text, {"yes": "⏸ Pause"})

    async def stop(self, asked: Asked) -> Note:
        """/stop: no new positions, and what happens to the open ones is chosen."""
        return self._question(
            asked, "Stop: refuse new positions until /start. And what is open?",
            {"keep": "⏹ Keep positions", "close": "⏹ Close all at market"},
        )  # fmt: skip

    async def kill(self, asked: Asked) -> Note:
        """/kill: as the command line's."""
        return self._question(
            asked, "Kill: refuse everything until /arm.",
            {"close": "🛑 Kill, close all", "freeze": "🧊 Kill, freeze positions"},
        )  # fmt: skip

    async def arm(self, asked: Asked) -> Note:
        """/arm: out of HALTED or KILLED."""
        mode = self.facts.service.risk()["mode"]
        if mode == RiskMode.ACTIVE:
            return Note("Risk mode is ACTIVE already.")
        return self._question(asked, f"Allow trading again? It is {mode}.", {"yes": "🔓 Arm"})

    async def forceexit(self, asked: Asked) -> Note:
        """/forceexit SYMBOL WHY: closes a position; its reflection goes into the journal first."""
        account = self.facts.account
        least = self.facts.settings.journal.min_characters
        if not asked.first:
            usage = f"/forceexit SYMBOL why you close it, in {least} characters or more"
            return Note(f"{positions(account)}\n{escape(usage)}")
        symbol = symbol_in(asked.first)
        held = {} if account is None else {p["symbol"]: p for p in account["positions"]}
        mine = [name for name in held if name.partition(":")[0] == symbol.partition(":")[0]]
        if not mine:
            raise UsageError("close", "needs an open position", symbol, "See /status.")
        require_text(asked.rest, least)
        one = held[mine[0]]
        text = f"Close {one['side']} {one['qty']} {mine[0]} at the market?"
        return self._question(asked, text, {"yes": "✂️ Close it"})

    async def reload_config(self, asked: Asked) -> Note:
        """/reload_config: reads the settings again."""
        return self._question(asked, "Read the settings again?", {"yes": "♻️ Reload"})

    def _question(self, asked: Asked, text: str, choices: Mapping[str, str]) -> Note:
        code = self.confirmations.ask(
            asked.command, asked.words, asked.chat, asked.user, tuple(choices)
        )
        rows: Rows = tuple(
            (Button(label, f"do:{code}:{choice}"),) for choice, label in choices.items()
        )
        seconds = f"{self.confirmations.seconds:.0f}"
        html = f"❓ {bold('/' + asked.command)}: {escape(text)}\nWithin {seconds} s."
        return Note(html, (*rows, (Button("Cancel", f"no:{code}"),)))

    # The second

    async def confirmed(self, code: str, choice: str, asked: Asked) -> Note:
        """Carry out what was confirmed; every outcome is told and noted.

        Raises
        ------
        UsageError : if the confirmation is not good.
        """
        pending = self.confirmations.take(code, choice, asked.chat, asked.user)
        try:
            told = await _ACTS[pending.action](self, pending, choice, asked)
        except ConclaveError as error:
            self._note(pending, choice, asked, f"refused: {error.message}")
            raise
        self._note(pending, choice, asked, told)
        return Note(f"✔️ {bold('/' + pending.action)}: {escape(told)}")

    def _note(self, pending: Pending, choice: str, asked: Asked, outcome: str) -> None:
        body = {"chat": asked.chat, "choice": choice, "text": pending.text, "outcome": outcome}
        self.audit.note(self.clock.now(), asked.by, f"telegram {pending.action}", body)

    async def _ask(self, kind: str, asked: Asked, why: str, **more: Any) -> dict[str, Any]:
        body = {"by": asked.by, "why": clean_text(why, _REASON) or NO_TEXT, **more}
        return await self.facts.service.ask_desk(kind, body)

    async def _start(self, pending: Pending, choice: str, asked: Asked) -> str:
        del choice
        answer = await self._ask("resume", asked, pending.text)
        return f"entries are allowed, risk mode {answer['mode']}"

    async def _pause(self, pending: Pending, choice: str, asked: Asked) -> str:
        flatten = choice == "close"
        answer = await self._ask("pause", asked, pending.text, flatten=flatten)
        left = "what is open is closed at the market" if flatten else "what is open runs on"
        return f"no new positions until /start, {left}; risk mode {answer['mode']}"

    async def _kill(self, pending: Pending, choice: str, asked: Asked) -> str:
        order = KillOrder(clean_text(pending.text, _REASON) or NO_TEXT, choice == "close")
        answer = await self.facts.service.kill(asked.by, order)
        left = "positions are closed" if order.flatten else "positions keep their stops"
        return f"risk mode {answer['mode']}, {left}"

    async def _arm(self, pending: Pending, choice: str, asked: Asked) -> str:
        del choice
        answer = await self._ask("arm", asked, pending.text, confirm=None)
        if "confirm" in answer:
            answer = await self._ask("arm", asked, pending.text, confirm=answer["confirm"])
        return f"risk mode {answer['mode']}"

    async def _forceexit(self, pending: Pending, choice: str, asked: Asked) -> str:
        del choice
        symbol, _, text = pending.text.partition(" ")
        body: dict[str, Any] = {
            "action": "close", "trade_id": None, "symbol": symbol_in(symbol), "text": text.strip(),
            "tags": [], "followed_plan": None, "author": _author(asked),
        }  # fmt: skip
        answer = await self.facts.service.ask_desk("close", body)
        return f"{answer['symbol']} is closed at the market, order {answer['order']}"

    async def _reload(self, pending: Pending, choice: str, asked: Asked) -> str:
        del pending, choice, asked
        return await self.reload()


def _author(asked: Asked) -> str:
    """Name the author of a reflection with what its rules allow; never the drafts' author."""
    kept = "".join(c for c in asked.name if c.isalnum() or c in " ._-").strip()[:26]
    return f"{kept or 'somebody'} by Telegram"


_ACTS: Mapping[str, Callable[[Acting, Pending, str, Asked], Awaitable[str]]] = {
    "start": Acting._start,
    "pause": Acting._pause,
    "stop": Acting._pause,
    "kill": Acting._kill,
    "arm": Acting._arm,
    "forceexit": Acting._forceexit,
    "reload_config": Acting._reload,
}
