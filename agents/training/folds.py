"""Walk-forward scores that survive a kill: a fold that was scored is not fitted again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from domain.canonical import short_hash
from domain.errors import ModelError

Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class FoldLog:
    """The scores of the folds so far, in a file if there is one for them.

    Attributes
    ----------
    identity : of everything they depend on.
    """

    path: Path | None
    identity: str
    folds: list[Scores] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path | None, question: object) -> FoldLog:
        """Read what an earlier run of the same question left at ``path``.

        Raises
        ------
        ModelError : if the file cannot be read.
        """
        log = cls(path, short_hash(question))
        if path is not None and path.is_file():
            try:
                body = json.loads(path.read_text(encoding="utf-8"))
                if body["identity"] == log.identity:
                    log.folds.extend(body["folds"])
            except (ValueError, KeyError, TypeError) as error:
                raise unreadable(path, error) from error
        return log

    def add(self, scores: Mapping[str, float]) -> None:
        """Keep the scores of the next fold."""
        self.folds.append(dict(scores))
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            body = {"identity": self.identity, "folds": self.folds}
            part.write_text(json.dumps(body), encoding="utf-8")
            part.replace(self.path)


def unreadable(path: Path, error: Exception) -> ModelError:
    """Return what is said about a checkpoint that was cut off or is something else."""
    return ModelError(
        f"checkpoint {path}", f"must be readable: {type(error).__name__}: {error}", None,
        "Begin anew with --fresh, or put the file back as it was.",
    )  # fmt: skip
