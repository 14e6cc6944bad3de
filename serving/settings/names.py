"""What every setting is called in YAML, in the environment and on the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, get_args

from pydantic import BaseModel, SecretStr

from serving.settings.data import DataSettings, FeatureSettings
from serving.settings.deciding import ConsensusSettings, DebateSettings, DecisionSettings
from serving.settings.feed import FeedSettings
from serving.settings.live import LiveSettings
from serving.settings.models import ModelSettings
from serving.settings.notify import NotifySettings
from serving.settings.resources import ResourceSettings
from serving.settings.risk import RiskSettings
from serving.settings.serving import ServingSettings
from serving.settings.trading import AssertionSettings, ExecutionSettings, JournalSettings

PREFIX = "CONCLAVE_"


class Key(NamedTuple):
    """A setting's place: its group and its name there."""

    group: str
    field: str

    def __str__(self) -> str:
        return f"{self.group}.{self.field}"


GROUPS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "data": DataSettings,
        "feed": FeedSettings,
        "features": FeatureSettings,
        "models": ModelSettings,
        "consensus": ConsensusSettings,
        "debate": DebateSettings,
        "decision": DecisionSettings,
        "execution": ExecutionSettings,
        "risk": RiskSettings,
        "live": LiveSettings,
        "journal": JournalSettings,
        "assertions": AssertionSettings,
        "notify": NotifySettings,
        "resources": ResourceSettings,
        "serving": ServingSettings,
    }
)

KEYS = tuple(Key(group, field) for group, model in GROUPS.items() for field in model.model_fields)

# Environment names that work without a prefix.
FLAT: Mapping[str, Key] = MappingProxyType(
    {
        "SYMBOLS": Key("data", "symbols"),
        "TIMEFRAME": Key("data", "timeframe"),
        "PRED_HORIZON_STEPS": Key("data", "pred_horizon_steps"),
        "ENCODER_LENGTH": Key("features", "encoder_length"),
        "EXCHANGE": Key("data", "exchange"),
        "EXCHANGE_URL": Key("data", "exchange_url"),
        "EXCHANGE_API_KEY": Key("live", "exchange_api_key"),
        "EXCHANGE_API_SECRET": Key("live", "exchange_api_secret"),
        "TESTNET_API_KEY": Key("live", "testnet_api_key"),
        "TESTNET_API_SECRET": Key("live", "testnet_api_secret"),
        "SOURCE": Key("data", "source"),
        "PAPER_MODE": Key("execution", "paper_mode"),
        "LIVE_MODE": Key("execution", "live_mode"),
        "RISK_MAX": Key("decision", "risk_max"),
        "PROB_MIN": Key("decision", "prob_min"),
        "MIN_EXPECTED_RETURN": Key("decision", "min_expected_return"),
        "FEES_BPS": Key("execution", "fees_bps"),
        "MIN_FORECASTERS": Key("consensus", "min_forecasters"),
        "VAR_DIR": Key("data", "var_dir"),
        "DATA_DIR_RAW": Key("data", "raw_dir"),
        "DATA_DIR_PROCESSED": Key("data", "processed_dir"),
        "MODELS_DIR": Key("data", "models_dir"),
        "MODELS_URL": Key("data", "models_url"),
        "LOGS_DIR": Key("data", "logs_dir"),
        "DATABASE_URL": Key("serving", "database_url"),
        "API_HOST": Key("serving", "api_host"),
        "SERVE_URL": Key("serving", "serve_url"),
        "DESK_PORT": Key("serving", "desk_port"),
        "API_PORT": Key("serving", "api_port"),
        "RAY_DASHBOARD_PORT": Key("serving", "ray_dashboard_port"),
        "API_TOKEN": Key("serving", "api_token"),
        "XAI_API_KEY": Key("debate", "xai_api_key"),
        "ANTHROPIC_API_KEY": Key("debate", "anthropic_api_key"),
        "TELEGRAM_BOT_TOKEN": Key("notify", "telegram_bot_token"),
        "TELEGRAM_CHAT_ID": Key("notify", "telegram_chat_id"),
        "EXECUTION_MARKET": Key("execution", "market"),
        "ON_SHUTDOWN": Key("execution", "on_shutdown"),
        "AUTO_PROMOTE": Key("models", "auto_promote"),
        "TRIALS_LOG": Key("models", "trials_log"),
        "CONCLAVE_SAMPLES": Key("data", "samples"),
    }
)

