"""``conclave token``: who else may ask, and for what."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from serving.commands.common import Config, Json, Set, err, out, print_json, settings_from
from serving.scopes import SCOPES
from serving.system import SystemClock
from serving.tokens import TokenFile

app = typer.Typer(help="Named tokens for the API, each with its scopes.", no_args_is_help=True)

TokenName = Annotated[str, typer.Argument(help="1–32 of a–z, 0–9, _ and -; the audit tells it")]
Scopes = Annotated[
    list[str],
    typer.Option("--scope", help=f"{', '.join(SCOPES)}; repeatable"),
]


@app.command()
def create(
    name: TokenName, scope: Scopes, json: Json = False, config: Config = None, sets: Set = None
) -> None:
    """Make a token and show it, this once; only its SHA-256 is kept.

    Example: conclave token create dashboard --scope read --scope signal
    """
    token = _file(config, sets).create(name, scope, SystemClock().now())
    if json:
        print_json({"name": name, "scopes": scope, "token": token})
        return
    out.print(token, markup=False)
    err.print("Shown this once. Send it as Authorization: Bearer …", style="dim", markup=False)


@app.command("list")
def list_(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """List the tokens that were made, without showing them."""
    rows = [token.model_dump(exclude={"sha256"}) for token in _file(config, sets).read()]
    if json:
        print_json({"items": rows})
        return
    table = Table("name", "scopes", "made", "revoked", box=None)
    for row in rows:
        table.add_row(
            row["name"], ", ".join(row["scopes"]), row["created_at"], row["revoked_at"] or ""
        )
    out.print(table if rows else "None yet. Try: conclave token create NAME --scope read")


@app.command()
def revoke(name: TokenName, json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Make a token worthless; a running API knows within a second."""
    gone = _file(config, sets).revoke(name, SystemClock().now())
    if json:
        print_json(gone.model_dump(exclude={"sha256"}))
    else:
        out.print(f"{name} is revoked", style="green", markup=False)


@app.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many, newest first")] = 20,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Show who changed what over HTTP, and how it ended; newest first."""
    from domain.times import iso
    from serving.bootstrap.storage import open_storage
    from storage.audit import Audit

    entries = Audit(open_storage(settings_from(None, config, sets))).list(limit=limit)
    if json:
        rows = [{"at": iso(e.at), "by": e.actor, "action": e.action, **e.body} for e in entries]
        print_json({"items": rows})
        return
    table = Table("at", "by", "action", "status", "request id", box=None)
    for entry in entries:
        body = entry.body
        told = (str(body.get("status", "")), str(body.get("request_id", "")))
        table.add_row(iso(entry.at), entry.actor, entry.action, *told)
    out.print(table if entries else "Nothing yet.")


def _file(config: Config, sets: Set) -> TokenFile:
    settings = settings_from(None, config, sets)
    return TokenFile(settings.tokens_file())
