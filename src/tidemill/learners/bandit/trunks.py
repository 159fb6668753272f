"""What turns features into the representation that heads read: a projection, or a network trained on rewards."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Features, Sparse
from tidemill.learners._base import Export, Scores
from tidemill.learners._dense import CHUNK, chunks, count, dense, dense_width, refuse_missing
from tidemill.learners._graph import Graph, dense_row
from tidemill.networks import build_network

MOST = 128
"""Numbers of a linear representation; wider features are projected on their main directions."""
MAX_SIDE = 16
"""Images are shrunk to this before a linear model reads them."""

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Report = Callable[[int, dict[str, float]], None]


class Trunk(Protocol):
    """A fitted representation."""

    def scores(self, features: Features) -> Scores:
        """Representations, float32 ``[n, d]``."""

    def export(self) -> Export:
        """Its graph or its weights."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Dense features less their mean, times a matrix.

    Attributes:
        info: what the features are.
        centre: float32 ``[d]``.
        matrix: float32 ``[d, k]``.
    """

    info: Mapping[str, FeatureInfo]
    centre: npt.NDArray[np.float32]
    matrix: npt.NDArray[np.float32]

    def scores(self, features: Features) -> Scores:
        """Representations, float32 ``[n, k]``."""
        parts = [self._part(features, rows) for rows in chunks(0, count(features))]
        return np.concatenate(parts) if parts else np.zeros((0, self.matrix.shape[1]), np.float32)

    def _part(self, features: Features, rows: slice) -> Scores:
        return np.asarray((dense(features, rows, MAX_SIDE) - self.centre) @ self.matrix, np.float32)

    def export(self) -> Export:
        """The same as three nodes."""
        graph = Graph()
        row = dense_row(graph, self.info, MAX_SIDE)
        assert row is not None
        centred = graph.add("Sub", row, graph.constant(self.centre))
        out = graph.add("MatMul", centred, graph.constant(self.matrix))
        model = graph.model(self.info, out, self.matrix.shape[1])
        data: bytes = model.SerializeToString()
        return Export(onnx=data)


def projection(features: Features, info: Mapping[str, FeatureInfo], rows: int, *, constant: bool) -> Projection:
    """The features themselves, or where they are wider than :data:`MOST` their main directions in the first *rows*.

    Args:
        constant: nothing of the context is kept, so that each action has one mean.

    Raises:
        TrainingError: the features are no dense numbers, or hold missing values.
    """
    width = dense_width(info, MAX_SIDE)
    if set(info) - {"image", "x"} or not width:
        raise TrainingError(
            f"the learner reads x and image, and the features are {', '.join(info) or 'none'}",
            where="learner bandit",
            mend="Use the steps numbers, onehot, text_vector or pixels.",
        )
    if constant:
        return Projection(info, np.zeros(width, np.float32), np.zeros((width, 1), np.float32))
    total, square, n = np.zeros(width), np.zeros((width, width) if width > MOST else width), 0
    for part in chunks(0, rows, CHUNK):
        x = dense(features, part, MAX_SIDE)
        refuse_missing(x, "bandit")
        x = x.astype(np.float64)
        total += x.sum(axis=0)
        square += x.T @ x if width > MOST else np.square(x).sum(axis=0)
        n += len(x)
    centre = total / max(n, 1)
    if width > MOST:
        covariance = square / max(n, 1) - np.outer(centre, centre)
        values, vectors = np.linalg.eigh(covariance)
        main = vectors[:, ::-1][:, :MOST] / math.sqrt(max(float(values[::-1][:MOST].mean()), 1e-12))
    else:
        deviation = np.sqrt(np.maximum(square / max(n, 1) - centre**2, 0.0))
        main = np.diag(1 / np.where(deviation > 1e-6, np.maximum(deviation, 0.1), 1.0))
    return Projection(info, centre.astype(np.float32), np.ascontiguousarray(main, np.float32))


class NetworkTrunk:
    """A network without its last layer's meaning: it was trained to tell rewards, through a linear layer behind it.

    Args:
        network: gives ``[n, width]``.
        spec: what builds it.
        info: what it reads.
    """

    def __init__(self, network: nn.Module, spec: dict[str, Any], info: Mapping[str, FeatureInfo]) -> None:
        self.network = network.eval()
        self.spec = spec
        self.info = info

    def scores(self, features: Features) -> Scores:
        """Representations, float32 ``[n, width]``."""
        every = np.arange(count(features))
        with torch.inference_mode():
            read = (_tensors(features, every[rows]) for rows in chunks(0, len(every), 1024))
            parts = [self.network(**inputs).float().numpy() for inputs in read]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def export(self) -> Export:
        """Graph and weights."""
        from tidemill.learners.gradient.graph import export_onnx

        onnx, note = export_onnx(self.network, self.info)
        tensors = {name: t.detach().contiguous().numpy() for name, t in self.network.state_dict().items()}
        return Export(onnx=onnx, tensors=tensors, network=self.spec, note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a network's representation is trained.

    Attributes:
        width: numbers of the representation.
        epochs: passes over the rows.
        batch_size: rows of a step.
        learning_rate: the largest of the schedule.
        seed: of weights and order.
    """

    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def train_network(
    features: Features,
    info: Mapping[str, FeatureInfo],
    spec: Mapping[str, Any],
    action: Rows,
    reward: Floats,
    weight: Floats,
    train: int,
    actions: int,
    training: Training,
    report: Report,
) -> NetworkTrunk:
    """A network that foretells the reward of each action, trained on the reward of the chosen one alone.

    Args:
        action: the output that each row's reward speaks of, int64 ``[n]``.
        reward: float64 ``[n]``.
        weight: what each row counts, float64 ``[n]``.
        train: how many of the rows train; the others tell which pass was best.
        actions: how many outputs there are.

    Raises:
        TrainingError: the network cannot read these features, or its loss is no longer a number.
    """
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    trunk = build_network(spec, info, training.width)
    head = nn.Linear(training.width, actions)
    both = nn.ModuleDict({"trunk": trunk, "head": head})
    optimizer = torch.optim.AdamW(both.parameters(), lr=training.learning_rate, weight_decay=1e-2)
    rows = np.flatnonzero(weight[:train] > 0)
    steps = max(1, math.ceil(len(rows) / training.batch_size)) * training.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=steps + 1)
    centre = float(np.average(reward[rows], weights=weight[rows]))
    scale = max(float(reward[rows].std()), 1e-6)
    target = torch.from_numpy(((reward - centre) / scale).astype(np.float32))
    counts = torch.from_numpy(weight.astype(np.float32))
    chosen = torch.from_numpy(action)
    best, kept, step = math.inf, copy.deepcopy(both.state_dict()), 0
    for epoch in range(1, training.epochs + 1):
        both.train()
        total = 0.0
        order = rng.permutation(rows)
        for start in range(0, len(order), training.batch_size):
            batch = order[start : start + training.batch_size]
            if len(batch) < 2 and len(order) > 1:
                continue  # nothing can be normalised over one row
            loss = _loss(trunk, head, _tensors(features, batch), chosen[batch], target[batch], counts[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            total += float(loss.detach()) * len(batch)
        if not math.isfinite(total):
            mend = "Lower learning_rate, or look for values without bounds."
            raise TrainingError("the loss is no longer a number", where="learner bandit", mend=mend)
        held = np.arange(train, len(reward))
        held = held[weight[held] > 0]
        shown = total / max(len(order), 1)
        if len(held):
            both.eval()
            with torch.inference_mode():
                shown = sum(
                    float(_loss(trunk, head, _tensors(features, part), chosen[part], target[part], counts[part]))
                    * len(part)
                    for part in np.array_split(held, math.ceil(len(held) / 1024))
                ) / len(held)
        report(epoch, {"validation_loss": shown, "validation_score": -shown})
        if shown < best or not len(held):
            best, kept = shown, copy.deepcopy(both.state_dict())
    both.load_state_dict(kept)
    return _scaled(trunk, dict(spec), info, features, rows)


def _loss(
    trunk: nn.Module,
    head: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    action: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
) -> torch.Tensor:
    told = head(trunk(**inputs).float()).gather(1, action[:, None])[:, 0]
    return (weight * torch.square(told - target)).sum() / weight.sum().clamp(min=1e-12)


def _scaled(
    trunk: nn.Module, spec: dict[str, Any], info: Mapping[str, FeatureInfo], features: Features, rows: Rows
) -> NetworkTrunk:
    """The network with its outputs brought to a mean square of 1, so that one ridge fits all."""
    from tidemill.networks._base import Scaled

    plain = NetworkTrunk(trunk, spec, info)
    some = rows[:: max(1, len(rows) // 2048)]
    sample = {name: feature[some] for name, feature in features.items() if not isinstance(feature, Sparse)}
    size = math.sqrt(float(np.square(plain.scores(sample)).mean())) or 1.0
    scaled = Scaled(trunk, 0.0, 1.0 / max(size, 1e-6))
    return NetworkTrunk(scaled, {**spec, "output": {"mean": 0.0, "std": 1.0 / max(size, 1e-6)}}, info)


def _tensors(features: Features, rows: Rows) -> dict[str, torch.Tensor]:
    found = {}
    for name, feature in features.items():
        if isinstance(feature, Sparse):
            raise TrainingError(
                f"the learner reads no sparse feature, and {name} is one",
                where="learner bandit",
                mend="Use text_vector for texts.",
            )
        found[name] = torch.from_numpy(np.ascontiguousarray(feature[rows]))
    return found
