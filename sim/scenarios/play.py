"""A scenario through the trading loop: every bar as it is heard, every act when it is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data.memory import MarketMemory
from domain.errors import UsageError
from domain.market import Bar, BarFrame, MarketState
from domain.ports import BookSource, Ledger, Needs, OpinionSource
from domain.times import iso
from domain.trading import Portfolio
from execution.funding import FundingRate
from execution.loop import Asked, TradingLoop
from sim.progress import Progress, Ticker, unseen
from sim.scenarios.spec import Act
from sim.scenarios.stage import NEVER, Scene, Stage, StageBooks
from storage.memory import MemoryLedger

_OPERATOR = "operator"


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """Who plays.

    Attributes
    ----------
    loop : makes the loop over a ledger, with a fresh strategy and broker, for the books of the
        venue and the funding of a stage.
    routes : forecast symbol → execution symbol.
    opinions : asked at every bar. ``needs`` : how much of a state is read.
    """

    loop: Callable[[Ledger, BookSource, FundingRate], TradingLoop]
    routes: Mapping[str, str]
    opinions: OpinionSource
    needs: Needs


@dataclass(slots=True)
class Played:
    """What came of it.

    Attributes
    ----------
    ledger : every row. ``loop`` : as it ended.
    books : that the desk could see.
    kills : when somebody killed, ms, and whether what was open was to be closed.
    refused : acts that the desk refused, in words.
    restarts : what each restart found otherwise than it was left, in words; empty is right.
    """

    stage: Stage
    cast: Cast
    ledger: MemoryLedger
    loop: TradingLoop
    books: BookSource
    kills: list[tuple[int, bool]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    restarted: int = 0


def play(stage: Stage, cast: Cast, acts: Sequence[Act] = (), progress: Progress = unseen) -> Played:
    """Play a stage from its first bar to its last; the same input gives the same ledger.

    Bars before ``stage.first`` warm up memory and strategy. At every later close, the bars heard by
    then are absorbed, symbol by symbol, then each symbol is decided on whose bar closed just now,
    then come the acts that are due.
    """
    ledger, books = MemoryLedger(), StageBooks(stage, cast.routes)
    venue = StageBooks(stage, cast.routes, heard=False)
    funding = _funding(stage, cast.routes)

    def begin() -> TradingLoop:
        return cast.loop(ledger, venue, funding)

    played = Played(stage, cast, ledger, begin(), books)
    feeds = [_Feed(scene, cast, symbol, books) for symbol, scene in stage.scenes.items()]
    total = stage.first * len(feeds) + len(stage.ts) - stage.first
    tick = Ticker(total, progress)
    for feed in feeds:
        feed.warm_up(played.loop, stage.first, tick)
    waiting = sorted(acts, key=lambda act: act.at)
    start = int(stage.ts[stage.first])
    for opened in stage.ts[stage.first :].tolist():
        now = opened + stage.step_ms
        states = [state for feed in feeds if (state := feed.hear(played.loop, now)) is not None]
        for state in states:
            said, absent = cast.opinions.opinions(state)
            played.loop.decide(state, said, absent, now)
        while waiting and start + waiting[0].at <= now:
            _do(waiting.pop(0), played, now, begin)
        tick()
    _restart(played, begin)
    return played


class _Feed:
    """One symbol's bars on their way to the desk."""

    def __init__(self, scene: Scene, cast: Cast, symbol: str, books: BookSource) -> None:
        self._scene, self._cast, self._route = scene, cast, cast.routes[symbol]
        self._memory = MarketMemory(symbol, scene.bars.timeframe, books=books)
        self._order = np.argsort(scene.heard, kind="stable")  # late ones come in their own order
        self._next = 0

    def warm_up(self, loop: TradingLoop, rows: int, tick: Callable[[], None]) -> None:
        """Take in the first rows without trading."""
        past: BarFrame = self._scene.bars.slice(0, rows)
        self._memory.append(past)
        needs, opinions = self._cast.needs, self._cast.opinions
        states = self._memory.states(None, None, needs.bars, max(needs.feature_rows, 1))

        def asked() -> Iterator[Asked]:
            for state in states:
                yield state, *opinions.opinions(state)
                tick()

        loop.warm_up(asked())
        self._next = rows

    def hear(self, loop: TradingLoop, now: int) -> MarketState | None:
        """Absorb what is heard by ``now`` (ms); return the state if the newest bar closed then."""
        scene, newest = self._scene, 0
        while self._next < len(self._order):
            row = int(self._order[self._next])
            if scene.heard[row] > now or scene.heard[row] == NEVER:
                break
            self._next += 1
            bar = scene.bars.bar(row)
            self._memory.append(bar)
            loop.absorb(bar, self._executed(row, bar, now))
            newest = bar.close_ms
        if newest != now:
            return None
        needs = self._cast.needs
        return self._memory.state(now, needs.bars, max(needs.feature_rows, 1))

    def _executed(self, row: int, bar: Bar, now: int) -> Bar | None:
        if self._route == bar.symbol or self._scene.traded_heard[row] > now:
            return None
        return self._scene.traded(row, self._route)


def _funding(stage: Stage, routes: Mapping[str, str]) -> FundingRate:
    of = {route: stage.scenes[symbol].funding for symbol, route in routes.items()}
    opens = stage.ts

    def rate(symbol: str, stamp: int) -> float:
        row = int(np.searchsorted(opens, stamp, side="right")) - 1
        return float(of[symbol][max(row, 0)])

    return rate


def _do(act: Act, played: Played, now: int, begin: Callable[[], TradingLoop]) -> None:
    loop, why = played.loop, "scenario"
    try:
        _order(act, loop, why, now)
    except UsageError as error:
        played.refused.append(f"{iso(now)} {act.kind}: {error.message}")
    if act.kind == "kill":
        played.kills.append((now, act.flatten))
    if act.kind == "restart":
        _restart(played, begin)


def _order(act: Act, loop: TradingLoop, why: str, now: int) -> None:
    if act.kind == "kill":
        loop.kill(_OPERATOR, why, now, flatten=act.flatten)
    elif act.kind == "pause":
        loop.pause(_OPERATOR, why, now, flatten=act.flatten)
    elif act.kind == "resume":
        loop.resume_entries(_OPERATOR, why, now)
    elif act.kind == "arm":
        loop.arm(_OPERATOR, why, now)


def _restart(played: Played, begin: Callable[[], TradingLoop]) -> None:
    """Throw the loop away and go on with one that knows the ledger only."""
    before, again = played.loop, begin()
    again.resume()
    at = int(played.stage.ts[-1])
    for what, left, found in (
        ("portfolio", _held(before.portfolio(at)), _held(again.portfolio(at))),
        ("orders", before.open_orders(), again.open_orders()),
        ("mode", before.mode, again.mode),
        ("limits", _limits(before), _limits(again)),
    ):
        if left != found:
            played.restarts.append(f"{what}: {found} instead of {left}")
    played.loop = again
    played.restarted += 1


def _limits(loop: TradingLoop) -> tuple[object, ...]:
    risk = loop.risk
    return risk.peak, risk.day_loss, risk.fall, risk.breaker, risk.size_factor, risk.risk_cap


def _held(portfolio: Portfolio) -> tuple[object, ...]:
    return portfolio.cash, portfolio.equity, dict(portfolio.positions)
