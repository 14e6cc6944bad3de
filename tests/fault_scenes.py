"""A venue whose faults can be asked for, for tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sim.venue.faults.running import Faults
from sim.venue.faults.schedule import Schedule
from sim.venue.market import Markets
from sim.venue.trading import Trading
from tests.venue_server import key_for, markets, trading, venue, wall


@dataclass
class Scene:
    """A venue that is served.

    Attributes
    ----------
    now : what drives its market alone, ms, where it stands still.
    ahead : of the wall's time, in which its faults begin and end, ms.
    """

    url: str
    made: Markets
    accounts: Trading
    now: list[int]
    ahead: list[int]

    def fault(self, kind: str, **values: Any) -> dict[str, Any]:
        """Ask for a fault."""
        return self.asked("POST", body={"fault": kind, **values})[1]

    def faults(self) -> dict[str, Any]:
        """Return the report."""
        return self.asked("GET")[1]

    def end(self) -> None:
        """Take all faults back."""
        self.asked("DELETE")

    def asked(self, method: str, path: str = "", body: Any = None, **headers: str) -> Any:
        """Ask the admin route; returns status and body."""
        data = (
            None
            if body is None
            else (body if isinstance(body, bytes) else json.dumps(body).encode())
        )
        request = urllib.request.Request(
            f"{self.url}/admin/faults{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@contextmanager
def scene(speed: float = 0.0, schedule: Schedule | None = None) -> Iterator[Scene]:
    """Serve a venue with an account; at speed 0 its market is driven by ``Scene.now``."""
    now, ahead = [0], [0]
    made = markets(now=wall, speed=speed) if speed else markets(now=lambda: now[0], speed=1.0)
    accounts = trading(made, keys=(key_for(), key_for("other")))
    faults = Faults(lambda: wall() + ahead[0], made.clock.now, schedule)
    with venue(made=made, accounts=accounts, struck=faults) as url:
        yield Scene(url, made, accounts, now, ahead)
