"""Logs: JSON lines in LOGS_DIR, readable lines on the console, secrets in neither.

Every line carries what :func:`log_context` bound: request and decision ids. Lines of libraries
(uvicorn, httpx, …) go through the same pipe, so that a token in a URL is hidden there too.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from domain.canonical import plain
from domain.ports import Clock
from domain.times import iso
from serving.settings import Settings
from serving.system import SystemClock

HIDDEN = "***"
_MIB = 1024 * 1024
_SECRET_KEY = re.compile(r"token|secret|passw|authorization|api_?key|credential", re.IGNORECASE)
_SECRET_TEXT = (
    (re.compile(r"(://[^\s/:@]*:)[^\s/@]+(@)"), r"\1***\2"),  # password in a URL
    (re.compile(r"(bearer\s+)[^\s\"',]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"(?<!\d)\d{6,12}:[A-Za-z0-9_-]{30,}"), HIDDEN),  # a Telegram bot's token
)
_QUIET = ("httpx", "httpcore", "asyncio")  # a line a request would drown the rest


class Redactor:
    """Hides known secrets, and what looks like one, wherever they stand in a log line."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Very short secrets would blot out ordinary words; longest first, as one may hold another.
        self._secrets = sorted({text for text in secrets if len(text) >= 4}, key=len, reverse=True)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Work as a structlog processor."""
        return {key: self._hide(key, value) for key, value in event.items()}

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern, replacement in _SECRET_TEXT:
            text = pattern.sub(replacement, text)
        return text

    def _hide(self, key: str, value: Any) -> Any:
        if value is not None and _SECRET_KEY.search(key):
            return HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(k): self._hide(str(k), item) for k, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._hide("", item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._object(value)

    def _object(self, value: Any) -> Any:
        try:
            known = plain(value)
        except TypeError:
            return self.text(str(value))
        return known if isinstance(known, bool | int | float) else self._hide("", known)


def configure_logging(
    logs_dir: Path,
    process: str,
    *,
    console: bool | TextIO = True,
    console_json: bool = False,
    level: str = "info",
    secrets: Iterable[str] = (),
    clock: Clock | None = None,
    max_mb: float = 20.0,
    backups: int = 5,
) -> Callable[[], None]:
    """Send all logs of this process to ``logs_dir/<process>.jsonl`` and the console.

    A folder that cannot be written leaves the console alone, with a warning. Calling it again
    replaces what was configured.

    Parameters
    ----------
    process : name of the process and of its file; one file per process, so that rotation is safe.
    console : True for standard error, False for none, or a stream.
    console_json : whether the console gets JSON lines as well, for those who collect them there.
    secrets : texts that must never be written, e.g. ``settings.secret_values()``.
    clock : stamps the lines; None = the wall clock.
    max_mb, backups : size of a file before it is rotated (MiB), and how many old ones are kept.

    Returns
    -------
    A function that flushes and closes the files.
    """
    shared = _shared(process, clock or SystemClock())
    redact = Redactor(secrets)
    handlers: list[logging.Handler] = []
    problem = ""
    try:
        logs_dir.mkdir(parents=True, exist_ok=True)
        path = logs_dir / f"{process}.jsonl"
        file = _File(path, maxBytes=int(max_mb * _MIB), backupCount=backups, encoding="utf-8")
    except OSError as error:
        problem = error.strerror or str(error)
    else:
        handlers.append(_formatted(file, shared, [redact, _as_json]))
    if console is not False or problem:
        stream = sys.stderr if isinstance(console, bool) else console
        lines = _as_json if console_json else _readable(stream)
        handlers.append(_formatted(logging.StreamHandler(stream), shared, [redact, lines]))
    _install(handlers, level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    if problem:
        get_logger(__name__).warning("logs_dir_not_writable", path=str(logs_dir), problem=problem)
    return lambda: _close(handlers)


def start_logging(
    settings: Settings, process: str, *, console: bool | TextIO = False
) -> Callable[[], None]:
    """Configure the logs of a process of the system: folder, level, rotation, secrets to hide.

    Parameters
    ----------
    process, console : as of :func:`configure_logging`, whose result is returned.
    """
    serving = settings.serving
    return configure_logging(
        settings.data.logs_dir,
        process,
        console=console,
        console_json=serving.log_console == "json",
        level=serving.log_level,
        secrets=settings.secret_values(),
        max_mb=serving.log_max_mb,
        backups=serving.log_backups,
    )


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - logging's
        # The standard one prints the record with its secrets.
        sys.stderr.write(f"log line lost: {self.baseFilename}: {sys.exc_info()[1]}\n")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger; ``log.info("opinions_admitted", n=4)``: an event's name, then its facts."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def log_context(**ids: str) -> AbstractContextManager[None]:
    """Put ids on every line logged inside, also across ``await``: request_id, decision_id, …"""
    return structlog.contextvars.bound_contextvars(**ids)


def _shared(process: str, clock: Clock) -> list[Processor]:
    def stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {"ts": iso(clock.now()), "process": process, **event}

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        stamp,
    ]


def _formatted(
    handler: logging.Handler, shared: list[Processor], last: list[Processor]
) -> logging.Handler:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    return handler


def _readable(stream: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(),
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,  # others print local variables
    )


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return json.dumps(plain(event), ensure_ascii=False, allow_nan=False)


def _install(handlers: list[logging.Handler], level: str) -> None:
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
            old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _close(handlers: list[logging.Handler]) -> None:
    root = logging.getLogger()
    for handler in handlers:
        root.removeHandler(handler)
        handler.close()
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
