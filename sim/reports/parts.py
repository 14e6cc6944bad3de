"""What a report page is made of; the template lays these out and escapes every text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Mark = Literal["", "better", "worse", "noise", "ok", "bad", "unknown"]


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend; ``style`` is a class of the stylesheet."""

    style: str
    text: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One line of a card: a name, a small drawing without words, the value, and details of it."""

    name: str
    value: str
    svg: Markup | None = None
    mark: Mark = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A figure or a few strips under one title.

    Attributes
    ----------
    ticks : labels below the strips, spread from their left to their right edge.
    missing : why there is nothing to show.
    """

    title: str
    text: str = ""
    svg: Markup | None = None
    strips: tuple[Strip, ...] = ()
    ticks: tuple[str, ...] = ()
    legend: tuple[Key, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; ``mark`` adds a sign and a word for those who see no colour."""

    text: str
    mark: Mark = ""
    svg: Markup | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title and what it means."""

    title: str
    explained: str


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table; the first cell is its head."""

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that scrolls inside its own box."""

    caption: str
    head: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its tables, then its cards, small ones three in a row."""

    ident: str
    title: str
    intro: str
    tables: tuple[Table, ...] = ()
    cards: tuple[Card, ...] = ()
    missing: str = ""
    small: bool = False
