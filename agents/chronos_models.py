"""Which Chronos model: by hub id, from a folder, or the one that ships; and what became of it."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    network: ChronosNetwork
    wanted: str
    used: str
    problem: str
    artifact: Artifact | None
    identity: str

    def told(self) -> Mapping[str, Any]:
        """Return what people see of it."""
        body = {"wanted": self.wanted, "used": self.used, **self.network.describes}
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
        return _shipped(store, wanted, "", int8)
    try:
        return _named(wanted, int8)
    except ModelError as error:
        log.warning("chronos model %s cannot be had, what ships is used: %s", wanted, error.message)
        return _shipped(store, wanted, error.message, int8)


def _named(wanted: str, int8: bool) -> Chosen:
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise ModelError(wanted, "must hold safetensors weights", None, "Pickles are refused.")
        digest = sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()
        network = ChronosNetwork.load(folder, int8=int8)
        return Chosen(network, wanted, wanted, "", None, short_hash([digest, int8], 12))
    if wanted not in HUB:
        raise ModelError(wanted, "must be a folder that exists")
    return Chosen(_from_hub(wanted, int8), wanted, wanted, "", None, short_hash([wanted, int8], 12))


def _from_hub(name: str, int8: bool) -> ChronosNetwork:
    """From the cache of huggingface_hub, else by download."""
    try:
        return ChronosNetwork.load(name, int8=int8)
    except ModelError:
        return ChronosNetwork.load(name, online=True, int8=int8)


def _shipped(store: FolderStore, wanted: str, problem: str, int8: bool) -> Chosen:
    artifact = store.open(NAME)
    network = ChronosNetwork.load(artifact.folder, int8=int8)
    identity = artifact.card.identity if not int8 else short_hash([artifact.card.identity, 8], 12)
    return Chosen(network, wanted, SHIPPED, problem, artifact, identity)
