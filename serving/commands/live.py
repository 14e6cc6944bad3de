"""``live``: whether orders go to the exchange, and the long way there."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from domain.canonical import plain
from domain.errors import CheckFailed, ConclaveError, UsageError
from domain.times import iso
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
    progress_bar,
    settings_from,
    settings_regardless,
)
from serving.killing import KillOrder, write_kill
from serving.plan import RunPlan
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.going_live_open import Open, Told

app = typer.Typer(help="Real orders: off until enabled, step by step.", no_args_is_help=True)

REHEARSED_HERE = "the local exchange"
_ON_PAPER = "the last run traded on paper"


@app.command("status")
def status(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Show where live trading stands, and each condition with its value and limit.

    Example: conclave live status
    """
    settings = settings_from(None, config, sets)
    body = _standing(settings)
    if json:
        print_json(body)
    else:
        _tell(body)


@app.command("rehearse")
def rehearse(
    orders: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="default: live.rehearsal_orders, live.testnet_orders"),
    ] = None,
    testnet: Annotated[
        bool, typer.Option("--testnet", help="at the exchange's own testnet, with a key of it")
    ] = False,
    seed: Annotated[int, typer.Option(help="of the market and of what goes wrong")] = 7,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Carry out orders at a local exchange by the live broker, with lost answers; exits 1 if any
    was lost or doubled, or the money differs.

    Example: conclave live rehearse · conclave live rehearse --testnet
    """
    from serving.going_live_rehearsal import rehearse as at_home
    from serving.going_live_testnet import rehearse_at_testnet
    from serving.system import SystemClock, git_commit

    settings = settings_from(None, config, sets)
    record, clock = _record(settings), SystemClock()
    live, where = settings.live, REHEARSED_HERE
    with progress_bar("orders", quiet=json) as tick:
        if testnet:
            where = f"{settings.data.exchange}'s testnet"
            done = rehearse_at_testnet(settings, orders or live.testnet_orders or 1, seed, tick)
        else:
            done = at_home(orders or live.rehearsal_orders, clock, seed, tick)
    body: dict[str, Any] = {
        "orders": done.orders, "answers_lost": done.answers_lost, "unplaced": done.unplaced,
        "doubled": done.doubled, "lost": done.lost, "apart": f"{done.apart:f}",
        "passed": done.passed, "where": where, "testnet": testnet,
        "seed": seed, "commit": git_commit(),
    }  # fmt: skip
    record.note("rehearsed", clock.now(), _who(), body)
    if json:
        print_json(body)
    else:
        out.print(
            f"{done.orders} orders, {done.answers_lost} answers lost, {done.unplaced} never "
            f"arrived; {done.doubled} doubled, {done.lost} lost, money apart {done.apart:f}",
            style="green" if done.passed else "red",
        )
        needed = live.testnet_orders if testnet else live.rehearsal_orders
        if done.passed and done.orders < needed:
            out.print(f"live enable asks for {needed} orders", style="yellow")
    if not done.passed:
        raise CheckFailed("rehearsal", "nothing may be lost, doubled or apart", body)


@app.command("enable")
def enable(
    real_money: Annotated[
        bool,
        typer.Option("--with-real-money", help="say that orders may lose the account's money"),
    ] = False,
    confirm: Annotated[
        str | None, typer.Option(help="the words asked for, where nobody can type them")
    ] = None,
    why: Annotated[str, typer.Option("--why", help="kept with the act")] = "",
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Allow real orders once a cool-down is over; refused while any condition does not hold.

    Example: conclave live enable --with-real-money
    """
    from domain.times import HOUR_MS
    from serving.going_live import account_of
    from serving.going_live_venue import gateway_of
    from serving.system import SystemClock

    settings = settings_from(None, config, sets)
    if not real_money:
        raise UsageError(
            "live enable", "needs --with-real-money", None,
            "Real orders lose real money. Nothing here was tried at a real exchange: docs/live.md.",
        )  # fmt: skip
    body = _standing(settings)
    unmet = [one for one in body["conditions"] if not one["ok"]]
    if unmet:
        if not json:
            _tell(body)
        first = unmet[0]
        told = "; ".join(f"{one['name']}: {one['value']}" for one in unmet)
        raise CheckFailed("live enable", f"every condition must hold ({told})", None, first["hint"])
    gateway = gateway_of(settings)
    gateway.open()
    cash, _ = gateway.holdings()
    words = f"trade {cash:.2f} USDT on {settings.data.exchange}"
    if confirm is None:
        if not sys.stdin.isatty():
            raise UsageError("--confirm", "must be given where nobody can type", None, f'"{words}"')
        confirm = typer.prompt(f'Type "{words}" to allow real orders')
    if confirm.strip() != words:
        raise UsageError("--confirm", f'must be "{words}"', confirm, "Nothing was enabled.")
    now = SystemClock().now()
    ready_at = now + int(settings.live.cool_down_hours * HOUR_MS)
    _record(settings).note(
        "enabled", now, _who(),
        {"why": why or "command line", "account": account_of(settings), "ready_at": ready_at,
         "cash": f"{cash:f}", "conditions": body["conditions"]},
    )  # fmt: skip
    done = {"state": _standing(settings, ask=False)["state"], "ready_at": iso(ready_at)}
    if json:
        print_json(done)
    else:
        out.print(
            f"enabled: real orders from {done['ready_at']} on, at the next start of conclave up",
            style="bold red",
        )


