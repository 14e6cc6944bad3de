"""``status``, ``kill``, ``arm``, ``doctor``: keeping an eye and a hand on the running system."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.table import Table

from domain.errors import CheckFailed, ConclaveError
from serving.commands.common import (
    Config,
    Json,
    Set,
    api,
    call,
    current_plan,
    err,
    out,
    print_json,
    settings_from,
    settings_regardless,
)
from serving.feed_words import feed_line
from serving.killing import REASON_CHARACTERS, KillOrder, clean_text, write_kill
from serving.plan import RUN_FILE
from serving.settings import Settings

Why = Annotated[str, typer.Option("--why", help="written into the ledger")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command()(kill)
    app.command()(arm)
    app.command()(doctor)


def status(json: Json = False, config: Config = None, sets: Set = None) -> int:
    """Show what is running, how it is, and the last decisions; exits 4 if nothing runs.

    Example: conclave status --json
    """
    settings = settings_from(None, config, sets)
    plan = current_plan(settings)
    with api(plan, settings) as client:
        body: dict[str, Any] = {
            "address": plan.address,
            "profile": plan.profile,
            "health": call(client, "GET", "/v1/system/health"),
            "risk": call(client, "GET", "/v1/risk/state"),
            "account": call(client, "GET", "/v1/equity?points=2")["account"],
            "agents": call(client, "GET", "/v1/agents")["items"],
            "weights": call(client, "GET", "/v1/agents/weights")["items"],
            "signals": call(client, "GET", "/v1/signals?limit=5")["items"],
        }
    if json:
        print_json(body)
    else:
        _tell_status(body)
    return 0 if body["health"]["status"] == "ok" else 1


def kill(
    freeze: Annotated[
        bool, typer.Option("--freeze", help="leave open positions to their stops and targets")
    ] = False,
    why: Why = "",
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Close everything at the market and refuse all entries until armed; works when all is down.

    Example: conclave kill --why "news" · conclave kill --freeze
    """
    settings, whole = settings_regardless(config, sets)
    order = KillOrder(_reason(why), flatten=not freeze)
    try:
        with api(current_plan(settings), settings, writes=True, timeout=5.0) as client:
            request = {"why": order.why, "flatten": order.flatten}
            body = call(client, "POST", "/v1/risk/kill", request)
    except ConclaveError as error:  # whatever went wrong on the way there, the file works
        path = write_kill(settings.data.var_dir, order)
        err.print(f"{error.message}; wrote {path} instead", markup=False, soft_wrap=True)
        body = {"mode": "KILLED", "changed": True, "file": str(path)}
    done = "positions are closed" if order.flatten else "positions keep their stops and targets"
    if json:
        print_json(body)
    elif "file" in body:
        out.print(f"as soon as the desk sees the file: {done}, entries refused", style="red")
    else:
        out.print(f"risk mode {body['mode']}: {done}, entries refused", style="red")
    if not whole and not (settings.data.var_dir / RUN_FILE).exists():
        raise CheckFailed(
            "kill", "must know where the run is, and no run was started there",
            str(settings.data.var_dir), "Say where it is: conclave kill --set VAR_DIR=…",
        )  # fmt: skip
    _tell_left_alone(settings)


def _tell_left_alone(settings: Settings) -> None:
    """Name what live accounts have open that no kill of this run closes, if the ledger answers."""
    from serving.bootstrap.storage import open_storage
    from serving.going_live_open import left_alone, words

    with suppress(ConclaveError):
        plan = current_plan(settings)
        for world, held in left_alone(open_storage(settings), plan).items():
            left = f"the live account of world {world} has open {words(held)} by its ledger"
            err.print(f"not closed by this: {left}; see conclave live disable", style="red",
                      markup=False, soft_wrap=True)  # fmt: skip


