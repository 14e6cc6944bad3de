"""``conclave``: everything from the terminal.

Exit codes: 0 ok · 1 check failed or difference found · 2 usage or setting · 3 data refused ·
4 service unreachable · 130 interrupted.
"""

from __future__ import annotations

import sys

import typer
from typer._click.exceptions import ClickException  # Typer brings its own click

from domain.errors import ConclaveError
from serving.commands import data, ledger, market, models, operate, research, training
from serving.commands.common import err

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
research.register(app)
app.add_typer(data.app, name="data")
app.add_typer(training.app, name="train")
app.add_typer(models.app, name="models")
app.add_typer(ledger.app, name="ledger")


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code; errors are one line, never a traceback."""
    sys.exit(run(argv))


def run(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        code = app(args=argv, standalone_mode=False, prog_name="conclave")
    except ConclaveError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except ClickException as error:
        _complain(error.format_message(), "See conclave --help.")
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def _complain(message: str, hint: str) -> None:
    err.print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    if hint:
        err.print(hint, style="dim", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
