"""What the council says of the market: ``up``, ``signal``, ``why``, ``replay``, inference."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from domain.errors import CheckFailed
from serving.commands.common import (
    Config,
    Json,
    Profile,
    Set,
    TimeRange,
    api,
    call,
    current_plan,
    err,
    in_any_world,
    out,
    pairs,
    print_json,
    progress_bar,
    settings_from,
)
from serving.planning import Wish
from serving.processes import leaving_at_once


class SourceName(StrEnum):
    """Where bars come from."""

    AUTO = "auto"
    LIVE = "live"
    REPLAY = "replay"
    DEMO = "demo"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(desk)
    app.command()(signal)
    app.command("predict", hidden=True)(signal)
    app.command("run-inference")(run_inference)
    app.command()(why)
    app.command()(replay)


MarketSource = Annotated[
    SourceName | None, typer.Option(help="which market; else the setting SOURCE")
]
Bars = Annotated[
    list[Path] | None, typer.Option("--data", help="bars to replay; repeatable", metavar="FILE")
]
Funding = Annotated[Path | None, typer.Option(help="funding rates of a perpetual")]
Speed = Annotated[
    str | None, typer.Option(help="market seconds per second, or max; demo 60, replay max")
]


def _wish(
    source: SourceName | None,
    data: list[Path] | None,
    funding: Path | None,
    timerange: str | None,
    speed: str | None,
    profile: str | None,
    config: list[Path] | None,
    sets: list[str] | None,
) -> Wish:
    return Wish(
        source=None if source is None else source.value,
        data=tuple(data or ()),
        funding=funding,
        timerange=timerange,
        speed=speed,
        profile=profile,
        config_files=tuple(config or ()),
        overrides=tuple(pairs(sets).items()),
    )


def up(
    source: MarketSource = None,
    data: Bars = None,
    funding: Funding = None,
    timerange: TimeRange = None,
    speed: Speed = None,
    local: Annotated[bool, typer.Option("--local", help="one process, without Ray")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="a new session, forget the last")] = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> int:
    """Start everything on paper: market, agents, council, desk, API and status page.

    Examples: conclave up · conclave up --source replay --data FILE --timerange 20250101-20250201
    """
    wish = replace(
        _wish(source, data, funding, timerange, speed, profile, config, sets),
        local=local, fresh=fresh,
    )  # fmt: skip
    with leaving_at_once():
        from serving.running import start

        return start(wish)


def desk(
    source: MarketSource = None,
    data: Bars = None,
    funding: Funding = None,
    timerange: TimeRange = None,
    speed: Speed = None,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> int:
    """Run the desk alone: feed, loop, ledger; agents and API run elsewhere, at SERVE_URL.

    For a cluster or a service manager: it stays in the foreground, logs to standard error and
    the log folder, and ends on SIGTERM. Without an answer from there, agents in its own process
    stand in. Example: SERVE_URL=http://conclave-serve-svc:8000 conclave desk --source demo
    """
    wish = _wish(source, data, funding, timerange, speed, profile, config, sets)
    with leaving_at_once():
        from serving.desk_process import run_alone

        return run_alone(wish)


def signal(
    symbol: Annotated[str, typer.Argument(help="e.g. BTC/USDT")],
    as_of: Annotated[str | None, typer.Option(help="an earlier bar's close; replay, demo")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="decide in this process, on stored bars")
    ] = False,
    json: Json = False,
    profile: Profile = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Ask the council for a decision now; it is stored and never traded.

    Example: conclave signal BTC/USDT --json
    """
    if local:
        from serving.inference import infer

        settings = settings_from(profile, config, sets)
        with err.status("catching up with the stored bars …"):
            signals = infer(settings, profile or "strict", [symbol])
        _show(signals[0], json)
        return
    settings = settings_from(profile, config, sets)
    body = {"symbol": symbol} if as_of is None else {"symbol": symbol, "as_of": as_of}
    plan = current_plan(settings)
    with api(plan, settings) as client:
        found = call(client, "POST", "/v1/signals", body)
    _show({**found, "simulated": plan.simulated}, json)


