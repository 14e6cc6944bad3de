"""The notifier in a thread of a process that runs everything."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import structlog

from serving.plan import RunPlan
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.notifier import Notifier

log = structlog.get_logger("notifier")

START_SECONDS = 10.0
STOP_SECONDS = 6.0  # its last words, and a little


class Beside:
    """The notifier in a thread with an event loop of its own, beside a desk in this process.

    A picture takes a quarter of a second to draw; the desk's own loop must not wait for it.
    """

    def __init__(self, plan: RunPlan, settings: Settings) -> None:
        self._plan, self._settings = plan, settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._notifier: Notifier | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)

    def __enter__(self) -> Self:
        """Start it, if there is a bot."""
        if self._settings.notify.wanted:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let it say its last words."""
        if not self._thread.ident:
            return
        self._ready.wait(START_SECONDS)
        if self._loop is not None and self._notifier is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._notifier.leave.set)
        self._thread.join(STOP_SECONDS + 2 * self._settings.notify.telegram_timeout_s)

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:  # noqa: BLE001 - trading goes on without messages
            log.error("notifier_ended", error=f"{type(error).__name__}: {error}")
        finally:
            self._ready.set()

    async def _run(self) -> None:
        from serving.notifier import build_notifier

        self._loop = asyncio.get_running_loop()
        self._notifier = build_notifier(self._plan, self._settings)
        self._ready.set()
        await self._notifier.run()
