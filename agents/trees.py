"""Boosted trees on onnxruntime, one thread, so that an answer depends on its row alone."""

from __future__ import annotations

import numpy as np

from agents.artifacts import Artifact
from agents.contract import Floats
from agents.graphs import session_of
from domain.errors import ModelError

INPUT = "features"


class Trees:
    """The raw scores of an ensemble in ``model.onnx``.

    Parameters
    ----------
    artifact : its ``model.onnx`` takes (n, n_inputs) doubles.
    n_inputs, n_outputs : what the caller will give and expects.

    Raises
    ------
    ModelError : if the artifact has no such graph.
    """

    def __init__(self, artifact: Artifact, n_inputs: int, n_outputs: int) -> None:
        self._session = session_of(artifact)
        shapes = (self._session.get_inputs()[0].shape[1], self._session.get_outputs()[0].shape[1])
        if shapes != (n_inputs, n_outputs):
            raise ModelError(
                str(artifact.folder),
                f"must map {n_inputs} inputs to {n_outputs} scores",
                shapes,
                "It was trained by another version of the program: train again.",
            )

    def scores(self, rows: Floats) -> Floats:
        """Return raw scores, (n, n_outputs), for finite rows (n, n_inputs)."""
        (out,) = self._session.run(None, {INPUT: np.ascontiguousarray(rows, dtype=np.float64)})
        return np.asarray(out, dtype=np.float64)
