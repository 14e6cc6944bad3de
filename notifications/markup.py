"""HTML as Telegram takes it: everything foreign escaped, and long texts split between lines.

Of all markup this is the one where three characters have a meaning, so that nothing a market, a
model or a person writes can change what is bold, or break a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape as _escape
from html import unescape
from typing import Any

from domain.errors import UsageError

LIMIT = 4096  # UTF-16 units of a message's text; tags are counted too, to be on the safe side
CAPTION_LIMIT = 1024
_DATA_LIMIT = 64  # bytes of a button's data
_ATOM = re.compile(r"</?[a-z][^<>]*>|&(?:[a-z]+|#\d+);|.", re.DOTALL)
_TAG = re.compile(r"</?[a-z][^<>]*>")


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message; ``data`` comes back when it is pressed, ≤ 64 bytes."""

    label: str
    data: str

    def __post_init__(self) -> None:
        """Refuse what Telegram would refuse."""
        if not 1 <= len(self.data.encode()) <= _DATA_LIMIT:
            raise UsageError("button", f"takes 1 to {_DATA_LIMIT} bytes of data", self.data)


Rows = tuple[tuple[Button, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart that is drawn when it is sent: its name, and its data in JSON's types."""

    chart: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be sent: HTML of any length, buttons under its end, and maybe a picture above."""

    html: str
    buttons: Rows = ()
    picture: Picture | None = field(default=None)


def escape(value: object) -> str:
    """Return a value's text with nothing in it that Telegram would read as markup.

    Control characters (line ends aside) and halves of surrogate pairs, which cannot be sent, become
    U+FFFD.
    """
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    good = "".join(c if c in "\n\t" or _sendable(c) else "\ufffd" for c in text)
    return _escape(good, quote=False)


def _sendable(character: str) -> bool:
    code = ord(character)
    return code >= 0x20 and not 0x7F <= code < 0xA0 and not 0xD800 <= code < 0xE000


def bold(value: object) -> str:
    """Return a value's text in bold."""
    return f"<b>{escape(value)}</b>"


def italic(value: object) -> str:
    """Return a value's text in italics."""
    return f"<i>{escape(value)}</i>"


def code(value: object) -> str:
    """Return a value's text in a fixed width; a tap copies it."""
    return f"<code>{escape(value)}</code>"


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Return a table of fixed width: first column to the left, the others to the right."""
    lines = [[str(cell) for cell in row] for row in ([head] if head else [])]
    lines += [[str(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    text = "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    )
    return f"<pre>{escape(text)}</pre>"


def without_tags(html: str) -> str:
    """Return the text that a reader sees."""
    return unescape(_TAG.sub("", html))


def units(text: str) -> int:
    """Return a text's length in UTF-16 units, as Telegram counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def split(html: str, limit: int = LIMIT) -> list[str]:
    """Cut HTML into messages of at most ``limit`` UTF-16 units, between lines where it can.

    A tag that is open at a cut is closed there and opened again in the next message; no tag or
    entity is cut. Parts without anything to see are left out.
    """
    parts: list[str] = []
    atoms: list[str] = []
    used, opened = 0, 0  # units in atoms; how many of them were opened again
    stack: list[str] = []
    for atom in _ATOM.findall(html):
        _nest(stack, atom)
        size = units(atom)
        # more than once: what a cut between lines leaves may be nearly as long as what it took
        while used + size + _closing_size(stack) > limit and any(not _is_tag(a) for a in atoms):
            head, tail = _cut(atoms, opened)
            before: list[str] = []
            for one in head:
                _nest(before, one)
            parts.append("".join(head) + _closers(before))
            atoms, opened = [*before, *tail], len(before)
            used = sum(map(units, atoms))
        atoms.append(atom)
        used += size
    parts.append("".join(atoms))
    return [part.strip("\n") for part in parts if without_tags(part).strip()]


def _cut(atoms: list[str], floor: int) -> tuple[list[str], list[str]]:
    for mark in ("\n", " "):
        for i in range(len(atoms) - 1, floor, -1):
            if atoms[i] == mark and "".join(atoms[floor:i]).strip():
                return atoms[:i], atoms[i + 1 :]
    return atoms, []


def _nest(stack: list[str], atom: str) -> None:
    if not _is_tag(atom):
        return
    if atom.startswith("</"):
        if stack:
            stack.pop()
    else:
        stack.append(atom)


def _is_tag(atom: str) -> bool:
    return len(atom) > 1 and atom[0] == "<"


def _closers(stack: Sequence[str]) -> str:
    return "".join(f"</{_name(tag)}>" for tag in reversed(stack))


def _closing_size(stack: Sequence[str]) -> int:
    return sum(len(_name(tag)) + 3 for tag in stack)


def _name(tag: str) -> str:
    return tag.strip("<>").split()[0]
