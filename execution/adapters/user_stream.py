"""What the venue tells of an account by itself: a listener in a thread of its own.

It only brings news earlier. Whoever misses something here finds it by asking. Whatever fells it, it
is told, and it begins anew after a wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import ccxt
import structlog

from data.sources.line import Line, LineHealth, Patience
from data.sources.waiting import backoff
from domain.errors import ConclaveError, DataRefused, ServiceUnreachable
from execution.adapters.answers import words_of
from execution.adapters.gateway import Gateway, Trade

log = structlog.get_logger("user_stream")

KEEP_S = 1_800.0  # a listen key lives for an hour
_KEPT = 4_096  # trades that nobody has fetched yet
_STOP_S = 5.0
PATIENCE = Patience(silence=7_200.0)  # an account may be silent; pings tell whether a line lives


@dataclass(slots=True)
class StreamHealth(LineHealth):
    """What the stream went through.

    Attributes
    ----------
    falls : how often it had to begin anew.
    problem : why nothing is heard now; empty while it listens.
    """

    falls: int = 0


class UserStream:
    """Listens from :meth:`start` to :meth:`stop`, and comes back after every trouble.

    Parameters
    ----------
    gateway : with a client of its own: it is used in the thread.
    address : listen key → address of the stream.
    """

    def __init__(
        self, gateway: Gateway, address: Callable[[str], str], patience: Patience = PATIENCE,
        keep_s: float = KEEP_S, seed: int = 0,
    ) -> None:  # fmt: skip
        self._gateway, self._address, self._keep_s = gateway, address, keep_s
        self._rng = random.Random(seed)  # noqa: S311 - spreads reconnects only
        self.health = StreamHealth(problem="it does not run")
        self._line = Line(_Fresh(self._url), self._read, patience, seed, self.health)
        self._heard: deque[Trade] = deque(maxlen=_KEPT)
        self._thread = threading.Thread(target=self._work, name="user-stream", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen from now on."""
        self.health.problem = "it has only just begun"
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(task.cancel)
        if self._thread.ident:
            self._thread.join(_STOP_S)

    def news(self) -> list[Trade]:
        """Return the fills that were heard of since the last time, in order of arrival."""
        heard: list[Trade] = []
        while self._heard:
            heard.append(self._heard.popleft())
        return heard

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            self.health.problem = "it was stopped"
        except Exception as error:  # noqa: BLE001 - not even a loop; a thread ends without a word
            self._fell(error)

    async def _run(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        in_a_row, patience = 0, self._line.patience
        while True:
            connects = self.health.connects
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - it must not be silent from now on
                self._fell(error)
            in_a_row = 1 if self.health.connects > connects else in_a_row + 1
            wait = backoff(in_a_row, patience.first_wait, patience.longest_wait, self._rng)
            await asyncio.sleep(wait)

    def _fell(self, error: Exception) -> None:
        self.health.falls += 1
        self.health.problem = _words(error)
        log.error("user_stream_fell", why=self.health.problem)

    async def _listen(self) -> None:
        self._gateway.open()
        keeping = asyncio.create_task(self._keep())
        try:
            async with contextlib.aclosing(self._line.through(self._use)) as trades:
                async for trade in trades:
                    self._heard.append(trade)
        finally:
            keeping.cancel()

    async def _use(self, said: AsyncGenerator[Trade, None]) -> AsyncGenerator[Trade, None]:
        self.health.problem = ""
        async for trade in said:
            yield trade

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._keep_s)
            try:
                self._gateway.listen_key()
            except (ConclaveError, ccxt.BaseError) as error:
                log.warning("listen_key_not_renewed", why=_words(error))

    def _url(self) -> str:
        return self._address(self._gateway.listen_key())

    def _read(self, text: str | bytes) -> Trade | None:
        try:
            told: Any = json.loads(text)
            if told.get("e") == "listenKeyExpired":
                raise ServiceUnreachable("listen key", "must not have expired")
            return self._gateway.heard(told)
        except _UNREADABLE as error:
            raise DataRefused("user stream", "must be the venue's events", repr(error)) from error


_UNREADABLE = (
    ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


def _words(error: Exception) -> str:
    """Return an error without what may name an account: of a stranger's only what kind it is."""
    if isinstance(error, ConclaveError):
        return error.message
    return words_of(error) if isinstance(error, ccxt.BaseError) else type(error).__name__


class _Fresh(Sequence[str]):
    """One address that is made anew whenever a line is opened."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        made = self._make()
        return made if isinstance(index, int) else [made]
