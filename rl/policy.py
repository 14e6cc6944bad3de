"""A trained policy as plain matrices: what decides needs NumPy and nothing that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from domain.errors import ModelError
from rl.actions import CHOICES, COUNTS
from rl.observation import LARGEST, Schema

Rows = NDArray[np.float32]
Flags = NDArray[np.bool_]

WEIGHTS = "policy.safetensors"
_CUTS = (0, COUNTS[0], COUNTS[0] + COUNTS[1], CHOICES)
_EPSILON = 1e-8  # as in Stable-Baselines3's VecNormalize
_NEVER = np.float32(-1e8)  # the logit of what is forbidden


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A network of tanh layers, and which observations it knows.

    Attributes
    ----------
    weights, biases : of each layer, (out, in) and (out,); the last gives a logit for each kind,
        size and level.
    mean, var : of the observations it was trained on, (columns,); what it is told is normalised.
    low, high : range of each column in training, (columns,).
    strange : so many columns beyond their range make an observation unknown.
    """

    weights: tuple[Rows, ...]
    biases: tuple[Rows, ...]
    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    low: Rows
    high: Rows
    strange: int

    def logits(self, seen: Rows) -> Rows:
        """Return (n, 13) for observations, (n, columns)."""
        scaled = (seen - self.mean) / np.sqrt(self.var + _EPSILON)
        x = np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)
        *inner, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in inner:
            x = np.tanh(x @ weight.T + bias)
        return np.asarray(x @ last[0].T + last[1])

    def choose(self, seen: Rows, masks: Flags) -> tuple[NDArray[np.int64], Rows]:
        """Return the likeliest choice of every row, (n, 3), and its kind's probability, (n,)."""
        told = np.where(masks, self.logits(seen), _NEVER)
        parts = [told[:, a:b] for a, b in pairwise(_CUTS)]
        chosen = np.stack([part.argmax(axis=1) for part in parts], axis=1)
        kinds = parts[0]
        odds = np.exp(kinds - kinds.max(axis=1, keepdims=True))
        sure = odds.max(axis=1) / odds.sum(axis=1)
        return chosen.astype(np.int64), sure

    def unknown(self, seen: Rows) -> NDArray[np.int64]:
        """Return how many columns of each row lie beyond what was seen in training, (n,)."""
        beyond = (seen < self.low) | (seen > self.high)
        return np.asarray(beyond.sum(axis=1))

    def to_bytes(self) -> bytes:
        """Return a safetensors file."""
        arrays: dict[str, NDArray[Any]] = {
            "mean": self.mean, "var": self.var, "low": self.low, "high": self.high,
            "strange": np.array([self.strange], dtype=np.int64),
        }  # fmt: skip
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays |= {f"weight_{k}": weight, f"bias_{k}": bias}
        body: bytes = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
        return body


def from_bytes(body: bytes, schema: Schema) -> Policy:
    """Read what :meth:`Policy.to_bytes` wrote.

    Raises
    ------
    ModelError : if it is damaged, or does not fit the schema.
    """
    try:
        arrays: Mapping[str, NDArray[Any]] = load(body)
        layers = sum(name.startswith("weight_") for name in arrays)
        policy = Policy(
            tuple(arrays[f"weight_{k}"] for k in range(layers)),
            tuple(arrays[f"bias_{k}"] for k in range(layers)),
            arrays["mean"], arrays["var"], arrays["low"], arrays["high"],
            int(arrays["strange"][0]),
        )  # fmt: skip
    except Exception as error:  # safetensors raises its own kinds
        raise ModelError(WEIGHTS, f"is damaged: {error}") from error
    _check(policy, len(schema.names))
    return policy


def _check(policy: Policy, columns: int) -> None:
    before, shapes = columns, []
    for weight, bias in zip(policy.weights, policy.biases, strict=True):
        shapes.append(weight.ndim == 2 and weight.shape == (len(bias), before))
        before = len(bias)
    ranges = (policy.mean, policy.var, policy.low, policy.high)
    fits = shapes and all(shapes) and before == CHOICES
    if not fits or any(part.shape != (columns,) for part in ranges):
        raise ModelError(WEIGHTS, f"must map {columns} columns to {CHOICES} logits")
    arrays: list[NDArray[Any]] = [*policy.weights, *policy.biases, *ranges]
    if not all(np.isfinite(part).all() for part in arrays):
        raise ModelError(WEIGHTS, "must hold finite numbers")
