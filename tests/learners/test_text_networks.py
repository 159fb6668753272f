"""The gradient learner on texts: it learns real ones, exports what it scores, resumes and repeats to the bit."""

from __future__ import annotations

import csv
import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tidemill.data.arrays import Columns, Ragged
from tidemill.features._base import Sparse
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._scoring import log_loss
from tidemill.learners.gradient import GradientLearner, GradientModel, merge, state
from tidemill.learners.gradient.batches import Batches
from tidemill.networks.inputs import token_counts
from tidemill.packages.graph import open_graph, tensors
from tidemill.packages.weights import open_network

NGRAM = {"name": "ngram"}
DEEP_NGRAM = {"name": "ngram", "size": 16, "hidden": 8}
SMALL = {"name": "transformer", "width": 32, "layers": 1}
HEADS = {"name": "transformer", "width": 24, "layers": 2, "heads": 3, "hidden": 40}
NETWORKS = [NGRAM, DEEP_NGRAM, SMALL, HEADS]
KINDS = ["classification", "multilabel", "regression"]

Texts = list[tuple[str, int]]


@pytest.fixture(scope="module")
def messages(data_dir: Path) -> Texts:
    """600 messages and whether they are spam, with some that are hardly texts."""
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").split("\n")[:600]
    pairs = [line.split("\t", 1) for line in lines]
    found = [(text, int(label == "spam")) for label, text in pairs]
    return [*found[:-4], ("", 0), ("   ", 0), ("🌊" * 30, 0), ("mill " * 5000, 0)]


@pytest.fixture(scope="module")
def reviews(data_dir: Path) -> Texts:
    """600 reviews of hotels, Chinese without blanks, and whether they praise."""
    with (data_dir / "chnsenticorp-htl" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    order = np.random.default_rng(0).permutation(len(rows))[:600]
    return [(rows[i]["review"], int(rows[i]["label"])) for i in order]


@cache
def features(step: str, texts: tuple[str, ...], columns: int, train: int) -> Any:
    names = ["text", "more"][:columns]
    spec = {"step": step, "columns": names} | ({"max_length": 32} if step == "bpe" else {})
    pipeline = Pipeline([spec], None)

    def part(rows: slice) -> Columns:
        return {name: Ragged.from_strings(texts[rows][:: 1 - 2 * i]) for i, name in enumerate(names)}

    pipeline.fit([part(slice(train))])
    return pipeline.info(), pipeline.transform(part(slice(None)))


def problem(
    texts: Texts, network: dict[str, Any], kind: str = "classification", train: int = 400, columns: int = 1
) -> Problem:
    """Is it spam; is it spam, is it long, does it ask; or how long is it (in powers of e)."""
    step = {"ngram": "ngrams", "transformer": "bpe"}[network["name"]]
    info, arrays = features(step, tuple(text for text, _ in texts), columns, train)
    code = np.array([label for _, label in texts], np.int64)
    target: np.ndarray = code
    if kind == "multilabel":
        longer, asks = [len(text) > 80 for text, _ in texts], ["?" in text for text, _ in texts]
        target = np.stack([code, longer, asks], 1).astype(np.uint8)
    elif kind == "regression":
        target = np.array([np.log1p(len(text)) for text, _ in texts], np.float32)
    classes = {"classification": 2, "multilabel": 3, "regression": 1}[kind]
    return Problem(kind=kind, features=arrays, info=info, target=target, train=train, classes=classes)  # type: ignore[arg-type]


def fit(given: Problem, network: dict[str, Any], params: dict[str, Any] | None = None, **context: Any) -> GradientModel:
    return GradientLearner().fit(
        given, RecipeView(network=network, params=params or {}), Context(**{"device": "cpu"} | context)
    )


def rows_of(given: Problem, rows: slice | np.ndarray) -> dict[str, Any]:
    return {name: array[rows] for name, array in given.features.items()}


def cut(given: Problem, rows: np.ndarray, train: int) -> Problem:
    weight = None if given.weight is None else given.weight[rows]
    return dataclasses.replace(
        given, features=rows_of(given, rows), target=given.target[rows], weight=weight, train=train
    )


def bits(model: GradientModel) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.network.state_dict().items()}


