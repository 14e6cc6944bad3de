"""Exported networks and trees, run by ONNX Runtime: one thread, on the CPU."""

from __future__ import annotations

from typing import Any

from agents.artifacts import Artifact
from domain.errors import ModelError

GRAPH = "model.onnx"


def session_of(artifact: Artifact) -> Any:
    """Return a session of the artifact's ``model.onnx``.

    Raises
    ------
    ModelError : if there is none, or it is no graph.
    """
    import onnxruntime

    if GRAPH not in artifact.contents:
        raise ModelError(str(artifact.folder), f"must hold {GRAPH}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            artifact.contents[GRAPH], options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors have no common base but this
        told = " ".join(str(error).split())[:200]
        raise ModelError(f"{artifact.folder}: {GRAPH}", f"must be a graph: {told}") from error
