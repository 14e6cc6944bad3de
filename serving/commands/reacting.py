"""``assertions`` and ``proposals``: what must hold of the ledger, and what follows where not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from domain.errors import CheckFailed
from serving.commands.common import (
    Config,
    Json,
    Set,
    api,
    call,
    current_plan,
    out,
    print_json,
    settings_from,
)

app = typer.Typer(help="What the system proposes, and your decision.", no_args_is_help=True)

MEASURING_SECONDS = 310.0
ProposalId = Annotated[int, typer.Argument(min=1, help="as conclave proposals list shows it")]
Why = Annotated[str, typer.Option("--why", help="kept beside the decision")]


def register(app: typer.Typer) -> None:
    """Add the commands that stand alone."""
    app.command()(assertions)


def assertions(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Measure what must hold of the ledger; exits 1 if something does not.

    What fails opens a proposal. A running desk does this once a day of market time by itself.
    """
    from serving.offline import assertions as measured
    from serving.offline import desk_runs

    settings = settings_from(None, config, sets)
    plan = current_plan(settings)
    if desk_runs(plan):
        with api(plan, settings, writes=True, timeout=MEASURING_SECONDS) as client:
            body = call(client, "POST", "/v1/assertions")
    else:
        body = measured(plan)
    if json:
        print_json({"at": body["at"], "items": body["items"]})
    else:
        _tell(body["items"])
    failed = [row["name"] for row in body["items"] if row["passed"] is False]
    if failed:
        raise CheckFailed("assertions", "must hold", ", ".join(failed), "conclave proposals list")


@app.command("list")
def list_proposals(
    state: Annotated[
        Literal["open", "accepted", "rejected"] | None, typer.Option(help="only these")
    ] = None,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """List what the system proposes, newest first."""
    from serving.schema import proposal_of

    found = [proposal_of(one) for one in _proposals(config, sets).list(state=state, limit=1000)]
    if json:
        print_json({"items": found})
        return
    table = Table("id", "state", "since", "what", "change", box=None)
    for row in found:
        body = row["body"]
        table.add_row(
            str(row["id"]), row["state"], row["created_at"], body.get("what", row["kind"]),
            _change(body) or body.get("action", ""),
        )  # fmt: skip
    out.print(table)


@app.command()
def accept(
    proposal_id: ProposalId, why: Why = "", json: Json = False, config: Config = None,
    sets: Set = None,
) -> None:  # fmt: skip
    """Accept a proposal; it prints the change to make and changes nothing by itself."""
    _decide(proposal_id, why, config, sets, accepted=True, json=json)


@app.command()
def reject(
    proposal_id: ProposalId, why: Why = "", json: Json = False, config: Config = None,
    sets: Set = None,
) -> None:  # fmt: skip
    """Reject a proposal."""
    _decide(proposal_id, why, config, sets, accepted=False, json=json)


def _decide(
    number: int, why: str, config: Config, sets: Set, *, accepted: bool, json: bool
) -> None:
    from serving.killing import REASON_CHARACTERS, clean_text
    from serving.schema import proposal_of
    from serving.system import SystemClock

    now = SystemClock().now()
    reason = clean_text(why, REASON_CHARACTERS)
    done = proposal_of(
        _proposals(config, sets).decide(number, accept=accepted, by="cli", at=now, why=reason)
    )
    if json:
        print_json(done)
        return
    out.print(f"proposal {number} {done['state']}", style="green")
    if accepted:
        told = _change(done["body"]) or done["body"].get("action", "")
        out.print(f"Nothing changes by itself. To do: {told}", markup=False)


def _change(body: dict[str, Any]) -> str:
    change = body.get("change")
    if not change:
        return ""
    group, _, field = change["setting"].partition(".")
    variable = f"CONCLAVE_{group.upper()}__{field.upper()}"
    return f"{change['setting']}: {change['now']} → {change['to']} ({variable}={change['to']})"


def _proposals(config: Config, sets: Set) -> Any:
    from serving.bootstrap.storage import open_storage
    from storage.proposals import Proposals

    return Proposals(open_storage(settings_from(None, config, sets)))


def _tell(items: list[dict[str, Any]]) -> None:
    table = Table("", "assertion", "value", "limit", "n", "finding", box=None)
    for row in items:
        mark = {True: "[green]ok[/]", False: "[red]no[/]", None: "[dim]–[/]"}[row["passed"]]
        value, limit = (_figure(row[key]) for key in ("value", "limit"))
        bound = "" if row["limit"] is None else f"{row['rule']} {limit}"
        table.add_row(mark, row["name"], value, bound, str(row["n"]), row["why"])
    out.print(table)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
