"""What a Dockerfile takes from the project, as the builder would see it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = {name: ROOT / "docker" / f"Dockerfile.{name}" for name in ("infer", "train")}


class Line(NamedTuple):
    """One instruction, with the stage it belongs to."""

    stage: str
    name: str
    value: str


def lines(path: Path) -> list[Line]:
    """The instructions of a Dockerfile in their order."""
    parser = DockerfileParser(fileobj=BytesIO(path.read_bytes()))
    found, stage = [], ""
    for entry in parser.structure:
        if entry["instruction"] == "COMMENT":
            continue
        if entry["instruction"] == "FROM":
            stage = entry["value"].rpartition(" AS ")[2]
        found.append(Line(stage, entry["instruction"], entry["value"]))
    return found


def copies(path: Path) -> list[tuple[str, str]]:
    """(source, target) of every COPY from the project."""
    found = []
    for line in lines(path):
        if line.name == "COPY" and "--from=" not in line.value:
            *sources, target = shlex.split(line.value)
            found += [(source, target) for source in sources]
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file out: the last pattern that fits it or its folder."""
    out = False
    for text in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = text.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted = pattern.lstrip("!").rstrip("/")
        parts = PurePosixPath(path)
        names = [str(parts), *(str(parent) for parent in parts.parents)]
        if wanted.startswith("**/"):
            fits = any(fnmatch(part, wanted[3:]) for part in parts.parts)
        else:
            fits = any(fnmatch(name, wanted) and "/" not in name for name in names)
        if fits:
            out = not pattern.startswith("!")
    return out


def project_files(source: str) -> Iterator[Path]:
    """Iterate over the files that a COPY source stands for, relative to the project."""
    place = ROOT / source
    candidates = [place] if place.is_file() else sorted(place.rglob("*"))
    for path in candidates:
        relative = path.relative_to(ROOT)
        if path.is_file() and not ignored(relative.as_posix()):
            yield relative


def lay_out(dockerfile: Path, folder: Path) -> Path:
    """Copy exactly the files that the image gets to a folder, as its /app."""
    for source, target in copies(dockerfile):
        for path in project_files(source):
            inside = path if target in ("./", ".") else Path(target) / path.relative_to(source)
            place = folder / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, place)
    return folder
