"""Settings of the processes that answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from serving.settings.group import Folder, Group, Names, NotNegative, Port, Positive


class ServingSettings(Group):
    """Processes, ports and limits."""

    api_host: str = Field("127.0.0.1", min_length=1, description="address the API listens on")
    api_port: Port = Field(8000, description="port of API and dashboard; 0 = any free one")
    ray_dashboard_port: Port = Field(8265, description="port of Ray's dashboard; 0 = any free one")
    api_token: SecretStr | None = Field(
        None, description="bearer token; secret; on loopback one is made in VAR_DIR if unset"
    )
    tokens_file: Folder | None = Field(
        None,
        description="file of named tokens (conclave token create); default VAR_DIR/tokens.json",
    )
    rate_reads: NotNegative = Field(200.0, description="reads a second for one caller; 0 = any")
    rate_signals: NotNegative = Field(
        20.0, description="asks for a signal a second for one caller; 0 = any"
    )
    rate_writes: NotNegative = Field(20.0, description="changes a second for one caller; 0 = any")
    allowed_hosts: Names = Field(
        (), description="names beside localhost that a loopback API answers to: a proxy's"
    )
    patience_s: float = Field(
        10.0, gt=0, le=300, description="patience with a request's head, and with its body, seconds"
    )
    max_streams: int = Field(100, ge=0, le=100, description="readers of the event stream at a time")
    heartbeat_s: float = Field(
        15.0, gt=0, le=300, description="seconds between signs of life on a quiet event stream"
    )
    job_worker: bool = Field(
        False, description="whether `up` also works on jobs; else `conclave jobs run` does"
    )
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL; secret; default SQLite in VAR_DIR/ledger.db"
    )
    ray: bool = Field(True, description="whether agents run on Ray Serve")
    serve_url: str | None = Field(
        None,
        pattern=r"^https?://[\w.:\[\]-]+/?$",
        description="where a desk of its own finds API and agents; default API_HOST and API_PORT",
    )
    desk_port: Port | None = Field(
        None, description="port of the desk's own figures and health; none = none"
    )
    agent_deadline_s: float = Field(2.0, gt=0, le=60, description="patience with agents, seconds")
    object_store_mb: int = Field(128, ge=75, description="Ray's object store, MiB")
    max_ongoing_requests: int = Field(256, ge=256, description="requests the API works on at once")
    throughput_optimized: bool = Field(
        False, description="whether Ray Serve trades isolation for speed (clusters)"
    )
    ha_proxy: bool = Field(
        False,
        description="whether Ray Serve routes by HAProxy (clusters; its statistics answer on "
        "port 8404 of every address)",
    )
    monitor: bool = Field(True, description="whether drift is looked for once a day of market time")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged"
    )
    log_console: Literal["text", "json"] = Field(
        "text", description="how lines look on the console; json for those who collect them there"
    )
    log_max_mb: Positive = Field(20.0, description="size at which a log file is rotated, MiB")
    log_backups: int = Field(5, ge=1, le=1000, description="rotated log files kept")

    @field_validator("database_url")
    @classmethod
    def _known_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        backend = value.get_secret_value().partition("://")[0].partition("+")[0]
        if backend not in ("sqlite", "postgresql"):
            raise ValueError("must start with sqlite:// or postgresql://")
        return value

    @field_validator("api_token")
    @classmethod
    def _one_word(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().split()) != 1:
            raise ValueError("must be one word without spaces")
        return value
