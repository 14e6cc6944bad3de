"""Killed in the middle of sending an order, before and after the exchange took it; started anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from domain.trading import Fill, Order, Refusal
from sim.venue.trading import Call, Take
from tests.live_crash_driver import WINDOW_S
from tests.live_scenes import Stage, Turning, agreed, live_loop, stage, storage

KILLS = ("never left", "before it was taken", "after it was taken", "lost with its sender")


@dataclass
class Killer:
    """A passage that kills who sends the order number ``at`` from now, in the way it says."""

    how: str = ""
    at: int = 0
    pid: int = 0
    taken: set[str] = field(default_factory=set)
    again: list[str] = field(default_factory=list)

    async def __call__(self, request: web.Request, call: Call, take: Take) -> Any:
        client_id = call.query.get("newClientOrderId") or call.query.get("clientAlgoId")
        if request.method != "POST" or not client_id:
            return take()
        if client_id in self.taken:
            self.again.append(client_id)

        def taking() -> Any:
            answer = take()
            self.taken.add(client_id)
            return answer

        return self._passed(taking)

    def _passed(self, take: Take) -> Any:
        self.at -= 1
        if not self.how or self.at:
            return take()
        how, self.how = self.how, ""
        if how == "after it was taken":
            take()
        os.kill(self.pid, signal.SIGKILL)
        if how == "before it was taken":  # it had arrived, so it takes effect all the same
            take()
        return {}


class Life:
    """A process that trades."""

    def __init__(self, here: Stage, folder: Path, how: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live_crash_driver", here.url, str(folder),
             *(["before"] if how == "never left" else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self.said()

    def said(self) -> dict[str, Any] | None:
        """What it says next; None if it is no more."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def hear(self, bar: Any) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(astuple(bar)) + "\n")
        self._process.stdin.flush()
        return self.said()

    def end(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(10)


def lives(tmp_path: Path, kills: list[tuple[str, int]]) -> None:
    """Lives that are ended as ``kills`` say, and one that goes on to the end."""
    killer, bar = Killer(), None
    with stage(passage=killer) as here:
        for how, at in [*kills, ("", 0)]:
            life = Life(here, tmp_path, how)
            killer.pid, killer.how, killer.at = life.pid, "" if how == "never left" else how, at
            time.sleep(WINDOW_S)  # what its forerunner may have sent cannot arrive any more
            for _ in range(6):
                bar = bar or here.next_bar()  # one that nobody decided on is told again
                if life.hear(bar) is None:
                    break
                bar = None
            else:
                assert not how, "should have been killed"
            assert life.end() == (-signal.SIGKILL if how else 0)
        ledger = storage(tmp_path)
        loop = live_loop(ledger, Turning(), here.broker(), here)
        loop.resume()
        loop.absorb(here.next_bar())  # in which what was decided last has filled
        agreed(here, ledger)
        assert killer.again == [], "was sent although the exchange had it"
        assert killer.taken <= {order.id for _, order in ledger.records(Order)}
        assert len({fill.order_id for _, fill in ledger.records(Fill)}) > 4
        intents = [row.intent for _, row in ledger.records(Refusal) if row.code == "unfilled"]
        assert intents == []


@pytest.mark.long
def test_submit_when_killed_after_the_exchange_took_it_then_it_is_found_and_not_sent_again(
    tmp_path: Path,
) -> None:
    lives(tmp_path, [("after it was taken", 1)])


@pytest.mark.slow
def test_submit_when_killed_at_every_order_in_every_way_then_ledger_and_exchange_agree(
    tmp_path: Path,
) -> None:
    for at in range(1, 7):
        folder = tmp_path / str(at)
        folder.mkdir()
        lives(folder, [(how, at) for how in KILLS])
