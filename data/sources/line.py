"""One WebSocket that comes back: given up when it is silent or talks nonsense, and tried again."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidURI, WebSocketException
from websockets.uri import parse_uri

from data.sources.waiting import backoff
from domain.errors import ConclaveError, DataRefused, UsageError

log = structlog.get_logger("feed")

Said = TypeVar("Said")
Made = TypeVar("Made")

_GARBAGE = 20  # unreadable messages in a row after which the line is given up
_HOST = r"([\w.:\[\]-]*)"
_ADDRESS = re.compile(rf"(\w+://)(?:[^\s/?#@]*@)?{_HOST}\S*")  # somewhere in a text
_PLACE = re.compile(rf"((?:\w+://)?)(?:[^/?#]*@)?{_HOST}")  # at the start of an address
_BLANK = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a line is waited for, seconds.

    Attributes
    ----------
    connect : until it stands. ``ping``, ``pong`` : between two pings, and for the answer.
    silence : without any message, until it is taken for dead.
    first_wait, longest_wait : before it is tried again: doubled each time, with jitter.
    """

    connect: float = 10.0
    ping: float = 20.0
    pong: float = 10.0
    silence: float = 30.0
    first_wait: float = 1.0
    longest_wait: float = 60.0

    @property
    def proof(self) -> float:
        """How long a line must make sense until the failures before it are forgotten, s.

        As long as silence is borne. One that hangs up after its first message is opened in vain as
        much as one that never stood: forgotten at once, it would be opened each second for ever,
        more often than an exchange allows (Binance: 300 times in five minutes), and no other
        address would be tried. Where silence is borne for hours, as on a stream of an account, the
        longest wait will do: whoever comes back so seldom is no burden.
        """
        return min(self.silence, self.longest_wait)


@dataclass(slots=True)
class LineHealth:
    """What a line went through.

    Attributes
    ----------
    messages, received : of the stream, count and bytes.
    connects : lines that stood. ``silences`` : that were given up for saying nothing.
    garbage : messages that could not be read.
    lost : lines that were lost. ``longest_away`` : from the loss of one until the next one had told
        something, seconds.
    problem : what is wrong now; empty if nothing is.
    """

    messages: int = 0
    received: int = 0
    connects: int = 0
    silences: int = 0
    garbage: int = 0
    lost: int = 0
    longest_away: float = 0.0
    problem: str = ""

    @property
    def reconnects(self) -> int:
        """Lines after the first."""
        return max(self.connects - 1, 0)


@dataclass(slots=True)
class Line(Generic[Said]):
    """A line to a stream, for one listener.

    Attributes
    ----------
    urls : of the stream with all subscriptions in it, the main one first; the next is tried when
        one fails.
    read : what a message says; None = nothing of interest. Raises DataRefused if it is garbage.
    health : is kept up to date; whoever listens takes ``problem`` back once all is well.
    """

    urls: Sequence[str]
    read: Callable[[str | bytes], Said | None]
    patience: Patience
    seed: int
    health: LineHealth
    _lost_at: float | None = field(default=None, init=False)  # monotonic
    _sense_s: float = field(default=0.0, init=False)  # that the line that stands has made

    async def through(
        self, use: Callable[[AsyncGenerator[Said, None]], AsyncGenerator[Made, None]]
    ) -> AsyncGenerator[Made, None]:
        """Iterate for ever over what ``use`` makes of every line that stands, one after another.

        An error of the line, or a ConclaveError of ``use``, ends a line; the next one is tried
        after a wait, at the next address, or at the main one if that line had made sense for
        :attr:`Patience.proof`.

        Parameters
        ----------
        use : is given what one line says.

        Raises
        ------
        UsageError : if an address is none.
        """
        rng, attempt = random.Random(self.seed), 0  # noqa: S311 - spreads reconnects only
        while True:
            url = self.urls[attempt % len(self.urls)].strip()
            place, self._sense_s = place_of(url), 0.0
            try:
                async with self._connected(url) as socket:
                    self.health.connects += 1
                    async with aclosing(self._said(socket)) as said, aclosing(use(said)) as made:
                        async for one in made:
                            yield one
            except (OSError, TimeoutError, WebSocketException, ConclaveError) as error:
                self._trouble(place, error)
            if self._lost_at is None:
                self.health.lost += 1
                self._lost_at = time.monotonic()
            patience = self.patience
            attempt = 0 if self._sense_s >= patience.proof else attempt + 1
            wait = backoff(attempt, patience.first_wait, patience.longest_wait, rng)
            await asyncio.sleep(wait)

    def _connected(self, url: str) -> connect:
        patience = self.patience
        return connect(
            url, open_timeout=patience.connect, ping_interval=patience.ping,
            ping_timeout=patience.pong, close_timeout=1.0, max_queue=1_024,
        )  # fmt: skip

    async def _said(self, socket: ClientConnection) -> AsyncGenerator[Said, None]:
        stood, in_a_row = time.monotonic(), 0
        while True:
            try:
                # wait_for of Python 3.11 may lose a cancellation that comes with a message
                async with asyncio.timeout(self.patience.silence):
                    text = await socket.recv()
            except TimeoutError:
                self.health.silences += 1
                raise
            self.health.messages += 1
            self.health.received += len(text)
            try:
                said = self.read(text)
            except DataRefused as error:
                self.health.garbage += 1
                in_a_row += 1
                log.warning("feed_garbage", why=error.message)
                if in_a_row >= _GARBAGE:
                    raise
                continue
            in_a_row, self._sense_s = 0, time.monotonic() - stood
            self._back()
            if said is not None:
                yield said

    def _back(self) -> None:
        if self._lost_at is not None:
            away = time.monotonic() - self._lost_at
            self.health.longest_away = max(self.health.longest_away, away)
            self._lost_at = None

    def _trouble(self, place: str, error: Exception) -> None:
        why = _ADDRESS.sub(r"\1\2", str(error)) or type(error).__name__
        self.health.problem = f"{place}: {why}"
        log.warning("feed_lost", url=place, why=why)


def place_of(url: str) -> str:
    """Return scheme and host of a stream: what follows them may be the key of a user's stream.

    Blanks around an address are no part of it.

    Raises
    ------
    UsageError : if it is no address of a WebSocket.
    """
    address = url.strip()
    found = _PLACE.match(address)
    place = "" if found is None else found[1] + found[2]
    refused = UsageError("feed", "needs an address of a WebSocket", place)
    if _BLANK.search(address):
        raise refused
    try:
        parse_uri(address)
    except (InvalidURI, ValueError):  # not told as its cause: that names the whole address
        raise refused from None
    return place
