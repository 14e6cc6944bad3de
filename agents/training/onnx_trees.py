"""Write scikit-learn histogram boosting as an ONNX tree ensemble, in double precision.

Each output of the graph is the raw score of one ensemble (before any link function), averaged
over the models given for it. Splits are kept as doubles: rounding a threshold to single precision
would send rows to the other side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

INPUT, OUTPUT = "features", "scores"


class Boosted(Protocol):
    """A fitted ``HistGradientBoosting…`` with one tree per round."""

    _predictors: list[list[Any]]
    _baseline_prediction: NDArray[np.float64]


def export_trees(targets: Mapping[str, Sequence[Boosted]], n_features: int) -> bytes:
    """Return the serialised graph: ``features`` (n, n_features) double → ``scores`` (n, targets).

    Parameters
    ----------
    targets : output name → models whose raw scores are averaged; columns in this order.
    """
    table = _Table()
    base = np.zeros(len(targets))
    for target, models in enumerate(targets.values()):
        share = 1.0 / len(models)
        for model in models:
            base[target] += share * float(np.ravel(model._baseline_prediction)[0])
            for (predictor,) in model._predictors:
                table.add_tree(predictor.nodes, target, share)
    node = helper.make_node(
        "TreeEnsembleRegressor", [INPUT], [OUTPUT], domain="ai.onnx.ml",
        n_targets=len(targets), aggregate_function="SUM", post_transform="NONE",
        base_values_as_tensor=_doubles("base_values", base), **table.attributes(),
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, n_features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, len(targets)])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="conclave")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Table:
    """The columns of all nodes and leaves."""

    def __init__(self) -> None:
        self._trees = 0
        self._nodes: dict[str, list[Any]] = {
            name: []
            for name in (
                "treeids", "nodeids", "featureids", "modes", "values",
                "truenodeids", "falsenodeids", "missing_value_tracks_true",
            )
        }  # fmt: skip
        self._leaves: dict[str, list[Any]] = {
            name: [] for name in ("treeids", "nodeids", "ids", "weights")
        }

    def add_tree(self, nodes: NDArray[np.void], target: int, share: float) -> None:
        tree = self._trees
        self._trees += 1
        for i, node in enumerate(nodes):
            leaf = bool(node["is_leaf"])
            row = (
                tree, i, 0 if leaf else int(node["feature_idx"]),
                "LEAF" if leaf else "BRANCH_LEQ",
                0.0 if leaf else float(node["num_threshold"]),
                0 if leaf else int(node["left"]), 0 if leaf else int(node["right"]),
                0 if leaf else int(node["missing_go_to_left"]),
            )  # fmt: skip
            for column, value in zip(self._nodes.values(), row, strict=True):
                column.append(value)
            if leaf:
                weight = share * float(node["value"])
                for column, value in zip(
                    self._leaves.values(), (tree, i, target, weight), strict=True
                ):
                    column.append(value)

    def attributes(self) -> dict[str, Any]:
        nodes, leaves = dict(self._nodes), dict(self._leaves)
        values, weights = nodes.pop("values"), leaves.pop("weights")
        return {
            **{f"nodes_{name}": column for name, column in nodes.items()},
            **{f"target_{name}": column for name, column in leaves.items()},
            "nodes_values_as_tensor": _doubles("nodes_values", values),
            "target_weights_as_tensor": _doubles("target_weights", weights),
        }


def _doubles(name: str, values: Any) -> onnx.TensorProto:
    column = np.asarray(values, dtype=np.float64)
    return helper.make_tensor(name, TensorProto.DOUBLE, column.shape, column.tolist())
