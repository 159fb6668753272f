"""AdamW and SGD as one fused kernel a step.

The kernels are those of ``torch.optim``; its classes are left out because making one imports torch's compiler, which
takes longer than training on a thousand digits does, and because each of their steps costs a tenth of a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.99)
EPSILON = 1e-8
MOMENTUM = 0.9
SPARSE_RATE = 10.0
"""How much faster tables of which a step touches few rows learn: each row is seen seldom."""


@dataclass(slots=True)
class Group:
    """Parameters with one weight decay and one factor on the learning rate, and their moments.

    First and second moments for AdamW, one for SGD.
    """

    names: list[str]
    parameters: list[Tensor]
    decay: float
    first: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)
    factor: float = 1.0


@dataclass(slots=True)
class Table:
    """An embedding of which a step touches few rows, and each row's sum of mean squared gradients, ``[rows]``."""

    name: str
    parameter: Tensor
    squares: Tensor


class Optimizer:
    """AdamW (https://arxiv.org/abs/1711.05101), or SGD with Nesterov momentum, over a network's parameters.

    Embeddings made with ``sparse=True`` learn by row-wise AdaGrad (Duchi et al., 2011) on the rows that a step touches:
    a step costs what its rows cost, however large the table is.

    Args:
        network: on its device already.
        kind: ``adamw`` or ``sgd``.
        decay: weight decay of matrices and filters; biases and normalisation have none.
        factors: what a parameter's learning rate is multiplied by, by name; 1 unless given.
    """

    def __init__(self, network: nn.Module, kind: str, decay: float, factors: Mapping[str, float] | None = None) -> None:
        self.kind = kind
        tables = sparse_tables(network)
        self.tables = [Table(name, p, torch.zeros_like(p[:, 0])) for name, p in tables.items() if p.requires_grad]
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad and name not in tables]
        self.groups = []
        factor_of = {name: (factors or {}).get(name, 1.0) for name, _ in named}
        for matrices, factor in product((True, False), sorted(set(factor_of.values()))):
            chosen = [(name, p) for name, p in named if (p.ndim > 1) == matrices and factor_of[name] == factor]
            if not chosen:
                continue
            group = Group([name for name, _ in chosen], [p for _, p in chosen], decay if matrices else 0.0)
            group.factor = factor
            group.first = [torch.zeros_like(p) for p in group.parameters]
            group.second = [torch.zeros_like(p) for p in group.parameters] if kind == "adamw" else []
            self.groups.append(group)
        device = self.groups[0].parameters[0].device if self.groups else None
        self.count = torch.zeros((), device=device)  # float32, as the fused kernel reads it

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change every parameter that has a gradient, and drop the gradients."""
        self.count += 1
        for table in self.tables:
            _touch(table, rate * SPARSE_RATE)
        for group in self.groups:
            parameters, first, second = group.parameters, group.first, group.second
            gradients = [p.grad for p in parameters if p.grad is not None]
            if len(gradients) < len(parameters):
                have = [i for i, p in enumerate(parameters) if p.grad is not None]
                parameters, first = [parameters[i] for i in have], [first[i] for i in have]
                second = [second[i] for i in have if second]
            if not parameters:
                continue
            if self.kind == "adamw":
                torch._fused_adamw_(
                    parameters,
                    gradients,
                    first,
                    second,
                    [],
                    [self.count] * len(parameters),
                    lr=rate * group.factor,
                    beta1=BETAS[0],
                    beta2=BETAS[1],
                    weight_decay=group.decay,
                    eps=EPSILON,
                    amsgrad=False,
                    maximize=False,
                )
            else:
                torch._fused_sgd_(
                    parameters,
                    gradients,
                    first,
                    weight_decay=group.decay,
                    momentum=MOMENTUM,
                    lr=rate * group.factor,
                    dampening=0.0,
                    nesterov=True,
                    maximize=False,
                    is_first_step=False,
                )
            for parameter in parameters:
                parameter.grad = None

    @property
    def size(self) -> int:
        """How many numbers it changes."""
        held = [p for group in self.groups for p in group.parameters] + [table.parameter for table in self.tables]
        return sum(p.numel() for p in held)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the moments on the CPU, under ``optimizer/PARAMETER/MOMENT``."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in self._named().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put what :meth:`tensors` copied back, in place."""
        for name, own in self._named().items():
            own.copy_(tensors[name])

    def _named(self) -> dict[str, Tensor]:
        named = {"optimizer/step": self.count}
        named |= {f"optimizer/{table.name}/squares": table.squares for table in self.tables}
        for group in self.groups:
            for moment, values in (("first", group.first), ("second", group.second)):
                named |= {f"optimizer/{name}/{moment}": v for name, v in zip(group.names, values, strict=False)}
        return named


def sparse_tables(network: nn.Module) -> dict[str, Tensor]:
    """The weights of embeddings that give sparse gradients, by name."""
    return {
        f"{path}.weight" if path else "weight": module.weight
        for path, module in network.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
    }


def _touch(table: Table, rate: float) -> None:
    gradient = table.parameter.grad
    if gradient is None:
        return
    whole = gradient.coalesce()
    rows, values = whole.indices()[0], whole.values()
    squares = table.squares[rows] + values.square().mean(1)
    table.squares[rows] = squares
    table.parameter.index_add_(0, rows, values * (-rate * (squares + EPSILON**2).rsqrt())[:, None])
    table.parameter.grad = None
