"""The schedule of faults of ``conclave venue``, from its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from domain.errors import UsageError

if TYPE_CHECKING:
    from sim.venue.faults.schedule import Schedule


def read_schedule(path: Path) -> Schedule:
    """Read a file of faults.

    Raises
    ------
    UsageError : if it cannot be read, or says what there is not.
    """
    from sim.venue.faults.schedule import schedule_of

    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise UsageError(path.name, "must be readable as YAML", str(error)) from error
    return schedule_of(body, path.name)