@app.command("disable")
def disable(
    keep: Annotated[
        bool, typer.Option("--keep", help="leave positions to their stops and targets")
    ] = False,
    why: Annotated[str, typer.Option("--why", help="kept with the act")] = "",
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Refuse real entries at once and close what is open; a running desk is killed, or the next.

    Example: conclave live disable · conclave live disable --keep
    """
    settings, _ = settings_regardless(config, sets)
    order = KillOrder(why or "live disabled", flatten=not keep)
    _off(settings, order)
    body: dict[str, Any] = {"state": "off", **_stop(settings, order)}
    if json:
        print_json(body)
    else:
        out.print(f"disabled: real entries are refused; {body['positions']}", style="green",
                  markup=False)  # fmt: skip


def _off(settings: Settings, order: KillOrder) -> None:
    """Write down that nothing may be entered; where that cannot be, a live desk is killed."""
    from serving.system import SystemClock

    plan = current_plan(settings)
    try:
        body = {"why": order.why, "keep": not order.flatten}
        _record(settings).note("disabled", SystemClock().now(), _who(), body)
    except ConclaveError:  # the database is away
        if plan.execution == "live":
            path = write_kill(settings.data.var_dir, order)
            err.print(f"not disabled, but wrote {path}: the desk is killed as soon as it sees it",
                      style="red", markup=False)  # fmt: skip
        raise


def _stop(settings: Settings, order: KillOrder) -> dict[str, Any]:
    """Kill a live desk, the one that runs or the next; return what becomes of positions."""
    from serving.bootstrap.storage import open_storage
    from serving.going_live_open import ask_exchange, left_alone, open_by_ledger
    from serving.offline import desk_runs

    plan = current_plan(settings)
    live, runs = plan.execution == "live", desk_runs(plan, settings)
    done = "positions are closed" if order.flatten else "positions keep their stops and targets"
    if live and runs and _killed(plan, settings, order):
        return {"positions": done}
    file = str(write_kill(settings.data.var_dir, order)) if live and runs else None
    engine = open_storage(settings)
    own = open_by_ledger(engine, plan.world)
    if own and not runs:  # a paper desk that runs would close its own
        file = str(write_kill(settings.data.var_dir, order))
    first = f"{done} as soon as the desk sees the file" if runs else "no desk runs"
    ours = left_alone(engine, replace(plan, execution="live")) | ({plan.world: own} if own else {})
    told = ask_exchange(settings, sorted({symbol for held in ours.values() for symbol in held}))
    return {
        "positions": "; ".join(_left(first if live else _ON_PAPER, ours, told, file, order)),
        "ledger": {world: plain(held) for world, held in ours.items()},
        "exchange": None if told.why else plain(told.held),
        "file": file,
    }


def _killed(plan: RunPlan, settings: Settings, order: KillOrder) -> bool:
    """Return whether the desk that runs has taken a kill."""
    try:
        with api(plan, settings, writes=True, timeout=5.0) as client:
            call(client, "POST", "/v1/risk/kill", {"why": order.why, "flatten": order.flatten})
    except ConclaveError as error:
        err.print(error.message, markup=False, soft_wrap=True)
        return False
    return True


def _left(
    first: str, ours: Mapping[str, Open], told: Told, file: str | None, order: KillOrder
) -> Iterator[str]:
    """Iterate over what is said where no desk that trades live has taken the kill."""
    from serving.going_live_open import words

    yield first
    for world, held in ours.items():
        yield f"the live account of world {world} has open by its ledger: {words(held)}"
    if not ours:
        yield "nothing is open by the live account's ledger"
    if told.why:
        yield f"what the exchange holds is not known ({told.why})"
    else:
        yield f"the exchange holds {words(told.held) or 'nothing of it'}"
    does = "closes it" if order.flatten else "looks after its stops and targets"
    if ours:
        yield f"conclave up --source live with LIVE_MODE=true and the symbols of then {does}"
    if ours or told.held:
        yield "or close it at the exchange"
    if file is not None:
        yield f"wrote {file}, which every desk obeys, also on paper: remove it once nothing is open"


def _who() -> str:
    try:
        return f"{getpass.getuser()} at the command line"
    except (KeyError, OSError):  # a container may run as nobody it knows
        return "command line"


def _record(settings: Settings) -> Any:
    from serving.bootstrap.storage import open_storage
    from serving.going_live import LiveRecord

    return LiveRecord(open_storage(settings), current_plan(settings).world)


def _standing(settings: Settings, *, ask: bool = True) -> dict[str, Any]:
    """Return where it stands; ``ask`` also looks at every condition, the exchange's included."""
    from serving.bootstrap.storage import open_storage
    from serving.going_live import LiveRecord
    from serving.going_live_conditions import paper_conditions, settings_conditions
    from serving.offline import desk_says
    from serving.system import SystemClock

    plan, clock = current_plan(settings), SystemClock()
    engine = open_storage(settings)
    record = LiveRecord(engine, plan.world)
    standing = record.standing(settings, clock.now())
    body: dict[str, Any] = {
        "state": standing.state, "why": standing.why, "by": standing.by,
        "at": None if standing.at is None else iso(standing.at),
        "ready_at": None if standing.ready_at is None else iso(standing.ready_at),
        "execution": plan.execution, "world": plan.world,
        "cool_down_hours": settings.live.cool_down_hours,
        "broker": (desk_says(plan) or {}).get("broker"),
    }  # fmt: skip
    if ask:
        conditions = [
            *settings_conditions(settings),
            *paper_conditions(engine, plan.world, settings, record, clock.now()),
            *_of_account(settings),
        ]
        body["conditions"] = [one.as_json() for one in conditions]
    return body


def _of_account(settings: Settings) -> list[Any]:
    from serving.going_live_conditions import Condition
    from serving.going_live_venue import account_conditions, gateway_of
    from serving.system import SystemClock

    try:
        gateway = gateway_of(settings)
        gateway.open()
        return list(account_conditions(gateway, settings, SystemClock()))
    except ConclaveError as error:
        return [Condition("exchange", False, error.message, "answers to the key", error.hint)]


def _tell(body: dict[str, Any]) -> None:
    from serving.broker_words import broker_line

    style = {"on": "bold red", "cooling": "yellow"}.get(body["state"], "green")
    out.print(f"live trading: {body['state']} ({body['why']})", style=style, markup=False)
    out.print(f"the last run executes on: {body['execution']}", markup=False)
    if body["broker"]:
        out.print(broker_line(body["broker"]), markup=False, soft_wrap=True)
    table = Table("", "condition", "now", "must be", box=None)
    for one in body["conditions"]:
        mark = "[green]ok[/]" if one["ok"] else "[red]no[/]"
        table.add_row(mark, one["name"], one["value"], one["limit"])
    out.print(table)