_FLAT_OF = {key: name for name, key in FLAT.items()}
_FIELDS = {key.field: key for key in KEYS}


def shown(key: Key) -> str:
    """Return the name to show: the environment's where there is one, else ``group.name``."""
    return _FLAT_OF.get(key, str(key))


def is_optional(key: Key) -> bool:
    """Return whether ``none`` is a value of the setting."""
    return type(None) in get_args(GROUPS[key.group].model_fields[key.field].annotation)


def is_secret(key: Key) -> bool:
    """Return whether the setting's value must never be shown."""
    return SecretStr in get_args(GROUPS[key.group].model_fields[key.field].annotation)


def from_environment(name: str) -> Key | None:
    """Return what an environment variable sets, None if nothing."""
    if name in FLAT:
        return FLAT[name]
    if not name.startswith(PREFIX):
        return None
    rest = name.removeprefix(PREFIX)
    group, _, field = rest.partition("__")
    key = Key(group.lower(), field.lower())
    if key in KEYS and rest.isupper():
        return key
    return FLAT.get(rest) or (_FIELDS.get(rest.lower()) if rest.isupper() else None)


def from_flag(name: str) -> Key | None:
    """Return what a flag sets: ``PROB_MIN``, ``prob-min`` or ``decision.prob_min``."""
    plain = name.lstrip("-").replace("-", "_")
    group, _, field = plain.lower().partition(".")
    if Key(group, field) in KEYS:
        return Key(group, field)
    return FLAT.get(plain.upper()) or _FIELDS.get(plain.lower())


def did_you_mean_variable(name: str) -> str:
    """Return a hint for an environment variable that nobody knows."""
    known = [*FLAT]
    if name.upper().startswith(PREFIX):
        known = [f"{PREFIX}{flat}" for flat in FLAT if not flat.startswith(PREFIX)]
        known += ["CONCLAVE_SAMPLES", *(f"{PREFIX}{field.upper()}" for field in _FIELDS)]
        if "__" in name:
            known += [f"{PREFIX}{key.group.upper()}__{key.field.upper()}" for key in KEYS]
    return _hint(name.upper(), known, "All names are in .env.example and configs/default.yaml.")


def did_you_mean_flag(name: str) -> str:
    """Return a hint for a flag that nobody knows."""
    style = name.lstrip("-").replace("-", "_").lower()
    known = [*map(str, KEYS)] if "." in style else [*_FIELDS, *(flat.lower() for flat in FLAT)]
    return _hint(style, known, "All names are in configs/default.yaml.")


def did_you_mean_yaml(group: str | None, name: str) -> str:
    """Return a hint for a YAML key that nobody knows, in a group or at the top (None)."""
    key = FLAT.get(name.upper()) or _FIELDS.get(name.lower())
    if key is not None:
        return f'Did you mean "{key.field}" under "{key.group}:"?'
    if group is None:
        return _hint(name, GROUPS, f"There are: {', '.join(GROUPS)}.")
    fields = GROUPS[group].model_fields
    close = difflib.get_close_matches(name, fields, n=1)
    if not close and (elsewhere := difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.8)):
        found = _FIELDS[elsewhere[0]]
        return f'Did you mean "{found.field}" under "{found.group}:"?'
    return _hint(name, fields, f"There are: {', '.join(fields)}.")


def may_hold_secret(name: str) -> bool:
    """Return whether the value of an unknown name had better not be repeated."""
    if re.search(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL|URL|AUTH", name.upper()):
        return True
    close = difflib.get_close_matches(
        name.upper().removeprefix(PREFIX), [shown(key) for key in KEYS], n=3
    )
    return any(shown(key) in close for key in KEYS if is_secret(key))


def _hint(name: str, known: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'Did you mean "{close[0]}"?' if close else otherwise
