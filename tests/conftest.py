"""What several folders of tests share, made once a session and only if asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.neural_models import train_chronos, train_tft


@pytest.fixture(scope="session")
def tft_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a tiny TFT in use."""
    return train_tft(tmp_path_factory.mktemp("tft"))


@pytest.fixture(scope="session")
def chronos_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a tiny Bolt and its fusion in use."""
    return train_chronos(tmp_path_factory.mktemp("chronos"))
