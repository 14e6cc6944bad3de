"""The kill order that works with all else down: a file that anybody writes and the desk reads.

Its text is the reason. A text that begins with ``freeze`` leaves positions to their stops; anything
else of that name, even a folder, closes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from domain.errors import SettingError

KILL_FILE = "KILL"
REASON_CHARACTERS = 400
_FREEZE = "freeze"


@dataclass(frozen=True, slots=True)
class KillOrder:
    """What is to be stopped: entries, and with ``flatten`` what is open as well."""

    why: str
    flatten: bool = True


def clean_text(text: str, most: int) -> str:
    """Return a text as one line of at most ``most`` characters, without control characters."""
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return "".join(character for character in line if character.isprintable())[:most]


def read_kill(path: Path) -> KillOrder | None:
    """Return the order in a kill file; None if there is no such file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = clean_text(file.read(REASON_CHARACTERS), REASON_CHARACTERS)
    except FileNotFoundError:
        return None
    except OSError as error:
        return KillOrder(f"{KILL_FILE} ({error.strerror})")  # something of that name: be safe
    return KillOrder(text or KILL_FILE, not text.lower().startswith(_FREEZE))


def write_kill(var_dir: Path, order: KillOrder) -> Path:
    """Write the kill file and return its path.

    Raises
    ------
    SettingError : if it cannot be written and nothing of its name is there.
    """
    path = var_dir / KILL_FILE
    text = order.why if order.flatten else f"{_FREEZE}: {order.why}"
    try:
        var_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        if not path.exists():  # the desk obeys anything of that name
            raise SettingError(
                "VAR_DIR", "must be a writable folder, or nobody can be told to stop",
                str(var_dir), f"{error.strerror}. End the processes instead.",
            ) from error  # fmt: skip
    return path
