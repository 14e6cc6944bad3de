"""What an agent says of itself: its version, what it reads, and the models behind it."""

from __future__ import annotations

from dataclasses import dataclass

from domain.ports import Needs

SHIPPED, TRAINED = "shipped", "models_dir"  # where a model lies


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """The version of a model that an agent speaks with, and what kept another one out.

    Attributes
    ----------
    name : e.g. ``baseline/trend``.
    place : ``shipped`` or ``models_dir``.
    wanted : the version that is promoted in MODELS_DIR; None where what ships is meant.
    problem : why ``wanted`` is not the one in use; empty if it is.
    """

    name: str
    version: str
    place: str
    wanted: str | None = None
    problem: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong and what is used instead, in one line; empty if all is well."""
        if not self.problem:
            return ""
        wanted = f" {self.wanted}" if self.wanted else ""
        place = " (shipped)" if self.place == SHIPPED else ""
        return f"{self.name}{wanted} is not used: {self.problem}; {self.version}{place} is instead"


@dataclass(frozen=True, slots=True)
class AgentCard:
    """An agent as it answers now.

    Attributes
    ----------
    trained_until : bars that open before it (UTC ms) were seen in training; None without training.
    problem : why it has no model at all, or could not take the one wanted; usually empty.
    notes : what else people should know, a sentence each.
    """

    name: str
    version: str
    needs: Needs
    trained_until: int | None = None
    models: tuple[ModelInUse, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is not as it should be, a sentence each."""
        own = (f"{self.name}: {self.problem}",) if self.problem else ()
        return own + tuple(model.sentence for model in self.models if model.problem)
