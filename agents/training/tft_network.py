"""The Temporal Fusion Transformer of pytorch-forecasting, and a dense way through it.

Lim, Arık, Loeff, Pfister, *Temporal Fusion Transformers for Interpretable Multi-horizon Time
Series Forecasting* (2021). :class:`DenseTft` holds the library's network and runs it on its own
weights for windows that are full: no packed sequences, and all variables of a selection network
in one product instead of one after the other. Same numbers, a third of the time, and a graph that
exports.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.metrics import QuantileLoss
from torch import Tensor, nn
from torch.nn import functional

STATIC = "symbol"


@dataclass(frozen=True, slots=True)
class TftShape:
    """What a network takes and gives.

    Attributes
    ----------
    past : variables known up to now; ``known`` : those known ahead, by name.
    symbols : classes of the static variable, the unknown symbol (0) included.
    encoder, horizon : bars of the past and of the future.
    outputs : numbers for every future bar.
    """

    past: tuple[str, ...]
    known: tuple[str, ...]
    symbols: int
    encoder: int
    horizon: int
    outputs: int
    hidden: int = 16
    heads: int = 2
    dropout: float = 0.1


class DenseTft(nn.Module):  # type: ignore[misc] # torch is not followed by mypy
    """The network; ``forward`` takes full windows only."""

    def __init__(self, shape: TftShape) -> None:
        super().__init__()
        self.shape = shape
        self.tft = library_tft(shape)

    def forward(
        self, symbol: Tensor, past: Tensor, known: Tensor, stride: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Forecast from every window of n blocks of bars; m windows in all, block by block.

        The windows of a block lie ``stride`` bars apart and share the selection of variables,
        which depends on the bar and the symbol alone and is most of the work.

        Parameters
        ----------
        symbol : (n,) int64, 0 for a symbol never seen.
        past : (n, bars, len(past)); a block of ``encoder`` bars is one window.
        known : (n, bars + horizon, len(known)).

        Returns
        -------
        predictions : (m, horizon, outputs).
        attention : (m, encoder), of the last step, mean over heads.
        weights : (m, len(known) + len(past)), of the encoder's variables, mean over time.
        """
        tft, shape, bars = self.tft, self.shape, past.shape[1]
        size, ahead = shape.encoder, shape.horizon
        embedded = tft.input_embeddings(symbol[:, None])[STATIC]
        static = tft.static_variable_selection.single_variable_grns[STATIC](embedded)
        context = tft.static_context_variable_selection(static)
        seen = torch.cat((known[:, :bars], past), dim=-1)
        selected, weights = _select(tft.encoder_variable_selection, seen, context)
        future, _ = _select(tft.decoder_variable_selection, known[:, size:], context)
        encoder, decoder = _windows(selected, size, stride), _windows(future, ahead, stride)
        static = static.repeat_interleave(encoder.shape[0] // past.shape[0], dim=0)
        hidden = tft.static_context_initial_hidden_lstm(static)[None]
        cell = tft.static_context_initial_cell_lstm(static)[None]
        encoded, state = nn.LSTM.forward(tft.lstm_encoder, encoder, (hidden, cell))
        decoded, _ = nn.LSTM.forward(tft.lstm_decoder, decoder, state)
        gate, norm = tft.post_lstm_gate_encoder, tft.post_lstm_add_norm_encoder
        local = torch.cat((norm(gate(encoded), encoder), norm(gate(decoded), decoder)), dim=1)
        enriched = tft.static_enrichment(local, tft.static_context_enrichment(static)[:, None])
        attended, attention = tft.multihead_attn(
            q=enriched[:, size:], k=enriched, v=enriched, mask=self._mask(encoder.shape[0])
        )
        out = tft.post_attn_gate_norm(attended, enriched[:, size:])
        out = tft.pre_output_gate_norm(tft.pos_wise_ff(out), local[:, size:])
        return (
            tft.output_layer(out), attention[:, -1].mean(dim=1)[:, :size],
            _windows(weights, size, stride).mean(dim=1),
        )  # fmt: skip

    def _mask(self, n: int) -> Tensor:
        """Steps that may not be attended to: a future bar's own and those after it."""
        total, ahead = self.shape.encoder + self.shape.horizon, self.shape.horizon
        at = torch.arange(total) - self.shape.encoder
        return (at[None, :] >= torch.arange(ahead)[:, None])[None].expand(n, -1, -1)


def library_tft(shape: TftShape) -> TemporalFusionTransformer:
    """Return pytorch-forecasting's network of this shape, untrained."""
    with warnings.catch_warnings():
        # Lightning advises on checkpoints of its own, which nobody writes here.
        warnings.simplefilter("ignore")
        return TemporalFusionTransformer(
            hidden_size=shape.hidden,
            lstm_layers=1,
            dropout=shape.dropout,
            output_size=shape.outputs,
            loss=QuantileLoss(),
            attention_head_size=shape.heads,
            max_encoder_length=shape.encoder,
            static_categoricals=[STATIC],
            time_varying_reals_encoder=[*shape.known, *shape.past],
            time_varying_reals_decoder=[*shape.known],
            x_reals=[*shape.known, *shape.past],
            x_categoricals=[STATIC],
            hidden_continuous_size=shape.hidden,
            embedding_sizes={STATIC: (shape.symbols, min(shape.hidden, 4))},
            logging_metrics=nn.ModuleList([]),
            output_transformer=_as_it_is,
        )


def _as_it_is(out: dict[str, Tensor]) -> Tensor:
    return out["prediction"]


def _windows(x: Tensor, size: int, stride: int) -> Tensor:
    """Cut (n, t, k) into windows of ``size`` along t: (m, size, k)."""
    if x.shape[1] == size:
        return x
    cut = x.unfold(1, size, stride).transpose(2, 3)
    return cut.reshape(-1, size, x.shape[2])


def _select(network: Any, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """Variable selection of x (n, t, v): (n, t, hidden), and the weights (n, t, v)."""
    names = list(network.input_sizes)
    grns = [network.single_variable_grns[name] for name in names]
    scalers = [network.prescalers[name] for name in names]
    n, t, v = x.shape
    rows = x.reshape(n * t, v).T[:, :, None]  # (v, n·t, 1)
    scaled = rows * _stack(scalers, "weight").transpose(1, 2) + _stack(scalers, "bias")[:, None]
    h = functional.elu(_linear(scaled, [g.fc1 for g in grns]))
    h = _linear(h, [g.fc2 for g in grns])
    if network.training and network.dropout:
        h = functional.dropout(h, network.dropout)
    h = functional.glu(_linear(h, [g.gate_norm.glu.fc for g in grns]), dim=-1)
    norms = [g.gate_norm.add_norm.norm for g in grns]
    h = functional.layer_norm(h + scaled, (h.shape[-1],), eps=norms[0].eps)
    h = h * _stack(norms, "weight")[:, None] + _stack(norms, "bias")[:, None]
    flat = scaled.permute(1, 0, 2).reshape(n, t, -1)
    weights = network.softmax(network.flattened_grn(flat, context[:, None]))  # (n, t, v)
    outputs = h.view(v, n, t, -1).permute(1, 2, 3, 0)  # (n, t, hidden, v)
    chosen = torch.matmul(outputs, weights[..., None])[..., 0]
    return chosen, weights


def _stack(modules: list[Any], name: str) -> Tensor:
    return torch.stack([getattr(module, name) for module in modules])


def _linear(x: Tensor, layers: list[Any]) -> Tensor:
    return torch.baddbmm(
        _stack(layers, "bias")[:, None], x, _stack(layers, "weight").transpose(1, 2)
    )
