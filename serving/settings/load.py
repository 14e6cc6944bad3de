"""From files, environment and flags to :class:`Settings`."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from domain.errors import SettingError
from serving.settings.layers import (
    HIDDEN,
    Layer,
    Problems,
    from_dotenv,
    from_environ,
    from_flags,
    from_yaml,
)
from serving.settings.live import misplaced
from serving.settings.model import Settings
from serving.settings.names import Key, is_optional, is_secret, shown
from serving.settings.problems import SettingErrors, raise_for

CONFIGS_DIR = Path(__file__).resolve().parents[2] / "configs"
BASE = "default"
_NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})


def load_settings(
    *,
    env: Mapping[str, str],
    profile: str | None,
    config_files: Sequence[Path] = (),
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    under: Mapping[str, object] = _NO_OVERRIDES,
    dotenv: Path | None = None,
    configs_dir: Path = CONFIGS_DIR,
    only: Collection[str] | None = None,
) -> Settings:
    """Read settings; later layers win.

    They are: base, profile, ``under``, config files, ``.env``, environment, flags.

    Parameters
    ----------
    env : the environment; names that are no settings are ignored unless they start with CONCLAVE_.
        An empty value means unset, ``none`` switches an optional setting off.
    profile : name of a file in ``configs_dir`` without ``.yaml``; None = the base alone.
    config_files : more YAML files, the last one wins.
    overrides : flags, as ``PROB_MIN``, ``prob-min`` or ``decision.prob_min``; None = not given.
    under : what something that is to be run brings along, named as flags are.
    dotenv : a ``.env`` file; it need not exist.
    only : ``data.var_dir`` …: nothing else is looked at, and no name is a mistake.

    Raises
    ------
    SettingError : for every unknown name, bad value and contradiction, all in one message.
    """
    problems: Problems = []
    layers = [
        *(from_yaml(path, f"configs/{path.name}", problems) for path in _bases(configs_dir)),
        *(
            from_yaml(path, f"configs/{path.name}", problems)
            for path in _profile(profile, configs_dir, problems)
        ),
        from_flags(under, problems, "scenario"),
        *(from_yaml(path, str(path), problems) for path in config_files),
        *([from_dotenv(dotenv, problems)] if dotenv is not None else []),
        from_environ(env, problems),
        from_flags(overrides, problems),
    ]
    merged: Layer = {}
    for layer in layers:
        merged |= layer
    if only is not None:
        merged, problems = {key: merged[key] for key in merged if str(key) in only}, []
    problems += misplaced({str(key): given.source for key, given in merged.items()})
    settings = _validated(merged, problems)
    raise_for(problems)
    if settings is None:  # a refusal without a problem would be a bug here
        raise SettingError("settings", "could not be read")
    return settings.with_sources({str(key): given.source for key, given in merged.items()})


def profiles(configs_dir: Path = CONFIGS_DIR) -> tuple[str, ...]:
    """Return the names of the profiles that exist."""
    return tuple(sorted(path.stem for path in configs_dir.glob("*.yaml") if path.stem != BASE))


def _bases(configs_dir: Path) -> list[Path]:
    base = configs_dir / f"{BASE}.yaml"
    return [base] if base.is_file() else []


def _profile(name: str | None, configs_dir: Path, problems: Problems) -> list[Path]:
    if name is None:
        return []
    known = profiles(configs_dir)
    if name in known:
        return [configs_dir / f"{name}.yaml"]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'Did you mean "{close[0]}"?' if close else f"There are: {', '.join(known) or 'none'}."
    problems.append(SettingError("profile", "must be one that exists", name, hint))
    return []


def _validated(merged: Layer, problems: Problems) -> Settings | None:
    groups: dict[str, dict[str, Any]] = {}
    for key, given in merged.items():
        off = isinstance(given.value, str) and given.value.strip().lower() == "none"
        value = None if off and is_optional(key) else given.value
        groups.setdefault(key.group, {})[key.field] = value
    try:
        return Settings.model_validate(groups)
    except ValidationError as error:
        problems += [
            _problem(dict(entry), merged)
            for entry in error.errors(include_url=False)
            if entry["type"] != "default_factory_not_called"  # follows from another problem
        ]
    except SettingErrors as error:
        problems += error.problems
    except SettingError as error:
        problems.append(error)
    return None


def _problem(entry: dict[str, Any], merged: Layer) -> SettingError:
    key = Key(*map(str, entry["loc"][:2]))
    given = merged.get(key)
    rule = str(entry["msg"]).removeprefix("Value error, ")
    rule = rule.replace("Input should be", "must be").replace("String should", "must")
    for words, sign in _SIGNS:
        rule = rule.replace(words, sign)
    if given is None:
        return SettingError(shown(key), rule)
    hide = is_secret(key) or _names_somebody(given.value)
    value = HIDDEN if hide else given.value
    hint = "" if hide else _close_value(value, entry)
    return SettingError(f"{shown(key)} ({given.source})", rule, value, hint)


_SIGNS = (
    ("greater than or equal to", "≥"),
    ("less than or equal to", "≤"),
    ("greater than", ">"),
    ("less than", "<"),
)


def _names_somebody(value: Any) -> bool:
    """Whether it is an address with a name or a password in it."""
    return "@" in urlsplit(value).netloc if isinstance(value, str) else False


def _close_value(value: Any, entry: dict[str, Any]) -> str:
    if not isinstance(value, str):
        return ""
    expected = str(entry.get("ctx", {}).get("expected", ""))
    known = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
    close = difflib.get_close_matches(value, [name for name in known if name], n=1)
    return f'Did you mean "{close[0]}"?' if close else ""