@pytest.mark.parametrize(("kind", "columns"), [("classification", 2), ("multilabel", 1), ("regression", 1)])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: "-".join(map(str, n.values())))
def test_the_graph_and_the_weights_score_as_the_network_does(
    messages: Texts, network: dict[str, Any], kind: str, columns: int
) -> None:
    given = problem(messages, network, kind, columns=columns)
    model = fit(cut(given, np.arange(200), 150), network, {"epochs": 1, "learning_rate": 0.02})
    export = model.export()
    assert export.onnx is not None and export.tensors is not None and export.network is not None
    session = open_graph(export.onnx, given.info)
    names = [node.name for node in session.get_inputs()]
    width = {"classification": 2, "multilabel": 3, "regression": 3}[kind]

    def graph(rows: slice | np.ndarray) -> np.ndarray:
        out: np.ndarray = session.run(["scores"], tensors(rows_of(given, rows), names))[0]
        return out

    ours = model.scores(given.features)
    assert ours.shape == (600, width) and ours.dtype == np.float32 and np.isfinite(ours).all()
    assert ours.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(graph(slice(500, None)), ours[500:], atol=2e-5)
    for row in (0, 1, 399, 596, 597, 598, 599):  # the last ones are empty, blank, emoji, and very long
        np.testing.assert_allclose(graph(slice(row, row + 1))[0], ours[row], atol=2e-5)
    np.testing.assert_allclose(graph(np.array([596, 596])), ours[[596, 596]], atol=2e-5)
    assert graph(slice(0, 0)).shape == (0, width)
    rebuilt = open_network(export.network, export.tensors, given.info, given.classes)
    np.testing.assert_allclose(rebuilt(rows_of(given, slice(500, None))), ours[500:], atol=2e-5)


@pytest.mark.parametrize("network", [NGRAM, SMALL], ids=lambda n: n["name"])
@pytest.mark.parametrize("which", ["messages", "reviews"])
def test_it_learns_real_texts_from_four_hundred(
    request: pytest.FixtureRequest, network: dict[str, Any], which: str
) -> None:
    texts: Texts = request.getfixturevalue(which)
    given = problem(texts, network)
    model = fit(given, network, {"epochs": 12})
    held = given.target[500:]
    right = (model.scores(rows_of(given, slice(500, None))).argmax(axis=1) == held).mean()
    majority = np.bincount(given.target).argmax()
    assert right > (held == majority).mean() + {"messages": 0.06, "reviews": 0.05}[which]
    assert model.summary["best_epoch"] and model.summary["epochs"] == 12


@pytest.mark.parametrize("network", [NGRAM, SMALL], ids=lambda n: n["name"])
def test_several_labels_are_learned_each(messages: Texts, network: dict[str, Any]) -> None:
    given = problem(messages, network, "multilabel")
    model = fit(given, network, {"epochs": 10, "learning_rate": 0.005})
    held = given.target[400:]
    right = ((model.scores(rows_of(given, slice(400, None))) > 0) == held).mean(axis=0)
    always = np.maximum(held.mean(axis=0), 1 - held.mean(axis=0))
    assert (right > always - 0.01).all() and (right[:2] > always[:2] + 0.04).all()


@pytest.mark.parametrize("network", [NGRAM, SMALL], ids=lambda n: n["name"])
def test_a_number_is_learned_with_an_interval(messages: Texts, network: dict[str, Any]) -> None:
    given = problem(messages, network, "regression")
    model = fit(given, network, {"epochs": 12})
    ordinary = np.arange(400, 596)
    scores, held = model.scores(rows_of(given, ordinary)), given.target[ordinary]
    assert np.square(scores[:, 0] - held).mean() < 0.9 * held.var()
    assert (scores[:, 1] <= scores[:, 0]).all() and (scores[:, 0] <= scores[:, 2]).all()
    taught = model.scores(rows_of(given, slice(0, 400)))
    inside = (taught[:, 1] <= given.target[:400]) & (given.target[:400] <= taught[:, 2])
    assert inside.mean() > 0.5


