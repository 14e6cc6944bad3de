"""Of which market the bars of a folder are, so that a simulated one is never taken for a real one.

Kept in ``origin.json`` beside the layers; a folder without it holds bars of files or an exchange.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data.files import named_venue
from data.store import BarStore
from domain.canonical import canonical_json
from domain.errors import DataRefused

SIMULATED = "simulated"
FILES = "files"
_NAME = "origin.json"
_MADE = (SIMULATED, "demo")  # venues that file names tell, and that are none


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bars are from.

    Attributes
    ----------
    origin : ``files``, the exchange's id, or ``simulated``: another server than its own.
    server : that was asked; empty for files. ``market`` : as the server names it; may be empty.
    """

    origin: str = FILES
    server: str = ""
    market: str = ""

    @property
    def simulated(self) -> bool:
        """Whether no exchange traded these bars."""
        return self.origin == SIMULATED

    def agrees(self, other: Origin) -> bool:
        """Return whether bars of both may lie in one folder."""
        if FILES in (self.origin, other.origin):
            return self.simulated == other.simulated
        markets = {self.market, other.market} - {""}
        return self.origin == other.origin and len(markets) < 2


def origin_of_file(path: Path) -> Origin:
    """Return where a file's bars are from, as far as its name tells."""
    return Origin(SIMULATED if named_venue(path) in _MADE else FILES)


def origin_of(store: BarStore) -> Origin:
    """Return where the bars of a store are from; files if it does not tell."""
    try:
        known = json.loads(_path(store).read_text(encoding="utf-8"))
        return Origin(**{name: str(value) for name, value in known.items()})
    except FileNotFoundError:
        return Origin()
    except (ValueError, TypeError, AttributeError) as error:
        raise DataRefused(
            _NAME, "is damaged, so nobody knows which market these bars are of",
            str(_path(store)), "Take another folder, or remove the file if you know it.",
        ) from error  # fmt: skip


def joined(store: BarStore, mine: Origin) -> Origin:
    """Return where a store's bars are from once some of ``mine`` have come into it.

    Raises
    ------
    DataRefused : if it holds bars of another market.
    """
    known = origin_of(store)
    if not store.list():
        return mine
    if not known.agrees(mine):
        raise DataRefused(
            "data folder", f"holds bars of {_words(known)}, and these are of {_words(mine)}",
            str(_path(store).parent), "Give another folder: VAR_DIR=… conclave data …",
        )  # fmt: skip
    if mine.origin == FILES or known.simulated:  # who knows less takes nothing away
        return Origin(known.origin, mine.server or known.server, mine.market or known.market)
    return mine


def note(store: BarStore, origin: Origin) -> None:
    """Write down where a store's bars are from."""
    path = _path(store)
    if origin == origin_of(store):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(canonical_json(asdict(origin)) + "\n", encoding="utf-8")
    part.replace(path)


def _path(store: BarStore) -> Path:
    return store.cleansed.parent / _NAME


def _words(origin: Origin) -> str:
    if origin.origin == FILES:
        return "files or an exchange"
    return f"{origin.origin} {origin.market}" if origin.market else origin.origin
