"""How an exchange is listened to."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from serving.settings.group import Group, Positive

_ADDRESS = r"^wss?://[^\s/]+$"


class FeedSettings(Group):
    """Waits and addresses of a live feed; seconds are the wall's where nothing else is said."""

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
        pattern=_ADDRESS,
        description="where streams of spot are heard when their own server fails; null = at "
        "wss://stream.binance.com:443, beside EXCHANGE_URL nowhere",
    )
    perp_backup_url: str | None = Field(
        None,
        pattern=_ADDRESS,
        description="the same of perpetuals; null = nowhere: Binance documents one address alone",
    )
    books: bool = Field(True, description="whether order books and trades are watched")
    faults: Path | None = Field(
        None, description="file of what is to go wrong at the local exchange; for drills"
    )
    ingest_bars: int = Field(
        1_000, ge=200, le=1_000,
        description="closed bars of 1m 3m 5m 15m 30m 1h that are fetched at the start and kept",
    )  # fmt: skip
    start_criteria: bool = Field(
        True, description="whether entries wait until all that start_ settings ask for is met"
    )
    start_bars: int = Field(
        200, ge=1, le=200, description="bars without a gap that every timeframe must have"
    )
    start_listen_s: Positive = Field(
        30.0, description="time that messages are counted over, s of the market"
    )
    start_share: float = Field(
        0.95,
        ge=0,
        lt=1,
        description="of messages more must come than this, and more with a right stamp",
    )
    start_stamp_s: Positive = Field(
        2.0, description="how far a stamp may lie from the exchange's time, s"
    )
    start_spread_bps: Positive = Field(
        20.0, description="the mean of the last 100 spreads must lie below, bps"
    )
    start_patience_min: Positive = Field(
        5.0, description="how long this may take until it is told as a fault, minutes"
    )
