"""Settings of the messages: who is told what, who may command, and how fast messages go."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator

from serving.settings.group import Group, Names


def _loudness(value: Any) -> Any:
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _is_chat(text: str) -> bool:
    digits = text.removeprefix("-")
    return (digits.isascii() and digits.isdecimal()) or (text.startswith("@") and len(text) > 1)


def _chats(entries: tuple[str, ...]) -> tuple[str, ...]:
    for entry in entries:
        chat, _, role = entry.rpartition(":")
        if not _is_chat(chat) or chat.startswith("@") or role not in ("viewer", "operator"):
            raise ValueError(f"{entry!r} is no ID:viewer or ID:operator, with a number as ID")
    ids = [entry.rpartition(":")[0] for entry in entries]
    if len(set(ids)) != len(ids):
        raise ValueError("must name each chat once")
    return entries


Loudness = Annotated[Literal["on", "silent", "off"], BeforeValidator(_loudness)]


def _tell(what: str, default: Literal["on", "silent", "off"]) -> Any:
    return Field(default, description=f"{what}: on, silent or off")


class NotifySettings(Group):
    """Who is told what by Telegram, and who may command (docs/TELEGRAM.md)."""

    telegram_bot_token: SecretStr | None = Field(
        None, description="the bot's token, from @BotFather; secret; unset: no messages"
    )
    telegram_chat_id: str | None = Field(
        None, description="the chat that is written to, a number or @channel; it may command too"
    )
    telegram_chats: Annotated[Names, AfterValidator(_chats)] = Field(
        (),
        description="who else may command, each as ID:viewer or ID:operator, chats or people; "
        "it also sets the role of telegram_chat_id: operator for a person, viewer for a group",
    )
    telegram_api: str = Field(
        "https://api.telegram.org", pattern=r"^https?://[^\s@?#]+$",
        description="address of the Bot API; a local server works too",
    )  # fmt: skip
    telegram_timeout_s: float = Field(
        10.0, gt=0, le=120, description="patience with the Bot API, seconds"
    )
    telegram_retry_max_s: float = Field(
        30.0, gt=0, le=3600, description="longest pause between two attempts, seconds"
    )
    telegram_per_second: float = Field(
        1.0, gt=0, le=30, description="messages a second to one person"
    )
    telegram_group_per_minute: float = Field(
        20.0, gt=0, le=1800, description="messages a minute to a group or channel"
    )
    telegram_confirm_s: float = Field(
        60.0, ge=5, le=600, description="how long a change can be confirmed, seconds"
    )
    daily_hour: int = Field(
        0, ge=0, le=23, description="hour of the summary of the day before, UTC of the market"
    )
    chart_theme: Literal["dark", "light"] = Field("dark", description="pictures: dark or light")
    tell_system: Loudness = _tell("start, end and reload of the system", "on")
    tell_job: Loudness = _tell("start and end of training and other long work", "silent")
    tell_error: Loudness = _tell("failures: a part is down, a backup failed", "on")
    tell_metrics: Loudness = _tell("the agents' scores of the day, with the calibration", "silent")
    tell_signal: Loudness = _tell("LONG and SHORT with their rationale", "on")
    tell_no_trade: Loudness = _tell("NO_TRADE with its reason, one a bar", "off")
    tell_fill: Loudness = _tell("fills with their costs", "silent")
    tell_trade: Loudness = _tell("closed trades", "on")
    tell_refusal: Loudness = _tell("orders and intents that were refused, and the rule", "silent")
    tell_risk: Loudness = _tell("changes of mode, risk events, the operator's reports", "on")
    tell_journal: Loudness = _tell("drafts and reflections", "silent")
    tell_drift: Loudness = _tell("alarms of the monitor", "on")
    tell_daily: Loudness = _tell("the daily summary with the ledger's root hash", "on")

    @property
    def wanted(self) -> bool:
        """Whether there is a bot and a chat to write to."""
        return self.telegram_bot_token is not None and self.telegram_chat_id is not None

    @field_validator("telegram_chat_id", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("telegram_api")
    @classmethod
    def _private(cls, value: str) -> str:
        host = urlsplit(value).hostname or ""
        if value.startswith("http://") and host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("must be https:// beyond this machine: the token is in the address")
        return value

    @field_validator("telegram_chat_id")
    @classmethod
    def _chat(cls, value: str | None) -> str | None:
        if value is None or _is_chat(value):
            return value
        raise ValueError("must be a number or start with @")
