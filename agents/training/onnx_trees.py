"""Write boosted trees of scikit-learn or LightGBM as an ONNX tree ensemble, in double precision.

Each output of the graph is the raw score of one ensemble (before any link function), averaged
over the models given for it. Splits are kept as doubles: rounding a threshold to single precision
would send rows to the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from agents.training.lightgbm_trees import LightGbm
from domain.errors import ModelError

INPUT, OUTPUT = "features", "scores"
_ZERO = float(np.float32(1e-35))  # LightGBM takes values within ± this for 0


class Histogram(Protocol):
    """A fitted ``HistGradientBoosting…`` with one tree per round."""

    _predictors: list[list[Any]]
    _baseline_prediction: NDArray[np.float64]


def export_trees(targets: Mapping[str, Sequence[Histogram | LightGbm]], n_features: int) -> bytes:
    """Return the serialised graph: ``features`` (n, n_features) double → ``scores`` (n, targets).

    Parameters
    ----------
    targets : output name → models whose raw scores are averaged; columns in this order.

    Raises
    ------
    ModelError : for a split that is no ``value <= threshold``.
    """
    table = _Table()
    base = np.zeros(len(targets))
    for target, models in enumerate(targets.values()):
        share = 1.0 / len(models)
        for model in models:
            if not isinstance(model, LightGbm):  # which has it in the first tree
                base[target] += share * float(np.ravel(model._baseline_prediction)[0])
            for tree in _trees_of(model):
                table.add_tree(tree, target, share)
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


@dataclass(frozen=True, slots=True)
class _Node:
    """A split (value <= threshold goes left), or a leaf where it has no children."""

    value: float = 0.0  # of a leaf
    feature: int = 0
    threshold: float = 0.0
    children: tuple[int, int] | None = None
    missing_left: bool = False


def _trees_of(model: Histogram | LightGbm) -> Iterator[list[_Node]]:
    if isinstance(model, LightGbm):
        for tree in model.booster.dump_model()["tree_info"]:
            nodes: dict[int, _Node] = {}
            _flatten(tree["tree_structure"], nodes)
            yield [nodes[i] for i in range(len(nodes))]
    else:
        for (predictor,) in model._predictors:
            yield [_histogram_node(node) for node in predictor.nodes]


def _histogram_node(node: np.void) -> _Node:
    if node["is_leaf"]:
        return _Node(float(node["value"]))
    return _Node(
        feature=int(node["feature_idx"]), threshold=float(node["num_threshold"]),
        children=(int(node["left"]), int(node["right"])),
        missing_left=bool(node["missing_go_to_left"]),
    )  # fmt: skip


def _flatten(part: Mapping[str, Any], nodes: dict[int, _Node]) -> int:
    """Number a part of LightGBM's dump and all below it, from its root on."""
    at = len(nodes)
    if "leaf_value" in part:
        nodes[at] = _Node(float(part["leaf_value"]))
        return at
    if part["decision_type"] != "<=" or part["missing_type"] == "Zero":
        raise ModelError(
            f"split on feature {part['split_feature']}",
            "must be value <= threshold, with zero a value like any other",
            {name: part[name] for name in ("decision_type", "missing_type")},
        )
    threshold = float(part["threshold"])
    if -_ZERO <= threshold < 0.0:
        threshold = float(np.nextafter(-_ZERO, -np.inf))
    nodes[at] = _Node()  # takes its number before those below it
    children = _flatten(part["left_child"], nodes), _flatten(part["right_child"], nodes)
    # where training saw no NaN, LightGBM takes one for 0
    missing_left = part["default_left"] if part["missing_type"] == "NaN" else threshold >= 0.0
    nodes[at] = _Node(0.0, int(part["split_feature"]), threshold, children, bool(missing_left))
    return at


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

    def add_tree(self, nodes: Sequence[_Node], target: int, share: float) -> None:
        tree = self._trees
        self._trees += 1
        for i, node in enumerate(nodes):
            mode = "LEAF" if node.children is None else "BRANCH_LEQ"
            left, right = node.children or (0, 0)
            _append(
                self._nodes, tree, i, node.feature, mode, node.threshold, left, right,
                int(node.missing_left),
            )  # fmt: skip
            if node.children is None:
                _append(self._leaves, tree, i, target, share * node.value)

    def attributes(self) -> dict[str, Any]:
        nodes, leaves = dict(self._nodes), dict(self._leaves)
        values, weights = nodes.pop("values"), leaves.pop("weights")
        return {
            **{f"nodes_{name}": column for name, column in nodes.items()},
            **{f"target_{name}": column for name, column in leaves.items()},
            "nodes_values_as_tensor": _doubles("nodes_values", values),
            "target_weights_as_tensor": _doubles("target_weights", weights),
        }


def _append(columns: Mapping[str, list[Any]], *row: Any) -> None:
    for column, value in zip(columns.values(), row, strict=True):
        column.append(value)


def _doubles(name: str, values: Any) -> onnx.TensorProto:
    column = np.asarray(values, dtype=np.float64)
    return helper.make_tensor(name, TensorProto.DOUBLE, column.shape, column.tolist())
