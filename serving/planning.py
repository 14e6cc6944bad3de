"""From flags to a :class:`~serving.plan.RunPlan`: which market, which world, how fast."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.files import matching_funding
from domain.canonical import plain
from domain.errors import DataRefused, UsageError
from domain.market import market_of
from domain.times import parse_timerange, timeframe_ms
from serving.market_files import BarsFile, funding_for, load_bars, require_bars
from serving.plan import RunPlan, SourceKind, replay_world, world_named
from serving.settings import Settings
from serving.system import SystemClock
from sim.worlds import DEMO_SEED

Source = Literal["auto", "live", "replay", "demo"]
DEMO_SPEED = 60.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the flags of ``up`` ask for.

    Attributes
    ----------
    source : None = what the settings say.
    """

    source: Source | None = None
    data: tuple[Path, ...] = ()
    funding: Path | None = None
    timerange: str | None = None
    speed: str | None = None
    profile: str | None = None
    config_files: tuple[Path, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
    local: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """A wish with nothing left open.

    Attributes
    ----------
    why : why it is this market, for people.
    """

    wish: Wish
    kind: SourceKind
    why: str
    settings: Settings

    def plan(self, ports: tuple[int, int]) -> RunPlan:
        """Return the plan of a run; see :func:`make_plan`."""
        return make_plan(self.wish, self.kind, self.settings, ports)


def resolve(wish: Wish, load: Callable[[str | None], Settings]) -> Resolved:
    """Choose market and profile, which the settings depend on.

    Parameters
    ----------
    load : profile → settings, with the flags of the wish on top.

    Raises
    ------
    SettingError, UsageError : if settings or flags make no sense.
    """
    wished = wish
    if wish.source is None:  # a file names its market better than a setting does
        settings = load(wish.profile)
        wished = replace(wish, source="replay" if wish.data else settings.data.source)
    kind, why = source_of(wished)
    profile = wished.profile or default_profile(kind)
    return Resolved(replace(wished, profile=profile), kind, why, load(profile))


def source_of(wish: Wish) -> tuple[SourceKind, str]:
    """Choose the market and say why.

    Raises
    ------
    UsageError : for ``live`` (there is no exchange connection yet), or ``replay`` without a file.
    """
    if wish.source == "live":
        raise UsageError(
            "--source live", "needs an exchange connection, which this version does not have yet",
            hint="Use --source replay --data FILE for real bars, or --source demo.",
        )  # fmt: skip
    if wish.source == "replay" or (wish.source == "auto" and wish.data):
        if not wish.data:
            raise UsageError("--source replay", "needs bars", hint="Add --data FILE.")
        return "replay", f"replaying real bars from {', '.join(p.name for p in wish.data)}"
    if wish.data:
        raise UsageError("--data", "goes with --source replay", wish.source)
    if wish.source == "demo":
        return "demo", "simulated market, as asked"
    return "demo", "no exchange connection in this version, so the market is simulated"


def default_profile(kind: SourceKind) -> str:
    """``demo`` on the demo market, ``strict`` elsewhere."""
    return "demo" if kind == "demo" else "strict"


def make_plan(wish: Wish, kind: SourceKind, settings: Settings, ports: tuple[int, int]) -> RunPlan:
    """Return the plan of a run.

    Parameters
    ----------
    ports : of the API and of Ray's dashboard, free ones.

    Raises
    ------
    UsageError, DataRefused : if files or ranges make no sense.
    """
    start, end = parse_timerange(wish.timerange) if wish.timerange else (None, None)
    paths = tuple(path.absolute() for path in wish.data)
    funding = wish.funding
    if kind == "replay":
        files = _judged(paths, settings.data.timeframe, (start, end))
        funding = _funding(files, wish.funding)
        left_out: Any = {
            "serving": True, "notify": True, "data": True, "models": {"trials_log"},
            "assertions": True,
        }  # fmt: skip
        rules = plain(settings.model_dump(mode="json", exclude=left_out))
        rules["horizon"] = settings.data.pred_horizon_steps
        contents = [f"{f.frame.symbol} {f.frame.timeframe} {f.sha256}" for f in files]
        world = replay_world(contents, (start, end), str(rules))
    else:
        world = world_named(f"demo-{DEMO_SEED}", settings.data.symbols, settings)
    if wish.fresh:
        world = f"{world}-{os.getpid()}"
    return RunPlan(
        source=kind,
        world=world,
        profile=wish.profile or default_profile(kind),
        speed=_speed(wish.speed, kind),
        data=tuple(str(path) for path in paths),
        funding=None if funding is None else str(funding),
        start_ms=start,
        end_ms=end,
        seed=DEMO_SEED,
        warm_up_days=settings.data.warm_up_days,
        config_files=tuple(str(path.absolute()) for path in wish.config_files),
        overrides=(*wish.overrides, ("VAR_DIR", str(settings.data.var_dir.absolute()))),
        host=settings.serving.api_host,
        port=ports[0],
        ray_dashboard_port=ports[1],
        local=wish.local,
        pid=os.getpid(),
    )


def _judged(
    paths: tuple[Path, ...], timeframe: str, span: tuple[int | None, int | None]
) -> list[BarsFile]:
    """Read every file now: what must not be used is refused here, not by a process in its log."""
    files = []
    for path in paths:
        file = load_bars(path, SystemClock())
        if timeframe_ms(file.frame.timeframe) != timeframe_ms(timeframe):
            raise DataRefused(
                path.name, f"must hold bars of TIMEFRAME={timeframe}", file.frame.timeframe,
                f"Add --set TIMEFRAME={file.frame.timeframe}.",
            )  # fmt: skip
        require_bars(file, *span)
        files.append(file)
    symbols = [file.frame.symbol for file in files]
    if len(set(symbols)) < len(symbols):
        raise UsageError("--data", "must be one file per symbol", symbols)
    return files


def _funding(files: list[BarsFile], given: Path | None) -> Path | None:
    perpetuals = [file for file in files if market_of(file.frame.symbol) == "perp"]
    if given is not None and len(perpetuals) != 1:
        raise UsageError(
            "--funding", "goes with exactly one perpetual", [file.path.name for file in files],
            "Leave it out: 0.01 % per 8 h is assumed where no rates are known.",
        )  # fmt: skip
    if len(perpetuals) != 1:
        return None  # a run knows one file of rates, and one pair's are not another's
    path = given or matching_funding(perpetuals[0].path)
    funding_for(perpetuals[0], perpetuals[0].frame.symbol, path, charged=True)
    return None if path is None else path.absolute()


def _speed(text: str | None, kind: SourceKind) -> float | None:
    if text is None:
        return DEMO_SPEED if kind == "demo" else None
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not (speed > 0 and math.isfinite(speed)):
        raise UsageError("--speed", "must be a positive number or max", text, "Try --speed 60")
    return speed
