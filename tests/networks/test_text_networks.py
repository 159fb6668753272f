"""The networks for texts and numbers: what they compute, what padding and order do, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Sparse
from tidemill.networks import build_network
from tidemill.networks.inputs import network_inputs, token_counts
from tidemill.networks.mlp import Piecewise
from tidemill.networks.ngram import Ngram
from tidemill.networks.transformer import Attention, RowDropout, Transformer, rotate

TOKENS = {"tokens": FeatureInfo("int32", (12,), {"vocabulary": 40, "pad": 0})}
NUMBERS = {"x": FeatureInfo("float32", (3,))}
IMAGES = {"image": FeatureInfo("uint8", (8, 8, 1), {})}
NGRAMS = {"ngrams": FeatureInfo("sparse", (30,))}
ROWS = [[5, 6, 7, 8, 9], [9, 8, 7, 6, 5], [3], [], [11, 1, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]]


def padded(rows: list[list[int]] = ROWS, length: int = 12) -> torch.Tensor:
    return torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.int32)


def transformer(**arguments: Any) -> Transformer:
    torch.manual_seed(0)
    network = build_network({"name": "transformer", "width": 16, "heads": 2, **arguments}, TOKENS, 3)
    assert isinstance(network, Transformer)
    with torch.no_grad():  # biases and normalisation start at 0 and 1, where a mistake would not show
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 4)
    return network.eval()


def sparse(rows: list[dict[int, float]], width: int = 30) -> Sparse:
    indices = np.array([i for row in rows for i in row], np.int32)
    values = np.array([v for row in rows for v in row.values()], np.float32)
    return Sparse(indices, values, np.cumsum([0, *map(len, rows)]).astype(np.int64), width)


def normalised(layer: torch.nn.LayerNorm, value: np.ndarray) -> np.ndarray:
    scaled = (value - value.mean(-1, keepdims=True)) / np.sqrt(value.var(-1, keepdims=True) + layer.eps)
    return np.asarray(scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy())


def turned(value: np.ndarray, place: int) -> np.ndarray:
    """One head's vector at a place, pair by pair as complex numbers (Su et al., 2021)."""
    half = len(value) // 2
    angles = place * 10_000.0 ** (-np.arange(half) / half)
    pairs = (value[:half] + 1j * value[half:]) * np.exp(1j * angles)
    return np.concatenate([pairs.real, pairs.imag])


@pytest.mark.parametrize("ids", [ROWS[0], ROWS[2], ROWS[4]], ids=len)
@torch.no_grad()
def test_the_transformer_computes_what_is_published(ids: list[int]) -> None:
    """One text, token by token in float64: rotary attention, two dense layers with GELU, the mean beside the bag's."""
    network = transformer(layers=2)
    bag = network.embedding.weight.numpy().astype(np.float64)[ids]
    value = bag
    for block in network.blocks:
        read = normalised(block.before, value)
        query, key, content = np.split(read @ block.attention.project.weight.numpy().T.astype(np.float64), 3, axis=1)
        seen = []
        for head in np.split(np.arange(16), 2):
            q, k = ([turned(rows[i, head], i) for i in range(len(ids))] for rows in (query, key))
            weights = softmax(np.array(q) @ np.array(k).T / np.sqrt(8), axis=1)
            seen.append(weights @ content[:, head])
        value = value + np.concatenate(seen, axis=1) @ block.attention.out.weight.numpy().T
        wide = normalised(block.between, value) @ block.wide.weight.numpy().T + block.wide.bias.numpy()
        bent = wide * (1 + erf(wide / np.sqrt(2))) / 2
        value = value + bent @ block.narrow.weight.numpy().T + block.narrow.bias.numpy()
    mean = np.concatenate([normalised(network.norm, value), bag], axis=1).mean(axis=0)
    expected = network.head.weight.numpy() @ mean + network.head.bias.numpy()
    np.testing.assert_allclose(network(tokens=padded([ids]))[0].numpy(), expected, atol=1e-5)


@torch.no_grad()
def test_padding_says_nothing_and_neighbours_do_not_either() -> None:
    network = transformer()
    together = network(tokens=padded())
    assert torch.isfinite(together).all()  # also of the text without a token
    for row, ids in enumerate(ROWS):
        for length in {max(len(ids), 1), 12}:
            alone = network(tokens=padded([ids], length))
            assert torch.allclose(alone[0], together[row], atol=1e-5)


