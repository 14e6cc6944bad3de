"""Ask every agent about every bar of a stretch, once, and play it back as often as needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.contract import IN_SAMPLE
from data.memory import MarketMemory
from domain.canonical import digest
from domain.errors import CheckFailed, DataRefused, NotFound
from domain.market import MarketState, market_of
from domain.opinion import Opinion
from domain.ports import Agent
from domain.times import iso
from sim.opinions import ask, widest
from sim.progress import Progress
from sim.scoring import Forecasts
from sim.source import source_of
from sim.tapes.blocks import FORMAT, Block, Identity, block_of, from_bytes, to_bytes
from sim.tapes.parts import Part, parts_of
from sim.tapes.shelves import FolderShelf, MemoryShelf, Shelf

log = logging.getLogger(__name__)

PART_BARS = 2_016  # a week of five-minute bars; no more than agents are asked about at a time

Round = tuple[list[Opinion], dict[str, str]]


class TapeStore:
    """Tapes, kept part by part: what was asked once is not asked again.

    Parameters
    ----------
    root : folder of the tapes, made on the first write; None keeps them in memory, for as long as
        the store lives.
    part_bars : bars of a part; opinions do not depend on it.
    """

    def __init__(self, root: Path | None = None, part_bars: int = PART_BARS) -> None:
        self._shelf: Shelf = MemoryShelf() if root is None else FolderShelf(root)
        self._part_bars = part_bars

    def record(
        self,
        agents: Mapping[str, Agent],
        memory: MarketMemory,
        start_ms: int | None = None,
        end_ms: int | None = None,
        *,
        horizon: int,
        asleep_until: Mapping[str, int] | None = None,
        progress: Progress | None = None,
    ) -> Tape:
        """Ask the agents about whatever is not on tape yet, and return the tape of the range.

        A part is asked about as a whole, also where the range begins or ends inside it, and kept
        as soon as it is there: a run that is killed goes on where it was.

        Parameters
        ----------
        agents : name → agent; a tape belongs to the agent's own name and version.
        memory : must hold every bar since its first, ``keep=None``.
        start_ms, end_ms : bars that open in [start, end); None means all there are.
        horizon : bars ahead that the agents speak about.
        asleep_until : agent → end of its training, UTC ms; it is not asked about bars that open
            earlier.
        progress : called with bars done and bars in all, those on tape already included.

        Raises
        ------
        DataRefused : if no bar opens in the range, or the memory has forgotten bars.
        CheckFailed : if an agent speaks about something else than it was asked.
        ConclaveError : if the folder cannot be read or written.
        """
        tape = Tape(
            self._shelf, self._part_bars, agents, memory, (start_ms, end_ms), horizon,
            dict(asleep_until or {}),
        )  # fmt: skip
        tape.fill(progress)
        return tape


class Tape:
    """What was said about n bars (:class:`domain.ports.OpinionSource`).

    Only one part's opinions are in memory at a time. A part that is damaged or gone when it is
    read is asked about again; made by :meth:`TapeStore.record`.

    Attributes
    ----------
    ts : (n,) bar opens, UTC ms.
    names : who was asked.
    damaged : file names of the parts that had to be made again.
    asked : bars × agents that were asked about, not read.
    """

    def __init__(
        self,
        shelf: Shelf,
        part_bars: int,
        agents: Mapping[str, Agent],
        memory: MarketMemory,
        span: tuple[int | None, int | None],
        horizon: int,
        asleep_until: Mapping[str, int],
    ) -> None:
        bars, needs = memory.bars(), widest(agents)
        self._states = memory.states(None, None, needs.bars, needs.feature_rows)
        if len(bars) and self._states[0].bars_since_gap > 1:
            raise DataRefused(
                f"memory of {bars.symbol}", "must hold every bar since its first for a tape",
                memory.keep, "Build it with keep=None.",
            )  # fmt: skip
        self._first, last = _rows_between(bars.ts, *span)
        if self._first >= last:
            raise DataRefused(f"{bars.symbol} {bars.timeframe}", "has no bar in the range")
        self._shelf, self._agents, self._horizon = shelf, agents, horizon
        self._asleep_until, self._opens = asleep_until, bars.ts
        self._sources = {name: source_of(agent) for name, agent in agents.items()}
        self._bars, self._schema = bars, memory.engine.schema
        self._parts = parts_of(bars, self._first, last, part_bars)
        self._heard: tuple[Part, dict[str, Sequence[Opinion]]] | None = None
        self.ts: NDArray[np.int64] = bars.ts[self._first : last]
        self.names = tuple(agents)
        self.damaged: list[str] = []
        self.asked = 0

    def __len__(self) -> int:
        return len(self.ts)

    def fill(self, progress: Progress | None = None) -> None:
        """Ask about every part that is not on the shelf, whole and undamaged."""
        done, total = 0, sum(len(part) for part in self._parts)
        for part in self._parts:
            self._blocks(part, self.names)
            done += len(part)
            if progress is not None:
                progress(done, total)

    def columns(self, name: str) -> Forecasts:
        """Return one agent's n forecasts, rows before the end of its training marked.

        Raises
        ------
        NotFound : if nobody of that name was asked.
        """
        if name not in self._agents:
            raise NotFound("tape", "has no agent of this name", name, f"It has {self.names}.")
        until = self._asleep_until.get(name)
        made = Forecasts.silent(len(self))
        if until is not None:
            made = replace(made, in_sample=self.ts < until)
        for part in self._parts:
            block = self._blocks(part, (name,)).get(name)
            if block is not None:
                begin = part.stop - len(block)
                row = max(begin, self._first)
                block.write(made, row - self._first, row - begin)
        return made

    def rounds(self, first: int = 0, last: int | None = None) -> Iterator[Round]:
        """Iterate over what a council hears on rows [first, last).

        Returns
        -------
        Per row the opinions, in the order of ``names``, and the absent with their reasons.
        """
        begin = self._first + first
        end = self._first + (len(self) if last is None else min(last, len(self)))
        for part in self._parts:
            if part.start < end and part.stop > begin:
                rows = range(max(begin, part.start), min(end, part.stop))
                yield from self._rounds(part, (row - part.start for row in rows))

    def opinions(self, state: MarketState) -> Round:
        """Return the opinions at ``state.as_of`` and the absent with their reasons.

        Quick when states come in order.

        Raises
        ------
        NotFound : if the tape does not hold the state's last bar.
        """
        opened = int(state.bars.ts[-1])
        row = int(np.searchsorted(self.ts, opened))
        known = row < len(self) and self.ts[row] == opened
        bars = self._bars
        if not known or (state.symbol, state.timeframe) != (bars.symbol, bars.timeframe):
            about = f"{state.symbol} {state.timeframe} {iso(opened)}"
            raise NotFound(
                "tape", f"is about {bars.symbol} {bars.timeframe}, bars from {iso(int(self.ts[0]))}"
                f" to {iso(int(self.ts[-1]))}", about, "Record a tape of the range that is played.",
            )  # fmt: skip
        at = self._first + row
        part = next(part for part in self._parts if at < part.stop)
        return next(self._rounds(part, (at - part.start,)))

    def _rounds(self, part: Part, rows: Iterable[int]) -> Iterator[Round]:
        """What was said on rows of a part, counted from its first."""
        if self._heard is None or self._heard[0] is not part:
            self._heard = None  # before the next one is read: one part in memory, not two
            blocks = self._blocks(part, self.names)
            self._heard = part, {name: block.opinions() for name, block in blocks.items()}
        voices = [
            (name, said, len(said) - len(part))
            for name in self.names
            for said in (self._heard[1].get(name, ()),)
        ]
        for row in rows:
            heard = [said[row + late] for _, said, late in voices if row + late >= 0]
            yield heard, {name: IN_SAMPLE for name, _, late in voices if row + late < 0}

    def _blocks(self, part: Part, names: Sequence[str]) -> dict[str, Block]:
        """What each of the names said about a part; who was trained on all of it is left out."""
        about = {name: what for name in names if (what := self._identity(name, part))}
        found: dict[str, Block] = {}
        for name, identity in about.items():
            block = self._load(part, identity)
            if block is not None:
                found[name] = block
        missing = {name: self._agents[name] for name in about if name not in found}
        if missing:
            states = list(self._states[part.start : part.stop])
            said, _ = ask(missing, states, self._asleep_until)
            for name, opinions in said.items():
                found[name] = self._keep(part, about[name], opinions, states)
        return found

    def _identity(self, name: str, part: Part) -> Identity | None:
        """All that a part's opinions depend on, and what they are about; None if none are due."""
        asked = part.start
        until = self._asleep_until.get(name)
        if until is not None:
            asked = max(asked, int(np.searchsorted(self._opens, until)))
        if asked >= part.stop:
            return None
        bars, agent = self._bars, self._agents[name]
        return {
            "format": FORMAT, "schema": self._schema, "symbol": bars.symbol,
            "timeframe": bars.timeframe, "horizon": self._horizon, "agent": agent.name,
            "version": agent.version, "source": self._sources[name],
            "first": int(self._opens[asked]), "last": int(self._opens[part.stop - 1]),
            "bars": part.bars,
        }  # fmt: skip

    def _load(self, part: Part, identity: Identity) -> Block | None:
        name = _file_name(part, identity)
        body = self._shelf.get(name)
        if body is None:
            return None
        try:
            return from_bytes(body, identity)
        except DataRefused as error:
            log.warning("tape part %s is made again: %s", name, error.message)
            self.damaged.append(name)
            return None

    def _keep(
        self,
        part: Part,
        identity: Identity,
        opinions: Sequence[Opinion],
        states: Sequence[MarketState],
    ) -> Block:
        _check(opinions, identity, states)
        self.asked += len(opinions)
        block = block_of(opinions, identity)
        name = _file_name(part, identity)
        self._shelf.put(name, to_bytes(block), _unfinished(name))
        return block


