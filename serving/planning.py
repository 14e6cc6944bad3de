"""From flags to a :class:`~serving.plan.RunPlan`: which market, which world, how fast."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.files import matching_funding
from data.origin import origin_of_file
from domain.addresses import without_user
from domain.canonical import plain
from domain.errors import DataRefused, UsageError
from domain.market import market_of
from domain.times import parse_timerange, timeframe_ms
from serving.market_files import BarsFile, funding_for, load_bars, require_bars
from serving.plan import RunPlan, SourceKind, replay_world, server_name, world_named
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
    traded : whether the simulated market is to be traded at an exchange of this machine.
    """

    wish: Wish
    kind: SourceKind
    why: str
    settings: Settings
    traded: bool = False

    def plan(self, ports: tuple[int, int]) -> RunPlan:
        """Return the plan of a run; see :func:`make_plan`."""
        return make_plan(self.wish, self.kind, self.settings, ports)


Reaches = Callable[[Settings], bool]
"""Whether the exchange that settings name answers now."""


def resolve(
    wish: Wish, load: Callable[[str | None], Settings], reaches: Reaches | None = None
) -> Resolved:
    """Choose market and profile, which the settings depend on.

    Parameters
    ----------
    load : profile → settings, with the flags of the wish on top.
    reaches : asked where the market is ``auto``; None = no exchange is looked for, as where several
        processes have to come to the same answer.

    Raises
    ------
    SettingError, UsageError : if settings or flags make no sense.
    """
    wished = wish
    if wish.source is None:  # a file names its market better than a setting does
        settings = load(wish.profile)
        wished = replace(wish, source="replay" if wish.data else settings.data.source)
    reached = None
    if wished.source == "auto" and reaches is not None and not wished.data:
        settings = load(wished.profile)
        reached = settings.data.exchange if reaches(settings) else ""
    kind, why = source_of(wished, reached)
    profile = wished.profile or default_profile(kind)
    traded = kind == "demo" and reached is not None and wished.speed != "max"
    settings = load(profile)
    if kind == "live" and settings.data.exchange_url is not None:
        why = f"live: the server at {without_user(settings.data.exchange_url)}"
    return Resolved(replace(wished, profile=profile), kind, why, settings, traded)


def source_of(wish: Wish, reached: str | None = None) -> tuple[SourceKind, str]:
    """Choose the market and say why.

    Parameters
    ----------
    reached : the exchange that answers, empty if none does; None if nobody looked.

    Raises
    ------
    UsageError : for ``replay`` without a file, or a speed that an exchange does not have.
    """
    if wish.source == "live" or (wish.source == "auto" and reached):
        if wish.data:
            raise UsageError("--data", "goes with --source replay", wish.source)
        if wish.speed is not None:
            raise UsageError("--speed", "is the exchange's own where it is live", wish.speed)
        answers = "" if reached is None else f" {reached} answers:"
        return "live", f"live:{answers} public data of the exchange"
    if wish.source == "replay" or (wish.source == "auto" and wish.data):
        if not wish.data:
            raise UsageError("--source replay", "needs bars", hint="Add --data FILE.")
        made = "simulated" if _made(wish.data) else "real"
        return "replay", f"replaying {made} bars from {', '.join(p.name for p in wish.data)}"
    if wish.data:
        raise UsageError("--data", "goes with --source replay", wish.source)
    if wish.source == "demo":
        return "demo", "simulated market, as asked"
    if reached is None:
        return "demo", "simulated market"
    return "demo", "no exchange answers, so the market is simulated, at an exchange of this machine"


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
    funding, made = wish.funding, _made(paths)
    if kind == "replay":
        files = _judged(paths, settings.data.timeframe, (start, end))
        funding = _funding(files, wish.funding)
        left_out: Any = {
            "serving": True, "notify": True, "data": True, "models": {"trials_log"},
            "assertions": True, "feed": True, "resources": True,
        }  # fmt: skip
        rules = plain(settings.model_dump(mode="json", exclude=left_out))
        rules["horizon"] = settings.data.pred_horizon_steps
        contents = [f"{f.frame.symbol} {f.frame.timeframe} {f.sha256}" for f in files]
        world = replay_world(contents, (start, end), str(rules), made=made)
    elif kind == "live":
        name = server_name(settings.data.exchange, settings.data.exchange_url)
        world = world_named(name, settings.data.symbols, settings)
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
        exchange_url=settings.data.exchange_url if kind == "live" else None,
        made_bars=made,
    )


def _made(paths: tuple[Path, ...]) -> bool:
    return any(origin_of_file(path).simulated for path in paths)


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
    if kind == "live":
        return 1.0
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