@torch.no_grad()
def test_order_counts_in_blocks_and_not_in_the_bag() -> None:
    forward, backward = transformer()(tokens=padded())[:2]
    assert not torch.allclose(forward, backward, atol=1e-3)
    bag = transformer(layers=0)(tokens=padded())
    assert torch.allclose(bag[0], bag[1], atol=1e-5)


def test_a_text_without_tokens_learns_without_a_nan() -> None:
    network = transformer().train()
    for _ in range(20):  # any share of the tokens may be left out
        network(tokens=padded([[3], [], [4, 5]])).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert network.embedding.weight.grad is not None and not network.embedding.weight.grad[6:].any()


@torch.no_grad()
def test_tokens_are_left_out_in_training_alone() -> None:
    network = transformer(dropout=0.0, token_dropout=0.5)
    assert torch.equal(network(tokens=padded()), network(tokens=padded()))
    network.train()
    assert not torch.equal(network(tokens=padded()), network(tokens=padded()))
    torch.manual_seed(1)
    network.token_dropout = 0.0
    assert torch.equal(network(tokens=padded()), network(tokens=padded()))


def test_row_dropout_silences_whole_dimensions_of_a_text() -> None:
    torch.manual_seed(0)
    layer, ones = RowDropout(0.25), torch.ones(400, 5, 64)
    out = layer(ones)
    assert torch.equal(out, out[:, :1].expand_as(out))  # alike in all tokens, not in all texts
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(out.mean()) == pytest.approx(1, abs=0.02) and not torch.equal(out[0], out[1])
    assert layer.eval()(ones) is ones and RowDropout(0.0)(ones) is ones


def test_turned_products_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 8)
    angle = torch.arange(30)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)
    q, k = (rotate(one.expand(30, 8), angle.cos(), angle.sin()) for one in (query, key))
    products = q @ k.T
    for distance in (0, 1, 7):
        line = products.diagonal(distance)
        assert torch.allclose(line, line[:1].expand_as(line), atol=1e-4)
    assert torch.allclose(q.norm(dim=1), query.norm().expand(30), atol=1e-5)


@torch.no_grad()
def test_attention_never_looks_at_what_is_masked() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2)
    value, mask = torch.randn(1, 4, 8), torch.tensor([[[[True, True, False, True]]]])
    still = torch.ones(4, 2), torch.zeros(4, 2)
    before = layer(value, mask, *still)
    value[0, 2] = 100.0
    after = layer(value, mask, *still)
    kept = [0, 1, 3]
    assert torch.allclose(before[0, kept], after[0, kept], atol=1e-6)


@pytest.mark.parametrize("hidden", [0, 7])
@torch.no_grad()
def test_the_ngram_network_is_a_weighted_sum_of_a_table(hidden: int) -> None:
    torch.manual_seed(0)
    network = build_network({"name": "ngram", "size": 5, "hidden": hidden}, NGRAMS, 2).eval()
    assert isinstance(network, Ngram)
    network.bias.copy_(torch.randn(5))
    rows = sparse([{3: 0.5, 29: -2.0}, {}, {0: 1.0}, {}])
    out = network(**network_inputs({"ngrams": rows}, slice(None)))
    total = torch.from_numpy(rows.to_scipy().toarray()) @ network.table.weight + network.bias
    assert torch.allclose(out, network.layers(total), atol=1e-6)
    assert torch.equal(out[1], out[3])


def test_ngrams_are_left_out_in_training_alone_and_only_seen_ones_learn() -> None:
    torch.manual_seed(0)
    network = build_network({"name": "ngram", "dropout": 0.5}, NGRAMS, 2)
    inputs = network_inputs({"ngrams": sparse([dict.fromkeys(range(20), 1.0), {21: 1.0}])}, slice(None))
    assert not torch.equal(network(**inputs), network(**inputs))
    network.eval()
    assert torch.equal(network(**inputs), network(**inputs))
    network(**inputs).sum().backward()
    gradient = network.get_parameter("table.weight").grad
    assert gradient is not None and gradient.is_sparse
    assert gradient.coalesce().indices()[0].tolist() == [*range(20), 21]


