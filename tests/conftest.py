"""What several folders of tests share, made once a session and only if asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.neural_models import fusion, save_bolt, train_tft, untrained_bolt

settings.register_profile("shared", deadline=None)  # a machine that others use keeps none
settings.load_profile("shared")


@pytest.fixture(scope="session")
def tft_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a tiny TFT in use."""
    return train_tft(tmp_path_factory.mktemp("tft"))


@pytest.fixture(scope="session")
def chronos_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a tiny Bolt, untrained, and a fusion in use."""
    root = tmp_path_factory.mktemp("chronos")
    folder = untrained_bolt(tmp_path_factory.mktemp("bolt"))
    save_bolt(root, folder, {"horizon_bars": 5, "fusion": fusion()})
    return root
