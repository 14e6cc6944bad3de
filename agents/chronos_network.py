"""A Chronos model in a folder, asked for the cumulative return whatever it was trained on.

Models of ours read log returns and answer with cumulative log returns. The official ones read
levels and answer with levels. Which kind it is stands in the model's own config. What a folder
holds is checked when it is named; PyTorch is loaded with the first question.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import ModelError

Floats = NDArray[np.float64]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FORM = "conclave"  # key of the config under which a model of ours says what it reads and gives
RETURNS = {"input": "log_returns", "output": "cumulative_log_returns"}
PIPELINES = ("ChronosBoltPipeline", "Chronos2Pipeline")
_LONGEST_HEAD = 100_000_000  # bytes
TILE = 8  # series in a forward pass, always: what else is asked changes no bit of an answer


@dataclass(frozen=True, slots=True)
class Described:
    """What kind of model a folder holds.

    Attributes
    ----------
    kind : class of its pipeline. ``parameters`` : numbers in its weights.
    reads_returns : whether it is one of ours; the official ones read levels.
    steps : bars ahead of one forward pass; 0 where its config does not say.
    """

    kind: str
    parameters: int
    reads_returns: bool
    steps: int

    def told(self) -> Mapping[str, Any]:
        """Return what people see of it."""
        reads = "log returns" if self.reads_returns else "levels"
        return {"kind": self.kind, "parameters": self.parameters, "reads": reads}


class ChronosNetwork:
    """The model of a folder, in fp32 on one thread; kept once it is loaded.

    Parameters
    ----------
    folder : ``config.json`` and safetensors.
    int8 : dynamic quantisation of its linear layers.
    tile : series in a forward pass; another number may change the last bits of an answer.

    Raises
    ------
    ModelError : if it holds no Chronos model, or one that is damaged.
    """

    def __init__(self, folder: Path, *, int8: bool = False, tile: int = TILE) -> None:
        self.described = describe(folder)
        # int8 scales a tile by its largest value, so that neighbours would change an answer
        self._folder, self._int8, self._tile = folder, int8, 1 if int8 else tile
        self._loaded: Any = None

    def cumulative(self, closes: Floats, steps: int) -> Floats:
        """Return quantiles of the cumulative log return, (n, steps, 9), sorted.

        Parameters
        ----------
        closes : (n, points) prices, oldest first; every row is whole.
        steps : bars ahead, all from one forward pass.

        Raises
        ------
        ModelError : if a model of ours does not reach as far; going on from its own answer takes
            levels.
        """
        ours, tile, n = self.described.reads_returns, self._tile, len(closes)
        if ours and steps > self.described.steps:
            raise ModelError(
                str(self._folder), f"must reach {steps} steps ahead", self.described.steps
            )
        context = np.diff(np.log(closes)) if ours else closes / closes[:, -1:]
        padded = np.concatenate((context, np.repeat(context[-1:], -n % tile, axis=0)))
        said = [
            self._ask(padded[at : at + tile].astype(np.float32), steps)
            for at in range(0, len(padded), tile)
        ]
        quantiles = np.concatenate(said)[:n].astype(np.float64)
        if not ours:
            quantiles = np.log(np.maximum(quantiles, 1e-6))
        return np.sort(quantiles, axis=2)

    def warm_up(self) -> None:
        """Load the model now rather than with the first question."""
        self.cumulative(np.full((1, 17), 100.0), 1)

    def _ask(self, tile: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        import torch

        pipeline = self._pipeline()
        with torch.inference_mode():
            if self.described.kind == "Chronos2Pipeline":  # reads variates, answers in a list
                found, _ = pipeline.predict_quantiles(
                    torch.from_numpy(tile)[:, None], prediction_length=steps,
                    quantile_levels=list(LEVELS), batch_size=len(tile), cross_learning=False,
                )  # fmt: skip
                said = torch.cat(found)
            else:
                said, _ = pipeline.predict_quantiles(
                    torch.from_numpy(tile), prediction_length=steps, quantile_levels=list(LEVELS)
                )
        return np.asarray(said.numpy(), np.float32)

    def _pipeline(self) -> Any:
        if self._loaded is None:
            self._loaded = _load(self._folder, self.described.kind, self._int8)
        return self._loaded


def describe(folder: Path) -> Described:
    """Return what a folder holds, from its config and the heads of its weights.

    Raises
    ------
    ModelError : if that is no Chronos model, is cut off, or is in a form nobody here knows.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(str(folder), f"must hold a readable config.json: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder}: config.json", "must hold a JSON object")
    kind, settings = config.get("chronos_pipeline_class"), config.get("chronos_config")
    if kind not in PIPELINES or not isinstance(settings, dict):
        raise ModelError(str(folder), f"must be a model for {' or '.join(PIPELINES)}", kind)
    form, levels = config.get(FORM), settings.get("quantiles")
    if form is not None and form != RETURNS:
        raise ModelError(str(folder), f"its form must be {RETURNS}", form)
    if not isinstance(levels, list) or not set(LEVELS) <= set(levels):
        raise ModelError(str(folder), f"must forecast the quantiles {LEVELS}", levels)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(str(folder), "must hold safetensors weights", None, "Pickles are refused.")
    parameters, steps = sum(map(_parameters, weights)), settings.get("prediction_length", 0)
    return Described(kind, parameters, form is not None, steps)


def _parameters(path: Path) -> int:
    """Numbers in a safetensors file whose head and length are right.

    See https://github.com/huggingface/safetensors: eight bytes of length, JSON, then the data.
    """
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        try:
            head: dict[str, Any] = json.loads(stream.read(min(size, _LONGEST_HEAD)))
            tensors = [entry for name, entry in head.items() if name != "__metadata__"]
            due = 8 + size + max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
            count = sum(math.prod(map(int, entry["shape"])) for entry in tensors)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ModelError(
                str(path), "must begin with a safetensors header", None, "It is damaged."
            ) from error
    if path.stat().st_size != due:
        raise ModelError(
            str(path), f"must have {due} bytes", path.stat().st_size, "It was cut off: get it anew."
        )
    return count


def _load(folder: Path, kind: str, int8: bool) -> Any:
    import torch
    from chronos import Chronos2Pipeline, ChronosBoltPipeline
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from torch import nn
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    pipeline, network = {
        "ChronosBoltPipeline": (ChronosBoltPipeline, ChronosBoltModelForForecasting),
        "Chronos2Pipeline": (Chronos2Pipeline, Chronos2Model),
    }[kind]
    try:
        model, told = network.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            str(folder), f"holds a model that cannot be loaded: {type(error).__name__}: {said}"
        ) from error
    if told["missing_keys"]:  # which the library would leave at random
        raise ModelError(str(folder), "must hold every weight", sorted(told["missing_keys"]))
    if int8:
        torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return pipeline(model)
