"""Train a Chronos-Bolt of our own: the official architecture, small, on returns.

Ansari et al., *Chronos: Learning the Language of Time Series* (2024); the Bolt variant patches the
context and gives all quantiles of all steps in one pass. Ours reads log returns and forecasts the
cumulative return, each step's loss divided by √step so that all horizons count alike. With
``reads=levels`` it reads and forecasts prices, as the official ones do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import T5Config

from agents.artifacts import Card, save
from agents.chronos import FUSION
from agents.chronos_models import NAME
from agents.chronos_network import FORM, LEVELS, RETURNS, ChronosNetwork
from agents.chronos_views import AHEAD, TIMEFRAMES, usable
from agents.contract import HORIZON_BARS
from agents.training.dataset import Source
from agents.training.fusion import learn, listen, require_rows
from agents.training.loop import LOSS, Schedule, Scores, Task, device_of, fit
from agents.training.model import require_distinct
from agents.training.series import MixConfig, Mixture, Stretch, spread_rows, stretches
from agents.training.watch import Watch
from domain.canonical import canonical_json, plain
from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from domain.times import DAY_MS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BoltSize:
    """Layers of the network; ``tiny`` and ``mini`` are the official ones."""

    d_model: int
    d_ff: int
    heads: int
    encoder: int
    decoder: int


SIZES = {
    "nano": BoltSize(64, 256, 4, 2, 2),
    "micro": BoltSize(96, 384, 4, 2, 2),
    "milli": BoltSize(128, 512, 4, 3, 2),
    "tiny": BoltSize(256, 1024, 4, 4, 4),
    "mini": BoltSize(384, 1536, 8, 4, 4),
}


@dataclass(frozen=True, slots=True)
class ChronosConfig:
    """Settings of ``train chronos``."""

    size: str = "micro"
    reads: str = "returns"  # or levels
    patch: int = 16
    dropout: float = 0.05
    mix: MixConfig = field(default_factory=MixConfig)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=6000, batch=256, rate=1.5e-3, warm_up=200, average=0.998, check_every=500,
            patience=6,
        )
    )  # fmt: skip
    validation: int = 8192  # windows
    held_out_days: int = 120  # before the end, never trained on: they stop it and score the card
    fusion_days: int = 600  # before the end, on which the fusion is learned
    fusion_stride: int = 12  # bars between the rows it is learned on
    device: str = "auto"


def train(
    bars: Sequence[BarFrame], out_dir: Path, source: Source, horizon_bars: int = HORIZON_BARS,
    config: ChronosConfig | None = None, watch: Watch | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Card:  # fmt: skip
    """Train on all symbols' bars before ``source.end_ms``, learn the fusion, save as ``chronos``.

    Parameters
    ----------
    bars : one frame per symbol and timeframe; scores and fusion are of the first one's timeframe.
    notes : added to the card's metrics.

    Raises
    ------
    UsageError : for a size that does not exist, or bars that are given twice.
    DataRefused : if there are too few windows without a gap.
    """
    config, watch = config or ChronosConfig(), watch or Watch()
    require_distinct(bars)
    if config.size not in SIZES:
        raise UsageError("size", f"must be one of {', '.join(SIZES)}", config.size)
    if config.reads not in READS:
        raise UsageError("setting reads", f"must be one of {', '.join(READS)}", config.reads)
    if config.mix.horizon < AHEAD:
        raise UsageError("setting mix.horizon", f"must reach {AHEAD} steps", config.mix.horizon)
    same = _of_one_timeframe(bars)
    for days, stride in _fusion_spans(config, horizon_bars):
        require_rows(same, horizon_bars, source.end_ms - days * DAY_MS, source.end_ms, stride)
    split = source.end_ms - config.held_out_days * DAY_MS
    training = stretches(bars, config.mix, 0, split)
    held = [
        part for part in stretches(bars, config.mix, split, source.end_ms)
        if part.timeframe == bars[0].timeframe
    ]  # fmt: skip
    if not held:
        raise DataRefused(
            f"bars of {bars[0].symbol}",
            f"must hold whole windows in the last {config.held_out_days} days, of a timeframe "
            f"among {', '.join(config.mix.frequencies)}", bars[0].timeframe,
        )  # fmt: skip
    device = device_of(config.device)
    torch.manual_seed(source.seed)
    network = build(config).to(device)
    windows = sum(len(part.ends) for part in training)
    watch.say(
        f"{sum(p.numel() for p in network.parameters())} parameters, {windows} windows of "
        f"{len(training)} series"
    )
    identity = [NAME, source.data_sha256, source.end_ms, config]
    task = task_of(config, training, held, source.seed, identity, device)
    fitted = fit(network, task, config.schedule, source.seed, watch)
    contents = _files(network.cpu())
    watch.say("learning how the timeframes go together")
    contents["params.json"] = canonical_json(
        {
            "horizon_bars": horizon_bars,
            FUSION: _learned(bars, contents, source, horizon_bars, config),
        }
    ).encode()
    first = bars[0]
    card = Card(
        NAME, NAME, source.created_at, source.commit, source.data_sha256, first.symbol,
        first.timeframe, horizon_bars, int(first.ts[0]), source.end_ms, source.seed,
        metrics={
            "walk_forward": {**fitted.scores, "folds": []},
            "training": {"steps": fitted.steps, "history": fitted.history},
        },
        settings={**plain(config), "symbols": [one.symbol for one in bars]},
        command=source.command,
    )  # fmt: skip
    return save(out_dir, NAME, card.noting(notes), contents)


def _files(network: ChronosBoltModelForForecasting) -> dict[str, bytes]:
    """Config and weights as Hugging Face's libraries read them."""
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        return {
            name: (Path(folder) / name).read_bytes()
            for name in ("config.json", "model.safetensors")
        }


