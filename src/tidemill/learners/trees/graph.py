"""Ensembles as one ONNX node, read from the text in which LightGBM saves its models.

onnxmltools converts them as well, in ten times as long: more than it takes to grow a large ensemble. And for a set of
categories it repeats what hangs below it once for each of them, where here each of them leads to the same node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, NodeProto, helper

_CATEGORICAL, _DEFAULT_LEFT, _MISSING, _MISSING_IS_NAN = 1, 2, 12, 8
"""Bits of LightGBM's ``decision_type``."""
_MODES = np.array([b"LEAF", b"BRANCH_LEQ", b"BRANCH_EQ"], dtype=object)
_LEAF, _LEQ, _EQ = range(3)


@dataclass(frozen=True, slots=True)
class _Tree:
    """A tree's columns of nodes by name: the inner ones, the root first; the leaves; the chains of categories."""

    nodes: dict[str, npt.NDArray[Any]]
    leaves: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


@dataclass(slots=True)
class _Columns:
    """The attributes of the node, an array a tree."""

    parts: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)

    def add(self, **columns: npt.NDArray[Any]) -> None:
        for name, column in columns.items():
            self.parts.setdefault(name, []).append(column)

    def attributes(self) -> list[AttributeProto]:
        made = []
        for name, arrays in self.parts.items():
            column = np.concatenate(arrays)
            kind = {"i": "ints", "f": "floats", "O": "strings"}[column.dtype.kind]
            content: dict[str, Any] = {kind: column.tolist()}
            made.append(AttributeProto(name=name, type=getattr(AttributeProto, kind.upper()), **content))
        return made


def ensemble(boosters: Sequence[tuple[int, lightgbm.Booster]], columns: int, source: str, out: str) -> NodeProto:
    """One node that sums the margins of all *boosters*, each from its column on, to ``[n, columns]``.

    Args:
        boosters: models whose thresholds float32 holds exactly, each with the first column that it adds to.
        columns: how many margins there are.
        source: a tensor float32 ``[n, features]``.
        out: the name of the node's output.
    """
    found, number = _Columns(), 0
    for first, booster in boosters:
        each = booster.num_model_per_iteration()
        for position, tree in enumerate(_trees(booster.model_to_string())):
            nodes = tree.nodes
            count = len(nodes["modes"])
            found.add(
                nodes_treeids=np.full(count, number),
                nodes_nodeids=np.arange(count),
                nodes_featureids=nodes["features"],
                nodes_modes=_MODES[nodes["modes"]],
                nodes_values=nodes["values"].astype(np.float32),
                nodes_truenodeids=nodes["yes"],
                nodes_falsenodeids=nodes["no"],
                nodes_missing_value_tracks_true=nodes["missing_yes"],
                target_treeids=np.full(len(tree.leaves), number),
                target_nodeids=tree.leaves,
                target_ids=np.full(len(tree.leaves), first + position % each),
                target_weights=tree.weights,
            )
            number += 1
    node = helper.make_node(
        "TreeEnsembleRegressor", [source], [out], domain="ai.onnx.ml", n_targets=columns, post_transform="NONE"
    )
    node.attribute.extend(found.attributes())
    return node


def _trees(text: str) -> list[_Tree]:
    body = text.partition("\nend of trees")[0]
    blocks = re.split(r"^Tree=\d+\n", body, flags=re.MULTILINE)[1:]
    return [_tree(dict(line.split("=", 1) for line in block.splitlines() if "=" in line)) for block in blocks]


def _tree(said: dict[str, str]) -> _Tree:
    leaves = int(said["num_leaves"])
    inner = leaves - 1

    def column(name: str, dtype: type) -> npt.NDArray[Any]:
        return np.array(said[name].split(), dtype) if inner else np.zeros(0, dtype)

    kind, threshold = column("decision_type", np.int64), column("threshold", np.float64)
    # children are inner nodes, or leaves as -1 - number
    yes, no = (np.where(c < 0, inner - 1 - c, c) for c in (column("left_child", int), column("right_child", int)))
    missing_yes = (kind & _DEFAULT_LEFT > 0) & (kind & _MISSING == _MISSING_IS_NAN) & (kind & _CATEGORICAL == 0)
    rest = np.zeros(leaves, np.int64)
    nodes = {
        "modes": np.concatenate([np.full(inner, _LEQ), rest]),
        "features": np.concatenate([column("split_feature", np.int64), rest]),
        "values": np.concatenate([threshold, rest]),
        "yes": np.concatenate([yes, rest]),
        "no": np.concatenate([no, rest]),
        "missing_yes": np.concatenate([missing_yes, rest]),
    }
    for split in np.flatnonzero(kind & _CATEGORICAL):
        _chain(nodes, int(split), _members(said, int(threshold[split])))
    weights = np.array(said["leaf_value"].split(), np.float64).astype(np.float32)
    return _Tree(nodes, np.arange(inner, inner + leaves), weights)


def _members(said: dict[str, str], number: int) -> npt.NDArray[np.int64]:
    """The categories of the tree's set *number*, of which its text holds the bits, 32 a word."""
    start, end = (int(bound) for bound in said["cat_boundaries"].split()[number : number + 2])
    words = np.array(said["cat_threshold"].split()[start:end], np.uint32)
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))


def _chain(nodes: dict[str, npt.NDArray[Any]], split: int, members: npt.NDArray[np.int64]) -> None:
    """Ask for each member in turn: every yes leads to where the set leads, the last no to where the others go."""
    begin, further = len(nodes["modes"]), len(members) - 1
    chain = np.concatenate([[split], np.arange(begin, begin + further)])
    yes, no = nodes["yes"][split], nodes["no"][split]
    extended = {
        "modes": np.full(further, _EQ),
        "features": np.full(further, nodes["features"][split]),
        "values": members[1:],
        "yes": np.full(further, yes),
        "no": np.concatenate([chain[2:], [no]])[:further],
        "missing_yes": np.zeros(further, np.int64),
    }
    for name, column in extended.items():
        nodes[name] = np.concatenate([nodes[name], column])
    nodes["modes"][split], nodes["values"][split] = _EQ, members[0]
    if further:
        nodes["no"][split] = begin
