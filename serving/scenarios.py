"""From a scenario's name to what held: files, markets, strategy and agents around the stage."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from domain.errors import ConclaveError, DataRefused, UsageError
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Agent, BookSource, Gate, Ledger, Needs, OpinionSource, Strategy
from domain.times import DAY_MS, timeframe_ms
from execution.funding import FundingRate
from execution.loop import TradingLoop
from serving.deciders import agents_named, build_strategy
from serving.rules import Market, backtest_rules, market_for
from serving.settings import CONFIGS_DIR, Settings
from sim.backtest import NoOpinions, trading_loop
from sim.opinions import ask, widest
from sim.progress import Progress, unseen
from sim.scenarios.judge import audited, report
from sim.scenarios.play import Cast, Played, play
from sim.scenarios.shocks import Basis, Freeze, Funding, Shock
from sim.scenarios.spec import Expected, Scenario, Written, composed, read
from sim.scenarios.stage import Scene, Stage
from sim.worlds import DEMO_START_MS, DemoMarket, PlantedEdge, RandomWalk, Resampled, World

SCENARIOS_DIR = CONFIGS_DIR / "scenarios"
STRICT, USUAL_STRATEGY = "strict", "ema_cross"  # the council takes no side on a walk
_LONGEST_NAME = 100

Loader = Callable[[str, Sequence[Path], Sequence[str], Mapping[str, object]], Settings]
_ASKS_AGENTS, _FAILED = "council", "error"
_BARS = 250  # that a strategy which asks nobody may look at
_SUFFIXES = (".yml", ".yaml")


def shipped() -> tuple[str, ...]:
    """Return the names of the scenarios that come with the project."""
    return tuple(sorted(path.stem for path in SCENARIOS_DIR.glob("*.yml")))


def scenario_for(names: Sequence[str]) -> Scenario:
    """Read scenarios by name, or by the path of a file, and compose them into one.

    Raises
    ------
    UsageError : for one that there is not, cannot be read, or uses itself.
    """
    seen: dict[Path, Written] = {}
    named = [_with_used(_place(name, Path()), (), seen) for name in names]
    name = "+".join(each.name for each in named)
    if len(name) > _LONGEST_NAME:
        raise UsageError("scenario", f"names must be {_LONGEST_NAME} letters together", len(name))
    about = " ".join(each.about for each in named if each.about)
    expect = named[0].expect if len(named) == 1 else Expected()
    return composed(list(seen.values()), name, about, expect)


def _with_used(path: Path, above: tuple[Path, ...], seen: dict[Path, Written]) -> Written:
    """Read a scenario after those that it uses, each once, into ``seen``."""
    if path in above:
        told = " → ".join(each.stem for each in (*above, path))
        raise UsageError("uses", "must not lead back to itself", told)
    written = seen.get(path) or _read(path)
    if path not in seen:
        for used in written.uses:
            _with_used(_place(used, path.parent), (*above, path), seen)
        seen[path] = written
    return written


def _place(name: str, folder: Path) -> Path:
    if Path(name).suffix in _SUFFIXES:
        return (folder / name).resolve()
    if name in shipped():
        return SCENARIOS_DIR / f"{name}.yml"
    close = difflib.get_close_matches(name, shipped(), n=1)
    hint = f"There are {', '.join(shipped())}; or give the path of a .yml file."
    hint = f'Did you mean "{close[0]}"?' if close else hint
    raise UsageError("scenario", "must be one that exists", name, hint)


def _read(path: Path) -> Written:
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        rule = "must be readable as YAML"
        raise UsageError(f"scenario {path.stem}", rule, str(error)) from error
    return read(path.stem, body)


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Bars that are at hand, to draw the market from; none = the scenario's own world."""

    frames: Mapping[str, BarFrame]
    block: str = "6h"


def with_its_settings(
    scenario: Scenario, load: Loader, profile: str = STRICT, config: Sequence[Path] = (),
    sets: Sequence[str] = (),
) -> Settings:  # fmt: skip
    """Return settings with a scenario's over the profile's, and under files, environment and flags.

    Parameters
    ----------
    load : reads settings as a command does.
    """
    own = {"execution.market": scenario.market, **scenario.settings}
    if scenario.strategy is not None:
        own["execution.strategy"] = scenario.strategy
    elif profile == STRICT:
        own["execution.strategy"] = USUAL_STRATEGY
    named = {name: "none" if value is None else value for name, value in own.items()}
    return load(profile, config, sets, named)


def run(
    scenario: Scenario, settings: Settings, commit: str, material: Material | None = None,
    progress: Progress = unseen,
) -> dict[str, Any]:  # fmt: skip
    """Play a scenario and return its report.

    Raises
    ------
    UsageError, DataRefused : if it does not fit its bars.
    """
    done = played(scenario, settings, commit, material, progress)
    limits = backtest_rules(settings, "", commit).limits
    found = report(scenario, done, audited(done, limits))
    return {**found, "strategy": settings.execution.strategy, "market": settings.execution.market,
            "bars_from": _source(scenario, material)}  # fmt: skip


def played(
    scenario: Scenario, settings: Settings, commit: str, material: Material | None = None,
    progress: Progress = unseen,
) -> Played:  # fmt: skip
    """Play a scenario.

    Parameters
    ----------
    settings : the scenario's own among them, see :func:`with_its_settings`.
    material : its symbols take the place of the scenario's.

    Raises
    ------
    UsageError, DataRefused : if it does not fit its bars.
    """
    frames = _frames(scenario, settings.data.timeframe, material)
    price = {symbol: float(frame.close[0]) for symbol, frame in frames.items()}
    market = market_for(settings, list(frames), price, keep_market=False)
    stage = staged(scenario, frames, settings, market)
    return play(stage, _cast(settings, market, commit), scenario.acts, progress)