def _learned(
    bars: Sequence[BarFrame], contents: dict[str, bytes], source: Source, horizon_bars: int,
    config: ChronosConfig,
) -> dict[str, Any]:  # fmt: skip
    """Widths from long before the end; the direction from days that the network never saw.

    What it says of a window it was trained on is surer than it has a right to be.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, body in contents.items():
            (Path(folder) / name).write_bytes(body)
        network = ChronosNetwork(Path(folder), tile=64)
        network.warm_up()  # while its folder is there
    same, end = _of_one_timeframe(bars), source.end_ms
    heard, unseen = (
        listen(same, network, horizon_bars, end - days * DAY_MS, end, stride)
        for days, stride in _fusion_spans(config, horizon_bars)
    )
    return learn(heard, unseen, usable(bars[0].timeframe, TIMEFRAMES)).to_json()


def _of_one_timeframe(bars: Sequence[BarFrame]) -> list[BarFrame]:
    return [one for one in bars if one.timeframe == bars[0].timeframe]


def _fusion_spans(config: ChronosConfig, horizon_bars: int) -> tuple[tuple[int, int], ...]:
    """Days before the end and bars between rows, for widths and then for the direction."""
    return (config.fusion_days, config.fusion_stride), (config.held_out_days, horizon_bars)


def build(config: ChronosConfig) -> ChronosBoltModelForForecasting:
    """Return the untrained network of a config."""
    size = SIZES[config.size]
    settings = T5Config(
        d_model=size.d_model, d_kv=size.d_model // size.heads, d_ff=size.d_ff,
        num_heads=size.heads, num_layers=size.encoder, num_decoder_layers=size.decoder,
        dropout_rate=config.dropout, feed_forward_proj="relu", initializer_factor=0.05,
        pad_token_id=0, decoder_start_token_id=0, tie_word_embeddings=False,
        architectures=["ChronosBoltModelForForecasting"],
        chronos_pipeline_class="ChronosBoltPipeline",
        chronos_config={
            "context_length": config.mix.context, "prediction_length": config.mix.horizon,
            "input_patch_size": config.patch, "input_patch_stride": config.patch,
            "quantiles": list(LEVELS), "use_reg_token": True,
        },
        **({FORM: RETURNS} if config.reads == "returns" else {}),
    )  # fmt: skip
    return ChronosBoltModelForForecasting(settings)


def task_of(
    config: ChronosConfig, training: Sequence[Stretch], held_out: Sequence[Stretch], seed: int,
    identity: object, device: torch.device,
) -> Task:  # fmt: skip
    """Return what is learned: batches of the mixture, validated on held-out real windows."""
    mixture = Mixture(training, config.mix, seed)
    exam = Exam.of(held_out, config)

    def batch(step: int) -> tuple[Tensor, ...]:
        return tuple(
            torch.from_numpy(x).to(device) for x in mixture.batch(step, config.schedule.batch)
        )

    forecast = READS[config.reads]

    def loss(network: nn.Module, sample: tuple[Tensor, ...]) -> Tensor:
        past, ahead = sample
        return pinball_of(forecast(network, past), past, ahead).mean()

    return Task(batch, loss, lambda network: exam.sit(network, device), identity)


def from_returns(network: nn.Module, past: Tensor) -> Tensor:
    """Return quantiles of the cumulative return (n, levels, steps) from returns (n, points)."""
    said: Tensor = network(past).quantile_preds
    return said


def from_levels(network: nn.Module, past: Tensor) -> Tensor:
    """Return the same from the prices that the returns make, the last one 1."""
    path = torch.cat([torch.zeros_like(past[:, :1]), past.nan_to_num().cumsum(dim=-1)], dim=-1)
    missing = torch.cat([past[:, :1], past], dim=-1).isnan()
    prices = (path - path[:, -1:]).exp().masked_fill(missing, float("nan"))
    said: Tensor = network(prices).quantile_preds
    return said.clamp_min(1e-6).log()


READS: Mapping[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "returns": from_returns, "levels": from_levels,
}  # fmt: skip


def pinball_of(said: Tensor, past: Tensor, ahead: Tensor) -> Tensor:
    """Return (n, levels, steps) pinball losses divided by (spread of the past · √step)."""
    mean = past.nanmean(dim=-1, keepdim=True)
    spread = (past - mean).square().nanmean(dim=-1).sqrt().clamp_min(1e-9)
    steps = torch.arange(1, ahead.shape[-1] + 1, device=past.device).sqrt()
    levels = torch.tensor(LEVELS, device=past.device)[None, :, None]
    error = (ahead[:, None] - said[..., : ahead.shape[-1]]) / (spread[:, None, None] * steps)
    error = error.clamp(-30.0, 30.0)  # a crash in a quiet hour must not own the batch
    return torch.maximum(levels * error, (levels - 1.0) * error)


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """Held-out windows: contexts, futures, and which are of the first symbol."""

    past: Any
    ahead: Any
    first: NDArray[np.bool_]
    forecast: Callable[[nn.Module, Tensor], Tensor]

    @classmethod
    def of(cls, parts: Sequence[Stretch], config: ChronosConfig) -> Exam:
        """Spread the windows over all parts evenly in time."""
        rows = [
            (part, *part.windows(at, config.mix.context, config.mix.horizon))
            for part, at in spread_rows(parts, config.validation)
        ]
        first = [np.full(len(r[1]), r[0] is parts[0]) for r in rows]
        return cls(
            np.concatenate([r[1] for r in rows]), np.concatenate([r[2] for r in rows]),
            np.concatenate(first), READS[config.reads],
        )  # fmt: skip

    def sit(self, network: nn.Module, device: torch.device, step: int = 5) -> Scores:
        """Return the loss, and at one step what the first symbol's forecasts score."""
        said = []
        for at in range(0, len(self.past), 512):
            past = torch.from_numpy(self.past[at : at + 512]).to(device)
            said.append(self.forecast(network, past).cpu())
        quantiles = torch.cat(said)
        loss = pinball_of(quantiles, torch.from_numpy(self.past), torch.from_numpy(self.ahead))
        values = np.sort(quantiles.numpy()[self.first, :, step - 1].astype(np.float64), axis=1)
        y = self.ahead[self.first, step - 1].astype(np.float64)
        bps = np.mean(
            [
                np.maximum(t * (y - values[:, k]), (t - 1.0) * (y - values[:, k])).mean()
                for t, k in ((0.1, 0), (0.5, 4), (0.9, 8))
            ]
        )
        covered = (y >= values[:, 0]) & (y <= values[:, -1])
        p = np.array([1.0 - np.interp(0.0, row, LEVELS) for row in values])
        brier = np.mean((p - (y > 0)) ** 2)
        return {
            LOSS: float(loss.mean()), "ewma_pinball_bps": self._ewma(step),
            "pinball_bps": float(bps) * 1e4,
            "coverage_80": float(covered.mean()), "brier_skill_1e4": float(0.25 - brier) * 1e4,
        }  # fmt: skip

    def _ewma(self, step: int) -> float:
        """Pinball (bp) of EWMA(.94) volatility with the residual quantiles of these very rows."""
        past = np.nan_to_num(self.past[self.first].astype(np.float64))
        y = self.ahead[self.first, step - 1].astype(np.float64)
        decay = 0.94 ** np.arange(past.shape[1])[::-1]
        sigma = np.sqrt(np.maximum((past**2 * decay).sum(axis=1) / decay.sum(), 1e-14))
        levels = (0.1, 0.5, 0.9)
        values = sigma[:, None] * np.quantile(y / sigma, levels)
        error = y[:, None] - values
        return float(np.maximum(levels * error, (np.array(levels) - 1.0) * error).mean()) * 1e4
