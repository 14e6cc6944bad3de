"""What one run of the system is: agreed on once by ``up``, read by every process of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from domain.canonical import short_hash
from domain.errors import ServiceUnreachable, SettingError
from serving.settings import Settings

SourceKind = Literal["demo", "replay", "live"]
RUN_FILE = "run.json"
_AT = "-at-"  # in names of worlds: another server than the exchange's own
_REPLAY, _MADE_REPLAY = "replay-", "replay-simulated-"


@dataclass(frozen=True, slots=True)
class VenueRun:
    """The local exchange of a run, which is started beside it.

    Attributes
    ----------
    start_ms : its market time at ``began_ms`` of the wall; it goes on at the plan's speed.
    """

    port: int
    start_ms: int
    began_ms: int


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The market, the world its memory belongs to, and how fast time passes.

    Attributes
    ----------
    world : names the market in the ledger; what is learned in one never weighs in another.
    speed : market seconds per wall second; None = as fast as possible.
    start_ms, end_ms : half-open range of bar opens to replay, or None.
    exchange_url : of a live market that is not at the exchange's own address.
    market : that market's name where it says itself which it is and how fast it goes; it keeps a
        time of its own. None = it is at the wall's.
    made_bars : whether the files that are replayed are of a simulated market.
    venue : the local exchange where the simulated market is traded; None = without one.
    execution : whether orders are simulated, or go to the exchange.
    serve_url : where API and agents answer if not on ``host`` and ``port`` of this machine.
    """

    source: SourceKind
    world: str
    profile: str
    speed: float | None
    data: tuple[str, ...] = ()
    funding: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    seed: int = 7
    warm_up_days: int = 0
    config_files: tuple[str, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    ray_dashboard_port: int = 8265
    serve_url: str | None = None
    local: bool = False
    pid: int = 0
    exchange_url: str | None = None
    market: str | None = None
    made_bars: bool = False
    venue: VenueRun | None = None
    execution: Literal["paper", "live"] = "paper"

    @property
    def address(self) -> str:
        """Where the API answers."""
        if self.serve_url is not None:
            return self.serve_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def live(self) -> bool:
        """Whether an exchange is listened to, be it the local one."""
        return self.source == "live" or self.venue is not None

    @property
    def at_wall_time(self) -> bool:
        """Whether the market is as far as this machine's clock."""
        return self.source == "live" and self.market is None

    @property
    def simulated(self) -> bool:
        """Whether the market is not an exchange's own."""
        return self.source == "demo" or self.exchange_url is not None or self.made_bars

    def save(self, var_dir: Path) -> Path:
        """Write the plan to ``VAR_DIR/run.json`` and return the path."""
        path = var_dir / RUN_FILE
        temporary = path.with_suffix(".tmp")
        try:
            var_dir.mkdir(parents=True, exist_ok=True)
            # Flags may hold secrets: for the owner's eyes only.
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self), indent=1) + "\n")
            temporary.replace(path)
        except OSError as error:
            raise SettingError(
                "VAR_DIR", "must be a writable folder", str(var_dir), f"{error.strerror}."
            ) from error
        return path


def load_plan(path: Path) -> RunPlan:
    """Read a plan back.

    Raises
    ------
    ServiceUnreachable : if there is none, so nothing was ever started here, or it is damaged.
    """
    try:
        return TypeAdapter(RunPlan).validate_json(path.read_bytes())
    except OSError:
        raise ServiceUnreachable(
            "conclave",
            "has not been started with this VAR_DIR",
            str(path.parent),
            "Try: make run, or conclave up",
        ) from None
    except ValidationError:
        raise ServiceUnreachable(
            "run.json", "is damaged, so nobody knows where this run answers", str(path),
            "Start the system anew: make run",
        ) from None  # fmt: skip


def known(plan: str | RunPlan) -> RunPlan:
    """Return a plan that was handed over, or where it lies: flags in a file may hold secrets."""
    return load_plan(Path(plan)) if isinstance(plan, str) else plan


def world_named(market: str, symbols: Sequence[str], settings: Settings) -> str:
    """Name a world: other symbols, bars, horizon or execution market make another world.

    What one of them learned or holds must never be mixed with another's.
    """
    data, execution = settings.data, settings.execution
    kind = [sorted(symbols), data.timeframe, data.pred_horizon_steps, execution.market]
    usual = [["BTC/USDT"], "5m", 5, "perp"]
    return market if kind == usual else f"{market}-{short_hash(kind, 6)}"


def server_name(exchange: str, url: str | None) -> str:
    """Name an exchange; another server of its protocol is another market."""
    return exchange if url is None else f"{exchange}{_AT}{short_hash(url, 6)}"


def told_world(world: str, market: str) -> str:
    """Name a world of a server that names its market, which need not be the one it had before."""
    return f"{world}-{short_hash(market, 6)}" if market else world


def simulated_world(world: str) -> bool:
    """Return whether a world's name is that of no exchange's own market, nor of its bars."""
    return world.startswith(("demo-", _MADE_REPLAY)) or _AT in world


def replay_world(
    contents: Sequence[str],
    timerange: tuple[int | None, int | None],
    rules: str,
    *,
    made: bool = False,
) -> str:
    """Name a replay: the same bars of the same markets, range and rules continue a session.

    Parameters
    ----------
    contents : what each file holds: symbol, timeframe and hash; the order does not matter.
    made : whether they are bars of a simulated market.
    """
    told = short_hash([sorted(contents), list(timerange), rules], 10)
    return f"{_MADE_REPLAY if made else _REPLAY}{told}"
