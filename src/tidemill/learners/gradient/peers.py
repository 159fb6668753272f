"""The processes that train one network together, each on its share of every batch, seen from one of them.

After each step's gradients are found, one sum over all processes makes them those of the whole batch; with it travel
the loss and what a process wishes (to stop, to write a checkpoint), so that all act at the same step. What a process
does alone, such as repeating a step in halves when its memory is short, holds up the others and harms nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

LOOK = 16
"""On an accelerator wishes are read every so many steps: reading waits until all that was asked of it is done."""


class Peers:
    """One process's view of the others, once ``torch.distributed`` joined them.

    Args:
        device: where gradients are.

    Attributes:
        rank: which one this is; the first one, 0, writes and reports.
        world: how many there are.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()
        self.device = device
        self._wish = (False, False)
        self._heard = torch.zeros(2, device=device)
        self._agreed = (False, False)
        self._steps = 0

    def share(self, network: nn.Module, loss: Tensor, weight: float) -> Tensor:
        """Make every gradient, and the loss, the mean over all rows of all processes.

        Args:
            network: its parameters hold this process's gradients; which ones have some is the same everywhere.
            loss: of this process's rows, ``[]``.
            weight: the sum of their weights.

        Returns:
            The loss of the whole batch, ``[]``.
        """
        given = [p for p in network.parameters() if p.grad is not None]
        dense = [p.grad for p in given if p.grad is not None and not p.grad.is_sparse]
        facts = torch.tensor([weight, *map(float, self._wish)], device=self.device)
        flat = torch.cat([*(g.reshape(-1) for g in dense), loss.reshape(1)]).mul_(weight)
        flat = torch.cat([flat, facts])
        dist.all_reduce(flat)
        whole, self._heard = flat[-3], flat[-2:]
        self._steps += 1
        if self.device.type == "cpu" or self._steps % LOOK == 0:
            stop, save = self._heard.tolist()
            self._agreed = (stop > 0, save > 0)
        flat = flat[:-3] / whole.clamp(min=1e-8)
        if dense:
            pieces = torch.split(flat[:-1], [g.numel() for g in dense])
            torch._foreach_copy_(dense, [piece.view(g.shape) for piece, g in zip(pieces, dense, strict=True)])
        for parameter in given:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = self._sparse(parameter.grad, weight, whole)
        return flat[-1]

    def _sparse(self, gradient: Tensor, weight: float, whole: Tensor) -> Tensor:
        own = gradient.coalesce()
        rows, values = self.gathered(own.indices()[0]), self.gathered(own.values() * weight)
        return torch.sparse_coo_tensor(
            rows[None], values / whole.clamp(min=1e-8), gradient.shape, check_invariants=False
        )

    def agree(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """Say what this process wishes with its next step; what all agreed on with their last one."""
        self._wish = (stop, save)
        agreed, self._agreed = self._agreed, (self._agreed[0], False)
        return agreed

    @property
    def stopping(self) -> bool:
        """Whether all agreed to stop."""
        return self._agreed[0]

    def gathered(self, tensor: Tensor) -> Tensor:
        """The rows ``[n, ...]`` of all processes, one process after the other; each may have another *n*."""
        counts = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(tensor)], device=self.device))
        sizes = [int(count) for count in counts]
        padded = tensor.new_zeros(max(sizes), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded)
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    def rows(self, start: int, stop: int) -> slice:
        """What of some rows is this process's share."""
        cuts = np.linspace(start, stop, self.world + 1).round().astype(int).tolist()
        return slice(cuts[self.rank], cuts[self.rank + 1])

    def scores(self, own: npt.NDArray[np.float32], classes: int) -> npt.NDArray[np.float32]:
        """All processes' scores, ``[n, classes]``, from each one's own."""
        part = torch.from_numpy(own.reshape(-1, classes)).to(self.device)
        return self.gathered(part).cpu().numpy()

    def level(self, *networks: nn.Module) -> None:
        """Make what batch normalisation has seen the mean of what each process's has."""
        kind = nn.modules.batchnorm._BatchNorm  # noqa: SLF001
        norms = [m for network in networks for m in network.modules() if isinstance(m, kind)]
        seen = [t for m in norms for t in (m.running_mean, m.running_var) if t is not None]
        if not seen:
            return
        flat = torch.cat([t.reshape(-1) for t in seen])
        dist.all_reduce(flat)
        pieces = torch.split(flat / self.world, [t.numel() for t in seen])
        for tensor, piece in zip(seen, pieces, strict=True):
            tensor.copy_(piece.view(tensor.shape))

    def random_states(self) -> dict[str, Tensor]:
        """The random generators of the others, for the first one's checkpoint; all must ask at the same moment."""
        own = [torch.get_rng_state()]
        if self.device.type == "cuda":
            own.append(torch.cuda.get_rng_state(self.device))
        found: dict[str, Tensor] = {}
        for name, state in zip(("cpu", "cuda"), own, strict=False):
            parts = torch.split(self.gathered(state.to(self.device)).cpu(), len(state))
            found |= {f"random/{name}/{rank}": part.clone() for rank, part in enumerate(parts) if rank}
        return found

    def restore_random(self, tensors: Mapping[str, Tensor], seed: int) -> None:
        """Go on drawing as the checkpoint says; where it was written by fewer processes, as from a new seed."""
        if self.rank == 0:
            return
        state = tensors.get(f"random/cpu/{self.rank}")
        if state is None:
            torch.manual_seed(seed + self.rank)
            return
        torch.set_rng_state(state)
        if self.device.type == "cuda" and f"random/cuda/{self.rank}" in tensors:
            torch.cuda.set_rng_state(tensors[f"random/cuda/{self.rank}"], self.device)
