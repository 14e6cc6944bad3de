"""Which Chronos model: by hub id, from a folder, or the one that ships; and what became of it."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from agents.artifacts import Artifact, FolderStore
from agents.chronos_network import ChronosNetwork
from domain.canonical import short_hash
from domain.errors import ModelError, UsageError

log = logging.getLogger(__name__)

NAME = "chronos"
SHIPPED = "shipped"  # the setting that means: what was trained here and promoted, or what ships
HUB = (
    "amazon/chronos-bolt-tiny", "amazon/chronos-bolt-mini", "amazon/chronos-bolt-small",
    "amazon/chronos-bolt-base", "amazon/chronos-2", "autogluon/chronos-2-small",
    "autogluon/chronos-2-synth",
)  # fmt: skip
_PATIENCE_S = 3.0  # with a hub that does not answer
_SIZE_HINTS = {"medium": "amazon/chronos-bolt-small", "large": "amazon/chronos-bolt-base"}


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The model in use.

    Attributes
    ----------
    wanted : the setting. ``used`` : a hub id, a folder, or ``shipped``.
    problem : why it is not the wanted one; empty if it is.
    artifact : the versioned artifact, where it is one; it holds the fusion.
    identity : of the weights; part of the agent's version.
    instead : makes what ships, and says why; None where this is what ships.
    """

    network: ChronosNetwork
    wanted: str
    used: str
    problem: str
    artifact: Artifact | None
    identity: str
    instead: Callable[[str], Chosen] | None = None

    def told(self) -> Mapping[str, Any]:
        """Return what people see of it."""
        body = {"wanted": self.wanted, "used": self.used, **self.network.described.told()}
        return body | ({"problem": self.problem} if self.problem else {})


def require_known(name: str) -> str:
    """Return a setting that can mean a model: ``shipped``, a folder, or a known hub id.

    Raises
    ------
    UsageError : for an id that does not exist, with the closest that does.
    """
    looks_like_path = name.startswith((".", "/", "~")) or Path(name).is_dir()
    if name == SHIPPED or looks_like_path or name in HUB:
        return name
    close = difflib.get_close_matches(name, HUB, n=1, cutoff=0.4)
    size = next((hub for word, hub in _SIZE_HINTS.items() if word in name), None)
    guess = size or (close[0] if close else HUB[0])
    raise UsageError(
        "chronos model", "must be a hub id that exists, a folder, or shipped", name,
        f'Did you mean "{guess}"? Known: {", ".join(HUB)}.',
    )  # fmt: skip


def choose(store: FolderStore, wanted: str = SHIPPED, *, int8: bool = False) -> Chosen:
    """Load the wanted model, or the one that ships where it cannot be had.

    Raises
    ------
    UsageError : for a hub id that does not exist.
    ModelError : if what ships cannot be loaded either.
    """
    require_known(wanted)
    if wanted == SHIPPED:
        return _shipped(store, wanted, int8)
    instead = partial(_instead, store, wanted, int8)
    try:
        return replace(_named(wanted, int8), instead=instead)
    except ModelError as error:
        return instead(error.message)


def _named(wanted: str, int8: bool) -> Chosen:
    try:
        folder = Path(wanted).expanduser()
    except RuntimeError as error:  # ~ of a user who does not exist
        raise ModelError(wanted, f"must be a folder that exists: {error}") from error
    if wanted in HUB and not folder.is_dir():
        folder = from_hub(wanted)
    if not folder.is_dir():
        raise ModelError(wanted, "must be a folder that exists")
    network = ChronosNetwork(folder, int8=int8)
    digest = sha256()
    for path in sorted((*folder.glob("config.json"), *folder.glob("*.safetensors"))):
        digest.update(path.read_bytes())
    return Chosen(network, wanted, wanted, "", None, short_hash([digest.hexdigest(), int8], 12))


def from_hub(name: str) -> Path:
    """Return the folder of a hub model, from the local cache or else by download.

    Raises
    ------
    ModelError : if it is in neither.
    """
    import httpx
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    fetch = partial(snapshot_download, name, allow_patterns=["*.json", "*.safetensors"])
    try:
        return Path(fetch(local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        httpx.head(constants.ENDPOINT, timeout=_PATIENCE_S)
    except httpx.HTTPError as error:  # else the library would try for half a minute
        raise ModelError(
            name, f"is not in the local cache, and the hub {constants.ENDPOINT} does not answer: "
            f"{type(error).__name__}", None, "Download it to a folder and name that.",
        ) from error  # fmt: skip
    try:
        return Path(fetch())
    except Exception as error:  # its own, its HTTP client's and the disk's
        told = " ".join(str(error).split())[:200]
        raise ModelError(name, f"cannot be downloaded: {type(error).__name__}: {told}") from error


def _instead(store: FolderStore, wanted: str, int8: bool, problem: str) -> Chosen:
    log.warning("chronos model %s cannot be had, what ships is used: %s", wanted, problem)
    return _shipped(store, wanted, int8, problem)


def _shipped(store: FolderStore, wanted: str, int8: bool, problem: str = "") -> Chosen:
    artifact = store.open(NAME)
    network = ChronosNetwork(artifact.folder, int8=int8)
    identity = artifact.card.identity if not int8 else short_hash([artifact.card.identity, 8], 12)
    return Chosen(network, wanted, SHIPPED, problem, artifact, identity)
