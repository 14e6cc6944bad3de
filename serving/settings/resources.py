"""What a run may use of its machine."""

from __future__ import annotations

from pydantic import Field

from serving.settings.group import Fraction, Group, Positive


class ResourceSettings(Group):
    """Limits that nothing enforces: what comes near them is told."""

    cpu_max: Fraction = Field(0.7, description="share of all cores over an hour, fraction")
    memory_max_gb: Positive = Field(4.0, description="memory at the peak, GB (10⁹ bytes)")
    network_max_mb_h: Positive = Field(
        100.0, description="received of the exchange in an hour of the market, MB"
    )
    reconnects_max_h: Positive = Field(
        10.0,
        description="lines to the exchange opened again in an hour of the market",
    )
    alert_share: Fraction = Field(0.8, description="share of a limit from which on it is told")
