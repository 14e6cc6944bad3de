"""``conclave``: everything from the terminal.

Exit codes: 0 ok · 1 check failed or difference found · 2 usage or setting · 3 data refused ·
4 service unreachable · 130 interrupted.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    import typer

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code; errors are one line, never a traceback."""
    interrupts = _Interrupts()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows ? instead
    try:
        code = run(argv)
    except Exception:
        if not interrupts.seen:
            raise
        code = INTERRUPTED  # libraries wrap what interrupts them
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _lost_output(error, code)
    sys.exit(code)


def run(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        from domain.errors import ConclaveError

        try:
            return _dispatch(argv)
        except ConclaveError as error:
            _complain(error.message, error.hint)
            return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return 0  # whoever read the output has seen enough
    except OSError as error:  # what no command foresaw: mostly a disk that is full or gone
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}", "")
        return 1


def application() -> typer.Typer:
    """Return the command line with all its commands."""
    import typer

    from serving.commands import (
        backtest,
        data,
        gating,
        jobs,
        journal,
        judging,
        ledger,
        live,
        market,
        models,
        operate,
        parity,
        reacting,
        scenarios,
        tokens,
        training,
        venue,
    )

    app = typer.Typer(
        name="conclave",
        help="A council of forecasters that decides LONG, SHORT or NO_TRADE, "
        "and says how far it can be trusted.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    market.register(app)
    operate.register(app)
    judging.register(app)
    backtest.register(app)
    parity.register(app)
    reacting.register(app)
    venue.register(app)
    app.command("fetch")(data.fetch)
    app.add_typer(data.app, name="data")
    app.add_typer(training.app, name="train")
    app.add_typer(gating.app, name="gate")
    app.add_typer(scenarios.app, name="scenario")
    app.add_typer(models.app, name="models")
    app.add_typer(ledger.app, name="ledger")
    app.add_typer(live.app, name="live")
    app.add_typer(journal.app, name="journal")
    app.add_typer(reacting.app, name="proposals")
    app.add_typer(jobs.app, name="jobs")
    app.add_typer(tokens.app, name="token")
    return app


class _Interrupts:
    """Leave in order at the first signal, at once at the second."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.seen:
            os._exit(INTERRUPTED)
        self.seen = True
        raise KeyboardInterrupt


def _dispatch(argv: list[str] | None) -> int:
    import typer
    from typer._click.exceptions import (  # Typer brings its own click
        ClickException,
        NoArgsIsHelpError,
    )

    _log_to_stderr()
    try:
        code = application()(args=argv, standalone_mode=False, prog_name="conclave")
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        return INTERRUPTED
    except NoArgsIsHelpError as error:
        typer.echo(error.format_message(), err=True)
        return 2
    except ClickException as error:
        _complain(error.format_message().replace("Value error, ", ""), "See conclave --help.")
        return 2
    return code if isinstance(code, int) else 0


def _log_to_stderr() -> None:
    """Keep standard output for results; what a command starts may configure more."""
    import structlog

    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def _complain(message: str, hint: str) -> None:
    from serving.commands.common import err

    err.print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    if hint:
        err.print(hint, style="dim", markup=False, soft_wrap=True)


def _lost_output(error: OSError, code: int) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more
    if isinstance(error, BrokenPipeError):
        return code
    if code == 0:
        _complain(f"standard output: {error.strerror}", "")
    return code or 1


if __name__ == "__main__":
    main()
