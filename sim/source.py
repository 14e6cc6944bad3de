"""Which code made a result: what is kept on disk must not outlive the code that made it."""

from __future__ import annotations

import inspect
from functools import cache
from hashlib import sha256
from pathlib import Path

import agents
import data.features
import data.labels
import domain.quantiles
from domain.canonical import short_hash

_ROOTS = (Path(agents.__file__).parent, Path(data.features.__file__).parent)
_FILES = (Path(data.labels.__file__), Path(domain.quantiles.__file__))


@cache
def project_source(training: bool = False) -> str:
    """Return a hash of the files that agents forecast with: agents, features, labels, quantiles.

    Parameters
    ----------
    training : the files that models are trained with as well.
    """
    found = {str(path.name): _sha(path) for path in _FILES}
    for root in _ROOTS:
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root.parent).as_posix()
            if training or "training/" not in name:
                found[name] = _sha(path)
    return short_hash(found)


def source_of(agent: object) -> str:
    """Return a hash of the code an agent forecasts with: the project's, and its own module's."""
    kind = type(agent)
    try:
        own = inspect.getsource(inspect.getmodule(kind) or kind)
    except (OSError, TypeError):  # typed at a prompt: what it is compiled to must do
        own = repr([(name, _compiled(part)) for name, part in sorted(vars(kind).items())])
    return short_hash([project_source(), sha256(own.encode()).hexdigest()])


def _compiled(part: object) -> object:
    return getattr(getattr(part, "__code__", None), "co_code", None)


def _sha(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
