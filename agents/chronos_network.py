"""A loaded Chronos model, asked for the cumulative return whatever it was trained on.

Models of ours read log returns and answer with cumulative log returns. The official ones read
levels and answer with levels. Which kind it is stands in the model's own config.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import ModelError

Floats = NDArray[np.float64]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FORM = "conclave"  # key of the config under which a model of ours says what it reads and gives
RETURNS = {"input": "log_returns", "output": "cumulative_log_returns"}
TILE = 8  # series in a forward pass, always: what else is asked changes no bit of an answer


class ChronosNetwork:
    """A pipeline of chronos-forecasting, in fp32 on one thread.

    Parameters
    ----------
    pipeline : Bolt or Chronos-2.
    tile : series in a forward pass; another number may change the last bits of an answer.
    """

    def __init__(self, pipeline: Any, tile: int = TILE) -> None:
        self._pipeline, self._tile = pipeline, tile
        self._config: Any = pipeline.inner_model.config
        told = getattr(self._config, FORM, None)
        if told is not None and dict(told) != RETURNS:
            raise ModelError("chronos", f"its form must be {RETURNS}", told)
        self._reads_returns = told is not None

    @classmethod
    def load(
        cls, place: str | Path, *, online: bool = False, int8: bool = False, tile: int = TILE
    ) -> ChronosNetwork:
        """Load a folder or, by its id, a model in the local cache or, ``online``, of the hub.

        Raises
        ------
        ModelError : if it cannot be had, or is no Chronos model.
        """
        import torch
        from chronos import BaseChronosPipeline

        torch.set_num_threads(1)
        try:
            pipeline = BaseChronosPipeline.from_pretrained(
                str(place), device_map="cpu", dtype=torch.float32, local_files_only=not online
            )
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise ModelError(
                str(place), f"is no Chronos model that can be loaded: {type(error).__name__} "
                f"{first}"[:300],
            ) from error  # fmt: skip
        if int8:
            quantise(pipeline)
        return cls(pipeline, tile)

    @property
    def parameters(self) -> int:
        """Numbers in the network."""
        return sum(p.numel() for p in self._pipeline.inner_model.parameters())

    @property
    def describes(self) -> Mapping[str, Any]:
        """What kind of network it is."""
        kind = type(self._pipeline).__name__
        form = "log returns" if self._reads_returns else "levels"
        return {"kind": kind, "parameters": self.parameters, "reads": form}

    def cumulative(self, closes: Floats, steps: int) -> Floats:
        """Return quantiles of the cumulative log return, (n, steps, 9), sorted.

        Parameters
        ----------
        closes : (n, points) prices, oldest first; every row is whole.
        steps : bars ahead, all from one forward pass.
        """
        context = np.diff(np.log(closes)) if self._reads_returns else closes / closes[:, -1:]
        n, tile = len(context), self._tile
        padded = np.concatenate((context, np.repeat(context[-1:], -n % tile, axis=0)))
        said = [
            self._ask(padded[at : at + tile].astype(np.float32), steps)
            for at in range(0, len(padded), tile)
        ]
        quantiles = np.concatenate(said)[:n].astype(np.float64)
        if not self._reads_returns:
            quantiles = np.log(np.maximum(quantiles, 1e-6))
        return np.sort(quantiles, axis=2)

    def _ask(self, tile: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            if hasattr(self._pipeline, "model_output_patch_size"):  # Chronos-2 wants variates
                found, _ = self._pipeline.predict_quantiles(
                    torch.from_numpy(tile)[:, None], prediction_length=steps,
                    quantile_levels=list(LEVELS), batch_size=len(tile), cross_learning=False,
                )  # fmt: skip
                said = torch.cat(found)
            else:
                said = self._pipeline.predict(
                    torch.from_numpy(tile), prediction_length=steps
                ).swapaxes(1, 2)
        return np.asarray(said.numpy(), np.float32)


def quantise(pipeline: Any) -> None:
    """Turn the network's linear layers into dynamic int8, in place."""
    import torch
    from torch import nn

    model = pipeline.inner_model
    torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)
