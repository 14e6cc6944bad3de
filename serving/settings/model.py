"""The settings as one frozen object, and what in them contradicts itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pydantic import Field, PrivateAttr, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from domain.errors import SettingError
from domain.market import symbol_on
from serving.settings.data import DataSettings, FeatureSettings
from serving.settings.deciding import ConsensusSettings, DebateSettings, DecisionSettings
from serving.settings.feed import FeedSettings
from serving.settings.live import LiveSettings
from serving.settings.models import ModelSettings
from serving.settings.names import KEYS, did_you_mean_flag, from_flag
from serving.settings.notify import NotifySettings
from serving.settings.problems import raise_for
from serving.settings.resources import ResourceSettings
from serving.settings.risk import RiskSettings
from serving.settings.serving import ServingSettings
from serving.settings.trading import AssertionSettings, ExecutionSettings, JournalSettings

DEFAULT = "default"
LEDGER_FILE = "ledger.db"
TOKENS_FILE = "tokens.json"


class Settings(BaseSettings):
    """Everything that can be set. Made by :func:`serving.settings.load_settings`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data: DataSettings = Field(default_factory=DataSettings)
    feed: FeedSettings = Field(default_factory=FeedSettings)
    features: FeatureSettings = Field(default_factory=FeatureSettings)
    models: ModelSettings = Field(default_factory=ModelSettings)
    consensus: ConsensusSettings = Field(default_factory=ConsensusSettings)
    debate: DebateSettings = Field(default_factory=DebateSettings)
    decision: DecisionSettings = Field(default_factory=DecisionSettings)
    execution: ExecutionSettings = Field(default_factory=ExecutionSettings)
    risk: RiskSettings = Field(default_factory=RiskSettings)
    live: LiveSettings = Field(default_factory=LiveSettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    assertions: AssertionSettings = Field(default_factory=AssertionSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    resources: ResourceSettings = Field(default_factory=ResourceSettings)
    serving: ServingSettings = Field(default_factory=ServingSettings)
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing by itself: the environment is passed in."""
        return (init_settings,)

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        raise_for(contradictions(self))
        return self

    def with_sources(self, sources: Mapping[str, str]) -> Settings:
        """Return the same settings, knowing where each value (``group.name``) came from."""
        twin = self.model_copy()
        twin._sources = dict(sources)
        return twin

    def source_of(self, name: str) -> str:
        """Return where a setting's value came from: ``default``, a file, environment or flag.

        Raises
        ------
        SettingError : if there is no such setting (``PROB_MIN`` or ``decision.prob_min``).
        """
        key = from_flag(name)
        if key is None:
            raise SettingError(name, "is no setting", hint=did_you_mean_flag(name))
        return self._sources.get(str(key), DEFAULT)

    def database_url(self) -> str:
        """Return the database's URL, password included; SQLite in VAR_DIR if none is set."""
        configured = self.serving.database_url
        if configured is not None:
            return configured.get_secret_value()
        return f"sqlite:///{(self.data.var_dir / LEDGER_FILE).as_posix()}"

    def tokens_file(self) -> Path:
        """Return the file of named tokens."""
        return self.serving.tokens_file or self.data.var_dir / TOKENS_FILE

    def secret_values(self) -> tuple[str, ...]:
        """Return every secret in plain text, for those who must keep it out of what they write."""
        found = [
            value.get_secret_value()
            for value in (
                self.serving.api_token,
                self.notify.telegram_bot_token,
                self.debate.xai_api_key,
                self.debate.anthropic_api_key,
                self.live.exchange_api_key,
                self.live.exchange_api_secret,
                self.live.testnet_api_key,
                self.live.testnet_api_secret,
            )
            if value is not None
        ]
        if self.serving.database_url is not None:
            url = urlsplit(self.serving.database_url.get_secret_value())
            found += [text for name, text in parse_qsl(url.query) if "pass" in name.lower()]
            if url.password:
                found.append(url.password)
        return tuple(text for text in found if text)

    def describe(self, redact: bool = True) -> dict[str, dict[str, Any]]:
        """Return all values by group, as JSON's types.

        Parameters
        ----------
        redact : hide tokens, and the password in the database's URL.
        """
        body: dict[str, dict[str, Any]] = {}
        for key in KEYS:
            value = getattr(getattr(self, key.group), key.field)
            if isinstance(value, SecretStr):
                text = value.get_secret_value()
                url = key.field == "database_url"
                value = (_without_password(text) if url else "***") if redact else text
            elif isinstance(value, Path):
                value = str(value)
            elif isinstance(value, tuple):
                value = list(value)
            body.setdefault(key.group, {})[key.field] = value
        return body


def contradictions(settings: Settings) -> list[SettingError]:
    """Return what is right by itself but not together."""
    execution, risk, serving = settings.execution, settings.risk, settings.serving
    live = settings.live
    routes = [symbol_on(symbol, execution.market) for symbol in settings.data.symbols]
    rules = (
        (
            execution.live_mode and execution.paper_mode,
            "LIVE_MODE", "cannot be on together with PAPER_MODE", True,
            "Set LIVE_MODE=false, or PAPER_MODE=false as well (docs/live.md).",
        ),
        (
            not (execution.live_mode or execution.paper_mode),
            "PAPER_MODE", "must be true unless LIVE_MODE is", False, "Set PAPER_MODE=true.",
        ),
        (
            (live.exchange_api_key is None) != (live.exchange_api_secret is None),
            "EXCHANGE_API_KEY", "must be set together with EXCHANGE_API_SECRET", None,
            "Set both, or neither.",
        ),
        (
            (live.testnet_api_key is None) != (live.testnet_api_secret is None),
            "TESTNET_API_KEY", "must be set together with TESTNET_API_SECRET", None,
            "Set both, or neither.",
        ),
        (
            not is_loopback(serving.api_host) and serving.api_token is None,
            "API_HOST", "may leave loopback only with an API_TOKEN", serving.api_host,
            "Set API_TOKEN, or API_HOST=127.0.0.1.",
        ),
        (
            serving.api_port != 0 and serving.api_port == serving.ray_dashboard_port,
            "API_PORT", "must differ from RAY_DASHBOARD_PORT", serving.api_port,
            "Change one of them; 0 means any free port.",
        ),
        (
            len(set(routes)) < len(routes),
            "SYMBOLS", f"must not meet in one market on {execution.market}",
            ",".join(settings.data.symbols), "Name each pair once, or change EXECUTION_MARKET.",
        ),
        (
            execution.fixed_notional is not None and execution.fixed_quantity is not None,
            "execution.fixed_notional", "cannot be set together with execution.fixed_quantity",
            execution.fixed_notional, "Keep one of the two.",
        ),
        (
            settings.consensus.sole not in (None, *settings.models.agents),
            "consensus.sole", "must be one of models.agents", settings.consensus.sole,
            f"Name one of {', '.join(settings.models.agents)}, or none.",
        ),
        (
            risk.min_order_notional > risk.max_order_notional,
            "risk.min_order_notional", "must not exceed risk.max_order_notional",
            risk.min_order_notional, f"The largest order is {risk.max_order_notional:g} USDT.",
        ),
        (
            risk.correlation_least > risk.correlation_bars,
            "risk.correlation_least", "must not exceed risk.correlation_bars",
            risk.correlation_least, f"There are {risk.correlation_bars} at most.",
        ),
        (
            risk.drawdown_reduction
            and risk.total_stop
            and risk.drawdown_start > risk.total_stop_drawdown,
            "risk.drawdown_start", "must not exceed risk.total_stop_drawdown",
            risk.drawdown_start, f"Trading stops at {risk.total_stop_drawdown:g}.",
        ),
    )  # fmt: skip
    return [SettingError(*problem) for broken, *problem in rules if broken]


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    netloc = parts.netloc
    if parts.password:
        user = quote(parts.username or "", safe="%")
        netloc = f"{user}:***@{netloc.rpartition('@')[2]}"
    query = urlencode(
        [(k, "***" if "pass" in k.lower() else v) for k, v in parse_qsl(parts.query)], safe="*/"
    )
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))