def arm(
    confirm: Annotated[str | None, typer.Option(help="code of the first step")] = None,
    why: Why = "",
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Allow trading again after KILLED or HALTED, in two steps.

    Example: conclave arm · conclave arm --confirm 3fa91c
    """
    settings = settings_from(None, config, sets)
    request = {"why": _reason(why)}
    with api(current_plan(settings), settings, writes=True) as client:
        body = call(client, "POST", "/v1/risk/arm", {**request, "confirm": confirm})
        if "confirm" in body and not json and sys.stdin.isatty():
            if not typer.confirm("Allow new positions again?"):
                raise typer.Exit(1)
            body = call(client, "POST", "/v1/risk/arm", {**request, "confirm": body["confirm"]})
    if json:
        print_json(body)
    elif "confirm" in body:
        out.print(f"To go on: conclave arm --confirm {body['confirm']}")
    else:
        out.print(f"risk mode {body['mode']}", style="green")


def doctor(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Check this machine and this installation; exits 1 if something needs attention."""
    from serving.examination import examine

    findings = examine(settings_from(None, config, sets))
    if json:
        print_json({"findings": findings})
    else:
        table = Table("", "check", "found", "what to do", box=None)
        for finding in findings:
            mark = {True: "[green]ok[/]", False: "[red]no[/]", None: "[dim]–[/]"}[finding.ok]
            table.add_row(mark, finding.name, finding.detail, "" if finding.ok else finding.hint)
        out.print(table)
    bad = [finding.name for finding in findings if finding.ok is False]
    if bad:
        raise CheckFailed("doctor", f"{len(bad)} of {len(findings)} checks failed", bad)


def _reason(why: str) -> str:
    """One line that every store takes: a long or odd reason must not stop a kill."""
    return clean_text(why, REASON_CHARACTERS) or "command line"


def _tell_status(body: dict[str, Any]) -> None:
    health, account = body["health"], body["account"]
    color = "green" if health["status"] == "ok" else "yellow"
    out.print(
        f"[bold {color}]{health['status']}[/]  {health['world']}  profile {body['profile']}  "
        f"{body['address']}"
    )
    _tell_market(health)
    near = [one["name"] for one in health["resources"] if one["alert"]]
    for problem in [*health["problems"], *([f"near its limit: {', '.join(near)}"] if near else [])]:
        out.print(problem, style="yellow", markup=False)
    for name, kind in (("drift", "drifts"), ("assertions", "failures")):
        if found := health[kind]:
            told = f"{name}: {len(found)} open proposals, the last: {found[0]['what']}"
            out.print(told, style="yellow", markup=False)
    desk = health["desk"]
    done = "" if desk["done"] is None else f" {100 * desk['done']:.0f} %"
    out.print(f"desk: {desk['phase']}{done}, as of {desk['as_of']}, opinions via {desk['via']}")
    if feed := health["feed"]:
        out.print(feed_line(feed), style="" if feed["ready"] else "yellow", markup=False)
    _tell_risk(body["risk"])
    if gate := health["gate"]:
        out.print(gate_line(gate), style="yellow" if gate["problem"] else "", markup=False)
    if account is not None:
        out.print(
            f"equity {float(account['equity']):,.2f} {account['currency']}, "
            f"{len(account['positions'])} open positions"
        )
    versions = {agent["name"]: agent["version"] for agent in body["agents"]}
    weights = Table("agent", "weight", "skill ×10⁴", "scored", "version", box=None)
    for row in body["weights"]:
        skill = "–" if row["skill_1e4"] is None else f"{row['skill_1e4']:+.1f}"
        weights.add_row(
            row["agent"], f"{100 * (row['weight'] or 0):.1f} %", skill, str(row["n"]),
            versions.get(row["agent"]) or "–",
        )  # fmt: skip
    out.print(weights)
    for signal in body["signals"]:
        out.print(
            f"{signal['as_of'][:16]}Z {signal['symbol']} {signal['decision']:<8} "
            f"{signal['reason']}",
            style="dim", markup=False,
        )  # fmt: skip


def _tell_market(health: dict[str, Any]) -> None:
    if health["execution"] == "live":
        out.print("LIVE: orders go to the exchange", style="bold red")
    if health["simulated"]:
        out.print("simulated market", style="yellow")


def gate_line(gate: dict[str, Any]) -> str:
    """Say what the gate has earned, in a line."""
    if gate["problem"]:
        return f"gate: none can be used, everything passes: {gate['problem']}"
    bounds = [gate["lower_bps"], gate["upper_bps"]]
    low, high = ("…" if bound is None else f"{bound:+.2f}" for bound in bounds)
    return (
        f"gate: {gate['state']}, {gate['differed']} of {gate['judged']} decisions judged otherwise "
        f"({gate['needed']} needed), {gate['mean_difference_bps']:+.2f} bps a bar over no gate "
        f"[{low}, {high}]"
    )


def _tell_risk(risk: dict[str, Any]) -> None:
    why = f": {risk['why']}" if risk["mode"] != "ACTIVE" and risk["why"] else ""
    out.print(f"risk mode {risk['mode']}{why}", markup=False)
    table = Table("limit", "now", "at", "distance", "stops", box=None)
    for check in risk["checks"]:
        if check["name"] != "mode":
            cells = [_figure(check[name]) for name in ("value", "limit", "margin")]
            style = "" if check["passed"] else "red"
            table.add_row(check["name"], *cells, check["stops"], style=style)
    if risk["checks"]:
        out.print(table)


def _figure(value: float | str | None) -> str:
    if isinstance(value, float | int):
        return f"{value:.4g}"
    return "–" if value is None else value.replace("_", " ")
