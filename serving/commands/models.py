"""``conclave models``: which models there are, and which are in use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from domain.errors import ModelError, NotFound
from serving.commands.common import Config, Json, Set, err, out, print_json, settings_from

if TYPE_CHECKING:
    from agents.mirror import Mirror
    from serving.settings import Settings

app = typer.Typer(help="List, promote and roll back trained models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="e.g. baseline/trend", show_default=False)]


@app.command("list")
def list_(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """List every version, shipped or trained here, and mark those in use.

    With MODELS_URL what the store has is brought here first.
    Example: conclave models list --json
    """
    from domain.cards import SHIPPED
    from serving.promotion import admission
    from serving.registry import listing

    settings = settings_from(None, config, sets)
    problems = _brought(settings)
    rows = listing(settings.data.models_dir, admits=admission(settings))
    if json:
        body = {"items": [row.as_json() for row in rows]}
        print_json(body if settings.data.models_url is None else {**body, "problems": problems})
        return
    for line in problems:
        out.print(line, style="yellow", markup=False)
    table = Table(
        "model", "version", "", "market", "seen until", box=None, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    for row in rows:
        state = "[green]in use[/]" if row.in_use else "promoted" if row.promoted else ""
        place = "shipped" if row.place == SHIPPED else ""
        market, until = ("", "") if row.card is None else (
            f"{row.card.symbol} {row.card.timeframe}", row.as_json()["seen_until"][:10]
        )  # fmt: skip
        table.add_row(row.name, row.version, " ".join(filter(None, (state, place))), market, until)
    out.print(table if rows else "No models. Try: conclave train trend --model baseline --data …")
    for row in rows:
        if row.note or row.problem:
            told = row.note or f"{row.name} {row.version} cannot be used: {row.problem}"
            out.print(told, style="yellow", markup=False)


@app.command()
def promote(
    name: Name,
    version: Annotated[
        str | None, typer.Argument(help="default: the newest trained here", show_default=False)
    ] = None,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Put a version trained here into use; a running system moves to it within seconds.

    It is refused, and the one before stays, if its bytes are not those of its card, if its
    horizon, bars or features are not those of the settings, if it was worse than climatology in
    validation, or if its forecasts on a generated market cannot be.
    Example: conclave models promote baseline/trend
    """
    from agents import artifacts
    from serving.promotion import require_sound
    from serving.registry import require_name

    settings = settings_from(None, config, sets)
    root = settings.data.models_dir
    store = _looked_into(settings, name)
    require_name(root, name)
    known = artifacts.versions(root, name)
    if not known:
        raise NotFound(
            name, "has no version trained here to promote", hint="The shipped one is in use."
        )
    chosen = version or known[-1]
    if chosen not in known:
        told = f"There are: {', '.join(known)}; what ships: conclave models rollback {name}"
        raise NotFound(name, "can only promote a version trained here", chosen, told)
    skill = require_sound(settings, name, chosen)
    before = _promoted(root, name)
    if store is not None:
        store.push(name, chosen)
    artifacts.promote(root, name, chosen, None if store is None else store.publish)
    if json:
        print_json({"name": name, "version": chosen, "before": before, "skill": skill})
    else:
        instead = "what ships" if artifacts.versions(artifacts.SHIPPED, name) else "none"
        out.print(f"[green]{name}[/] {chosen} is in use; before: {before or instead}")
        out.print(f"{skill} A running system moves to it within seconds.", markup=False)


@app.command()
def rollback(name: Name, json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Return to the version promoted before, or to what ships.

    Example: conclave models rollback baseline/trend
    """
    from agents import artifacts
    from serving.registry import require_name

    settings = settings_from(None, config, sets)
    root = settings.data.models_dir
    store = _looked_into(settings, name)
    require_name(root, name)
    before = _promoted(root, name)
    now = artifacts.rollback(root, name, None if store is None else store.publish)
    if json:
        print_json({"name": name, "version": now, "before": before})
    else:
        out.print(f"[green]{name}[/] {now or 'what ships'} is in use; before: {before}")


def _brought(settings: Settings) -> list[str]:
    """Bring what the store has; return why some of it, or all, is not here."""
    from agents.mirror import Unreachable
    from serving.model_store import mirror_of

    store = mirror_of(settings)
    try:
        return [] if store is None else store.bring()
    except Unreachable as error:
        return [f"{error.message}; this is what lies in MODELS_DIR."]


def _looked_into(settings: Settings, name: str) -> Mirror | None:
    """The store, if there is one, once what it knows of a model is here; it must answer."""
    from serving.model_store import mirror_of

    store = mirror_of(settings)
    for refused in [] if store is None else store.bring(f"{name}/"):
        err.print(refused, style="yellow", markup=False)
    return store


def _promoted(root: Path, name: str) -> str | None:
    from agents import artifacts

    try:
        return artifacts.promoted(root, name)
    except ModelError:  # half written: promoting again mends it
        return None
