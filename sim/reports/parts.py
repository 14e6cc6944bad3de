"""What a report page is made of; the template lays these out and escapes every text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Mark = Literal["", "better", "worse", "noise", "ok", "bad", "unknown"]
Level = Literal["known", "likely", "noise", "warning", "met", "missed", "open"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One plain sentence and how sure it is, or whether what it names was reached.

    Attributes
    ----------
    level : ``known``, ``likely``, ``noise`` (not to be told from chance), ``warning``; or ``met``,
        ``missed``, ``open`` of a target.
    more : details, in small letters.
    """

    level: Level
    text: str
    more: str = ""


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
class HeatCell:
    """One cell of a heat map; ``style`` is a class of the stylesheet."""

    name: str
    text: str
    style: str


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One row of a heat map with its sum."""

    name: str
    total: HeatCell
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """A figure, a few strips or a heat map under one title.

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
    heat: tuple[HeatRow, ...] = ()


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
    """A table that scrolls inside its own box; a folded one stands below the cards, closed."""

    caption: str
    head: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: sentences, tables, then cards, small ones three in a row."""

    ident: str
    title: str
    intro: str
    tables: tuple[Table, ...] = ()
    cards: tuple[Card, ...] = ()
    missing: str = ""
    small: bool = False
    points: tuple[Sentence, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Attributes
    ----------
    facts, terms : name → words. ``models`` : name → version.
    sentences : the verdict; ``legend`` explains their levels.
    gaps : what was not measured, and why.
    """

    title: str
    kicker: str
    heading: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[Sentence, ...]
    legend: str
    sections: tuple[Section, ...]
    terms: tuple[tuple[str, str], ...]
    gaps: tuple[str, ...]
    footer: str
    models: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
