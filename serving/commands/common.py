"""What every command shares: its flags, its console, and how it finds the running system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from domain.canonical import canonical_json
from domain.errors import NotFound, SettingError, UsageError
from serving.auth import token_of
from serving.plan import RUN_FILE, RunPlan, load_plan
from serving.settings import Settings, load_settings
from serving.settings.model import is_loopback
from serving.system import environment

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from serving.client import Client

T = TypeVar("T")
_WHERE = ("data.var_dir", "serving.database_url", "serving.api_token")  # a run is, and who may ask

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Profile = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="strict, balanced, demo, exercise, oracle, chronos-only"),
]
Config = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="YAML file with settings; repeatable, later wins"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="a setting as NAME=VALUE, e.g. PROB_MIN=0.55; repeatable"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON only")]
DataFile = Annotated[
    Path, typer.Option("--data", help="bars as Parquet or CSV (ts open ms, OHLCV)", metavar="FILE")
]
TimeRange = Annotated[
    str | None,
    typer.Option("--timerange", help="half-open range of bar opens, e.g. 20250101-20250701"),
]


def pairs(sets: Sequence[str] | None) -> dict[str, str]:
    """Read ``NAME=VALUE`` flags.

    Raises
    ------
    UsageError : if one has no ``=``.
    """
    found = {}
    for text in sets or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError("--set", "must be NAME=VALUE", text, "Try --set PROB_MIN=0.55")
        found[name.strip().upper()] = value.strip()
    return found


def settings_from(
    profile: str | None = None,
    config: Sequence[Path] | None = None,
    sets: Sequence[str] | None = None,
    under: Mapping[str, object] | None = None,
) -> Settings:
    """Load the settings as flags, environment and files give them, over those of ``under``."""
    return load_settings(
        env=environment(),
        profile=profile,
        config_files=config or (),
        overrides=pairs(sets),
        under=under or {},
        dotenv=Path(".env"),
    )


def settings_regardless(
    config: Sequence[Path] | None = None, sets: Sequence[str] | None = None
) -> tuple[Settings, bool]:
    """Load what says where a run is, if need be without all the rest: for what stops a desk.

    What is wrong with the settings is shown and holds nothing up.

    Returns
    -------
    The settings, and whether they are all of them.

    Raises
    ------
    SettingError : if that, too, makes no sense.
    """
    try:
        return settings_from(None, config, sets), True
    except SettingError as error:
        err.print(f"going on without the settings: {error.message}", style="yellow", markup=False,
                  soft_wrap=True)  # fmt: skip
    found = load_settings(
        env=environment(), profile=None, config_files=config or (), overrides=pairs(sets),
        dotenv=Path(".env"), only=_WHERE,
    )  # fmt: skip
    return found, False


def print_json(body: Any) -> None:
    """Print one line of canonical JSON on standard output."""
    typer.echo(canonical_json(body))


def in_any_world(engine: Engine, signal_id: str, ask: Callable[[str], T | None]) -> T:
    """Ask every world of a ledger about a decision, the one written to last first.

    Raises
    ------
    NotFound : if ``ask(world)`` is None for all of them.
    """
    from storage.queries import worlds

    for world in worlds(engine):
        found = ask(world.world)
        if found is not None:
            return found
    raise NotFound("signal", "is not in this ledger", signal_id, "conclave status lists the last.")


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while something long goes on; yields ``tick(done, total)``."""
    bar = Progress(
        TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=err, disable=quiet or not err.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def progress_steps(*, quiet: bool = False) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Show a bar for each part of long work; yields ``step(title)``, which returns its tick."""
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=err, disable=quiet or not err.is_terminal, transient=True,
    )  # fmt: skip

    def step(title: str) -> Callable[[int, int], None]:
        if not quiet and not err.is_terminal:
            err.print(f"{title} …", style="dim", markup=False)
        task = bars.add_task(title, total=None)
        return lambda done, total: bars.update(task, completed=done, total=total)

    with bars:
        yield step


# The running system


def current_plan(settings: Settings) -> RunPlan:
    """Return the plan of the run in VAR_DIR, running or the last one."""
    return load_plan(settings.data.var_dir / RUN_FILE)


def api(
    plan: RunPlan, settings: Settings, *, writes: bool = False, timeout: float = 10.0
) -> Client:
    """Return a client for the API of a run, with the token where the API asks for it."""
    from serving.client import Client, Repeating  # most commands call nobody

    token = None
    if writes or not is_loopback(plan.host):
        configured = settings.serving.api_token
        given = None if configured is None else configured.get_secret_value()
        token = token_of(settings.data.var_dir, given)
    return Client(plan.address, token, timeout=timeout, repeating=Repeating(times=0))


def call(
    client: Client, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Call the API and return its JSON.

    Raises
    ------
    ServiceUnreachable : if nothing answers.
    ConclaveError : what the API refused, in its own words.
    """
    from serving.client import raw

    return client(raw(method, path, body))
