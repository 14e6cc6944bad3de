"""Reports on disk, each twice: ``latest.json`` and one file for ever in ``history/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domain.canonical import canonical_json
from domain.errors import SettingError, UsageError
from domain.times import iso


def prepare(folder: Path, page: Path | None = None) -> Path:
    """Make the folder of reports: better before minutes of work than after them.

    Parameters
    ----------
    page : a file that :func:`write_page` shall write; its folder must be there.

    Raises
    ------
    SettingError : if it cannot be made or written to.
    UsageError : if the page has no folder, or is one.
    """
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise UsageError("--html", "must be a file in a folder that exists", str(page))
    try:
        (folder / "history").mkdir(parents=True, exist_ok=True)
        probe = folder / "probe.tmp"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _refused(folder, error) from error
    return folder


def write_report(
    folder: Path,
    body: Mapping[str, Any],
    now_ms: int,
    page: str | None = None,
    markdown: str | None = None,
) -> Path:
    """Write a report as canonical JSON and return the path of the one in ``history/``.

    Parameters
    ----------
    folder : e.g. ``VAR_DIR/reports/evaluate``; made if missing.
    now_ms : names the file, UTC; an existing report is never overwritten.
    page, markdown : the same for people, HTML and Markdown; written beside it.

    Raises
    ------
    SettingError : if it cannot be written.
    """
    line = canonical_json(body) + "\n"
    try:
        kept = _free(folder / "history", stamp(now_ms))
        for suffix, text in ((".json", line), (".html", page), (".md", markdown)):
            if text is None:
                continue
            kept.with_suffix(suffix).write_text(text, encoding="utf-8")
            temporary = folder / f"latest{suffix}.tmp"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(folder / f"latest{suffix}")
    except OSError as error:
        raise _refused(folder, error) from error
    return kept


def write_page(path: Path, page: str) -> None:
    """Write a report for people where they asked for it; what was there is replaced.

    Raises
    ------
    UsageError : if it cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError("--html", "cannot be written", str(path), f"{error.strerror}.") from error


def _refused(folder: Path, error: OSError) -> SettingError:
    rule = "must be a folder in which reports can be written"
    return SettingError("VAR_DIR", rule, str(folder), f"{error.strerror}.")


def stamp(at_ms: int) -> str:
    """Return an instant as part of a file name: ``20250131T120000Z``."""
    return iso(at_ms - at_ms % 1000).replace("-", "").replace(":", "")


def _free(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path, copies = folder / f"{name}.json", 1
    while path.exists():
        copies += 1
        path = folder / f"{name}-{copies}.json"
    return path
