"""All settings with units and defaults, as the files that ship: they cannot drift from the code."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from serving.settings.names import FLAT, GROUPS, Key, is_secret

# What profiles set: a value in .env would silently go before every profile.
PROFILED = frozenset(
    {"EXECUTION_MARKET", "FEES_BPS", "MIN_EXPECTED_RETURN", "MIN_FORECASTERS", "PROB_MIN",
     "RISK_MAX"}
)  # fmt: skip
_COLUMN = 34


def default_yaml() -> str:
    """Return ``configs/default.yaml``: every setting, secrets and derived folders commented out."""
    lines = [
        "# Every setting with its default. Other files in this folder are profiles: they say what",
        "# differs. Environment and flags go before all of them.",
        "# Made by: python -m serving.settings.reference yaml",
    ]
    for group, model in GROUPS.items():
        lines += ["", f"# {(model.__doc__ or '').strip()}", f"{group}:"]
        for field, info in model.model_fields.items():
            given = info.default is not PydanticUndefined and not is_secret(Key(group, field))
            text = f"{field}: {_yaml(info.default)}" if given else f"# {field}:"
            lines.append(f"  {text:<{_COLUMN}} # {info.description}")
    return "\n".join(lines) + "\n"


def dotenv_example() -> str:
    """Return ``.env.example``: every name that works without prefix, with its default."""
    lines = [
        "# Copy to .env and change what you need; never commit .env. Empty means: not set.",
        "# The environment goes before this file. Every other setting (configs/default.yaml) is",
        "# CONCLAVE_<GROUP>__<NAME> here, e.g. CONCLAVE_RISK__DAILY_LOSS_MAX=0.03",
    ]
    for name, key in FLAT.items():
        info = GROUPS[key.group].model_fields[key.field]
        value = _env(info)
        if name in PROFILED:
            value, left = "", f" (default {value or 'none'}; empty leaves it to the profile)"
        else:
            left = ""
        lines += ["", f"# {info.description}{left}", f"{name}={value}"]
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _env(info: FieldInfo) -> str:
    value = info.default
    if value is None or value is PydanticUndefined:
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else _yaml(value)


if __name__ == "__main__":
    import sys

    sys.stdout.write(default_yaml() if sys.argv[1:] == ["yaml"] else dotenv_example())
