"""The faults of a running venue: which are at work, whom they strike, and what they did."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from domain.errors import UsageError
from domain.times import iso
from sim.venue.faults.kinds import KINDS
from sim.venue.faults.model import Fault, Subject
from sim.venue.faults.reach import Reach
from sim.venue.faults.schedule import Schedule

_KEPT_DONE = 10_000  # faults that are over
_LOOK_S = 1.0  # between two looks at what is due, at most
_UNIT = float(1 << 64)


@dataclass(slots=True, eq=False)
class Running:
    """One fault of a running venue.

    Attributes
    ----------
    starts_at, ends_at : ms of its clock; ``ends_at`` None = when it is taken back.
    strikes : how often it struck. ``did`` : what it did then, counted.
    """

    number: int
    fault: Fault
    starts_at: int
    ends_at: int | None
    begun: bool = False
    strikes: int = 0
    did: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)  # draws, by key
    first_at: int | None = None  # ms, market time, of its strikes
    last_at: int | None = None

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it may."""
        return self.fault.times is not None and self.strikes >= self.fault.times

    def value(self, name: str) -> Any:
        """Return a parameter."""
        return self.fault.values[name]


Starter = Callable[[Running], None]


class Faults:
    """All faults, from a schedule or asked for while the venue runs.

    Draws are a function of (seed, the fault's number, who is struck, how often it was asked), so
    that the same questions meet the same faults.

    Parameters
    ----------
    wall, market : clocks, ms.
    """

    def __init__(
        self, wall: Callable[[], int], market: Callable[[], int], schedule: Schedule | None = None
    ) -> None:
        self._clocks = {"wall": wall, "market": market}
        self.schedule = schedule or Schedule()
        self.began_at = wall()
        self.running: list[Running] = []
        self.done: list[Running] = []
        self.counts: Counter[str] = Counter()
        self.reach: Reach | None = None  # of the venue; None = not looked at
        self.starters: dict[str, Starter] = {}
        self.enders: dict[str, Starter] = {}
        self._heralds: dict[str, Starter] = {}
        self._last = self._drawn = 0
        self._news, self._leaves = asyncio.Event(), asyncio.Event()
        for fault in self.schedule.faults:
            self.add(fault)

    # What there is

    def add(self, fault: Fault) -> Running:
        """Take a fault in; its times count from now."""
        now = self._clocks[fault.clock]()
        starts = now + round(fault.from_s * 1_000)
        ends = None if fault.for_s is None else starts + round(fault.for_s * 1_000)
        self._last += 1
        found = Running(self._last, fault, starts, ends)
        self.running.append(found)
        if (herald := self._heralds.get(fault.kind)) is not None:
            herald(found)
        self._news.set()
        return found

    def in_vain(self) -> list[UsageError]:
        """Return what is wrong with faults of the schedule that can strike nothing here."""
        if self.reach is None:
            return []
        told = (self.reach.refusal(fault, f"faults[{at}]")
                for at, fault in enumerate(self.schedule.faults))  # fmt: skip
        return [error for error in told if error is not None]

    def herald(self, kind: str, herald: Starter) -> None:
        """Let faults of a kind be told of when they are taken in, long before they begin."""
        self._heralds[kind] = herald
        for each in self.running:
            if each.fault.kind == kind:
                herald(each)

    def remove(self, number: int | None = None) -> int:
        """End a fault, None = all, and return how many that were."""
        found = [each for each in self.running if number in (None, each.number)]
        for each in found:
            now = self._now(each)  # not when it would have ended
            each.ends_at = now if each.ends_at is None else min(each.ends_at, now)
            self._end(each)
        return len(found)

    def look(self) -> None:
        """Begin and end what is due."""
        self._draw_random()
        for each in list(self.running):
            now = self._now(each)
            if not each.begun and now >= each.starts_at:
                each.begun = True
                if (starter := self.starters.get(each.fault.kind)) is not None:
                    starter(each)
            due = each.ends_at is not None and now >= each.ends_at
            if each.begun and (due or each.spent):
                self._end(each)

    def at_work(self, kind: str) -> Iterator[Running]:
        """Iterate over the faults of a kind that are at work now."""
        for each in list(self.running):
            if each.fault.kind != kind:
                continue
            now = self._now(each)
            in_time = each.starts_at <= now and (each.ends_at is None or now < each.ends_at)
            if in_time and not each.spent:
                yield each

    # Whom they strike

    def strike(self, kind: str, subject: Subject, key: str = "") -> Running | None:
        """Return the fault of a kind that strikes a subject now; None = it is spared.

        Parameters
        ----------
        key : of the draws, for subjects that are asked about side by side.
        """
        for each in self.at_work(kind):
            if self.hits(each, subject, key):
                return each
        return None

    def hits(self, each: Running, subject: Subject, key: str = "") -> bool:
        """Return whether a fault strikes a subject, and count it."""
        if not each.fault.target.covers(subject):
            return False
        if each.fault.share < 1.0 and self.chance(each, key) >= each.fault.share:
            return False
        self.note(each)
        return True

    def chance(self, each: Running, key: str) -> float:
        """Return the next number in [0, 1) of a fault's draws."""
        each.met[key] += 1
        return self.lot(each, f"{key}:{each.met[key]}")

    def lot(self, each: Running, what: str) -> float:
        """Return the number in [0, 1) that something always draws of a fault."""
        text = f"{self.schedule.seed}:{each.number}:{what}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / _UNIT

    def note(self, each: Running, did: str = "") -> None:
        """Count a strike, or what it did if that has a name."""
        if did:
            each.did[did] += 1
            return
        each.strikes += 1
        self.counts[each.fault.kind] += 1
        each.last_at = self._clocks["market"]()
        each.first_at = each.last_at if each.first_at is None else each.first_at
        if each.spent:
            self._news.set()

    # Time

    async def run(self, app: Any) -> Any:
        """Begin and end faults for as long as the server lives (an aiohttp clean-up context)."""
        del app
        looking = asyncio.create_task(self._look_on())
        yield
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking

    async def leave(self, app: Any) -> None:
        """Let everybody go who waits for a fault to pass."""
        del app
        self._leaves.set()

    async def hold(self, seconds: float) -> None:
        """Wait, but not beyond the server's life."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leaves.wait(), seconds)

    async def _look_on(self) -> None:
        while True:
            self._news.clear()
            self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._pause_s())

    def _pause_s(self) -> float:
        waits = [_LOOK_S]
        for each in self.running:
            due = each.starts_at if not each.begun else each.ends_at
            if due is not None:
                # market time may run fast: then look often
                wait = (due - self._now(each)) / 1_000
                waits.append(wait if each.fault.clock == "wall" else min(wait, 0.02))
        if self.schedule.random is not None:
            due_at = self.began_at + (self._drawn + 1) * self.schedule.random.every_s * 1_000
            waits.append((due_at - self._clocks["wall"]()) / 1_000)
        return max(min(waits), 0.001)

    def _draw_random(self) -> None:
        random = self.schedule.random
        if random is None:
            return
        passed_s = (self._clocks["wall"]() - self.began_at) / 1_000
        while (self._drawn + 1) * random.every_s <= passed_s:
            self._drawn += 1
            fault = random.fault(self._drawn)
            each = self.add(fault)
            early = round(fault.from_s * 1_000)  # it counts from the venue's start
            each.starts_at = self.began_at + early
            each.ends_at = each.starts_at + round((fault.for_s or 0.0) * 1_000)

    def _end(self, each: Running) -> None:
        if (ender := self.enders.get(each.fault.kind)) is not None:
            ender(each)
        self.running.remove(each)
        self.done.append(each)
        del self.done[:-_KEPT_DONE]

    def _now(self, each: Running) -> int:
        return self._clocks[each.fault.clock]()

    # The report

    def told(self) -> dict[str, Any]:
        """Return everything in JSON's types."""
        states: dict[str, list[dict[str, Any]]] = {"waiting": [], "active": []}
        for each in self.running:
            begun = self._now(each) >= each.starts_at
            states["active" if begun else "waiting"].append(self.one(each))
        random = self.schedule.random
        return {
            "began": iso(self.began_at), "seed": self.schedule.seed, **states,
            "done": [self.one(each) for each in self.done],
            "counts": {kind: self.counts[kind] for kind in KINDS if kind in self.counts},
            "random": None if random is None else {
                "every_s": random.every_s, "longest_s": random.longest_s, "seed": random.seed,
                "classes": list(random.kinds), "drawn": self._drawn,
            },
        }  # fmt: skip

    def one(self, each: Running) -> dict[str, Any]:
        """Return one fault in JSON's types."""
        stamps = {"starts": each.starts_at, "ends": each.ends_at, "first": each.first_at,
                  "last": each.last_at}  # fmt: skip
        return {
            "id": each.number, **each.fault.told(),
            **{name: None if at is None else iso(at) for name, at in stamps.items()},
            "strikes": each.strikes, "did": dict(sorted(each.did.items())),
        }  # fmt: skip
