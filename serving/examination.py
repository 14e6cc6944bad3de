"""What ``conclave doctor`` tries on this machine, beside what it only looks at."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from agents.contract import card_of
from data.memory import LIVE_BARS
from domain.errors import DataRefused, ModelError, ServiceUnreachable
from domain.market import BarFrame
from domain.ports import Clock
from serving.doctor import Finding, diagnose
from serving.local_exchange import exchange_time
from serving.model_store import mirror_of
from serving.plan import RUN_FILE, RunPlan, load_plan
from serving.processes import alive
from serving.promotion import Past, load_named
from serving.settings import Settings
from serving.system import SystemClock
from storage.engine import open_database
from storage.migrate import current, revisions
from storage.queries import Reader
from storage.timescale import hypertables

LARGEST_OFFSET_MS = 1_000  # the window of signed requests that lie in the future


def examine(settings: Settings) -> list[Finding]:
    """Run every check; nothing is made or changed by looking.

    Returns
    -------
    One finding a check; ``ok`` is None where nothing was checked.
    """
    return diagnose(
        settings,
        clock=SystemClock(),
        database=partial(_database, settings),
        models=partial(_models, settings),
        exchange=partial(_exchange, settings, SystemClock()),
        is_ours=partial(_is_ours, _running(settings)),
    )


def _database(settings: Settings) -> str:
    url = make_url(settings.database_url())
    name = url.get_backend_name()
    if name == "sqlite" and not Path(str(url.database)).exists():
        return "none yet: the first run makes it"
    engine = open_database(settings.database_url())
    try:
        found = current(engine)
        growing = _timescale(engine) if name == "postgresql" else ""
    finally:
        engine.dispose()
    newest = revisions()[-1]
    if found == newest:
        return f"{name}, schema {found}{growing}"
    return f"{name}, schema {found or 'missing'}: the next run brings it to {newest}{growing}"


def _timescale(engine: Engine) -> str:
    found = hypertables(engine)
    if found is None:
        return ", without TimescaleDB: ordinary tables"
    return f", TimescaleDB with hypertables {', '.join(found) or 'none'}"


def _models(settings: Settings) -> str:
    versions, problems = [], []
    mirror = mirror_of(settings)
    for name in settings.models.agents:
        if mirror is not None:
            mirror.follow(name)
            problems += [f"{name}: {told}" for told in [mirror.problem(name)] if told]
        try:
            found = load_named(name, settings, past=_past(settings), mirror=mirror)
        except ModelError as error:
            problems.append(f"{name} has no model: {error}")
            continue
        card = card_of(found.agent)
        versions.append("; ".join((f"{name} {card.version}", *card.notes)))
        problems += [model.sentence for model in found.models if model.problem]
        problems += card.problems
    if problems:
        raise ModelError(
            "; ".join(problems), hint="See: conclave models list; then promote or roll back."
        )
    return ", ".join(versions)


def _exchange(settings: Settings, clock: Clock) -> str:
    asked = clock.now()
    told = exchange_time(settings, clock)
    took = clock.now() - asked if told is None else told.took
    name, live = settings.data.exchange, "; real orders: conclave live status"
    more = live if settings.execution.live_mode else ""
    if told is None:
        return f"{name} answers in {took} ms; it tells no time{more}"
    offset = told.at - told.wall
    simulated = settings.data.exchange_url is not None  # another server may have a time of its own
    if abs(offset) > LARGEST_OFFSET_MS + took and not simulated:
        raise DataRefused(
            f"{name}'s clock", f"must be within {LARGEST_OFFSET_MS} ms of this machine's",
            f"{offset:+d} ms", "Set the machine's clock (NTP): signed requests would be refused.",
        )  # fmt: skip
    at = "" if simulated else f", its clock {offset:+d} ms"
    return f"{name} answers in {took} ms{at}{more}"


def _past(settings: Settings) -> Past | None:
    """The stored bars of the last run, if there was one."""
    url, written = make_url(settings.database_url()), settings.data.var_dir / RUN_FILE
    missing = url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists()
    if missing or not written.is_file():
        return None
    world = load_plan(written).world

    def bars() -> list[BarFrame]:
        engine = open_database(settings.database_url())
        try:
            reader = Reader(engine, world)
            frames = [
                reader.newest_bars(symbol, settings.data.timeframe, LIVE_BARS)
                for symbol in settings.data.symbols
            ]
        finally:
            engine.dispose()
        return [frame for frame in frames if len(frame)]

    return bars


def _running(settings: Settings) -> RunPlan | None:
    try:
        plan = load_plan(settings.data.var_dir / RUN_FILE)
    except ServiceUnreachable:
        return None
    return plan if plan.pid and alive(plan.pid) else None


def _is_ours(plan: RunPlan | None, port: int) -> bool:
    return plan is not None and port in (plan.port, plan.ray_dashboard_port)
