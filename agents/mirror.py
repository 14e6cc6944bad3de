"""Models in an object store, and the copy of them in MODELS_DIR that agents read.

The store has the layout of :mod:`agents.artifacts` and says what is promoted. Whoever asks looks
there now and then, brings what is missing, verifies it against its card and only then gives it a
place in MODELS_DIR. While the store does not answer, MODELS_DIR is used as it was.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec import AbstractFileSystem

from agents.artifacts import POINTER, is_version, load, read_card, set_pointer
from domain.errors import ModelError

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0  # between two looks of a process that follows; each is a few requests
CARD = "card.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*")


class Unreachable(ModelError):
    """A store that does not answer, or not to us."""


class Mirror:
    """One prefix of a store and one folder.

    Parameters
    ----------
    store : where the models are.
    prefix : ``bucket`` or ``bucket/path`` there.
    shown : how people call that place; nothing secret.
    folder : MODELS_DIR.
    monotonic : seconds.
    """

    def __init__(
        self,
        store: AbstractFileSystem,
        prefix: str,
        shown: str,
        folder: Path,
        monotonic: Callable[[], float],
    ) -> None:
        self._store, self._prefix, self._shown = store, prefix.strip("/"), shown
        self._folder, self._monotonic = folder, monotonic
        self._looked: dict[str, float] = {}
        self._problems: dict[str, str] = {}

    def follow(self, agent: str) -> None:
        """Bring what is promoted for an agent, if the last look was a while ago; never raises."""
        now = self._monotonic()
        if now - self._looked.get(agent, float("-inf")) < LOOK_SECONDS:
            return
        self._looked[agent] = now
        try:
            for name in self._models_of(agent):
                self._take_pointer(name)
        except ModelError as error:
            self._tell(agent, f"{error.message}; models of MODELS_DIR are used as they were")
        else:
            self._tell(agent, "")

    def problem(self, agent: str) -> str:
        """Return why the last look was in vain; empty if it was not."""
        return self._problems.get(agent, "")

    def fetch(self, name: str, version: str) -> None:
        """Bring a version that does not lie in MODELS_DIR yet, whole or not at all.

        Raises
        ------
        ModelError : if the store does not answer, or what it has does not verify.
        """
        place = self._folder / name / version
        if (place / CARD).is_file():
            return
        with self._part(place) as part:
            self._download(name, version, CARD, part)
            card = read_card(part / CARD)
            if card.version != version:
                told = f"{self._shown}: {name}/{version}"
                raise ModelError(told, "must hold the card of that version", card.version)
            for file in card.files:
                self._download(name, version, file, part)
            load(part)
            _put(part, place)

    def bring(self, under: str = "") -> list[str]:
        """Bring pointers and every version there is.

        Parameters
        ----------
        under : names that begin so, e.g. ``baseline/``; empty = all.

        Returns
        -------
        What cannot be had, and why, a sentence each.

        Raises
        ------
        Unreachable : if the store does not answer.
        """
        refused = []
        for key in self._keys(under):
            name, _, file = key.rpartition("/")
            name, version = name.rpartition("/")[::2] if file == CARD else (name, "")
            if not _NAME.fullmatch(name):
                continue
            try:
                if file == POINTER:
                    self._take_pointer(name)
                elif is_version(version):
                    self.fetch(name, version)
            except Unreachable:
                raise
            except ModelError as error:
                refused.append(error.message)
        return refused

    def push(self, name: str, version: str) -> None:
        """Take a version to the store, its card last: it is there whole or not at all.

        Raises
        ------
        ModelError : if the store does not answer, or has that version with other bytes.
        """
        artifact = load(self._folder / name / version)
        body = (artifact.folder / CARD).read_bytes()
        found = self._read(f"{name}/{version}/{CARD}")
        if found == body:
            return
        if found is not None:
            told = f"{self._shown}: {name}/{version}"
            raise ModelError(told, "versions never change", None, "Train with a later time.")
        for file, content in artifact.contents.items():
            self._write(f"{name}/{version}/{file}", content)
        self._write(f"{name}/{version}/{CARD}", body)

    def publish(self, name: str, pointer: bytes) -> None:
        """Tell the store, and so everybody, what is promoted.

        Raises
        ------
        Unreachable : if the store does not answer.
        """
        self._write(f"{name}/{POINTER}", pointer)

    def _models_of(self, agent: str) -> list[str]:
        """Names under which an agent's models may be promoted, by one request."""
        with self._answering():
            try:
                found = self._store.ls(f"{self._prefix}/{agent}", detail=True)
            except FileNotFoundError:
                return []
        inside = [Path(str(one["name"])).name for one in found if one["type"] == "directory"]
        parts = [f"{agent}/{name}" for name in inside if not is_version(name)]
        return [name for name in (agent, *parts) if _NAME.fullmatch(name)]

    def _take_pointer(self, name: str) -> None:
        body = self._read(f"{name}/{POINTER}")
        if body is None:
            return
        try:
            changed = set_pointer(self._folder, name, body)
        except OSError as error:
            raise _not_writable(self._folder, error) from error
        if changed:
            log.info("%s: another version is promoted in %s", name, self._shown)

    def _keys(self, under: str) -> list[str]:
        place = f"{self._prefix}/{under}".rstrip("/")
        with self._answering():
            try:
                found = self._store.find(place, on_error="raise")  # else silence reads as "empty"
            except FileNotFoundError:
                return []
        return [str(key).removeprefix(f"{self._prefix}/") for key in found]

    def _read(self, key: str) -> bytes | None:
        try:
            with self._answering():
                return bytes(self._store.cat_file(f"{self._prefix}/{key}"))
        except FileNotFoundError:
            return None

    def _write(self, key: str, body: bytes) -> None:
        try:
            with self._answering():
                self._store.pipe_file(f"{self._prefix}/{key}", body)
        except FileNotFoundError as error:
            raise ModelError(self._shown, "must be a bucket that exists") from error

    def _download(self, name: str, version: str, file: str, folder: Path) -> None:
        body = self._read(f"{name}/{version}/{file}")
        if body is None:
            raise ModelError(f"{self._shown}: {name}/{version}", f"must hold {file}")
        (folder / file).write_bytes(body)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            told = " ".join(str(error).split())[:300].rstrip(".")
            raise Unreachable(
                f"model store {self._shown}", f"must answer: {told}",
                hint="Look at MODELS_URL, its endpoint and the credentials in the environment.",
            ) from error  # fmt: skip

    @contextmanager
    def _part(self, place: Path) -> Iterator[Path]:
        """A folder beside the place, gone afterwards unless it became that place."""
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        except OSError as error:
            raise _not_writable(self._folder, error) from error
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _tell(self, agent: str, problem: str) -> None:
        if problem and problem != self._problems.get(agent, ""):
            log.warning("%s: %s", agent, problem)
        elif self._problems.get(agent, "") and not problem:
            log.info("%s: model store %s answers again", agent, self._shown)
        self._problems[agent] = problem


def _not_writable(folder: Path, error: OSError) -> ModelError:
    told = f"must be a folder that can be written to: {error.strerror}"
    return ModelError("MODELS_DIR", told, str(folder), "It is this machine's copy of the store.")


def _put(part: Path, place: Path) -> None:
    part.chmod(0o755)
    try:
        part.rename(place)
    except OSError:
        if not (place / CARD).is_file():  # else another process was first, with the same bytes
            raise