def _rows_between(
    opens: NDArray[np.int64], start_ms: int | None, end_ms: int | None
) -> tuple[int, int]:
    first = 0 if start_ms is None else int(np.searchsorted(opens, start_ms))
    last = len(opens) if end_ms is None else int(np.searchsorted(opens, end_ms))
    return first, last


def _check(opinions: Sequence[Opinion], identity: Identity, states: Sequence[MarketState]) -> None:
    agent = identity["agent"]
    asked = [state for state in states if state.bars.ts[-1] >= identity["first"]]
    if len(opinions) != len(asked):
        rule = f"must give one opinion for each of {len(asked)} states"
        raise CheckFailed(agent, rule, len(opinions))
    who = agent, identity["version"], identity["horizon"]
    for opinion, state in zip(opinions, asked, strict=True):
        due = (*who, state.symbol, state.timeframe, state.as_of)
        seen = (
            opinion.agent, opinion.model_version, opinion.horizon_bars, opinion.symbol,
            opinion.timeframe, opinion.as_of,
        )  # fmt: skip
        if seen != due:
            raise CheckFailed(agent, f"must speak about {due}, in order", seen)


def _file_name(part: Part, identity: Identity) -> str:
    symbol = str(identity["symbol"])
    market = f"{_slug(symbol.split(':')[0].replace('/', ''))}-{market_of(symbol)}"
    folder = f"{market}-{identity['timeframe']}-h{identity['horizon']}"
    begin = re.sub(r"[-:]", "", iso(part.cell))
    tail = "" if part.whole else ".unfinished"
    file = f"{begin}-{digest(identity)[:12]}{tail}.parquet"
    return f"{folder}/{_slug(identity['agent'])}/{_slug(identity['version'])}/{file}"


def _unfinished(name: str) -> str:
    """The pattern of a part's earlier states, from when the bars ended inside it."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('-')[0]}-*.unfinished.parquet"


def _slug(text: str) -> str:
    """A file name's part; two texts may share it, what is in the files tells them apart."""
    return re.sub(r"[^A-Za-z0-9_.=+-]", "_", text).lstrip(".") or "_"