def run_inference(
    json: Json = False, profile: Profile = None, config: Config = None, sets: Set = None
) -> None:
    """Decide once for every symbol on the newest stored bar, then exit; for cron.

    Example: conclave run-inference --json
    """
    from serving.inference import infer
    from serving.job_notes import noted

    settings = settings_from(profile, config, sets)
    symbols = list(settings.data.symbols)
    with noted(settings, "run-inference", {"symbols": ", ".join(symbols)}) as figures:
        with err.status("catching up with the stored bars …"):
            signals = infer(settings, profile or "strict", symbols)
        figures |= {found["symbol"]: _in_short(found) for found in signals}
    for found in signals:
        _show(found, json)


def _in_short(found: dict[str, Any]) -> str:
    chance = "–" if found["prob_up"] is None else f"{found['prob_up']:.3f}"
    return f"{found['decision']} P(up) {chance}"


def why(
    signal_id: Annotated[str, typer.Argument(help="id of a signal")],
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Explain a decision in full: votes, weights, contributions, costs, margins, outcome."""
    body = explain(signal_id, config, sets)
    if json:
        print_json(body)
    else:
        _tell_why(body)


def replay(
    signal_id: Annotated[str, typer.Argument(help="id of a signal")],
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Make a stored decision again and compare every number; exits 1 if one differs.

    From the opinions stored for its bar, and what was learned from every row that the ledger held
    before it. On the machine and libraries that made it, to the last bit; elsewhere within 1e-12.
    Example: conclave replay 694f2c02f6f339ee
    """
    from serving.bootstrap.storage import open_storage
    from serving.replaying import replayed
    from serving.system import platform_name
    from storage.ledger import SqlLedger

    engine = open_storage(settings_from(None, config, sets))
    with progress_bar("rows folded", quiet=json) as tick:
        body = in_any_world(
            engine, signal_id,
            lambda world: replayed(SqlLedger(engine, world), signal_id, platform_name(), tick),
        )  # fmt: skip
    if json:
        print_json(body)
    else:
        _tell_replay(body)
    if not body["same"]:
        differing = [*body["decision"], *body["learned"]]
        raise CheckFailed(f"decision {signal_id}", "must come out the same", ", ".join(differing))


def explain(signal_id: str, config: Any = None, sets: Any = None) -> dict[str, Any]:
    """Return the explanation of a decision in any world of the database."""
    from serving.bootstrap.storage import open_storage
    from serving.explaining import explanation
    from serving.plan import simulated_world
    from storage.queries import Reader

    engine = open_storage(settings_from(None, config, sets))

    def ask(world: str) -> dict[str, Any] | None:
        found = explanation(Reader(engine, world), signal_id)
        return found and {**found, "simulated": simulated_world(world)}

    return in_any_world(engine, signal_id, ask)


def _show(body: dict[str, Any], json: bool) -> None:
    if json:
        print_json(body)
        return
    if body.get("simulated"):
        out.print("simulated market", style="yellow")
    color = {"LONG": "green", "SHORT": "red"}.get(body["decision"], "yellow")
    out.print(
        f"[bold {color}]{body['decision']}[/] {body['symbol']} {body['timeframe']} "
        f"as of {body['as_of']}  P(up) {_percent(body['prob_up'])}  "
        f"risk {_percent(body['risk_score'])}  confidence {_percent(body['confidence'])}"
    )
    out.print(body["reason"], markup=False)
    if body["degraded"]:
        out.print(f"degraded: {body['absent']}", style="red", markup=False)
    out.print(f"id {body['id']}   conclave why {body['id']}", style="dim", markup=False)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _tell_why(body: dict[str, Any]) -> None:
    _show({**body["signal"], "simulated": body["simulated"]}, json=False)
    from rich.table import Table

    votes = Table("agent", "P(up)", "p10", "p90", "weight", "logit", "says", box=None)
    weights, pulls = body["weights"], body["contributions"]
    for vote in body["votes"]:
        name = vote["agent"]
        votes.add_row(
            name, _percent(vote["direction_probability"]), _bps(vote["p10"]), _bps(vote["p90"]),
            _percent(weights.get(name)), _logit(pulls.get(name)), vote["rationale"],
        )  # fmt: skip
    votes.add_row("_fusion", "", "", "", "", _logit(pulls.get("_fusion")), "")
    out.print(votes)
    _tell_margins(body)
    for answer in body["debate"]:
        out.print(_answer(answer), markup=False)
    if body["waterfall"]:
        steps = " ".join(f"{x['item']} {x['bps']:+.2f}" for x in body["waterfall"])
        out.print(f"bps: {steps}", markup=False)
    for flip in body["flips"]:
        out.print(_flip(flip), markup=False)
    outcome = body["outcome"]
    if outcome is None:
        out.print("outcome: not known yet", style="dim")
    else:
        out.print(
            f"outcome: {1e4 * outcome['log_return']:+.1f} bp by {outcome['due']}, "
            f"Brier {'–' if outcome['brier'] is None else format(outcome['brier'], '.4f')}"
        )
    if body["declined"]:
        trade = body["declined"]
        out.print(f"declined: {trade['side']}, {trade['net_bps']:+.1f} bp net", markup=False)


def _tell_margins(body: dict[str, Any]) -> None:
    from rich.table import Table

    for name, reason in body["signal"]["absent"].items():
        out.print(f"absent: {name} ({reason})", markup=False)
    if (dissent := body["strongest_dissent"]) is not None:
        chance = _percent(dissent["direction_probability"])
        out.print(f"strongest dissent: {dissent['agent']} {chance}", markup=False)
    if body["break_even_prob"] is not None:
        out.print(f"break-even probability: {_percent(body['break_even_prob'])}")
    margins = Table("threshold", "margin (≥ 0 passes)", box=None)
    for name, margin in body["margins"].items():
        margins.add_row(name, _margin(name, margin))
    out.print(margins)


def _tell_replay(body: dict[str, Any]) -> None:
    how = "to the last bit" if body["exact"] else f"within {body['tolerance']:g}"
    what = f"{body['symbol']} {body['timeframe']} as of {body['as_of']}"
    if body["same"]:
        out.print(
            f"[green]the same[/] {how}: {what}, {body['opinions']} opinions, "
            f"ledger folded to row {body['folded_to']:,}"
        )
    for part in ("decision", "learned"):
        for name, pair in body[part].items():
            out.print(f"{name}: stored {pair['stored']}, again {pair['again']}", markup=False)
    if not body["exact"]:
        made = body["platform"]["decided"] or "an unknown machine"
        out.print(f"made on {made}; this is {body['platform']['here']}", markup=False)


def _answer(answer: dict[str, Any]) -> str:
    to = f" to {answer['to']}" if answer["to"] else ""
    return (
        f"debate {answer['round']}: {answer['agent']} {answer['argument']}{to} "
        f"({answer['because']:+.2f}): {_percent(answer['before'])} → {_percent(answer['after'])}"
    )


def _flip(flip: dict[str, Any]) -> str:
    if flip["needs"] is None:
        return f"{flip['what']}: {flip['is']:.4g}, and no value would do"
    text = f"{flip['what']}: {flip['is']:.4g}, would need {flip['needs']:.4g}"
    alone = {name: p for name, p in flip.get("agents", {}).items() if p is not None}
    if alone:
        text += f" (alone: {', '.join(f'{name} {_percent(p)}' for name, p in alone.items())})"
    return text


def _margin(name: str, value: float | None) -> str:
    if value is None:
        return "not measured"
    if name.endswith("_ms"):
        return f"{value / 1000:+,.0f} s"
    return f"{value:+,.4g}" if abs(value) < 1000 else f"{value:+,.0f}"


def _bps(value: float | None) -> str:
    return "–" if value is None else f"{1e4 * value:+.1f} bp"


def _logit(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"
