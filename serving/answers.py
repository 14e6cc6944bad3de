"""Waiting for the desk's answers: one look at the inbox for all who wait, however many they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from domain.errors import ConclaveError
from storage.inbox import Inbox

POLL_SECONDS = 0.01

Result = dict[str, Any]


@dataclass(slots=True)
class Answers:
    """Hands each answer to who waits for it. For one event loop."""

    inbox: Inbox
    _waiting: dict[int, asyncio.Future[Result]] = field(default_factory=dict)
    _looking: asyncio.Task[None] | None = None

    async def wait(self, number: int, seconds: float) -> Result | None:
        """Return the answer to a request, None if there is none within ``seconds``.

        One caller waits for a request at a time.

        Raises
        ------
        ConclaveError : what the inbox could not be asked for.
        """
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            done, _ = await asyncio.wait({answer}, timeout=seconds)
        finally:
            self._waiting.pop(number, None)  # who has left must not be looked for
        return answer.result() if done else None

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            try:
                found = self.inbox.results(list(self._waiting))
            except ConclaveError as error:
                for answer in self._taken(list(self._waiting)):
                    answer.set_exception(error)
                return
            for number, result in found.items():
                for answer in self._taken([number]):
                    answer.set_result(result)

    def _taken(self, numbers: list[int]) -> list[asyncio.Future[Result]]:
        taken = (self._waiting.pop(number, None) for number in numbers)
        return [answer for answer in taken if answer is not None and not answer.done()]
