"""``conclave jobs``: long work that was asked for, and the worker that does it."""

from __future__ import annotations

import signal
import threading
from typing import Annotated, Any

import typer
from rich.table import Table

from domain.errors import UsageError
from serving.commands.common import Config, Json, Set, err, out, print_json, settings_from
from serving.settings import Settings
from serving.system import SystemClock

app = typer.Typer(help="Long work: queued by API or here, done one by one.", no_args_is_help=True)

JobId = Annotated[int, typer.Argument(min=1, help="as conclave jobs list shows it")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many, newest first")] = 20,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """List what was asked for, newest first."""
    from serving.jobs import job_of

    rows = [job_of(job) for job in _jobs(settings_from(None, config, sets)).list(limit=limit)]
    if json:
        print_json({"items": rows})
        return
    table = Table("id", "state", "since", "by", "command", "result", box=None)
    for row in rows:
        table.add_row(
            str(row["id"]), row["state"], row["updated_at"], row["by"], " ".join(row["command"]),
            _outcome(row["result"]),
        )  # fmt: skip
    out.print(table if rows else "None yet. Try: conclave jobs add backtest --arg data=FILE")


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help="train, evaluate, backtest or lookahead")],
    arg: Annotated[
        list[str], typer.Option("--arg", help="NAME=VALUE as POST /v1/system/jobs has it")
    ],
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Queue a job; files are named as they lie in DATA_DIR_RAW.

    Example: conclave jobs add backtest --arg data=BTCUSDT-binance-perp-5m-2024.parquet
    """
    from pydantic import ValidationError

    from serving.jobs import job_of, queued

    settings = settings_from(None, config, sets)
    args = _args(arg)
    now = SystemClock().now()
    try:
        job = job_of(queued(_jobs(settings), settings.data.raw_dir, kind, args, "cli", now))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "--arg"
        told = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(name, told, hint="/docs has the arguments.") from None
    if json:
        print_json(job)
    else:
        out.print(f"job {job['id']} waits: conclave {' '.join(job['command'])}", markup=False)


@app.command()
def cancel(job_id: JobId, json: Json = False, config: Config = None, sets: Set = None) -> None:
    """Cancel a job that waits or runs."""
    from serving.jobs import cancelled, job_of

    jobs = _jobs(settings_from(None, config, sets))
    gone = job_of(cancelled(jobs, job_id, SystemClock().now()))
    if json:
        print_json(gone)
    else:
        out.print(f"job {job_id} is cancelled", style="green")


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="end when nothing waits any more")] = False,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Work on jobs, oldest first, until Ctrl-C; there is one worker at a time."""
    from serving.bootstrap.jobs import job_worker
    from serving.logs import start_logging

    settings = settings_from(None, config, sets)
    start_logging(settings, "jobs")
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    if not json and not once:
        err.print("working on jobs; Ctrl-C stops …", style="dim")
    done = job_worker(settings, leave.is_set).run(once=once)
    if json:
        print_json({"jobs": done})
    else:
        out.print(f"{done} jobs worked on")


def _args(given: list[str]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError("--arg", "must be NAME=VALUE", text, "Try --arg data=FILE")
        listed = name in ("also", "agents")
        args[name] = value.split(",") if listed else value
    return args


def _outcome(result: dict[str, Any]) -> str:
    if "exit_code" in result:
        return f"exit {result['exit_code']} after {result['seconds']:.0f} s"
    return str(result.get("error", ""))[:60]


def _jobs(settings: Settings) -> Any:
    from serving.bootstrap.storage import open_storage
    from storage.jobs import Jobs

    return Jobs(open_storage(settings))
