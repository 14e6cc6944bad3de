"""A steady load of questions, and what became of each of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from domain.times import iso

LATER = (429, 503)
PATIENCE_SECONDS = 120.0  # for one question, all its tries together
TRY_SECONDS = 30.0
PAUSE_SECONDS = 0.5


@dataclass(slots=True)
class Question:
    """One question and every try at it.

    Attributes
    ----------
    later : tries answered 429 or 503 with Retry-After.
    broken : tries answered by anything else but 200, as ``status text``.
    dropped : tries whose connection was refused, lost, or not answered in time.
    degraded : whether the answer named somebody as absent.
    """

    at: float
    later: int = 0
    broken: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    answered: bool = False
    degraded: bool = False
    seconds: float = 0.0


class Load:
    """Clients that ask for signals about one bar after the other, until they are told to end.

    Parameters
    ----------
    moments : closes of remembered bars (ms), asked about in turn and anew from the start.
    """

    def __init__(self, url: str, symbol: str, moments: Sequence[int], clients: int = 3) -> None:
        self._url, self._symbol = url, symbol
        self._moments: Iterator[int] = itertools.cycle(moments)
        self._lock, self._leave = threading.Lock(), threading.Event()
        self._asked: list[Question] = []
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Ask while the context lasts; every question begun is brought to its end."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._leave.set()
            for thread in self._threads:
                thread.join()

    def since(self, at: float) -> list[Question]:
        """Return the questions put since a moment (monotonic seconds), the open ones too."""
        with self._lock:
            return [question for question in self._asked if question.at >= at]

    def settled(self, at: float) -> list[Question]:
        """Return the questions put since a moment, once the last of them has come to its end."""
        until = time.monotonic()
        while any(q.at <= until and not q.seconds for q in self.since(at)):
            time.sleep(0.1)
        return [question for question in self.since(at) if question.at <= until]

    def _client(self) -> None:
        with httpx.Client(base_url=self._url, timeout=TRY_SECONDS) as client:
            while not self._leave.is_set():
                with self._lock:
                    question, moment = Question(time.monotonic()), next(self._moments)
                    self._asked.append(question)
                self._ask(client, question, moment)
                question.seconds = time.monotonic() - question.at
                self._leave.wait(PAUSE_SECONDS)

    def _ask(self, client: httpx.Client, question: Question, moment: int) -> None:
        body = {"symbol": self._symbol, "as_of": iso(moment)}
        while time.monotonic() - question.at < PATIENCE_SECONDS:
            try:
                reply = client.post("/v1/signals", json=body)
            except httpx.HTTPError as error:
                question.dropped.append(type(error).__name__)
                time.sleep(1.0)
                continue
            if reply.status_code == 200:
                question.answered, question.degraded = True, bool(reply.json()["absent"])
                return
            if reply.status_code in LATER and "retry-after" in reply.headers:
                question.later += 1
                time.sleep(float(reply.headers["retry-after"]))
                continue
            question.broken.append(f"{reply.status_code} {reply.text[:120]}")
            time.sleep(1.0)
