"""Tiny neural models for tests: trained for a few steps on made-up bars, stored as real ones are.

PyTorch is imported when one is made, not before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.artifacts import Card, promote, save
from agents.training.dataset import Source
from domain.canonical import canonical_json
from tests.agents_world import START, STEP, market

BARS = 5_700
END = START + 5_600 * STEP
SOURCE = Source(END, 7, END, "abc1234", "0" * 64)
TARGETS = ("trend", "return", "risk")
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def bars_seen() -> Any:
    """The bars they are trained on, and a hundred more."""
    return market(BARS, seed=3, drift=9e-4)


def tft_config(steps: int = 6) -> Any:
    """A network of four units; a high rate, so that a few steps leave their mark."""
    from agents.training.loop import Schedule
    from agents.training.tft import TftConfig

    schedule = Schedule(steps=steps, batch=32, rate=2e-2, warm_up=1, check_every=3, average=0.5)
    return TftConfig(hidden=4, heads=1, schedule=schedule, validation=64, device="cpu")


def train_tft(root: Path) -> Path:
    """Train the three targets, save and promote them."""
    from agents.training.tft import TftModel

    for target in TARGETS:
        model = TftModel(target, config=tft_config())
        model.train([bars_seen()], SOURCE)
        promote(root, f"tft/{target}", model.save(root).version)
    return root


def chronos_config(**changes: Any) -> Any:
    """A Bolt of the smallest size that is trained on days, not on years."""
    from agents.training.chronos import ChronosConfig
    from agents.training.loop import Schedule

    usual: dict[str, Any] = {
        "size": "nano", "validation": 64, "held_out_days": 18, "fusion_days": 20,
        "fusion_stride": 5, "device": "cpu",
        "schedule": Schedule(steps=3, batch=16, warm_up=1, check_every=3),
    }  # fmt: skip
    return ChronosConfig(**usual | changes)


def train_chronos(root: Path) -> Path:
    """Train a Bolt and its fusion, save and promote it."""
    from agents.training import chronos

    card = chronos.train([bars_seen()], root, SOURCE, config=chronos_config())
    promote(root, "chronos", card.version)
    return root


def untrained_bolt(folder: Path, **chronos: Any) -> Path:
    """A Bolt of our form with random weights; ``chronos`` changes its ``chronos_config``."""
    from agents.training.chronos import build

    return _stored(build(chronos_config()), folder, chronos)


def official_bolt(folder: Path, **chronos: Any) -> Path:
    """A Bolt with the settings of ``amazon/chronos-bolt-tiny``, narrower, with half its layers."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(
        d_model=16, d_kv=4, d_ff=64, num_heads=4, num_layers=2, num_decoder_layers=2,
        dropout_rate=0.1, feed_forward_proj="relu", initializer_factor=0.05, vocab_size=2,
        reg_token_id=1, pad_token_id=0, decoder_start_token_id=0,
        architectures=["ChronosBoltModelForForecasting"],
        chronos_pipeline_class="ChronosBoltPipeline",
        chronos_config={
            "context_length": 2048, "input_patch_size": 16, "input_patch_stride": 16,
            "prediction_length": 64, "quantiles": LEVELS, "use_reg_token": True,
        },
    )  # fmt: skip
    return _stored(ChronosBoltModelForForecasting(config), folder, chronos)


def official_chronos2(folder: Path) -> Path:
    """A Chronos-2 with the settings of ``amazon/chronos-2`` and a small part of its size."""
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    config = Chronos2CoreConfig(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config={
            "context_length": 8192, "output_patch_size": 16, "input_patch_size": 16,
            "input_patch_stride": 16, "use_reg_token": True, "use_arcsinh": True,
            "quantiles": [0.01, *np.round(np.arange(0.05, 0.96, 0.05), 2).tolist(), 0.99],
            "max_output_patches": 64, "time_encoding_scale": 8192,
        },
    )  # fmt: skip
    return _stored(Chronos2Model(config), folder, {})


def _stored(network: Any, folder: Path, chronos: Mapping[str, Any]) -> Path:
    network.save_pretrained(folder)
    if chronos:
        change_config(folder, chronos_config=network.config.chronos_config | dict(chronos))
    return folder


def change_config(folder: Path, **fields: Any) -> Path:
    """Write other fields into a folder's ``config.json``; None removes one."""
    path = folder / "config.json"
    body = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in body.items() if v is not None}))
    return folder


def save_bolt(root: Path, folder: Path, params: Mapping[str, Any], at: int = END) -> Card:
    """Store a folder's model as the promoted version of ``chronos``."""
    contents = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    contents["params.json"] = canonical_json(params).encode()
    card = Card("chronos", "chronos", at, "abc1234", "0" * 64, "BTC/USDT", "5m", 5, START, END, 7)
    made = save(root, "chronos", card, contents)
    promote(root, "chronos", made.version)
    return made


def fusion() -> dict[str, Any]:
    """What a training learns of the timeframes of 5-minute bars, by hand."""
    curve = {"intercept": -2.0, "slope": 1.5, "move": 0.005}
    residuals = [-1.96, -1.6, -1.3, -0.8, -0.5, -0.2, 0.0, 0.2, 0.5, 0.8, 1.3, 1.6, 1.96]
    return {
        "timeframes": ["5m", "15m", "30m", "1h"], "width": [0.0, 0.4, 0.3, 0.2, 0.1],
        "direction": [0.0, 0.5, 0.3, -0.2, 0.1], "residuals": residuals, "drift": 0.3,
        "down": curve, "up": curve,
    }  # fmt: skip


def prices(n: int, points: int = 201, seed: int = 0) -> np.ndarray:
    """Geometric random walks, (n, points), quote units."""
    rng = np.random.default_rng(seed)
    return 50_000.0 * np.exp(np.cumsum(1e-3 * rng.normal(size=(n, points)), axis=1))
