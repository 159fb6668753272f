"""A bag of n-gram embeddings: texts in milliseconds, after Joulin et al. (2016), https://arxiv.org/abs/1607.01759."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidemill.features._base import FeatureInfo
from tidemill.networks._base import check_shares, check_sizes, needed


class Ngram(nn.Module):
    """The weighted sum of the embeddings of a text's n-grams, perhaps a hidden layer, then a linear layer.

    The table gives sparse gradients, so a step costs what its texts' n-grams cost, however many there could be.

    Args:
        info: holds ``ngrams``, sparse ``[d]``.
        classes: number of logits.
        size: dimensions of an embedding.
        hidden: width of a layer with relu behind the sum; 0 for none, which makes the network linear.
        dropout: share of the n-grams left out of a text while training; the others weigh the more.

    Raises:
        TrainingError: there are no n-grams among the features, or a size is out of range.
    """

    def __init__(
        self, info: Mapping[str, FeatureInfo], classes: int, size: int = 32, hidden: int = 0, dropout: float = 0.3
    ) -> None:
        super().__init__()
        ngrams = needed(info, "ngrams", "ngram", "ngrams")
        check_sizes("ngram", 1, size=size)
        check_sizes("ngram", 0, hidden=hidden)
        check_shares("ngram", dropout=dropout)
        self.dropout = dropout
        self.table = nn.EmbeddingBag(ngrams.shape[0], size, mode="sum", sparse=True)
        nn.init.uniform_(self.table.weight, -1 / size, 1 / size)
        self.bias = nn.Parameter(torch.zeros(size))
        self.layers = nn.Sequential()
        if hidden:
            self.layers.extend([nn.ReLU(), nn.Linear(size, hidden), nn.ReLU()])
        self.layers.append(nn.Linear(hidden or size, classes))

    def forward(self, ngrams: Tensor, ngrams_values: Tensor, ngrams_offsets: Tensor, **_: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of int64 ``[nnz]``, float32 ``[nnz]`` and the rows' starts, int64 ``[n]``."""
        values = functional.dropout(ngrams_values, self.dropout, self.training)
        out: Tensor = self.layers(self.table(ngrams, ngrams_offsets, values) + self.bias)
        return out
