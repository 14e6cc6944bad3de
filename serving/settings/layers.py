"""Where settings come from: YAML files, ``.env``, the environment, flags.

Each reader returns what its layer says and adds what it cannot accept to ``problems``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dotenv.parser import parse_stream

from domain.errors import SettingError
from serving.settings.names import (
    GROUPS,
    PREFIX,
    Key,
    did_you_mean_flag,
    did_you_mean_variable,
    did_you_mean_yaml,
    from_environment,
    from_flag,
    is_secret,
    may_hold_secret,
    shown,
)

HIDDEN = "***"


class Given(NamedTuple):
    """A value and where it was found."""

    value: Any
    source: str


Layer = dict[Key, Given]
Problems = list[SettingError]


class _Loader(yaml.SafeLoader):
    """YAML without duplicate keys: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f'"{key}" is there twice',
                                           problem_mark=key_node.start_mark)  # fmt: skip
            seen.add(key)
        return super().construct_mapping(node, deep)


def from_yaml(path: Path, label: str, problems: Problems) -> Layer:
    """Read one grouped YAML file; an empty one says nothing."""
    body = _yaml_body(path, label, problems)
    layer: Layer = {}
    for group, content in body.items():
        if group not in GROUPS:
            hint = did_you_mean_yaml(None, str(group))
            problems.append(
                SettingError(f"{label}: {group}", "is no group of settings",
                             _public(str(group), content), hint)
            )  # fmt: skip
        elif content is not None and not isinstance(content, Mapping):
            problems.append(SettingError(f"{label}: {group}", "must hold settings", content))
        else:
            layer |= _group(str(group), content or {}, label, problems)
    return layer


def _group(group: str, content: Mapping[Any, Any], label: str, problems: Problems) -> Layer:
    layer: Layer = {}
    for field, value in content.items():
        if field in GROUPS[group].model_fields:
            layer[Key(group, field)] = Given(value, label)
        else:
            hint = did_you_mean_yaml(group, str(field))
            name, shown_value = f"{label}: {group}.{field}", _public(str(field), value)
            problems.append(SettingError(name, "is no setting", shown_value, hint))
    return layer


def _yaml_body(path: Path, label: str, problems: Problems) -> Mapping[Any, Any]:
    try:
        body = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        problems.append(SettingError(label, f"cannot be read: {error.strerror}", str(path)))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, RecursionError) as error:
        problems.append(SettingError(label, f"is no valid YAML: {_yaml_reason(error)}"))
    else:
        if body is None or isinstance(body, Mapping):
            return body or {}
        problems.append(SettingError(label, "must hold groups of settings", type(body).__name__))
    return {}


def _yaml_reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or type(error).__name__
    return reason if mark is None else f"{reason}, line {mark.line + 1}"


def from_dotenv(path: Path, problems: Problems) -> Layer:
    """Read a ``.env`` file, if it is there; every name in it must be a setting."""
    label = path.name
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(SettingError(label, f"cannot be read: {error}", str(path)))
        return {}
    pairs = []
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            where = f"{label}, line {binding.original.line}"
            problems.append(SettingError(where, "must be NAME=value, a comment or empty"))
        elif binding.key is not None:
            pairs.append((binding.key, binding.value or ""))
    return _variables(pairs, label, problems)


def from_environ(env: Mapping[str, str], problems: Problems) -> Layer:
    """Read the environment: names of settings, and nothing unknown that starts with CONCLAVE_."""
    ours = [
        (name, value)
        for name, value in sorted(env.items())
        if name.startswith(PREFIX) or from_environment(name) is not None
    ]
    return _variables(ours, "environment", problems)


def _variables(pairs: Iterable[tuple[str, str]], label: str, problems: Problems) -> Layer:
    return _named(
        ((name, value) for name, value in pairs if value or from_environment(name) is None),
        label, from_environment, did_you_mean_variable, problems,
    )  # fmt: skip


def from_flags(overrides: Mapping[str, object], problems: Problems, label: str = "flag") -> Layer:
    """Read flags, or what is written like them; None is a flag that was not given."""
    given = ((name, value) for name, value in overrides.items() if value is not None)
    return _named(given, label, from_flag, did_you_mean_flag, problems)


def _named(
    pairs: Iterable[tuple[str, Any]],
    label: str,
    resolve: Callable[[str], Key | None],
    did_you_mean: Callable[[str], str],
    problems: Problems,
) -> Layer:
    layer: Layer = {}
    for name, raw in pairs:
        key = resolve(name)
        if key is None:
            hint = did_you_mean(name)
            what = f"{name} ({label})"
            problems.append(SettingError(what, "is no setting", _public(name, raw), hint))
            continue
        if key in layer and layer[key].value != raw:
            problems.append(
                SettingError(f"{name} ({label})", f"contradicts another name of {shown(key)}",
                             HIDDEN if is_secret(key) else raw, "Keep one of the two.")
            )  # fmt: skip
        layer[key] = Given(raw, label)
    return layer


def _public(name: str, value: Any) -> Any:
    return HIDDEN if may_hold_secret(name) else value