def staged(
    scenario: Scenario, frames: Mapping[str, BarFrame], settings: Settings, market: Market
) -> Stage:
    """Return the stage with every shock on it, in the order in which they are written.

    Raises
    ------
    UsageError, DataRefused : for a shock or an act that comes too late, concerns nobody, or would
        change nothing on this market.
    """
    first = next(iter(frames.values()))
    calm = {
        symbol: Scene.calm(frame, spread_bps=settings.execution.spread_bps)
        for symbol, frame in frames.items()
    }
    stage = Stage(calm, scenario.warm_up // first.step_ms)
    for shock in scenario.shocks:
        with _told(scenario, type(shock).__name__):
            _require_effect(shock, market)
            stage = shock.on(stage)
    for act in scenario.acts:
        with _told(scenario, act.kind):
            stage.row(act.at)
    return stage


@contextmanager
def _told(scenario: Scenario, what: str) -> Iterator[None]:
    try:
        yield
    except ConclaveError as error:
        where = f"scenario {scenario.name}: {what}: {error.what}"
        raise type(error)(where, error.rule, error.value, error.hint) from error


def _require_effect(shock: Shock, market: Market) -> None:
    lone = all(symbol == route for symbol, route in market.routes.items())
    perp = any(each.market == "perp" for each in market.instruments.values())
    alone = isinstance(shock, Basis) or (isinstance(shock, Freeze) and shock.market == "execution")
    if lone and alone:
        raise UsageError(
            "market", "must be another one than that of the forecast, or nothing happens"
        )
    if not perp and isinstance(shock, Funding):
        raise UsageError("market", "must be perp, or nobody pays funding", "spot")


def _source(scenario: Scenario, material: Material | None) -> str:
    if material is None:
        return f"simulated ({scenario.world}), seed {scenario.seed}"
    return f"drawn in blocks of {material.block} from files, seed {scenario.seed}"


def _frames(scenario: Scenario, timeframe: str, material: Material | None) -> dict[str, BarFrame]:
    step = timeframe_ms(timeframe)
    n = (scenario.warm_up + scenario.lasts) // step
    least = min(scenario.warm_up, scenario.lasts)
    if least < step:
        rule = f"warm_up and lasts must each be a bar of {timeframe} at least"
        raise DataRefused(f"scenario {scenario.name}", rule, f"{least // 60_000} minutes")
    if material is not None:
        _require_timeframe(material, timeframe)
        start = _midnight_after(material.frames)
        drawn = Resampled(material.frames, material.block)
        return drawn.draw(scenario.seed, start, n, scenario.regimes)
    if scenario.regimes:
        raise UsageError("regimes", "need bars to be drawn from", list(scenario.regimes),
                         "Give files with --data.")  # fmt: skip
    return {
        symbol: _world(scenario, symbol, timeframe).bars(DEMO_START_MS, n)
        for symbol in scenario.symbols
    }


def _require_timeframe(material: Material, timeframe: str) -> None:
    for frame in material.frames.values():
        if frame.timeframe != timeframe:
            raise DataRefused(
                f"bars of {frame.symbol}", f"must be of TIMEFRAME, {timeframe}", frame.timeframe,
                f"Give other files, or --set TIMEFRAME={frame.timeframe}.",
            )  # fmt: skip


def _midnight_after(frames: Mapping[str, BarFrame]) -> int:
    last = max(int(frame.ts[-1]) for frame in frames.values())
    return (last // DAY_MS + 1) * DAY_MS


def _world(scenario: Scenario, symbol: str, timeframe: str) -> World:
    made = {"walk": RandomWalk, "demo": DemoMarket, "weak_edge": PlantedEdge}[scenario.world]
    world: World = made(scenario.seed, symbol=symbol, timeframe=timeframe)
    return world


def _cast(settings: Settings, market: Market, commit: str) -> Cast:
    rules = backtest_rules(settings, "", commit)
    bar_ms, horizon = timeframe_ms(settings.data.timeframe), settings.data.pred_horizon_steps
    asked = settings.models.agents if settings.execution.strategy == _ASKS_AGENTS else ()
    agents = agents_named(asked, settings, settings.data.timeframe)

    def strategy() -> Strategy:
        costs = partial(market.round_trip, bar_ms, horizon)
        return build_strategy(settings, costs, "scenario", commit)

    def loop(ledger: Ledger, books: BookSource, funding: FundingRate) -> TradingLoop:
        venue = replace(rules.venue, books=books)
        return trading_loop(
            market.routes, strategy(), market.instruments, replace(rules, venue=venue), ledger,
            funding=funding, gate=_gate(settings, market),
        )  # fmt: skip

    needs = widest(agents) if agents else Needs(_BARS, 1)
    opinions: OpinionSource = _Asked(agents) if agents else NoOpinions()
    return Cast(loop, market.routes, opinions, needs)


def _gate(settings: Settings, market: Market) -> Gate | None:
    if settings.decision.gate == "off":
        return None
    from serving.gate_models import gate_for  # what only a gate needs

    return gate_for(settings, market, next(iter(market.routes)))


class _Asked:
    """Agents in this process; one that raises is absent, with the reason."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = agents

    def opinions(self, state: MarketState) -> tuple[list[Opinion], dict[str, str]]:
        said: list[Opinion] = []
        absent: dict[str, str] = {}
        for name, agent in self._agents.items():
            try:
                said += ask({name: agent}, [state], {})[0][name]
            except ConclaveError:
                absent[name] = _FAILED
        return said, absent
