"""What a scenario showed: the laws, what was expected of it, and the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domain.times import iso
from execution.limits import RiskLimits
from sim.scenarios.laws import LAWS, Auditor
from sim.scenarios.play import Played
from sim.scenarios.spec import Expected, Scenario
from sim.scenarios.stage import Stage

_SHOWN = 5  # broken laws that are told in words


def audited(played: Played, limits: RiskLimits) -> Auditor:
    """Return the auditor that has read everything."""
    auditor = Auditor(limits, played.books, played.cast.routes, played.kills)
    auditor.read(row for _, row in played.ledger.records_since())
    auditor.expect_decisions(_heard_in_time(played.stage))
    auditor.tell_restarts(played.restarted, played.restarts)
    return auditor


def _heard_in_time(stage: Stage) -> Iterator[tuple[str, int]]:
    closes = stage.ts + stage.step_ms
    for symbol, scene in stage.scenes.items():
        for row in range(stage.first, len(closes)):
            if scene.heard[row] == closes[row]:
                yield symbol, int(closes[row])


def report(scenario: Scenario, played: Played, auditor: Auditor) -> dict[str, Any]:
    """Return what held, JSON's types."""
    stage = played.stage
    laws = [
        {"law": name, "rule": LAWS[name], "checked": law.checked, "broken": len(law.broken),
         "first": law.broken[:_SHOWN]}
        for name, law in auditor.laws.items()
    ]  # fmt: skip
    expected = list(_expected(scenario.expect, auditor, played.loop.mode.value))
    return {
        "name": scenario.name, "about": scenario.about, "seed": scenario.seed,
        "held": auditor.held, "shown": all(each["met"] for each in expected),
        "laws": laws, "expected": expected,
        "symbols": list(stage.scenes), "start": iso(int(stage.ts[stage.first])),
        "bars": len(stage.ts) - stage.first, "acts_refused": played.refused,
        "entries": auditor.entries, "refused": dict(auditor.refused.most_common()),
        "aside": dict(auditor.aside.most_common()), "exits": dict(auditor.exits.most_common()),
        "modes": [[iso(at), mode.value] for at, mode in auditor.modes],
        "ends": played.loop.mode.value, "flat_after": auditor.flat_after,
        "funding": float(auditor.funding), "worst_fall": auditor.worst_fall,
        "highest_exposure": max((point.exposure for point in auditor.points), default=0.0),
        "equity": auditor.points[-1].equity if auditor.points else None,
        "curve": _curve(played, auditor),
    }  # fmt: skip


def _curve(played: Played, auditor: Auditor) -> dict[str, Any]:
    stage = played.stage
    rows = slice(stage.first, len(stage.ts))
    return {
        "at": [iso(point.at) for point in auditor.points],
        "equity": [point.equity for point in auditor.points],
        "exposure": [point.exposure for point in auditor.points],
        "price_at": [iso(int(at) + stage.step_ms) for at in stage.ts[rows]],
        "price": {
            name: (scene.bars.close[rows] / scene.bars.close[stage.first - 1]).tolist()
            for name, scene in stage.scenes.items()
        },
    }


def _expected(expect: Expected, found: Auditor, ends: str) -> Iterator[dict[str, Any]]:
    def one(what: str, wanted: Any, seen: Any, *, met: bool) -> dict[str, Any]:
        return {"what": what, "wanted": wanted, "seen": seen, "met": met}

    yield one("entries", expect.entries, found.entries, met=found.entries >= expect.entries)
    for code in expect.refused:
        many = found.refused[code.value]
        yield one(f"refused: {code.value}", "at least once", many, met=many > 0)
    for reason in expect.exits:
        many = found.exits[reason.value]
        yield one(f"closed: {reason.value}", "at least once", many, met=many > 0)
    for mode in expect.modes:
        many = sum(each is mode for _, each in found.modes)
        yield one(f"mode: {mode.value}", "at least once", many, met=many > 0)
    if expect.funding:
        paid = float(found.funding)
        yield one(
            "funding", f"at least {expect.funding:g}", round(paid, 2), met=paid >= expect.funding
        )
    if expect.ends is not None:
        yield one("mode at the end", expect.ends.value, ends, met=ends == expect.ends.value)
    if (most := expect.flat_within) is not None:
        met = bool(found.flat_after) and all(n is not None and n <= most for n in found.flat_after)
        yield one("closes until flat", f"at most {most}", found.flat_after, met=met)
    if (fall := expect.fall) is not None:
        met = found.worst_fall <= fall
        yield one("fall of equity", f"at most {fall:.1%}", f"{found.worst_fall:.2%}", met=met)
