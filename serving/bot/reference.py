"""``docs/TELEGRAM.md``: set-up, settings, and one example of every message, made from the code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from notifications.charts import draw
from notifications.markup import LIMIT, Note, split, without_tags
from notifications.matrix import TOPICS
from notifications.relay import AGAIN
from serving.bot import examples
from serving.bot.commands import COMMANDS
from serving.settings.notify import NotifySettings

HERE = Path(__file__).resolve().parent / "telegram.md.in"
PICTURES = ("price", "equity", "calibration")


def telegram_markdown() -> str:
    """Return the document."""
    text = HERE.read_text(encoding="utf-8")
    parts = {
        "{{settings}}": "\n".join(_settings()),
        "{{matrix}}": "\n".join(_matrix()),
        "{{commands}}": "\n".join(_commands()),
        "{{messages}}": "\n\n".join(_shown(t, n) for t, n in examples.messages().items()),
        "{{answers}}": "\n\n".join(_shown(t, n) for t, n in examples.answers(usages()).items()),
        "{{again}}": without_tags(AGAIN).strip("\n"),
    }
    for name, part in parts.items():
        if name not in text:
            raise ValueError(f"{HERE.name} has no {name}")
        text = text.replace(name, part)
    return text


def usages() -> list[tuple[str, str, str]]:
    """Return (usage, text, role) of every command."""
    return [(one.usage, one.text, one.role) for one in COMMANDS.values()]


def pictures() -> dict[str, bytes]:
    """Return the pictures that the document shows, by name."""
    data = {
        "price": examples.price_data(), "equity": examples.equity_data(),
        "calibration": examples.calibration_data(),
    }  # fmt: skip
    return {name: draw(name, data[name]) for name in PICTURES}


def _settings() -> Iterator[str]:
    yield "| setting | default | what it does |"
    yield "|---|---|---|"
    for name, field in NotifySettings.model_fields.items():
        if not name.startswith("tell_"):
            default = field.get_default()
            shown = "–" if default in (None, ()) else f"`{default}`"
            yield f"| `notify.{name}` | {shown} | {field.description} |"


def _matrix() -> Iterator[str]:
    yield "| topic | default | what is told |"
    yield "|---|---|---|"
    for topic in TOPICS:
        field = NotifySettings.model_fields[f"tell_{topic}"]
        said = str(field.description).removesuffix(": on, silent or off")
        yield f"| `notify.tell_{topic}` | {field.default} | {said} |"


def _commands() -> Iterator[str]:
    yield "| command | who | does |"
    yield "|---|---|---|"
    for one in COMMANDS.values():
        usage = one.usage.replace("|", "\\|")
        yield f"| `{usage}` | {one.role} | {one.text} |"


def _shown(title: str, note: Note) -> str:
    head = f"`{title}`" if title.startswith("/") else f"**{title}**"
    picture = "" if note.picture is None else f" (with the {note.picture.chart} picture)"
    below = [f"[ {button.label} ]" for row in note.buttons for button in row]
    parts = "\n⋯ next message ⋯\n".join(without_tags(p) for p in split(note.html, LIMIT))
    body = "\n".join([parts, *([" ".join(below)] if below else [])])
    return f"{head}{picture}\n\n```text\n{body}\n```"


if __name__ == "__main__":
    import sys

    if sys.argv[1:2] == ["pictures"]:
        for name, png in pictures().items():
            Path(sys.argv[2], f"{name}.png").write_bytes(png)
    else:
        sys.stdout.write(telegram_markdown())
