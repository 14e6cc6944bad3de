"""Settings: ``configs/*.yaml`` < ``.env`` < environment < flags; what is unknown is refused."""

from serving.settings.load import CONFIGS_DIR, load_settings, profiles
from serving.settings.model import Settings, is_loopback
from serving.settings.names import FLAT
from serving.settings.problems import SettingErrors

__all__ = [
    "CONFIGS_DIR", "FLAT", "SettingErrors", "Settings", "is_loopback", "load_settings", "profiles",
]  # fmt: skip
