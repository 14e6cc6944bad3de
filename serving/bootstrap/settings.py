"""Settings of a process: as a plan was made with, or as a wish gives them."""

from __future__ import annotations

from pathlib import Path

from serving.plan import RunPlan
from serving.planning import Wish
from serving.settings import Settings, load_settings
from serving.system import environment

DOTENV = Path(".env")


def settings_of(plan: RunPlan) -> Settings:
    """Load the settings a plan was made with; the same in every process of a run."""
    return load_settings(
        env=environment(),
        profile=plan.profile,
        config_files=[Path(name) for name in plan.config_files],
        overrides=dict(plan.overrides),
        dotenv=DOTENV,
    )


def settings_wished(wish: Wish, profile: str | None) -> Settings:
    """Load settings as the environment, files and the flags of a wish give them."""
    return load_settings(
        env=environment(),
        profile=profile,
        config_files=wish.config_files,
        overrides=dict(wish.overrides),
        dotenv=DOTENV,
    )
