"""How an exchange is listened to."""

from __future__ import annotations

from pydantic import Field

from serving.settings.groups import Group, Positive


class FeedSettings(Group):
    """Waits and addresses of a live feed; seconds are the wall's."""

    connect_s: Positive = Field(10.0, description="until a line stands, s")
    ping_s: Positive = Field(20.0, description="between two pings, s")
    pong_s: Positive = Field(10.0, description="until a ping is answered, s")
    silence_s: Positive = Field(
        30.0, description="without any message, until a line is taken for dead, s"
    )
    reconnect_s: Positive = Field(
        60.0, description="longest wait until a line is tried again, s; the first is 1, then double"
    )
    close_patience_s: Positive = Field(
        10.0, description="how long a close waits for symbols that have not told of it, s"
    )
    backup_url: str | None = Field(
        None,
        pattern=r"^wss?://[^\s/]+$",
        description="where streams are heard when their own server fails, e.g. "
        "wss://stream.binance.com:443",
    )
    books: bool = Field(True, description="whether order books and trades are watched")
