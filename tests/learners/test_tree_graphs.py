"""Ensembles as graphs: every way a tree can cut, and no larger than the trees are."""

from __future__ import annotations

import lightgbm
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper

from tidemill.learners.trees.fitted import float32_thresholds
from tidemill.learners.trees.graph import ensemble


def grown(target: npt.NDArray[np.float64], rows: npt.NDArray[np.float32], **options: object) -> lightgbm.Booster:
    small = {"verbosity": -1, "min_data_in_leaf": 3, "min_data_per_group": 3, "cat_smooth": 1, "max_cat_threshold": 64}
    data = lightgbm.Dataset(rows, target, categorical_feature=[2])
    rounds = 6
    return float32_thresholds(lightgbm.train({**small, "num_leaves": 15, **options}, data, rounds), rounds)


def answered(node: NodeProto, rows: npt.NDArray[np.float32], columns: int) -> npt.NDArray[np.float32]:
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, rows.shape[1]])
    made = helper.make_tensor_value_info("margins", TensorProto.FLOAT, [None, columns])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 1)]
    graph = helper.make_graph([node], "trees", [given], [made])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: npt.NDArray[np.float32] = session.run(None, {"rows": rows})[0]
    return found


@pytest.fixture(scope="module")
def rows() -> npt.NDArray[np.float32]:
    """Numbers with gaps, numbers without, categories, and a column of nothing."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 4)).astype(np.float32)
    rows[rng.random(3000) < 0.3, 0] = np.nan
    rows[:, 2] = rng.integers(0, 90, 3000)
    rows[:, 3] = 0.0
    return rows


def test_every_cut_is_the_same(rows: npt.NDArray[np.float32]) -> None:
    effect = np.random.default_rng(1).normal(size=90)[rows[:, 2].astype(int)]
    target = effect + np.where(np.isnan(rows[:, 0]), 1.0, rows[:, 0]) + rows[:, 1]
    booster = grown(target, rows, objective="regression")
    text = booster.model_to_string()
    kinds = {int(kind) for line in text.splitlines() if line.startswith("decision_type=") for kind in line[14:].split()}
    assert {2, 8, 9, 10} <= kinds, "numbers, those that were missing going either way, and sets"
    node = ensemble([(0, booster)], 1, "rows", "margins")
    strange = rows.copy()
    strange[:50, 2] = 500.0  # a category that no tree has seen
    for part in (rows, strange, rows[:1]):
        np.testing.assert_allclose(answered(node, part, 1)[:, 0], booster.predict(part, raw_score=True), atol=1e-5)

    trees = booster.dump_model()["tree_info"]
    leaves = sum(tree["num_leaves"] for tree in trees)
    inner = leaves - len(trees)
    members = sum(count_members(tree["tree_structure"]) for tree in trees)
    modes = next(a for a in node.attribute if a.name == "nodes_modes").strings
    assert len(modes) == leaves + inner + members and members > 20


def count_members(node: dict[str, object]) -> int:
    """How many categories stand in the sets below *node*, beyond the first of each set."""
    below = [child for child in (node.get("left_child"), node.get("right_child")) if isinstance(child, dict)]
    own = str(node["threshold"]).count("||") if node.get("decision_type") == "==" else 0
    return own + sum(count_members(child) for child in below)


def test_several_columns_and_trees_without_a_cut(rows: npt.NDArray[np.float32]) -> None:
    classes = np.digitize(rows[:, 1], [-0.5, 0.5]).astype(float)
    many = grown(classes, rows, objective="multiclass", num_class=3)
    one = grown(rows[:, 1].astype(float), rows, objective="regression")
    none = grown(np.zeros(3000), rows, objective="regression")
    assert "num_leaves=1\n" in none.model_to_string()
    node = ensemble([(0, one), (1, many), (4, none), (0, one)], 5, "rows", "margins")
    found = answered(node, rows, 5)
    expected = [2 * one.predict(rows), many.predict(rows, raw_score=True), none.predict(rows)]
    np.testing.assert_allclose(found, np.column_stack(expected), atol=1e-5)