@pytest.mark.parametrize(
    ("spec", "info", "said"),
    [
        ({"name": "transformer"}, NGRAMS, "bpe"),
        ({"name": "ngram"}, TOKENS, "ngrams"),
        ({"name": "mlp"}, TOKENS, "numbers"),
        ({"name": "transformer", "width": 20, "heads": 3}, TOKENS, "multiple of 6"),
        ({"name": "transformer", "widht": 20}, TOKENS, "widht"),
        ({"name": "transformer", "width": 0}, TOKENS, "width of the network 'transformer' is 0"),
        ({"name": "transformer", "width": 16.0}, TOKENS, "width of .* is 16.0"),
        ({"name": "transformer", "heads": 0}, TOKENS, "heads of .* is 0"),
        ({"name": "transformer", "layers": -1}, TOKENS, "layers of .* is -1"),
        ({"name": "transformer", "token_dropout": 1}, TOKENS, "token_dropout of .* is 1"),
        ({"name": "ngram", "size": "8"}, NGRAMS, "size of .* is '8'"),
        ({"name": "ngram", "dropout": -0.1}, NGRAMS, "dropout of .* is -0.1"),
        ({"name": "mlp", "hidden": [8, 0]}, NUMBERS, "hidden of .* is 0"),
        ({"name": "mlp", "hidden": 8}, NUMBERS, "does not take these arguments"),
        ({"name": "mlp", "bins": -1}, NUMBERS, "bins of .* is -1"),
        ({"name": "mlp", "dropout": 2.0}, NUMBERS, "dropout of .* is 2.0"),
        ({"name": "cnn", "width": 1}, IMAGES, "width of .* is 1"),
    ],
)
def test_what_does_not_fit_is_said(spec: dict[str, Any], info: dict[str, FeatureInfo], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        build_network(spec, info, 2)


def test_inputs_are_cut_to_the_longest_row() -> None:
    tokens = padded().numpy()
    assert token_counts(tokens).tolist() == [5, 5, 1, 0, 12]
    assert token_counts(np.array([[0, 7, 0]])).tolist() == [2]  # a hole is no end
    assert network_inputs({"tokens": tokens}, slice(0, 3))["tokens"].shape == (3, 5)
    assert network_inputs({"tokens": tokens}, slice(3, 4))["tokens"].shape == (1, 1)
    assert network_inputs({"tokens": tokens}, slice(2, 2))["tokens"].shape == (0, 1)
    rows = sparse([{1: 1.0}, {}, {2: 3.0, 4: 5.0}])
    inputs = {name: tensor.tolist() for name, tensor in network_inputs({"ngrams": rows}, slice(1, 3)).items()}
    assert inputs == {"ngrams": [2, 4], "ngrams_values": [3.0, 5.0], "ngrams_offsets": [0, 0]}


def test_numbers_are_encoded_by_how_far_they_are_through_quantile_bins() -> None:
    random = np.random.default_rng(0)
    x = np.stack([random.exponential(size=500), np.repeat([0.0, 0.0, 0.0, 2.0, 9.0], 100)], 1).astype(np.float32)
    layer = Piecewise(2, 4)
    layer.fit(torch.from_numpy(x))
    new = np.concatenate([x[::50], [[-1.0, -1.0], [99.0, 99.0], [0.0, 1.0]]]).astype(np.float32)
    edges = np.quantile(x.astype(np.float64), np.linspace(0, 1, 5), axis=0)
    columns = []
    for column in (0, 1):
        for low, high in zip(edges[:-1, column], edges[1:, column], strict=True):
            share = np.interp(new[:, column], [low, high], [0, 1]) if high > low else np.zeros(len(new))
            columns.append(share)
    np.testing.assert_allclose(layer(torch.from_numpy(new)).numpy(), np.stack(columns, 1), atol=1e-5)


def test_an_interval_never_crosses_its_value_nor_pulls_at_it() -> None:
    info = {"x": FeatureInfo("float32", (3,))}
    spec = {"name": "mlp", "hidden": [], "output": {"mean": 50.0, "std": 10.0, "interval": True}}
    torch.manual_seed(0)
    network = build_network(spec, info, 1)
    out = network(x=torch.randn(200, 3) * 30)
    assert out.shape == (200, 3) and (out[:, 1] <= out[:, 0]).all() and (out[:, 0] <= out[:, 2]).all()
    out[:, 1:].sum().backward()
    weight = network.get_parameter("network.layers.0.weight").grad
    assert weight is not None and not weight[0].any() and weight[1:].any(dim=1).all()
