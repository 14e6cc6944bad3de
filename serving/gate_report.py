"""From settings and a file to what a gate is worth: trained and judged fold by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.training.watch import Watch
from domain.canonical import plain
from domain.times import iso
from rl.evaluate import compared, trained_on, walk_of
from serving.gating import gate_spec
from serving.market_files import BarsFile, require_bars
from serving.settings import Settings
from serving.trials import Look
from sim.progress import Steps


@dataclass(frozen=True, slots=True)
class GateRequest:
    """What is asked.

    Attributes
    ----------
    span : bars that open in it are judged, UTC ms; those before it are learned from.
    chosen : settings of the training, by dotted name.
    """

    span: tuple[int | None, int | None]
    seeds: Sequence[int]
    folds: int
    chosen: Mapping[str, str]
    profile: str
    commit: str


def gate_look(settings: Settings, bars: BarsFile, request: GateRequest) -> Look:
    """Say what the evaluation looks at.

    Raises
    ------
    DataRefused : if no bar opens in the range.
    """
    part = require_bars(bars, *request.span)
    spec = gate_spec(settings, request.commit, request.chosen)
    what = (
        f"{part.symbol} {part.timeframe}: {request.profile} {spec.name}, "
        f"{len(request.seeds)} seeds, {request.folds} folds #{spec.asked}"
    )
    end = int(part.ts[-1]) + part.step_ms
    return Look("backtest", int(part.ts[0]), end, what, request.commit)


def gate_report(
    settings: Settings, bars: BarsFile, request: GateRequest, steps: Steps
) -> dict[str, Any]:
    """Train and compare; return the report, JSON's types.

    Raises
    ------
    DataRefused : if there are too few bars before the range, or in it.
    """
    part = require_bars(bars, *request.span)
    start, end = int(part.ts[0]), int(part.ts[-1]) + part.step_ms
    spec = gate_spec(settings, request.commit, request.chosen)
    config, deciding = spec.config, steps("bars decided")
    watch = Watch(tick=lambda done, total, _: deciding(done, total))
    course = spec.make(bars.frame.between(None, end), watch)
    walks = walk_of(course, start, end, request.folds)
    training = steps("gates trained")
    policies = trained_on(
        walks, config, request.seeds, lambda done, total, _: training(done, total)
    )
    found = compared(walks, policies, config.style, request.seeds[0])
    made: dict[str, Any] = plain(
        {
            "data": {
                "symbol": part.symbol, "timeframe": part.timeframe, "start": iso(start),
                "end": iso(end), "bars": len(part), "sha256": bars.sha256,
            },
            "strategy": spec.strategy, "profile": request.profile, "seeds": list(request.seeds),
            "cost": course.terms.round_trip, "stake": course.terms.stake, "config": config,
            "commit": request.commit, **found,
        }
    )  # fmt: skip
    return made
