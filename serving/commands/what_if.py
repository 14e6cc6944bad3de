"""``conclave scenario what-if``: what the council would do where things are otherwise."""

from __future__ import annotations

from typing import Annotated

import typer

from serving.commands.common import Config, Json, Set, in_any_world, out, print_json, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("what-if")(what_if)


def what_if(
    signal_id: Annotated[str, typer.Argument(help="id of a signal")],
    say: Annotated[
        list[str] | None,
        typer.Option(help="P(up) of an agent, between 0 and 1; repeatable", metavar="AGENT=P"),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="an agent to leave out; repeatable", metavar="AGENT")
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            help="fee, spread, slippage or funding, bps a round trip; repeatable",
            metavar="NAME=BPS",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="e.g. prob_min=0.55; repeatable", metavar="NAME=VALUE"),
    ] = None,
    kappa: Annotated[
        float | None, typer.Option(help="κ ≥ 0: what comes true of a forecast return")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="volatility of the horizon, log return, e.g. 0.003")
    ] = None,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Decide a stored moment again with other inputs; without any, show what each one weighs.

    Weights stay those that had been earned by then; gate and risk are not asked again. Nothing is
    stored.
    Example: conclave scenario what-if 694f2c02f6f339ee --say technical=0.58 --cost fee=4
    """
    from serving.bootstrap.storage import open_storage
    from serving.commands.what_if_tables import what_if_view
    from serving.imagining import changes_from, imagined
    from storage.queries import Reader

    changes = changes_from(say or (), without or (), cost or (), rule or (), kappa, sigma)
    engine = open_storage(settings_from(None, config, sets))
    body = in_any_world(
        engine, signal_id, lambda world: imagined(Reader(engine, world), signal_id, changes)
    )
    if json:
        print_json(body)
    else:
        out.print(what_if_view(body), soft_wrap=False)
