"""A small Transformer encoder for texts, trained from scratch.

Attention after Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, with normalisation before each part (Xiong et
al., 2020, https://arxiv.org/abs/2002.04745) and rotary positions (Su et al., 2021, https://arxiv.org/abs/2104.09864).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks._base import check_shares, check_sizes, needed

BASE = 10_000.0
"""The slowest rotary frequency turns once in about so many tokens."""


class Attention(nn.Module):
    """Multi-head self-attention in which padding is never looked at.

    Args:
        width: of the tokens' vectors.
        heads: they share the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, value: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """``[n, length, width]``; *mask* bool ``[n, 1, 1, length]`` is true where a token may be looked at."""
        n, length, width = value.shape
        parts = self.project(value).view(n, length, 3, self.heads, width // self.heads)
        query, key, content = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(
            rotate(query, cosine, sine), rotate(key, cosine, sine), content, attn_mask=mask
        )
        out: Tensor = self.out(seen.transpose(1, 2).reshape(n, length, width))
        return out


class RowDropout(nn.Module):
    """Silences the same dimensions in all tokens of a text (Gal and Ghahramani, 2016, https://arxiv.org/abs/1512.05287).

    It draws one random number for each dimension of a text and not of each token, which took an eighth of a step.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, value: Tensor) -> Tensor:
        """``[n, length, width]`` to the same."""
        if not self.training or not self.share:
            return value
        ones = value.new_ones(value.shape[0], 1, value.shape[2])
        return value * functional.dropout(ones, self.share)


class Block(nn.Module):
    """Attention, then two dense layers with GELU between them; each normalises what it reads and adds what it finds."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.between = nn.LayerNorm(width)
        self.wide = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = RowDropout(dropout)

    def forward(self, value: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """``[n, length, width]`` to the same."""
        value = value + self.dropout(self.attention(self.before(value), mask, cosine, sine))
        inner = functional.gelu(self.wide(self.between(value)))
        out: Tensor = value + self.dropout(self.narrow(self.dropout(inner)))
        return out


class Transformer(nn.Module):
    """Embedded tokens, blocks of attention, the mean of both over a text's tokens, a linear layer.

    The last layer also sees the mean of the embeddings as they are: a bag of tokens learns from few texts.

    Padding may be of any length: it is neither looked at nor counted. A text without a token has scores like any other.

    Args:
        info: holds ``tokens``, int32 ``[length]`` with 0 for padding; ``meta["vocabulary"]`` ids.
        classes: number of logits.
        width: of a token's vector; a multiple of twice *heads*.
        layers: number of blocks.
        heads: of each attention; by default one for 32 dimensions.
        hidden: width between a block's dense layers; by default twice *width*.
        dropout: share of values silenced in and behind every part while training.
        token_dropout: share of a text's tokens that are neither looked at nor counted while training.

    Raises:
        TrainingError: there are no tokens among the features, a size is out of range, or the heads do not share the
            width evenly.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(
        self,
        info: Mapping[str, FeatureInfo],
        classes: int,
        width: int = 128,
        layers: int = 2,
        heads: int | None = None,
        hidden: int | None = None,
        dropout: float = 0.1,
        token_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        tokens = needed(info, "tokens", "transformer", "bpe")
        check_sizes("transformer", 1, width=width)
        heads = max(1, width // 32) if heads is None else heads
        hidden = 2 * width if hidden is None else hidden
        check_sizes("transformer", 1, heads=heads, hidden=hidden)
        check_sizes("transformer", 0, layers=layers)
        check_shares("transformer", dropout=dropout, token_dropout=token_dropout)
        if width % (2 * heads):
            raise TrainingError(
                f"{heads} heads do not share a width of {width} evenly, in pairs",
                where="network",
                mend=f"Use a width that is a multiple of {2 * heads}.",
            )
        self.token_dropout = token_dropout
        self.embedding = nn.Embedding(int(tokens.meta["vocabulary"]), width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = RowDropout(dropout)
        self.last = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)
        half = width // heads // 2
        angle = torch.arange(tokens.shape[0])[:, None] * BASE ** (-torch.arange(half) / half)
        # they follow from the sizes, so they are no part of the weights
        self.register_buffer("cosine", angle.cos(), persistent=False)
        self.register_buffer("sine", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor, **_: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of int32 ``[n, length]``."""
        counted = tokens != 0
        if self.training and self.token_dropout:
            counted = counted & (torch.rand(tokens.shape, device=tokens.device) >= self.token_dropout)
        length = tokens.shape[1]
        # the first place may always be looked at: a text without tokens shall not divide by zero
        first = torch.arange(length, device=tokens.device) == 0
        mask = (counted | first)[:, None, None, :]
        bag = self.embedding(tokens)
        value = self.dropout(bag)
        for block in self.blocks:
            value = block(value, mask, self.cosine[:length], self.sine[:length])
        weight = counted[:, :, None].to(value.dtype)
        both = torch.cat([self.norm(value), bag], dim=2)
        mean = (both * weight).sum(1) / weight.sum(1).clamp(min=1)
        out: Tensor = self.head(self.last(mean))
        return out


def rotate(value: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of dimensions ``(i, i + half)`` by its place's angle; ``[..., length, dimensions]``."""
    one, other = value.chunk(2, dim=-1)
    return torch.cat([one * cosine - other * sine, one * sine + other * cosine], dim=-1)
