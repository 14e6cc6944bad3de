import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from agents.artifacts import Artifact, Card
from agents.training.onnx_trees import export_trees
from agents.trees import Trees
from domain.errors import ModelError


def artifact(tmp_path, graph):
    card = Card("a", "t", 0, "c", "", "BTC/USDT", "5m", 5, 0, 0, 7)
    return Artifact(tmp_path, card, {} if graph is None else {"model.onnx": graph})


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4000, 6))
    up = (x[:, 0] * x[:, 1] + rng.normal(size=4000) > 0).astype(float)
    arguments = {"max_iter": 60, "max_leaf_nodes": 15}
    first = HistGradientBoostingClassifier(random_state=1, max_features=0.5, **arguments)
    second = HistGradientBoostingClassifier(random_state=2, learning_rate=0.05, **arguments)
    width = HistGradientBoostingRegressor(loss="gamma", **arguments)
    return x, first.fit(x, up), second.fit(x, up), width.fit(x, np.exp(x[:, 2]))


def test_export_trees_when_run_by_onnxruntime_then_equal_to_sklearn(fitted, tmp_path):
    x, first, second, width = fitted
    graph = export_trees({"p": [first, second], "width": [width]}, 6)
    scores = Trees(artifact(tmp_path, graph), 6, 2).scores(x)
    mean = (first.decision_function(x) + second.decision_function(x)) / 2
    assert np.abs(scores[:, 0] - mean).max() < 1e-6
    assert np.abs(scores[:, 1] - np.log(width.predict(x))).max() < 1e-6


def test_export_trees_when_a_row_lies_on_a_split_then_it_goes_the_same_way(fitted, tmp_path):
    x, first, _, _ = fitted
    on_split = np.tile(x[:1], (200, 1))
    nodes = np.concatenate([p.nodes for (p,) in first._predictors])
    splits = nodes[nodes["is_leaf"] == 0][:200]
    on_split[np.arange(200), splits["feature_idx"]] = splits["num_threshold"]
    trees = Trees(artifact(tmp_path, export_trees({"p": [first]}, 6)), 6, 1)
    assert np.abs(trees.scores(on_split)[:, 0] - first.decision_function(on_split)).max() < 1e-6


def test_trees_when_batch_size_changes_then_the_same_bits(fitted, tmp_path):
    x, first, second, width = fitted
    graph = export_trees({"p": [first, second], "width": [width]}, 6)
    trees = Trees(artifact(tmp_path, graph), 6, 2)
    whole = trees.scores(x[:3584])
    for size in (1, 7, 512):
        parts = [trees.scores(x[i : i + size]) for i in range(0, 3584 if size > 1 else 600, size)]
        joined = np.concatenate(parts)[:3584]
        assert np.array_equal(joined, whole[: len(joined)])


def test_trees_when_graph_is_missing_or_has_other_shapes_then_model_error(fitted, tmp_path):
    graph = export_trees({"p": [fitted[1]]}, 6)
    with pytest.raises(ModelError, match=r"must hold model\.onnx"):
        Trees(artifact(tmp_path, None), 6, 1)
    with pytest.raises(ModelError, match="54 inputs"):
        Trees(artifact(tmp_path, graph), 54, 1)