class Killed(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize(
    ("network", "kind", "params"),
    [
        (NGRAM, "classification", {}),
        (DEEP_NGRAM, "regression", {"average": 0.2}),
        (SMALL, "classification", {}),
        (SMALL, "multilabel", {"optimizer": "sgd"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wherever_a_training_ends_it_resumes_to_the_same_bits(
    messages: Texts, tmp_path: Path, network: dict[str, Any], kind: str, params: dict[str, Any]
) -> None:
    given = cut(problem(messages, network, kind), np.arange(120), 100)
    given = dataclasses.replace(given, weight=np.linspace(0.5, 2, 120).astype(np.float32))
    params = params | {"epochs": 3, "batch_size": 32, "checkpoint_seconds": 0.0}  # three steps an epoch
    whole, written = bits(fit(given, network, params)), state.write_checkpoint
    for stop in (1, 2, 3, 5, 6):
        left = stop

        def stop_after(*arguments: Any) -> None:
            nonlocal left
            written(*arguments)
            left -= 1
            if left == 0:
                raise Killed

        folder = tmp_path / str(stop)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr("tidemill.learners.gradient.learner.write_checkpoint", stop_after)
            fit(given, network, params, workdir=folder)
        torch.rand(7)  # whoever else draws meanwhile
        again = fit(given, network, params, workdir=folder)
        assert again.summary["resumed"] and bits(again) == whole


def test_a_training_with_other_weights_or_features_is_not_resumed(messages: Texts, tmp_path: Path) -> None:
    given = cut(problem(messages, NGRAM), np.arange(80), 60)
    weighted = dataclasses.replace(given, weight=np.linspace(1, 2, 80).astype(np.float32))
    fit(weighted, NGRAM, {"epochs": 1}, workdir=tmp_path)
    assert fit(weighted, NGRAM, {"epochs": 1}, workdir=tmp_path).summary["resumed"]
    other = dataclasses.replace(given, weight=np.linspace(1, 3, 80).astype(np.float32))
    assert not fit(other, NGRAM, {"epochs": 1}, workdir=tmp_path).summary["resumed"]
    wider = cut(problem(messages, NGRAM, columns=2), np.arange(80), 60)
    assert not fit(wider, NGRAM, {"epochs": 1}, workdir=tmp_path).summary["resumed"]


@pytest.mark.parametrize("network", [NGRAM, SMALL], ids=lambda n: n["name"])
def test_a_seed_decides_everything_and_nobody_elses_draws_do(messages: Texts, network: dict[str, Any]) -> None:
    given = cut(problem(messages, network), np.arange(200), 150)
    torch.manual_seed(5)
    one = bits(fit(given, network, seed=1, max_epochs=2))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))  # the fit left the caller's generator as it was
    assert bits(fit(given, network, seed=1, max_epochs=2)) == one
    assert bits(fit(given, network, seed=2, max_epochs=2)) != one


@pytest.mark.parametrize("network", [NGRAM, SMALL], ids=lambda n: n["name"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_weight_zero_train_as_if_they_were_not_there(
    messages: Texts, network: dict[str, Any], kind: str
) -> None:
    rows = np.arange(160)
    silent = (rows % 5 == 2) & (rows < 120)
    whole = cut(problem(messages, network, kind), rows, 120)
    whole = dataclasses.replace(whole, weight=np.where(silent, 0, 1 + rows % 3).astype(np.float32))
    given = cut(whole, rows[~silent], int((~silent[:120]).sum()))
    params = {"epochs": 2, "batch_size": 32} | ({"class_weight": "balanced"} if kind == "classification" else {})
    assert bits(fit(whole, network, params)) == bits(fit(given, network, params))


@pytest.mark.parametrize("network", [NGRAM | {"dropout": 0.0}, SMALL | {"dropout": 0.0, "token_dropout": 0.0}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_three_is_three_rows(messages: Texts, network: dict[str, Any], kind: str) -> None:
    rows = np.arange(40)
    times = np.where(rows % 4 == 0, 3, 1)
    base = cut(problem(messages, network, kind), rows, 40)
    weighted = dataclasses.replace(base, weight=times.astype(np.float32))
    repeated = cut(base, np.repeat(rows, times), int(times.sum()))
    scores = []
    for given in (weighted, repeated):  # each step sees all rows, so that their order does not matter
        params = {"epochs": 4, "batch_size": given.train, "optimizer": "sgd", "learning_rate": 0.02}
        scores.append(fit(given, network, params).scores(base.features))
    plain = fit(base, network, {"epochs": 4, "batch_size": 40, "optimizer": "sgd", "learning_rate": 0.02})
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-4)
    assert np.abs(plain.scores(base.features) - scores[0]).max() > 1e-3


@pytest.mark.parametrize("network", [NGRAM, SMALL], ids=lambda n: n["name"])
def test_a_refit_takes_all_rows_and_stops_where_validation_had_stopped(
    messages: Texts, network: dict[str, Any]
) -> None:
    given = problem(messages, network)
    params = {"epochs": 10, "learning_rate": 0.02}  # so fast that it is best before the end
    first = fit(given, network, params)
    best, chosen = first.summary["best_epoch"], first.summary["chosen"]
    assert chosen["epochs"] == 10 and chosen["stop"] == (best if best < 10 else None)
    heard: list[dict[str, float]] = []
    every = cut(given, np.arange(500), 500)
    settings = params | chosen | {"stop": 4, "patience": 2}
    model = fit(every, network, settings, report=lambda _epoch, metrics: heard.append(metrics))
    assert model.summary["epochs"] == 4 and model.summary["best_epoch"] is None
    assert model.summary["chosen"] == chosen | {"stop": 4}  # a refit of the refit would do the same
    assert len(heard) == 4 and all("validation_loss" not in metrics for metrics in heard)
    held = given.target[500:]
    assert (model.scores(rows_of(given, slice(500, None))).argmax(axis=1) == held).mean() > (held == 0).mean() + 0.04


def test_local_updates_of_texts_merge(messages: Texts) -> None:
    for network in (NGRAM, SMALL):
        given = problem(messages, network)
        recipe = RecipeView(network=network, params={"epochs": 4, "learning_rate": 0.01})
        trainer = GradientLearner().trainer(given, recipe, Context(device="cpu"))
        now = trainer.state()
        for _ in range(2):
            arrays = [
                rows_of(given, part) | {"target": given.target[part]} for part in (slice(0, 200), slice(200, 400))
            ]
            now = merge([trainer.local_update(now, one, 20, batch_size=20) for one in arrays], [200, 200])
        assert now.counters["step"] == 40
        trainer.load(now)
        scores, held = trainer.scores(given.features, slice(400, 600)), given.target[400:]
        share = (given.target[:400] == 1).mean()
        assert log_loss(scores, held) < 0.8 * log_loss(np.log([[1 - share, share]] * 200), held)


def batches(given: Problem, size: int, chosen: np.ndarray | None = None) -> Batches:
    rows = given.train if chosen is None else len(chosen)
    ids = np.arange(len(given.target))  # each row's number stands where its target would
    return Batches(given.features, ids, None, rows, size, 3, torch.device("cpu"), chosen=chosen)


def test_texts_of_a_length_share_a_batch_and_every_row_has_its_turn(messages: Texts) -> None:
    given = problem(messages, SMALL)
    tokens = np.asarray(given.features["tokens"])
    every = batches(given, 32)
    seen, widths, spread = [], [], []
    for batch in every.epoch(0):
        rows = batch.target.numpy()
        counts = token_counts(tokens[rows])
        assert batch.features["tokens"].shape == (32, max(counts.max(), 1))
        np.testing.assert_array_equal(batch.features["tokens"].numpy(), tokens[rows, : max(counts.max(), 1)])
        seen += rows.tolist()
        widths.append(int(counts.max()))
        spread.append(float(counts.std()))
    assert len(seen) == len(set(seen)) == 384 and max(seen) < 400  # what fills no batch waits for another order
    assert np.mean(spread) < 0.4 * token_counts(tokens[:400]).std()
    assert widths != sorted(widths) and widths != sorted(widths)[::-1]
    later = [batch.target.tolist() for batch in every.epoch(0, 5)]
    assert later == [seen[i : i + 32] for i in range(160, 384, 32)]
    assert next(every.epoch(1)).target.tolist() != seen[:32]
    left_out = set(range(400)) - set(seen)
    assert left_out & {int(row) for number in range(1, 4) for b in every.epoch(number) for row in b.target}


def test_batches_of_ngrams_are_their_rows(messages: Texts) -> None:
    given = problem(messages, NGRAM)
    rows = given.features["ngrams"]
    assert isinstance(rows, Sparse)
    chosen = np.flatnonzero(np.arange(400) % 3 > 0)
    seen = []
    for batch in batches(given, 50, chosen).epoch(2):
        parts = {name: tensor.numpy() for name, tensor in batch.features.items()}
        offsets = np.append(parts["ngrams_offsets"], len(parts["ngrams"]))
        got = Sparse(parts["ngrams"].astype(np.int32), parts["ngrams_values"], offsets, rows.width).to_scipy()
        assert (got != rows.to_scipy()[batch.target.numpy()]).nnz == 0
        seen += batch.target.tolist()
    assert len(set(seen)) == len(seen) == 250 and set(seen) <= set(chosen.tolist())
