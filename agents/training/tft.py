"""Train one target of the TFT on windows of several symbols, and export it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from agents.artifacts import Artifact, Card, columns_hash
from agents.contract import HORIZON_BARS
from agents.heads import Head
from agents.risk import Logistic, sigmoid
from agents.scales import pair_of
from agents.tft import ENCODER, KNOWN, NAME, UNKNOWN, TftInputs, head_of
from agents.training.dataset import VOLUME_FROM, Dataset, Source, build_dataset, first_row_ms
from agents.training.loop import LOSS, Schedule, Scores, Task, device_of, fit
from agents.training.model import Model
from agents.training.reports import (
    climatology_scores,
    logit_slope,
    quantile_scores,
    risk_scores,
    trend_scores,
)
from agents.training.tft_data import (
    Batch,
    Group,
    Sampler,
    cut,
    group_of,
    join,
    pooled_volatility,
    scaling,
)
from agents.training.tft_network import DenseTft, TftShape
from agents.training.volatility import fit_logistic
from agents.training.watch import Watch
from agents.volatility import HarModel
from data.features import build_features
from domain.canonical import canonical_json, plain
from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from domain.quantiles import CANONICAL_LEVELS

Floats = NDArray[np.float64]
_LEVELS = np.array(CANONICAL_LEVELS)
_HELD_OUT = 0.1  # of the training period, its end: early stopping and the card's scores

PAST = {
    "trend": (
        "ret_0", "rsi_14", "ema_gap_12", "ema_gap_48", "ema_gap_288", "range_pos_12",
        "range_pos_288", "close_loc", "vol_signed", "signed_vol_12",
    ),
    "return": (
        "ret_0", "range_hl", "log_s", "rv_12", "rv_48", "rv_288", "pk_3", "pk_12", "pk_288",
        "vol_12",
    ),
    "risk": (
        "ret_0", "range_hl", "log_s", "rv_12", "rv_48", "rv_288", "pk_3", "pk_12", "pk_288",
        "vol_12",
    ),
}  # fmt: skip
OUTPUTS = {"trend": 1, "return": len(CANONICAL_LEVELS), "risk": 2}


@dataclass(frozen=True, slots=True)
class TftConfig:
    """Settings of one target's training."""

    hidden: int = 16
    heads: int = 2
    dropout: float = 0.1
    encoder: int = ENCODER
    windows: int = 8  # of a block, which share the selection of their bars' variables
    stride: int = 5  # bars between them: their labels do not overlap
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=2000, batch=256, rate=2e-3, warm_up=100, average=0.995, check_every=250,
            patience=6,
        )
    )  # fmt: skip
    validation: int = 12_000  # windows
    drift: float = 0.3  # expected return = drift·(2p − 1)·σ̂, as the baseline's
    device: str = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Everything that is fitted before the network, and the windows to train it on.

    Attributes
    ----------
    base : what the network corrects: residual quantiles (13,), or a curve for each side.
    """

    target: str
    inputs: TftInputs
    har: HarModel
    base: Any
    groups: Sequence[Group]
    training: Sequence[NDArray[np.int64]]
    held_out: Batch
    split_ms: int

    def params(self) -> dict[str, Any]:
        """Return ``params.json``."""
        body: dict[str, Any] = {"inputs": self.inputs.to_json(), "har": self.har.to_json()}
        if self.target == "return":
            body["residuals"] = self.base.tolist()
        if self.target == "risk":
            for side, curve in self.base.items():
                body[side] = {n: getattr(curve, n) for n in ("intercept", "slope", "move")}
        return body


def prepare(target: str, data: Sequence[Dataset], end_ms: int, config: TftConfig) -> Material:
    """Fit volatility, scaling and base forecast, and cut the windows.

    Parameters
    ----------
    data : one per symbol, the first one counts most; none sees bars from ``end_ms`` on.

    Raises
    ------
    DataRefused : if a symbol has no whole window to train on, or none is left to validate on.
    """
    horizon = data[0].horizon_bars
    start = [first_row_ms(one.bars, VOLUME_FROM, end_ms) for one in data]
    split = int(end_ms - _HELD_OUT * (end_ms - start[0]))
    har, regressors = pooled_volatility(data, split)
    columns = [_columns(one, PAST[target]) for one in data]
    mean, sd = scaling(data, columns, split)
    symbols = (UNKNOWN, *(pair_of(one.bars.symbol) for one in data))
    inputs = TftInputs(PAST[target], KNOWN, mean, sd, symbols, config.encoder, horizon)
    groups = [
        group_of(k + 1, one, x, inputs, har.sigma_of(r))
        for k, (one, x, r) in enumerate(zip(data, columns, regressors, strict=True))
    ]
    block = config.windows, config.stride
    training = [g.rows(first, split, *block) for g, first in zip(groups, start, strict=True)]
    for one, rows in zip(data, training, strict=True):
        if not len(rows):
            raise DataRefused(
                f"bars of {one.bars.symbol}",
                f"must hold windows of {config.encoder} + {horizon} bars with finite features",
            )
    held = [group.rows(split, end_ms) for group in groups]
    stride = max(1, sum(map(len, held)) // config.validation)
    parts = [cut(g, rows[::stride], inputs) for g, rows in zip(groups, held, strict=True)]
    return Material(
        target,
        inputs,
        har,
        _base(target, groups, split),
        groups,
        training,
        join(parts),
        split,
    )


def _columns(data: Dataset, names: Sequence[str]) -> Floats:
    frame = build_features(data.bars)
    return np.ascontiguousarray(frame.values[:, [frame.names.index(name) for name in names]])


def _base(target: str, groups: Sequence[Group], end_ms: int) -> Any:
    rows = [group.rows(0, end_ms) for group in groups]
    sigma = np.concatenate([g.sigma[r] for g, r in zip(groups, rows, strict=True)])
    if target == "return":
        y = np.concatenate([g.y[r, -1] for g, r in zip(groups, rows, strict=True)])
        return np.quantile(y / sigma, _LEVELS)
    every = np.ones(len(sigma), np.bool_)
    return (
        {
            side: fit_logistic(
                sigma,
                np.concatenate(
                    [getattr(g, side)[r, -1] for g, r in zip(groups, rows, strict=True)]
                ),
                every,
            )
            for side in ("down", "up")
        }
        if target == "risk"
        else None
    )


def network_of(material: Material, config: TftConfig) -> DenseTft:
    """Return the untrained network: it starts as the forecast it is to correct."""
    inputs = material.inputs
    net = DenseTft(
        TftShape(
            inputs.past, inputs.known, len(inputs.symbols), inputs.encoder, inputs.horizon,
            OUTPUTS[material.target], config.hidden, config.heads, config.dropout,
        )
    )  # fmt: skip
    nn.init.zeros_(net.tft.output_layer.weight)
    nn.init.zeros_(net.tft.output_layer.bias)
    return net


Labels = tuple[Tensor, ...]
Tensors = tuple[Tensor, ...]


def task_of(
    material: Material, config: TftConfig, seed: int, identity: object, device: torch.device
) -> Task:
    """Return what is learned.

    Raises
    ------
    UsageError : if a batch is smaller than a block of windows.
    """
    block = config.windows, config.stride
    sampler = Sampler(material.groups, material.training, material.inputs, seed, *block)
    blocks = config.schedule.batch // config.windows
    if not blocks:
        raise UsageError(
            "setting schedule.batch", f"must hold a block of {config.windows} windows",
            config.schedule.batch,
        )  # fmt: skip
    labels = _LABELS[material.target]

    def tensors(batch: Batch) -> Tensors:
        arrays = (batch.symbol, batch.past, batch.known, *labels(material, batch))
        return tuple(torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in arrays)

    def loss(network: nn.Module, batch: Tensors) -> Tensor:
        return _LOSSES[material.target](network(*batch[:3], config.stride)[0], batch[3:])

    exam, held = tensors(material.held_out), material.held_out

    def validate(network: nn.Module) -> Scores:
        said = torch.cat([
            network(*(x[at : at + 512] for x in exam[:3]))[0]
            for at in range(0, len(exam[0]), 512)
        ])  # fmt: skip
        value = _LOSSES[material.target](said[:, -1:], tuple(x[:, -1:] for x in exam[3:]))
        out = said[:, -1].cpu().numpy().astype(np.float64)
        return {LOSS: float(value), **_score(material, out, held)}

    return Task(lambda step: tensors(sampler.batch(step, blocks)), loss, validate, identity)


def _trend_labels(_: Material, batch: Batch) -> tuple[Any, ...]:
    return ((batch.y > 0).astype(np.float32),)


def _return_labels(material: Material, batch: Batch) -> tuple[Any, ...]:
    """y/σ̂ of each step less the base quantiles, and how much a row counts."""
    steps = np.arange(1, batch.y.shape[1] + 1) / batch.y.shape[1]
    unit = batch.y / (batch.sigma[:, None] * np.sqrt(steps))
    weight = np.minimum(batch.sigma / np.median(batch.sigma), 4.0)
    rows = unit[:, :, None] - material.base
    return rows.astype(np.float32), np.repeat(weight[:, None], len(steps), 1).astype(np.float32)


def _risk_labels(material: Material, batch: Batch) -> tuple[Any, ...]:
    """Events at each step, and the logits that are corrected."""
    sides = [material.base[side].chance(batch.sigma) for side in ("down", "up")]
    p = np.clip(np.stack(sides, axis=1), 1e-6, 1 - 1e-6)
    logit = np.repeat(np.log(p / (1 - p))[:, None, :], batch.y.shape[1], axis=1)
    events = np.stack((batch.down, batch.up), axis=2)
    return events.astype(np.float32), logit.astype(np.float32)


def _trend_loss(said: Tensor, labels: Labels) -> Tensor:
    return functional.binary_cross_entropy_with_logits(said[..., 0], labels[0])


def _return_loss(said: Tensor, labels: Labels) -> Tensor:
    levels = torch.tensor(_LEVELS, dtype=said.dtype, device=said.device)
    error = (labels[0] - said).clamp(-30.0, 30.0)
    lost = torch.maximum(levels * error, (levels - 1.0) * error)
    return (lost.mean(dim=-1) * labels[1]).mean()


def _risk_loss(said: Tensor, labels: Labels) -> Tensor:
    return functional.binary_cross_entropy_with_logits(said + labels[1], labels[0])


def _score(material: Material, out: Floats, held: Batch) -> Scores:
    """Scores at the horizon, of the first symbol."""
    rows = held.symbol == 1
    y, sigma = held.y[rows, -1], held.sigma[rows]
    if material.target == "trend":
        logits, up = out[rows, 0], y > 0
        return {**trend_scores(sigmoid(logits), up), "slope": logit_slope(logits, up)}
    if material.target == "return":
        quantiles = sigma[:, None] * np.sort(material.base + out[rows], axis=1)
        base = quantile_scores(sigma[:, None] * material.base, y)["pinball_bps"]
        return {**quantile_scores(quantiles, y), "har_pinball_bps": base}
    made: Scores = {}
    for k, side in enumerate(("down", "up")):
        curve: Logistic = material.base[side]
        p = np.clip(curve.chance(sigma), 1e-6, 1 - 1e-6)
        event = getattr(held, side)[rows, -1]
        odds = np.log(p / (1 - p)) + out[rows, k]
        made |= risk_scores(side, 1.0 / (1.0 + np.exp(-odds)), event)
        made[f"har_{side}_brier"] = risk_scores(side, p, event)[f"{side}_brier"]
    return made


def export(network: DenseTft) -> bytes:
    """Return the network as an ONNX graph for one window."""
    shape, body = network.shape, io.BytesIO()
    total = shape.encoder + shape.horizon
    example = (
        torch.zeros(1, dtype=torch.int64), torch.zeros(1, shape.encoder, len(shape.past)),
        torch.zeros(1, total, len(shape.known)),
    )  # fmt: skip
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of sizes, which are fixed here
        torch.onnx.export(
            network.cpu().eval(), example, body, input_names=["symbol", "past", "known"],
            output_names=["forecast", "attention", "weights"], dynamo=False, opset_version=17,
        )  # fmt: skip
    return body.getvalue()


class TftModel(Model):
    """One target of the TFT; learns from all symbols it is given, the first counts half."""

    kind = NAME

    def __init__(
        self, target: str, horizon_bars: int = HORIZON_BARS, config: TftConfig | None = None
    ) -> None:
        super().__init__(target, horizon_bars)
        self.config = config or TftConfig()

    def head(self, artifact: Artifact) -> Head:
        """Return the head that an artifact holds."""
        return head_of(artifact)

    def fit(
        self, bars: Sequence[BarFrame], source: Source, watch: Watch
    ) -> tuple[Card, dict[str, bytes]]:
        """Train on the first nine tenths; the last one stops it and gives the card's scores."""
        config, first = self.config, bars[0]
        watch.say(f"{self.target}: features and volatility of {len(bars)} symbols")
        data = [
            build_dataset(one, source.end_ms, self.horizon_bars, features=False) for one in bars
        ]
        material = prepare(self.target, data, source.end_ms, config)
        device = device_of(config.device)
        torch.manual_seed(source.seed)
        network = network_of(material, config).to(device)
        identity = [self.name, source.data_sha256, source.end_ms, self.horizon_bars, config]
        task = task_of(material, config, source.seed, identity, device)
        watch.say(f"{self.target}: {sum(p.numel() for p in network.parameters())} parameters")
        fitted = fit(network, task, config.schedule, source.seed, watch)
        inputs = material.inputs
        split = int(material.split_ms)
        usual = climatology_scores(
            self.target, data[0], split, data[0].between(split, source.end_ms)
        )
        metrics = {
            "walk_forward": {**fitted.scores, **usual, "folds": []},
            "training": {"steps": fitted.steps, "history": fitted.history},
        }
        card = Card(
            NAME, self.target, source.created_at, source.commit, source.data_sha256,
            first.symbol, first.timeframe, self.horizon_bars,
            first_row_ms(first, VOLUME_FROM, source.end_ms), source.end_ms, source.seed,
            columns=inputs.past, feature_schema=columns_hash(inputs.past), metrics=metrics,
            settings={**plain(config), "symbols": list(inputs.symbols[1:])},
            command=source.command,
        )  # fmt: skip
        more = {"drift": config.drift}
        if self.target == "trend":  # what was held out says how sure it may be
            more["shrink"] = float(np.clip(fitted.scores["slope"], 0.0, 1.0))
        params = canonical_json({**material.params(), **more}).encode()
        return card, {"model.onnx": export(network), "params.json": params}


_LABELS: dict[str, Callable[[Material, Batch], tuple[Any, ...]]] = {
    "trend": _trend_labels, "return": _return_labels, "risk": _risk_labels,
}  # fmt: skip
_LOSSES: dict[str, Callable[[Tensor, Labels], Tensor]] = {
    "trend": _trend_loss, "return": _return_loss, "risk": _risk_loss,
}  # fmt: skip
